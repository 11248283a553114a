"""Files of a run: written in one step, or line by line so that a kill loses at most the last line. Torch-free."""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import json
import math
import os
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from vkdnw_pl.runs.environment import usable_memory

MAX_BYTES = 1 << 29
"""Most that is read of a compressed file of text, unpacked: a table of a million rows is 380 MB."""
_SHARE = 12
"""Of a file that is not compressed the memory divided by this may be read, if that is more: tables take ten times their
text (benchmarks/scale)."""


def read_text(path: Path) -> str:
    """The text of a UTF-8 file, with or without a byte order mark, with line ends of any system; ``.gz`` is unpacked.

    Read in pieces: what is larger than `MAX_BYTES` (where it is not compressed and memory allows it, more), or no text,
    is refused before all of it is in memory.

    Raises:
        ValueError: in one line, naming the file.
    """
    content = bytearray()
    most = MAX_BYTES if path.suffix == ".gz" else max(MAX_BYTES, usable_memory() // _SHARE)
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            while piece := file.read(1 << 20):
                content += piece
                if b"\0" in piece:
                    line = content.count(b"\n", 0, content.index(b"\0")) + 1
                    raise ValueError(f"{path}, line {line} holds a zero byte, so this is no UTF-8 text")
                if len(content) > most:
                    raise ValueError(f"{path} is too large: a file of text may have {most >> 20} MiB")
        return content.decode("utf-8-sig").replace("\r\n", "\n").replace("\r", "\n")
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise ValueError(f"{path} is damaged: {error}") from None
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror or error}") from None
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ValueError(f"{path}, line {line} is damaged: it is not UTF-8 text ({error.reason})") from None


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def replaced(path: Path) -> Iterator[Path]:
    """A draft to write to, which takes the place of ``path`` in one step; deleted if something goes wrong within."""
    draft = path.with_name(f".{path.stem}.{os.getpid()}.tmp{path.suffix}")
    try:
        yield draft
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


def write_atomically(path: Path, text: str) -> None:
    """Replace ``path`` by ``text`` in one step, and make sure that it is on the disk."""
    # A lone surrogate, of a name that is no UTF-8, is written as JSON and Python escape it.
    with replaced(path) as draft, draft.open("w", encoding="utf-8", newline="", errors="backslashreplace") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Replace ``path`` by JSON in one step."""
    write_atomically(path, json.dumps(content, indent=2, ensure_ascii=False) + "\n")


def remove_drafts(folder: Path) -> None:
    """Delete what a killed process left half written; only for who holds the folder alone."""
    for draft in folder.glob(".*.tmp*"):
        draft.unlink(missing_ok=True)


class LineFile:
    """A text file that only grows, line by line: when `append` returns, a kill of the process does not lose the line.

    A last line that an earlier kill has torn is cut off first.

    Args:
        path: of the file.
        header: its first line, with the line end; a new file gets it, one that begins otherwise is a ``ValueError``.
        new: refuse a file that exists with a ``FileExistsError``.
    """

    def __init__(self, path: Path, header: str = "", new: bool = False) -> None:
        self.path = path
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | (os.O_EXCL if new else 0), 0o644)
        whole = whole_lines(path.read_bytes())
        if whole and not whole.startswith(header.encode(errors="backslashreplace")):
            os.close(self._file)
            raise ValueError(f"{path} is of something else: its first line must be {header.strip()}")
        os.ftruncate(self._file, len(whole))
        if header and not whole:
            self.append(header)

    def append(self, line: str) -> None:
        """Add a line, which ends with its line end."""
        data = line.encode(errors="backslashreplace")
        if os.write(self._file, data) != len(data):
            raise OSError(f"{self.path}: a line could not be written whole (is the disk full?)")

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)


def whole_lines(content: bytes) -> bytes:
    """What a file holds, without a last line that a kill has torn."""
    return content[: content.rfind(b"\n") + 1]


def json_lines(content: bytes, path: Path) -> list[tuple[bytes, dict[str, Any]]]:
    """Each line, its end included, with the JSON object that it holds; a ``ValueError`` names ``path`` and a damaged line."""
    records = []
    for number, line in enumerate(content.splitlines(keepends=True), 1):
        try:
            record = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{path}, line {number} is damaged: {error}") from None
        if not isinstance(record, dict):
            raise ValueError(f"{path}, line {number} is damaged: it must hold 'name: value' pairs, it holds {record!r}")
        records.append((line, record))
    return records


def csv_line(cells: Iterable[Any]) -> str:
    """One line of CSV, with its line end; see `exact` for cells that are numbers."""
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerow([exact(cell) for cell in cells])
    return out.getvalue()


def exact(value: Any) -> str:
    """A cell of CSV: a float with the fewest digits that read back to the same bits, None as an empty cell."""
    if value is None:
        return ""
    if isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError(f"a value of {value} cannot be written; what is not finite is None, with its reason")
        return repr(float(value))
    return str(value)


def write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Replace ``path`` by a CSV file in one step."""
    write_atomically(path, "".join(map(csv_line, [header, *rows])))


def now() -> str:
    """The time as records have it: ISO 8601, UTC, in whole seconds."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def duration(seconds: float | None) -> str:
    """``3.2 s``, ``1 min 44 s`` or ``2 h 05 min``; nothing where it is not known."""
    if seconds is None or not math.isfinite(seconds):
        return ""
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60:02d} min"
