"""The score table: one row per (architecture, seed), as CSV text that reads back to the same bits.

Columns: ``arch``, ``seed``, one column per value, ``status`` (``ok`` or ``failed``), ``reason``, ``seconds``. A value
that is not finite is an empty cell whose reason stands in ``reason``. Every row is one line of text.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vkdnw_pl.errors import one_line
from vkdnw_pl.runs.csv_table import CsvTable, read_csv, read_grown
from vkdnw_pl.runs.files import LineFile, csv_line, write_atomically

if TYPE_CHECKING:
    import pandas as pd

BEFORE, AFTER = ("arch", "seed"), ("status", "reason", "seconds")
OK, FAILED = "ok", "failed"
_MOST_REASON = 20_000
"""Characters; each proxy's own reason is far shorter."""

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
    place: str = field(default="", compare=False, repr=False)
    """File and line that it was read from."""
    notes: tuple[str, ...] = field(default=(), compare=False, repr=False)
    """What the user may want to know of how the values were computed; on the screen, not in the table."""
    proxy_seconds: Mapping[str, float] = field(default_factory=dict, compare=False, repr=False)
    """Proxy -> wall time, see `proxies.scoring.Scores`; of rows that are being made, not in the table."""

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
    return csv_line([*BEFORE, *columns, *AFTER])


def row_line(row: ScoreRow, columns: Sequence[str]) -> str:
    """One row as a line of CSV."""
    values = [row.values.get(column) for column in columns]
    cells = [None if value is None else float(value) for value in values]
    return csv_line([row.arch, row.seed, *cells, row.status, reason_cell(row.reason), f"{row.seconds:.3f}"])


def reason_cell(reason: str) -> str:
    """A reason as tables hold it: one row is one line, which is how a torn last row is told."""
    return one_line(reason, _MOST_REASON)


def write_table(path: Path, table: ScoreTable) -> None:
    """Replace ``path`` by the table in one step."""
    text = header_line(table.columns) + "".join(row_line(row, table.columns) for row in table.rows)
    write_atomically(path, text)


def read_table(path: Path, torn: bool = False, texts: Sequence[str] = ()) -> ScoreTable:
    """Read a score table, also one that another program wrote (``.csv`` or ``.csv.gz``).

    ``torn``: leave out a last line without line end. ``texts``: columns that are no values.

    Only ``arch`` is needed: without ``seed`` every row has seed 1, without ``status`` every row is ok. All columns
    but these, ``reason``, ``seconds`` and ``coding`` (see `CsvTable.archs`) are values.

    Raises:
        ValueError: naming the file, the line and the fault; see `CsvTable`.
    """
    return _score_table(read_csv(path, ("arch",), torn), texts)


def _score_table(table: CsvTable, texts: Sequence[str] = ()) -> ScoreTable:
    columns = tuple(name for name in table.names if name not in (*BEFORE, "coding", *texts, *AFTER))
    count = len(table)

    def given(column: str, read: Callable[[str], Sequence[Any]], default: Any) -> Sequence[Any]:
        return read(column) if column in table.names else [default] * count

    values = zip(*map(table.numbers, columns)) if columns else [()] * count
    rows = list(
        map(
            ScoreRow,
            table.archs(),
            given("seed", lambda name: table.required(name, table.wholes(name)), 1),
            [dict(zip(columns, row_values)) for row_values in values],
            given("status", lambda name: table.choices(name, (OK, FAILED)), OK),
            given("reason", table.texts, ""),
            given("seconds", lambda name: [value or 0.0 for value in table.numbers(name)], 0.0),
            map(table.place, range(count)),
        )
    )
    for i, row in enumerate(rows):
        if row.failed and columns and None not in row.values.values():
            raise ValueError(
                f"{table.place(i, 'status')} is {FAILED!r}, but the row has all its values: empty those that failed, "
                f"or write {OK!r}"
            )
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
            places = f" ({known.place} and {row.place})" if known.place and row.place else ""
            raise ValueError(
                f"{where}: two rows of {row.arch} with seed {row.seed} have different scores{places}, so they were not "
                "made with the same settings and software; delete one of them"
            )
    return joined


def score_frame(rows: Sequence[ScoreRow]) -> pd.DataFrame:
    """Rows as a table of pandas: `BEFORE`, the values (NaN where there is none), `AFTER`."""
    import numpy as np
    import pandas as pd

    columns = dict.fromkeys(name for row in rows for name in row.values)
    values = {name: np.array([row.values.get(name) for row in rows], dtype=np.float64) for name in columns}
    before, after = ({name: [getattr(row, name) for row in rows] for name in names} for names in (BEFORE, AFTER))
    return pd.DataFrame({**before, **values, **after})


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
        rows.extend(_score_table(read_grown(path, "arch")).rows)
    return rows
