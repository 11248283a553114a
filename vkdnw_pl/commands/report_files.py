"""The files that ``report`` writes: what is there already is replaced only if it is such a file itself."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from vkdnw_pl.errors import UsageError
from vkdnw_pl.report.run_marks import MARKDOWN_MARK, PAGE_MARK
from vkdnw_pl.runs.files import write_atomically

_MARKS = {"out": PAGE_MARK, "markdown": MARKDOWN_MARK, "wandb_spec": '"panelSettings"'}
"""Option -> what stands near one end of every file that it writes."""
_END = 4096


@dataclass(frozen=True)
class OutputFile:
    """A file that an option names."""

    option: str
    given: str
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
        """Make sure that nothing else is lost.

        Raises:
            UsageError: if it is a folder, is in a folder that is not there, or holds something that ``report`` has not
                written.
        """
        if self.path.is_dir():
            raise self._refused("it is a folder; give the name of a file")
        if self._is_special:
            return
        if not self.path.parent.is_dir():
            named = Path(self.given).expanduser()
            raise self._refused(f"there is no folder {(self.path if named.is_symlink() else named).parent}")
        if self.path.exists() and not self._is_own():
            raise self._refused("this file was not written by report, and is not replaced; name another, or delete it")

    @property
    def _is_special(self) -> bool:
        return self.path.exists() and not self.path.is_file() and not self.path.is_dir()

    def _is_own(self) -> bool:
        with self.path.open("rb") as file:
            first = file.read(_END)
            file.seek(max(self.path.stat().st_size - _END, 0))
            ends = first + file.read(_END)
        return not ends or _MARKS[self.option].encode() in ends

    def _refused(self, why: str) -> UsageError:
        return UsageError(f"{self.option}={self.given!r} is not allowed: {why}")


def output_file(given: str | None, option: str) -> OutputFile | None:
    """The file that an option names; None where it names none.

    Raises:
        UsageError: see `OutputFile.check`.
    """
    if given is None:
        return None
    path = Path(given).expanduser()
    file = OutputFile(option, given, path if path.exists() and not path.is_file() else path.resolve())
    file.check()
    return file


def check_apart(files: Iterable[OutputFile | None]) -> None:
    """Make sure that no two options name one file.

    Raises:
        UsageError: if they do.
    """
    seen: dict[Path, OutputFile] = {}
    for file in files:
        if file is None:
            continue
        other = seen.setdefault(file.path, file)
        if other is not file:
            raise UsageError(f"{other.option} and {file.option} are both {file.given!r}: name two files")
