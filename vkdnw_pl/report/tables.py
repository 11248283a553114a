"""Tables of rank metrics: rankings down, data sets and metrics across, the best of each column marked."""

from __future__ import annotations

import math
import shutil
import sys
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from types import SimpleNamespace
from typing import Any, NamedTuple, TextIO

from tabulate import tabulate

from vkdnw_pl.oracles import Measure
from vkdnw_pl.oracles.base import PERCENT

METRICS = {"kendall": "KT", "spearman": "SPR", "ndcg": "nDCG"}
"""The metric columns of ``metrics.csv`` and their short names; all are higher = better."""

_CAVEAT = "nDCG is for accuracies in percent alone; where lower values are better, a positive KT is good, too."
_DIGITS = 3
_GAP = "  "

Row = Mapping[str, Any]
"""One row of ``metrics.csv``: ``ranking, dataset, split, n, kendall, spearman, ndcg, ndcg_k, seeds`` and, empty with
one seed, ``kendall_std, spearman_std, ndcg_std``; perhaps ``kendall_low, kendall_high`` and so on, and ``unit, better`` (``higher`` or ``lower``) of the values that the
ranking is compared with; numbers or the text of a CSV file."""


class Line(SimpleNamespace):
    """A line or a part of the report by named fields; the function that makes it says which ones."""


class Value(NamedTuple):
    """A metric's mean over seeds and its standard deviation (None with one seed); mean None where undefined."""

    mean: float | None
    std: float | None
    best: bool = False
    """Whether it is the best of its column, as printed."""
    interval: tuple[float, float] | None = None
    """Its interval over samples of networks, where one was asked for."""

    def __str__(self) -> str:
        return "n/a" if self.mean is None else f"{self.mean:.{_DIGITS}f}{self.spread}"

    @property
    def spread(self) -> str:
        """`` ± 0.012 [0.71, 0.76]``, as far as there is such."""
        std = "" if self.std is None else f" ± {self.std:.{_DIGITS}f}"
        return std + ("" if self.interval is None else f" [{self.interval[0]:.2f}, {self.interval[1]:.2f}]")

    @property
    def shown(self) -> float:
        """The mean as it is printed, so that values which look equal are marked alike; NaN where undefined."""
        return math.nan if self.mean is None else float(f"{self.mean:.{_DIGITS}f}")


class MetricRow(NamedTuple):
    """One ranking of one run, by its place; cells by data set, then metric, None where the run has none."""

    run: int
    ranking: str
    n: str
    """Architectures with known accuracies, of all data sets, as text."""
    cells: tuple[Value | None, ...]


class MetricTable(NamedTuple):
    """The rank metrics of one or several runs; rankings and data sets in the order in which they come."""

    datasets: tuple[Measure, ...]
    """What rankings are compared with."""
    sizes: tuple[str, ...]
    """How many architectures, of each data set, as text; so are the cuts of nDCG."""
    cuts: tuple[str, ...]
    rows: tuple[MetricRow, ...]
    num_seeds: int
    """The most seeds of a row."""
    has_std: bool
    has_intervals: bool = False

    @property
    def spread(self) -> str:
        """What stands behind a value, in words; empty where nothing does."""
        std = [f"mean ± standard deviation over {self.num_seeds} seeds"] * self.has_std
        return "; ".join(std + ["in brackets the 95 % interval over samples of networks"] * self.has_intervals)

    @property
    def titles(self) -> list[str]:
        """``cifar10 (test)``, for each data set."""
        return [measure.title for measure in self.datasets]

    @property
    def caveat(self) -> str:
        """What to know of values that are no accuracies in percent; empty where there are none."""
        return "" if all(measure.is_accuracy for measure in self.datasets) else _CAVEAT

    @property
    def heads(self) -> list[str]:
        """``KT``, ``SPR``, ``nDCG@1,000``, for each column."""
        columns = [(cut, key, short) for cut in self.cuts for key, short in METRICS.items()]
        return [f"{short}@{cut}" if key == "ndcg" and cut else short for cut, key, short in columns]

    @property
    def sizes_differ(self) -> bool:
        """Whether rows were measured on different numbers of architectures."""
        return len({row.n for row in self.rows}) > 1


def metric_value(row: Row, metric: str) -> Value:
    """Read one metric of a row; a missing column, or text that is no number, is a ``ValueError``."""
    low, high = (_number(row, f"{metric}_{end}", optional=True) for end in ("low", "high"))
    ends = None if low is None or high is None else (low, high)
    return Value(_number(row, metric), _number(row, f"{metric}_std", optional=True), interval=ends)


def measure_of(row: Row) -> Measure:
    """What a metric row compares its ranking with; of tables that do not say it, an accuracy."""
    unit, better = row.get("unit"), row.get("better")
    return Measure(
        str(row["dataset"]), str(row.get("split") or ""), PERCENT if unit is None else str(unit), better != "lower"
    )


def metric_table(runs: Sequence[Iterable[Row]]) -> MetricTable | None:
    """Arrange the metric rows of runs; None where there are none.

    Raises:
        ValueError: if a row lacks a column, holds text where a number belongs, or comes twice in a run.
    """
    lines: dict[tuple[int, str], dict[Measure, Row]] = {}
    for run, rows in enumerate(runs):
        for row in rows:
            for column in ("ranking", "dataset", "split"):
                if column not in row:
                    raise ValueError(f"a metric row has no column {column!r} (it has: {', '.join(row)})")
            measure, ranking = measure_of(row), str(row["ranking"])
            line = lines.setdefault((run, ranking), {})
            if measure in line:
                raise ValueError(f"the metrics of ranking {ranking!r} on {measure.title} come twice")
            line[measure] = row
    if not lines:
        return None
    datasets = tuple(dict.fromkeys(dataset for line in lines.values() for dataset in line))
    columns = [(dataset, metric) for dataset in datasets for metric in METRICS]
    values = [
        [metric_value(line[dataset], metric) if dataset in line else None for dataset, metric in columns]
        for line in lines.values()
    ]
    best = [
        max((cell.shown for cell in cells if cell is not None and cell.mean is not None), default=math.nan)
        for cells in zip(*values)
    ]
    table_rows = []
    for (key, line), cells in zip(lines.items(), values):
        marked = [cell and cell._replace(best=cell.shown == top) for cell, top in zip(cells, best)]
        table_rows.append(MetricRow(*key, span(line.values(), "n"), tuple(marked)))
    by_dataset = [[line[dataset] for line in lines.values() if dataset in line] for dataset in datasets]
    return MetricTable(
        datasets,
        sizes=tuple(span(rows, "n") for rows in by_dataset),
        cuts=tuple(span(rows, "ndcg_k") for rows in by_dataset),
        rows=tuple(table_rows),
        num_seeds=int(max(_number(row, "seeds") or 0 for rows in by_dataset for row in rows)),
        has_std=any(cell is not None and cell.std is not None for cells in values for cell in cells),
        has_intervals=any(cell is not None and cell.interval is not None for cells in values for cell in cells),
    )


def text_table(rows: Iterable[Row], ansi: bool = False, width: int | None = None) -> str:
    """Render metric rows for a terminal; errors as of `metric_table`.

    The best of each column is bold with ANSI codes, or followed by ``*``. Data sets that do not fit side by side into
    ``width`` columns go below each other.
    """
    table = metric_table([rows])
    if table is None:
        return "no metrics: no ranking has known accuracies\n"
    packed: list[list[int]] = []
    for dataset in range(len(table.datasets)):
        beside = [*packed[-1], dataset] if packed else [dataset]
        if packed and (width is None or max(map(len, _ruled(table, beside, False).splitlines())) <= width):
            packed[-1] = beside
        else:
            packed.append([dataset])
    texts = [_ruled(table, datasets, ansi) for datasets in packed]
    spread = f"{table.spread}; " if table.spread else ""
    caption = (
        f"KT Kendall's tau-b, SPR Spearman's rho, nDCG@k of the k that rank first; {spread}higher is better, "
        f"the best of each column is {'bold' if ansi else 'marked *'}." + (f" {table.caveat}" if table.caveat else "")
    )
    return "\n\n".join([*texts, textwrap.fill(caption, min(width or 120, 120))]) + "\n"


def print_table(rows: Iterable[Row], file: TextIO | None = None) -> None:
    """Print `text_table` to ``file`` (default: standard output), bold and in the terminal's width if it is one."""
    file = file or sys.stdout
    tty = file.isatty()
    file.write(text_table(rows, ansi=tty, width=shutil.get_terminal_size().columns if tty else None))


def markdown_table(head: Sequence[str], lines: Iterable[Sequence[str]], right: Iterable[int] = ()) -> str:
    """A table in GitHub's Markdown; the columns ``right`` are aligned there. Cells are not escaped."""
    rule = ["---:" if i in set(right) else "---" for i in range(len(head))]
    return "\n".join(f"| {' | '.join(line)} |" for line in [head, rule, *lines])


def span(rows: Iterable[Row], column: str) -> str:
    """The number of a column, or the smallest and the largest one: ``320``, ``1,499–1,500``; empty where there is none."""
    numbers = sorted({int(number) for row in rows if (number := _number(row, column)) is not None})
    return "–".join(f"{number:,}" for number in dict.fromkeys((*numbers[:1], *numbers[-1:])))


def _ruled(table: MetricTable, datasets: Sequence[int], ansi: bool) -> str:
    """Data sets side by side: a line with their titles, the heads of the columns, and a line for each ranking."""
    per_dataset = len(METRICS)
    titles = [f"{table.titles[i]}, n = {table.sizes[i]}" for i in datasets]
    columns = [i * per_dataset + j for i in datasets for j in range(per_dataset)]
    # Together, the columns of a data set are at least as wide as its title; tabulate makes them 2 wider than their heads.
    least = [math.ceil((len(title) - 2 * len(_GAP)) / per_dataset) - 2 for title in titles for _ in METRICS]
    heads = [(table.heads[i] + " " * (not ansi)).rjust(width) for i, width in zip(columns, least)]
    lines = [[row.ranking, *(_text_cell(row.cells[i], ansi) for i in columns)] for row in table.rows]
    style: dict[str, Any] = {"disable_numparse": True, "preserve_whitespace": True}
    text = tabulate(lines, ["ranking", *heads], colalign=["left", *["right"] * len(columns)], **style)
    names, *widths = map(len, text.splitlines()[1].split(_GAP))
    spans = [sum(widths[i : i + per_dataset]) + 2 * len(_GAP) for i in range(0, len(widths), per_dataset)]
    above = _GAP.join([" " * names, *(title.rjust(wide) for title, wide in zip(titles, spans))])
    return "\n".join(line.rstrip() for line in [above, *text.splitlines()])


def _text_cell(cell: Value | None, ansi: bool) -> str:
    """Cells without a star leave its place empty, so that the digits stand below each other."""
    text = "" if cell is None else str(cell)
    if cell is not None and cell.best:
        return f"\033[1m{text}\033[0m" if ansi else f"{text}*"
    return text if ansi else f"{text} "


def _number(row: Row, column: str, optional: bool = False) -> float | None:
    """A number of a row; None where the cell is empty or NaN."""
    if column not in row and not optional:
        raise ValueError(f"a metric row has no column {column!r} (it has: {', '.join(row)})")
    cell = row.get(column)
    if cell is None or cell == "":
        return None
    try:
        number = float(cell)
    except ValueError:
        raise ValueError(f"{column}={cell!r} of ranking {row.get('ranking')!r} is not a number") from None
    return None if math.isnan(number) else number
