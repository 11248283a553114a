"""The score table: one row per (architecture, seed), as CSV text that reads back to the same bits.

Columns: ``arch``, ``seed``, one column per value, ``status`` (``ok`` or ``failed``), ``reason``, ``seconds``. A value
that is not finite is an empty cell whose reason stands in ``reason``. Every row is one line of text.
"""

from __future__ import annotations

import csv
import gzip
import io
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from vkdnw_pl.runs.files import LineFile, csv_line, whole_lines, write_atomically

_BEFORE, _AFTER = ("arch", "seed"), ("status", "reason", "seconds")
OK, FAILED = "ok", "failed"

Key = tuple[str, int]
"""What a row is about: (architecture, seed)."""


@dataclass(frozen=True)
class ScoreRow:
    """The scores of one architecture under one seed."""

    arch: str
    seed: int
    values: Mapping[str, float | None]
    """Column -> finite value (higher is better), or None where there is none."""
    status: str = OK
    reason: str = ""
    """Why the row failed, or why a value is missing."""
    seconds: float = 0.0
    """Wall time that the row took; the only part that differs from run to run."""

    @property
    def key(self) -> Key:
        """(architecture, seed)."""
        return self.arch, self.seed

    @property
    def failed(self) -> bool:
        """Whether a proxy raised, ran out of memory or gave NaN."""
        return self.status == FAILED

    def same_scores(self, other: ScoreRow) -> bool:
        """Whether everything but the time is equal."""
        return replace(self, seconds=other.seconds) == other


@dataclass(frozen=True)
class ScoreTable:
    """Rows with the same value columns."""

    columns: tuple[str, ...]
    rows: list[ScoreRow] = field(default_factory=list)

    @property
    def archs(self) -> list[str]:
        """Architectures in the order of their first row."""
        return list(dict.fromkeys(row.arch for row in self.rows))

    @property
    def seeds(self) -> list[int]:
        """Seeds in ascending order."""
        return sorted({row.seed for row in self.rows})


def header_line(columns: Sequence[str]) -> str:
    """First line of a score table."""
    return csv_line([*_BEFORE, *columns, *_AFTER])


def row_line(row: ScoreRow, columns: Sequence[str]) -> str:
    """One row as a line of CSV."""
    values = [row.values.get(column) for column in columns]
    cells = [None if value is None else float(value) for value in values]
    reason = " ".join(row.reason.split())  # one row is one line: that is how a torn last row is told
    return csv_line([row.arch, row.seed, *cells, row.status, reason, f"{row.seconds:.3f}"])


def write_table(path: Path, table: ScoreTable) -> None:
    """Replace ``path`` by the table in one step."""
    text = header_line(table.columns) + "".join(row_line(row, table.columns) for row in table.rows)
    write_atomically(path, text)


def read_table(path: Path) -> ScoreTable:
    """Read a score table, also one that another program wrote (``.csv`` or ``.csv.gz``), as `parse_table`."""
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}") from None
    try:
        text = (gzip.decompress(raw) if path.suffix == ".gz" else raw).decode("utf-8")
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not a CSV file: {error}") from None
    return parse_table(text, str(path))


def parse_table(text: str, where: str) -> ScoreTable:
    """Read a score table from its text; ``where`` names it in errors.

    Only ``arch`` is needed: without ``seed`` every row has seed 1, without ``status`` every row is ok. All columns
    but the five of the table are values.

    Raises:
        ValueError: naming the file, the line and the fault.
    """
    reader = csv.reader(io.StringIO(text))
    header = next(reader, [])
    if "arch" not in header:
        raise ValueError(f"{where} is not a score table: its first line has no column 'arch' (it has {header})")
    if len(set(header)) < len(header):
        raise ValueError(f"{where}: a column repeats in the first line")
    columns = tuple(name for name in header if name not in (*_BEFORE, *_AFTER))
    rows = []
    for cells in reader:
        if not cells:
            continue
        place = f"{where}, line {reader.line_num}"
        if len(cells) != len(header):
            raise ValueError(f"{place} has {len(cells)} cells, the first line has {len(header)}")
        named = dict(zip(header, cells, strict=True))
        try:
            rows.append(
                ScoreRow(
                    arch=named["arch"],
                    seed=int(named.get("seed", "1")),
                    values={column: _value(column, named[column]) for column in columns},
                    status=named.get("status", OK),
                    reason=named.get("reason", ""),
                    seconds=float(named.get("seconds") or 0.0),
                )
            )
        except ValueError as error:
            raise ValueError(f"{place}: {error}") from None
        if rows[-1].status not in (OK, FAILED):
            raise ValueError(f"{place}: status is {rows[-1].status!r}, it must be {OK!r} or {FAILED!r}")
    return ScoreTable(columns, rows)


def join_rows(rows: Iterable[ScoreRow], where: str) -> dict[Key, ScoreRow]:
    """One row per (architecture, seed): an ok one before a failed one, a later failure before an earlier one.

    Raises:
        ValueError: if two rows that are ok have different scores.
    """
    joined: dict[Key, ScoreRow] = {}
    for row in rows:
        known = joined.get(row.key)
        if known is None or known.failed:
            joined[row.key] = row
        elif not row.failed and not row.same_scores(known):
            raise ValueError(
                f"{where}: two rows of {row.arch} with seed {row.seed} have different scores, so they were not made "
                "with the same settings and software; delete one of them"
            )
    return joined


def new_journal(folder: Path, columns: Sequence[str]) -> LineFile:
    """A new file in the folder of journals, to which a run appends its rows by `row_line` as they are made."""
    folder.mkdir(parents=True, exist_ok=True)
    number = 0
    while True:
        try:
            return LineFile(folder / f"0-{number}.csv", header_line(columns), new=True)
        except FileExistsError:
            number += 1


def read_journals(folder: Path) -> list[ScoreRow]:
    """Rows of all journals in the folder, without last lines that a kill has torn.

    Raises:
        ValueError: if a journal is damaged in another place.
    """
    rows: list[ScoreRow] = []
    for path in sorted(folder.glob("*.csv")):
        if whole := whole_lines(path.read_bytes()).decode():
            rows.extend(parse_table(whole, str(path)).rows)
    return rows


def _value(column: str, cell: str) -> float | None:
    try:
        value = float(cell) if cell.strip() else math.nan
    except ValueError:
        raise ValueError(f"column {column!r} holds {cell!r}, which is not a number") from None
    return value if math.isfinite(value) else None
