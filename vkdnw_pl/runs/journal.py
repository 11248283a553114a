"""Journals: files to which each process appends its rows as they are made.

A row is one write of one line, so a process that is killed leaves at most a last line without its end, which reading
leaves out. No two processes share a journal, and none is ever opened again for writing.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from vkdnw_pl.runs.table import ScoreRow, header_line, parse_table, row_line


class Journal:
    """A new journal of one process in the folder of journals."""

    def __init__(self, folder: Path, process: int, columns: Sequence[str]) -> None:
        self._columns = tuple(columns)
        folder.mkdir(parents=True, exist_ok=True)
        number = 0
        while True:
            self.path = folder / f"{process}-{number}.csv"
            try:
                self._file = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o644)
                break
            except FileExistsError:
                number += 1
        self._write(header_line(self._columns))

    def append(self, row: ScoreRow) -> None:
        """Add one row; when this returns, a kill of the process does not lose it."""
        self._write(row_line(row, self._columns))

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)

    def _write(self, line: str) -> None:
        data = line.encode()
        if os.write(self._file, data) != len(data):
            raise OSError(f"{self.path}: the row could not be written whole (is the disk full?)")


def read_journals(folder: Path) -> list[ScoreRow]:
    """Rows of all journals in the folder, without a torn last line.

    Raises:
        ValueError: if a journal is damaged in another place.
    """
    rows: list[ScoreRow] = []
    for path in sorted(folder.glob("*.csv")):
        text = path.read_bytes()
        whole = text[: text.rfind(b"\n") + 1].decode()
        if whole:
            rows.extend(parse_table(whole, str(path)).rows)
    return rows
