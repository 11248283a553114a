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
    """A file that an option names."""

    option: str
    name: str
    """As the user wrote it."""
    path: Path
    """Without links: a link stays one, and what it points to is written."""

    def write(self, text: str) -> None:
        """Replace the file in one step; a device or pipe just gets the text."""
        if self._is_special:
            with self.path.open("w", encoding="utf-8") as file:
                file.write(text)
        else:
            write_atomically(self.path, text)

    def check(self) -> None:
        """Make sure that nothing else is lost."""
        if self.path.is_dir():
            raise self._refused("it is a folder; give the name of a file")
        if self._is_special:
            return
        if not self.path.parent.is_dir():
            named = Path(self.name).expanduser()
            raise self._refused(f"there is no folder {(self.path if named.is_symlink() else named).parent}")
        if self.path.exists():
            content = self.path.read_bytes()
            if content and _MARKS[self.option].encode() not in content[:_END] + content[-_END:]:
                raise self._refused(
                    "this file was not written by report, and is not replaced; name another, or delete it"
                )

    @property
    def _is_special(self) -> bool:
        return self.path.exists() and not self.path.is_file() and not self.path.is_dir()

    def _refused(self, why: str) -> UsageError:
        return UsageError(f"{self.option}={self.name!r} is not allowed: {why}")


def output_files(**names: str | None) -> list[OutputFile | None]:
    """The files that options name, in their order; None for an option that names none."""
    files: list[OutputFile | None] = []
    options: dict[Path, str] = {}
    for option, name in names.items():
        if name is None:
            files.append(None)
            continue
        path = Path(name).expanduser()
        file = OutputFile(option, name, path if path.exists() and not path.is_file() else path.resolve())
        file.check()
        if (other := options.setdefault(file.path, option)) != option:
            raise UsageError(f"{other} and {option} are both {name!r}: name two files")
        files.append(file)
    return files
