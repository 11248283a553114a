"""Journals: files to which a run appends its rows as they are made.

A row is one write of one line, so a run that is killed leaves at most a last line without its end, which reading leaves
out. A run that goes on begins a new journal.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path

from vkdnw_pl.runs.files import LineFile, whole_lines
from vkdnw_pl.runs.table import ScoreRow, header_line, parse_table, row_line


class Journal:
    """A new journal in the folder of journals."""

    def __init__(self, folder: Path, columns: Sequence[str]) -> None:
        self._columns = tuple(columns)
        folder.mkdir(parents=True, exist_ok=True)
        for number in itertools.count():
            try:
                self._file = LineFile(folder / f"0-{number}.csv", header_line(self._columns), new=True)
            except FileExistsError:
                continue
            self.path = self._file.path
            return

    def append(self, row: ScoreRow) -> None:
        """Add one row; when this returns, a kill does not lose it."""
        self._file.append(row_line(row, self._columns))

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def read_journals(folder: Path) -> list[ScoreRow]:
    """Rows of all journals in the folder, without a torn last line.

    Raises:
        ValueError: if a journal is damaged in another place.
    """
    rows: list[ScoreRow] = []
    for path in sorted(folder.glob("*.csv")):
        whole = whole_lines(path.read_bytes()).decode()
        if whole:
            rows.extend(parse_table(whole, str(path)).rows)
    return rows
