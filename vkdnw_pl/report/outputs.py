"""The files that ``report`` writes: what is there already is replaced only if it is such a file itself."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from vkdnw_pl.errors import UsageError
from vkdnw_pl.runs.files import write_atomically

PAGE_MARK = 'name="generator" content="vkdnw_pl report'
"""Stands in the head of a page."""
MARKDOWN_MARK = "<!-- vkdnw_pl report -->"
"""The last line of a Markdown text; it is not shown."""
_MARKS = {"out": PAGE_MARK, "markdown": MARKDOWN_MARK, "wandb_spec": '"panelSettings"'}
"""Option -> what stands near one end of every file that it writes."""
_END = 4096


@dataclass(frozen=True)
class OutputFile:
    """A file as the user named it, and its path without links: a link stays one, and what it points to is written."""

    name: str
    path: Path

    def write(self, text: str) -> None:
        """Replace the file in one step; a device or pipe just gets the text."""
        if _is_special(self.path):
            with self.path.open("w", encoding="utf-8") as file:
                file.write(text)
        else:
            write_atomically(self.path, text)


def output_files(**names: str | None) -> list[OutputFile | None]:
    """The files that options name, in their order, None for an option that names none; refuses what would be lost."""
    files: list[OutputFile | None] = []
    options: dict[Path, str] = {}
    for option, name in names.items():
        if name is None:
            files.append(None)
            continue
        path = Path(name).expanduser()
        file = OutputFile(name, path if path.exists() and not path.is_file() else path.resolve())
        if problem := _problem(file, _MARKS[option]):
            raise UsageError(f"{option}={name!r} is not allowed: {problem}")
        if (other := options.setdefault(file.path, option)) != option:
            raise UsageError(f"{other} and {option} are both {name!r}: name two files")
        files.append(file)
    return files


def _problem(file: OutputFile, mark: str) -> str:
    """Why a file cannot be written, or nothing."""
    if file.path.is_dir():
        return "it is a folder; give the name of a file"
    if _is_special(file.path):
        return ""
    if not file.path.parent.is_dir():
        named = Path(file.name).expanduser()
        return f"there is no folder {(file.path if named.is_symlink() else named).parent}"
    content = file.path.read_bytes() if file.path.exists() else b""
    if content and mark.encode() not in content[:_END] + content[-_END:]:
        return "this file was not written by report, and is not replaced; name another, or delete it"
    return ""


def _is_special(path: Path) -> bool:
    return path.exists() and not path.is_file() and not path.is_dir()
