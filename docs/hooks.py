"""MkDocs hook: pages may link any file of the repository, as they do where they are read as files.

Files outside of docs/ that a page links (a benchmark's README, its figures and tables) become files of the site under
their path in the repository, and so do those that they link.
"""

from __future__ import annotations

import os
import posixpath
import re
from pathlib import Path, PurePosixPath
from typing import Any

from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[1]
DOCS = "docs"
_LINK = re.compile(r"(?<=\]\()([^)#:\s]+)(?=[)#])")
_CODE = re.compile(r"(```.*?```|`[^`\n]*`)", re.DOTALL)


def on_files(files: Files, config: Any) -> Files:
    """Add what is linked outside of docs/."""
    waiting = [f"{DOCS}/{page.src_uri}" for page in files.documentation_pages()]
    for source in waiting:  # grows while pages that were added are read
        for target in (_target(source, link) for link in _links(source)):
            if target.startswith(f"{DOCS}/") or files.get_file_from_path(target):
                continue
            files.append(File.generated(config, target, abs_src_path=str(ROOT / target)))
            if target.endswith(".md"):
                waiting.append(target)
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Links as paths of the repository become paths of the site."""
    uri = page.file.src_uri
    is_added = page.file.generated_by is not None
    source = uri if is_added else f"{DOCS}/{uri}"

    def replace(link: re.Match[str]) -> str:
        target = _target(source, link[1]).removeprefix(f"{DOCS}/")
        return posixpath.relpath(target, posixpath.dirname(uri) or ".")

    parts = _CODE.split(markdown)
    parts[::2] = [_LINK.sub(replace, part) for part in parts[::2]]
    return "".join(parts)


def _links(source: str) -> list[str]:
    text = (ROOT / source).read_text(encoding="utf-8")
    return [link for part in _CODE.split(text)[::2] for link in _LINK.findall(part)]


def _target(source: str, link: str) -> str:
    """Path in the repository of a relative link."""
    target = posixpath.normpath(posixpath.join(posixpath.dirname(source), link))
    path = ROOT / target
    if path.is_dir() and (path / "README.md").is_file():
        target = str(PurePosixPath(target) / "README.md")
    elif not path.is_file() or target.startswith(os.pardir):
        raise PluginError(f"{source} links {link}, which does not exist")
    return target
