"""Our value, the paper's value and their difference, cell by cell."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from vkdnw_pl.report.paper.tables import (
    VARIANTS,
    Note,
    PaperColumn,
    PaperRow,
    PaperTable,
    PaperValue,
    known_reasons,
    paper_values,
)
from vkdnw_pl.report.tables import Row, metric_value
from vkdnw_pl.runs.files import csv_line

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
_NOT_PRINTED = PaperValue(None, "")


@dataclass(frozen=True)
class Cell:
    """One metric of one row in one column."""

    ranking: str
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
    sizes: tuple[str, ...] = ("", "", "")
    """Architectures, nDCG's cut and seeds, as in the metric row."""
    decimals: int = 3

    @property
    def difference(self) -> float | None:
        """Ours as printed, minus the paper's; None where one of them is missing."""
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

    @property
    def is_empty(self) -> bool:
        return self.ours is None and self.paper is None

    @property
    def ours_text(self) -> str:
        """``0.612 ± 0.003``, or a dash."""
        if self.ours is None:
            return "–"
        return f"{self.ours:.{self.decimals}f}" + ("" if self.std is None else f" ± {self.std:.{self.decimals}f}")

    @property
    def interval_text(self) -> str:
        """``[0.580, 0.641]``, or nothing."""
        return "" if self.interval is None else "[{:.{d}f}, {:.{d}f}]".format(*self.interval, d=self.decimals)

    @property
    def paper_text(self) -> str:
        """The paper's value, or a dot, as the paper marks an empty cell."""
        return "·" if self.paper is None else f"{self.paper:.{self.decimals}f}"

    @property
    def difference_text(self) -> str:
        """``+0.012``, or nothing."""
        return "" if self.difference is None else f"{self.difference:+.{self.decimals}f}"


@dataclass(frozen=True)
class ComparedRow:
    """A row with its cells: for each column, one for each metric."""

    row: PaperRow
    cells: tuple[tuple[Cell, ...], ...]
    notes: tuple[int, ...]
    """Numbers of the footnotes."""

    @property
    def problem(self) -> str:
        """Why nothing or something of the row was not computed."""
        return "; ".join(dict.fromkeys(cell.problem for cell in self.all_cells if cell.problem))

    @property
    def all_cells(self) -> list[Cell]:
        return [cell for cells in self.cells for cell in cells]


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

    @property
    def summary(self) -> str:
        """How many cells have which verdict, in one sentence."""
        verdicts = [cell.verdict for row in self.rows for cell in row.all_cells if not cell.is_empty]
        parts = [f"{verdicts.count(name)} {text}" for name, text in VERDICTS.items() if name in verdicts]
        return f"cells: {'; '.join(parts) or 'none'}"


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
        table: what to compare.
        metrics: rows of ``metrics.csv``, of any rankings; ``dataset`` may be a column that a table compares with.
        variant: ``unique`` or ``all``.
        intervals: (ranking, dataset) -> metric -> interval.
        problems: ranking -> why it has no metrics.
        remarks: about the whole table.
        notes: the user's, after those of the package.
        row_remarks: row -> a footnote on how it was made here.
    """
    printed = paper_values(table.name, variant)
    metric_rows: dict[tuple[str, str], Row] = {}
    for metric_row in metrics:
        key = (str(metric_row["ranking"]), str(metric_row["dataset"]))
        if metric_rows.setdefault(key, metric_row) is not metric_row:
            raise ValueError(f"the metrics of ranking {key[0]!r} on {key[1]} come twice")
    about = [note for note in (*known_reasons(), *notes) if note.about(table.name, variant)]
    footnotes: list[str] = []

    def numbers(texts: Sequence[str]) -> tuple[int, ...]:  # in the order in which rows, then columns first name them
        footnotes.extend(text for text in dict.fromkeys(texts) if text not in footnotes)
        return tuple(sorted(footnotes.index(text) + 1 for text in texts))

    def cell(row: PaperRow, column: PaperColumn, metric: str) -> Cell:
        ranking = row.ranking_for(column.key)
        key = (ranking, column.compared_with)
        metric_row = metric_rows.get(key)
        value = metric_value(metric_row, metric) if metric_row else None
        paper = printed.get((row.key, column.key, metric), _NOT_PRINTED)
        paper_std = printed.get((row.key, column.key, f"{metric}_std"), _NOT_PRINTED)
        if value is not None:
            problem = f"{metric} of {ranking!r} is undefined" if value.mean is None else ""
        elif row.learned:
            problem = f"not computed: a model-driven ranking, and no metrics of {ranking!r} were given"
        else:
            problem = f"not computed: there are no metrics of {ranking!r} on {column.compared_with}"
        return Cell(
            ranking=ranking,
            metric=metric,
            ours=value.mean if value else None,
            std=value.std if value else None,
            interval=(intervals or {}).get(key, {}).get(metric),
            paper=paper.value,
            paper_std=paper_std.value,
            source=paper.source,
            problem=(problems or {}).get(ranking, problem) if value is None else problem,
            sizes=tuple(str((metric_row or {}).get(name) or "") for name in ("n", "ndcg_k", "seeds")),
            decimals=table.decimals,
        )

    rows = []
    for row in table.rows:
        cells = tuple(tuple(cell(row, column, metric) for metric in table.metrics) for column in table.columns)
        texts = [note.text for note in about if note.rows is not None and row.key in note.rows]
        if row_remarks and row.key in row_remarks:
            texts.append(row_remarks[row.key])
        rows.append(ComparedRow(row, cells, numbers(texts)))
    other_notes = [note for note in about if note.rows is None]
    column_notes = [
        numbers([note.text for note in other_notes if column.key in (note.columns or ())]) for column in table.columns
    ]
    table_notes = [note.text for note in other_notes if note.columns is None]
    return Comparison(table, variant, tuple(rows), tuple(column_notes), tuple(footnotes), (*remarks, *table_notes))


def comparison_csv(comparison: Comparison) -> str:
    """The comparison as CSV text, one line per cell of which either side has a value; columns `CSV_COLUMNS`."""
    lines = []
    table = comparison.table
    for row in comparison.rows:
        for column, cells, column_notes in zip(table.columns, row.cells, comparison.column_notes):
            notes = [comparison.footnotes[number - 1] for number in dict.fromkeys([*row.notes, *column_notes])]
            names = (table.name, VARIANTS[comparison.variant], row.row.key, row.row.label, column.key)
            for cell in cells:
                if cell.is_empty and not cell.problem:
                    continue
                low, high = cell.interval or (None, None)
                head = (*names, cell.metric, cell.ranking, column.compared_with, *cell.sizes)
                values = (cell.ours, cell.std, low, high, cell.paper, cell.paper_std, cell.difference)
                covered = "" if cell.in_interval is None else str(cell.in_interval).lower()
                texts = (covered, cell.verdict, cell.problem, " | ".join(notes), cell.source)
                lines.append([*head, *values, *texts])
    return "".join(map(csv_line, [CSV_COLUMNS, *lines]))
