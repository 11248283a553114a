"""Our value, the paper's value and their difference, cell by cell."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from vkdnw_pl.report.paper_notes import Note, known_reasons
from vkdnw_pl.report.paper_numbers import VARIANTS, paper_values
from vkdnw_pl.report.paper_tables import PaperColumn, PaperRow, PaperTable
from vkdnw_pl.report.tables import Row, metric_value

NEAR = 0.02
"""Difference up to which a value counts as the paper's: its bound for the standard deviation over seeds."""

CLOSE, COVERED, DIFFERS, NO_PAPER, NOT_COMPUTED = "close", "covered", "differs", "no paper value", "not computed"
VERDICTS = {
    CLOSE: f"within {NEAR} of the paper's value",
    COVERED: f"farther than {NEAR}, but the paper's value lies in our interval",
    DIFFERS: f"farther than {NEAR}, and outside of our interval (or there is none)",
    NO_PAPER: "the paper gives no value",
    NOT_COMPUTED: "not computed here",
}
MARKS = {CLOSE: "≈", COVERED: "∈", DIFFERS: "≠", NO_PAPER: " ", NOT_COMPUTED: " "}

CSV_COLUMNS = (
    *("table", "variant", "row", "label", "column", "metric", "ranking", "dataset", "n", "ndcg_k", "seeds"),
    *("ours", "ours_std", "low", "high", "paper", "paper_std", "difference", "in_interval", "verdict"),
    *("reason", "notes", "source"),
)


@dataclass(frozen=True)
class Cell:
    """One metric of one row in one column."""

    ranking: str | None
    metric: str
    ours: float | None = None
    std: float | None = None
    """Over seeds; None with one seed."""
    interval: tuple[float, float] | None = None
    paper: float | None = None
    paper_std: float | None = None
    source: str = ""
    """Where the paper's value stands."""
    problem: str = ""
    """Why there is no value of ours."""
    sizes: tuple[str, str, str] = ("", "", "")
    """Architectures, nDCG's cut and seeds, as in the metric row."""
    decimals: int = 3

    @property
    def difference(self) -> float | None:
        """Ours as printed, minus the paper's."""
        if self.ours is None or self.paper is None:
            return None
        return round(round(self.ours, self.decimals) - self.paper, self.decimals)

    @property
    def in_interval(self) -> bool | None:
        """Whether the paper's value lies in our interval; None where one of them is missing."""
        if self.interval is None or self.paper is None:
            return None
        low, high = (round(end, self.decimals) for end in self.interval)
        return low <= self.paper <= high

    @property
    def verdict(self) -> str:
        """One of `VERDICTS`."""
        if self.ours is None:
            return NOT_COMPUTED
        if self.difference is None:
            return NO_PAPER
        if abs(self.difference) <= NEAR + 1e-9:
            return CLOSE
        return COVERED if self.in_interval else DIFFERS


@dataclass(frozen=True)
class ComparedRow:
    """A row with its cells, in the order of columns and metrics."""

    row: PaperRow
    cells: tuple[tuple[Cell, ...], ...]
    """One tuple of metrics for each column."""
    notes: tuple[int, ...]
    """Numbers of the footnotes."""

    @property
    def problem(self) -> str:
        """Why nothing or something of the row was not computed."""
        return "; ".join(dict.fromkeys(cell.problem for cells in self.cells for cell in cells if cell.problem))


@dataclass(frozen=True)
class Comparison:
    """A table of the paper beside ours."""

    table: PaperTable
    variant: str
    rows: tuple[ComparedRow, ...]
    column_notes: tuple[tuple[int, ...], ...]
    footnotes: tuple[str, ...]
    """Texts of the footnotes 1, 2, ..."""
    remarks: tuple[str, ...]
    """What concerns the whole table, first what was done here."""

    def count(self) -> dict[str, int]:
        """How many cells have each verdict; cells of which neither side has a value are left out."""
        counts = dict.fromkeys(VERDICTS, 0)
        for row in self.rows:
            for cells in row.cells:
                for cell in cells:
                    if not (cell.ours is None and cell.paper is None):
                        counts[cell.verdict] += 1
        return {verdict: number for verdict, number in counts.items() if number}


def compare(
    table: PaperTable,
    metrics: Iterable[Row],
    variant: str = "unique",
    intervals: Mapping[tuple[str, str], Mapping[str, tuple[float, float]]] | None = None,
    problems: Mapping[str, str] | None = None,
    remarks: Sequence[str] = (),
    notes: Sequence[Note] = (),
    row_remarks: Mapping[str, str] | None = None,
) -> Comparison:
    """Put the numbers of a table beside metric rows of any origin.

    Args:
        table: what to compare (`PAPER_TABLES`).
        metrics: rows of ``metrics.csv``; ``ranking`` as the table's rows name it, ``dataset`` the data set, or the
            column of scores that a table compares with. Those that no cell needs are left out.
        variant: ``unique`` or ``all``.
        intervals: (ranking, dataset) -> metric -> interval.
        problems: ranking -> why it has no metrics.
        remarks: texts about the whole table.
        notes: the user's notes, after those of the package.
        row_remarks: row -> a text about how it was made here, a footnote.

    Raises:
        ValueError: if the paper has no such table for the variant, or a metric row is damaged or comes twice.
    """
    printed = paper_values(table.name, variant)
    found: dict[tuple[str, str], Row] = {}
    for one in metrics:
        key = (str(one["ranking"]), str(one["dataset"]))
        if key in found:
            raise ValueError(f"the metrics of ranking {key[0]!r} on {key[1]} come twice")
        found[key] = one
    footnotes = _Footnotes(table, variant, [*known_reasons(), *notes], row_remarks or {})

    def cells(row: PaperRow, column: PaperColumn) -> tuple[Cell, ...]:
        ranking = row.ranking_for(column.key)
        key = (ranking or "", column.compared_with)
        ours = found.get(key)
        problem = "" if ours else (problems or {}).get(ranking or "", _no_metrics(row, column, ranking))
        made = []
        for metric in table.metrics:
            value = metric_value(ours, metric) if ours else None
            paper = printed.get((row.key, column.key, metric))
            paper_std = printed.get((row.key, column.key, f"{metric}_std"))
            undefined = f"{metric} of {ranking!r} is undefined" if value is not None and value.mean is None else ""
            made.append(
                Cell(
                    ranking=ranking,
                    metric=metric,
                    ours=value.mean if value else None,
                    std=value.std if value else None,
                    interval=(intervals or {}).get(key, {}).get(metric) if ours else None,
                    paper=paper.value if paper else None,
                    paper_std=paper_std.value if paper_std else None,
                    source=paper.source if paper else "",
                    problem=problem or undefined,
                    sizes=_sizes(ours),
                    decimals=table.decimals,
                )
            )
        return tuple(made)

    rows = tuple(
        ComparedRow(row, tuple(cells(row, column) for column in table.columns), footnotes.of_row(row))
        for row in table.rows
    )
    column_notes = tuple(footnotes.of_column(column) for column in table.columns)
    return Comparison(table, variant, rows, column_notes, tuple(footnotes.texts), (*remarks, *footnotes.of_table()))


def comparison_csv(comparison: Comparison) -> str:
    """The comparison as CSV text, one line per cell of which either side has a value; columns `CSV_COLUMNS`."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(CSV_COLUMNS)
    for row in comparison.rows:
        for column, cells, numbers in zip(comparison.table.columns, row.cells, comparison.column_notes):
            notes = [comparison.footnotes[number - 1] for number in dict.fromkeys([*row.notes, *numbers])]
            for cell in cells:
                if cell.ours is None and cell.paper is None and not cell.problem:
                    continue
                low, high = cell.interval or (None, None)
                numbers_here = (cell.ours, cell.std, low, high, cell.paper, cell.paper_std, cell.difference)
                covered = "" if cell.in_interval is None else str(cell.in_interval).lower()
                writer.writerow(
                    [
                        *(comparison.table.name, VARIANTS[comparison.variant], row.row.key, row.row.label, column.key),
                        *(cell.metric, cell.ranking or "", column.compared_with, *cell.sizes),
                        *(*map(_number, numbers_here), covered, cell.verdict),
                        *(cell.problem, " | ".join(notes), cell.source),
                    ]
                )
    return out.getvalue()


class _Footnotes:
    """Numbers the notes in the order in which rows, then columns first name them."""

    def __init__(self, table: PaperTable, variant: str, notes: Iterable[Note], row_remarks: Mapping[str, str]) -> None:
        self.notes = [note for note in notes if note.about(table.name, variant)]
        self.row_remarks = row_remarks
        self.texts: list[str] = []

    def of_row(self, row: PaperRow) -> tuple[int, ...]:
        texts = [note.text for note in self.notes if note.rows is not None and row.key in note.rows]
        return self._numbers([*texts, *([self.row_remarks[row.key]] if row.key in self.row_remarks else [])])

    def of_column(self, column: PaperColumn) -> tuple[int, ...]:
        return self._numbers(
            note.text for note in self.notes if note.rows is None and note.columns and column.key in note.columns
        )

    def of_table(self) -> tuple[str, ...]:
        return tuple(note.text for note in self.notes if note.rows is None and note.columns is None)

    def _numbers(self, texts: Iterable[str]) -> tuple[int, ...]:
        numbers = []
        for text in texts:
            if text not in self.texts:
                self.texts.append(text)
            numbers.append(self.texts.index(text) + 1)
        return tuple(sorted(numbers))


def _no_metrics(row: PaperRow, column: PaperColumn, ranking: str | None) -> str:
    if ranking is None:
        return "not computed: it has no counterpart here"
    if row.learned:
        return f"not computed: a model-driven ranking, and no metrics of {ranking!r} were given"
    return f"not computed: there are no metrics of {ranking!r} on {column.compared_with}"


def _sizes(row: Row | None) -> tuple[str, str, str]:
    n, ndcg_k, seeds = ("" if row is None else str(row.get(name) or "") for name in ("n", "ndcg_k", "seeds"))
    return n, ndcg_k, seeds


def _number(value: float | None) -> str:
    return "" if value is None else repr(float(value))
