"""The rank metrics of several runs in one table, and the paper's values beside them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from vkdnw_pl.report.paper.comparison import Cell, Comparison, compare
from vkdnw_pl.report.paper.tables import ACCURACY, PAPER_TABLES, PaperTable
from vkdnw_pl.report.runs import Run
from vkdnw_pl.report.tables import METRICS, Row, Value, metric_value

ALL_NETWORKS, UNIQUE_NETWORKS = 15_625, 9_445
_PAPER_CUT = 1000
_COMPARED = ("table1", "table3", "table5", "robustness_tensors", "robustness_weights", "robustness_entry")

Dataset = tuple[str, str]
"""Name and split."""


@dataclass(frozen=True)
class MetricCell:
    """One metric of one ranking of one run on one data set."""

    value: Value
    best: bool
    """Whether it is the best of its column, as printed."""


@dataclass(frozen=True)
class MetricRow:
    """One ranking of one run."""

    run: int
    """Place of the run."""
    ranking: str
    n: str
    """Architectures with known accuracies, of each data set, as text."""
    seeds: str
    cells: tuple[MetricCell | None, ...]
    """By data set, then metric; None where the run has none."""


@dataclass(frozen=True)
class MetricTable:
    """All rankings of all runs."""

    datasets: tuple[Dataset, ...]
    cuts: tuple[str, ...]
    """Where nDCG cuts off, of each data set, as text."""
    rows: tuple[MetricRow, ...]
    several_seeds: bool

    @property
    def sizes_differ(self) -> bool:
        """Whether rows were measured on different numbers of architectures."""
        return len({row.n for row in self.rows}) > 1


@dataclass(frozen=True)
class PaperLine:
    """A row of a paper's table, and what a run has for it."""

    run: int
    label: str
    kind: str
    cells: tuple[Cell, ...]
    """By column, then metric."""


@dataclass(frozen=True)
class PaperPart:
    """A table of the paper, with the rows that some run has."""

    table: PaperTable
    lines: tuple[PaperLine, ...]
    remarks: tuple[str, ...]

    @property
    def columns(self) -> list[tuple[str, list[tuple[int, str]]]]:
        """Label of each column, with place among the cells and name of its metrics that both sides have somewhere."""
        count = len(self.table.metrics)
        found = []
        for i, column in enumerate(self.table.columns):
            places = [(i * count + j, metric) for j, metric in enumerate(self.table.metrics)]
            shown = [(k, metric) for k, metric in places if any(_compared(line.cells[k]) for line in self.lines)]
            if shown:
                found.append((column.label, shown))
        return found


def metric_table(runs: Sequence[Run]) -> MetricTable | None:
    """Metrics of all runs; None where no run has any.

    Raises:
        ValueError: if a file is damaged.
    """
    found: dict[tuple[int, str], dict[Dataset, Row]] = {}
    for i, run in enumerate(runs):
        for row in run.metrics:
            rows = found.setdefault((i, row["ranking"]), {})
            dataset = (row["dataset"], row["split"])
            if dataset in rows:
                raise ValueError(
                    f"{run.path / 'metrics.csv'} is damaged: ranking {row['ranking']!r} on {dataset[0]!r} comes twice"
                )
            rows[dataset] = row
    if not found:
        return None
    datasets = tuple(dict.fromkeys(dataset for rows in found.values() for dataset in rows))
    columns = [(dataset, metric) for dataset in datasets for metric in METRICS]
    values = {
        (key, dataset, metric): metric_value(row, metric)
        for key, rows in found.items()
        for dataset, row in rows.items()
        for metric in METRICS
    }
    best = {
        column: max((shown for key in found if (shown := _shown(values.get((key, *column)))) is not None), default=None)
        for column in columns
    }
    lines = []
    for key, some in found.items():
        cells = []
        for column in columns:
            value = values.get((key, *column))
            top = best[column]
            cells.append(None if value is None else MetricCell(value, top is not None and _shown(value) == top))
        lines.append(MetricRow(*key, _span(some.values(), "n"), _span(some.values(), "seeds"), tuple(cells)))
    cuts = tuple(_span((some[one] for some in found.values() if one in some), "ndcg_k") for one in datasets)
    several = any(value.std is not None for value in values.values())
    return MetricTable(datasets, cuts, tuple(lines), several)


def best_ranking(run: Run) -> tuple[str, str, float] | None:
    """Ranking with the highest Kendall's tau on the run's first data set, that data set, and the tau.

    Raises:
        ValueError: if a file is damaged.
    """
    first = run.metrics[0]["dataset"] if run.metrics else None
    known = [
        (value.mean, row["ranking"])
        for row in run.metrics
        if row["dataset"] == first and (value := metric_value(row, "kendall")).mean is not None
    ]
    if not known or first is None:
        return None
    top = max(mean for mean, _ in known)
    return next(name for mean, name in known if mean == top), first, top


def paper_parts(runs: Sequence[Run]) -> list[PaperPart]:
    """What the paper prints for rankings and data sets that some run has metrics of.

    The paper's nDCG looks at the first 1,000 of all its networks; that of a sample is another quantity, and is left out.

    Raises:
        ValueError: if a file is damaged.
    """
    metrics = [_for_paper(run) for run in runs]
    parts = []
    seen: set[tuple[int, str]] = set()
    for name in _COMPARED:
        table = PAPER_TABLES[name]
        datasets = {column.dataset for column in table.columns if column.target == ACCURACY}
        lines, remarks = [], dict[str, None]()
        for i, (variant, rows) in enumerate(metrics):
            if not any(row["dataset"] in datasets for row in rows):
                continue
            try:
                comparison = compare(table, rows, variant, notes=())
            except ValueError:
                continue  # the paper has no such table for this set of networks
            added, numbers = _lines(i, comparison, seen)
            if not added:
                continue
            lines += added
            numbers |= {number for some in comparison.column_notes for number in some}
            remarks |= dict.fromkeys(_remarks(runs[i], variant, rows))
            remarks |= dict.fromkeys(comparison.footnotes[number - 1] for number in sorted(numbers))
            remarks |= dict.fromkeys(comparison.remarks)
        # Tables repeat rows of those before them, under other names.
        seen |= {(line.run, cell.ranking or "") for line in lines for cell in line.cells}
        if lines:
            order = [row.label for row in table.rows]
            lines.sort(key=lambda line: order.index(line.label))
            parts.append(PaperPart(table, tuple(lines), tuple(remarks)))
    return parts


def _for_paper(run: Run) -> tuple[str, list[dict[str, str]]]:
    """The paper's set of networks that a run is nearest to, and its rows, nDCG only where it is the paper's."""
    rows: dict[tuple[str, str], dict[str, str]] = {}
    sizes = [int(float(row["n"])) for row in run.metrics if row["n"]]
    variant = "all" if sizes and max(sizes) > UNIQUE_NETWORKS else "unique"
    whole = ALL_NETWORKS if variant == "all" else UNIQUE_NETWORKS
    for row in run.metrics:
        if row["split"] not in ("test", ""):
            continue
        same_cut = row["n"] == str(whole) and row.get("ndcg_k") == str(_PAPER_CUT)
        kept = row if same_cut else {**row, "ndcg": "", "ndcg_std": ""}
        rows.setdefault((row["ranking"], row["dataset"]), kept)
    return variant, list(rows.values())


def _lines(run: int, comparison: Comparison, seen: set[tuple[int, str]]) -> tuple[list[PaperLine], set[int]]:
    """Rows of which both sides have a value, without rankings that were shown, and the numbers of their footnotes."""
    lines, numbers = [], set[int]()
    for row in comparison.rows:
        cells = tuple(cell for some in row.cells for cell in some)
        both = [cell for cell in cells if _compared(cell)]
        if any((run, cell.ranking or "") not in seen for cell in both):
            lines.append(PaperLine(run, row.row.label, row.row.kind, cells))
            numbers.update(row.notes)
    return lines, numbers


def _compared(cell: Cell) -> bool:
    """Whether both sides have a value."""
    return cell.ours is not None and cell.paper is not None


def _remarks(run: Run, variant: str, rows: Iterable[Mapping[str, str]]) -> Iterable[str]:
    whole = ALL_NETWORKS if variant == "all" else UNIQUE_NETWORKS
    sizes = sorted({int(float(row["n"])) for row in rows if row["n"]})
    if sizes and sizes[0] < whole:
        yield (
            f"{run.name}: a sample of {sizes[0]:,} of the paper's {whole:,} networks, so that values differ by chance; "
            "intervals, and nDCG as the paper cuts it, are what evaluate --paper makes"
        )


def _shown(value: Value | None) -> float | None:
    """The mean as it is printed, so that values which look equal are marked alike."""
    return None if value is None or value.mean is None else float(f"{value.mean:.3f}")


def _span(rows: Iterable[Row], column: str) -> str:
    numbers = sorted({int(float(row[column])) for row in rows if row.get(column)})
    if not numbers:
        return ""
    return f"{numbers[0]:,}" if len(numbers) == 1 else f"{numbers[0]:,}–{numbers[-1]:,}"
