"""Rankings on several spaces as tables of text, whatever shows them."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from tabulate import tabulate

from vkdnw_pl.oracles import Measure
from vkdnw_pl.report.tables import METRICS
from vkdnw_pl.scoring.fixed_size import GROUPS, SIZE
from vkdnw_pl.scoring.spaces_evaluation import (
    BEST,
    TIED,
    Correlation,
    Estimate,
    FixedSize,
    SpaceMetric,
    SpacesEvaluation,
)

Columns = Sequence[tuple[str, str]]
"""Space and data set of each column."""
Heads = Mapping[tuple[str, str], str]
"""Column -> its head, in several lines."""

BETTER, WORSE = "better", "worse"
_TEXT = {BEST: "*", TIED: "~", BETTER: "*", WORSE: "*", "": " "}
_KEY = "* is the best of its column, or a difference or correlation whose interval leaves out 0; ~ cannot be told from the best."


class Cell(NamedTuple):
    """A cell of a `Grid`."""

    text: str
    mark: str = ""
    """``best`` or ``tied`` of a column; ``better`` or ``worse``: the whole interval lies above or below 0."""
    title: str = ""
    """Why it is empty."""
    value: float | None = None
    """What a table is sorted by."""


class Grid(NamedTuple):
    """A table with a line for each ranking."""

    kind: str
    """``metric``, whose best values are marked, or ``difference``, where those are whose interval leaves out 0."""
    title: str
    caption: str
    heads: tuple[str, ...]
    """What belongs to one column, in several lines."""
    lines: Mapping[str, tuple[Cell, ...]]
    """Ranking -> its cells."""


def spaces_grids(evaluation: SpacesEvaluation) -> list[Grid]:
    """The tables: one for each metric, one for each baseline, two with the size held fixed."""
    heads = _heads(evaluation.metrics)
    grids = [_metric_grid(evaluation.metrics, heads, metric) for metric in METRICS]
    baselines = list(evaluation.metrics[0].differences) if evaluation.metrics else []
    grids += [_difference_grid(evaluation.metrics, heads, baseline) for baseline in baselines]
    order = {row.ranking: place for place, row in reversed(list(enumerate(evaluation.metrics)))}
    fixed = sorted(evaluation.fixed_size, key=lambda row: order[row.ranking])
    if any(row.partial.value is not None for row in fixed):
        grids += [_fixed_grid(fixed, heads, which) for which in ("partial", "within")]
    return [grid for grid in grids if grid.lines]


def notes(evaluation: SpacesEvaluation, left_out: Mapping[str, str]) -> list[str]:
    """What a reader must know: spaces that are left out, cautions, and why cells are empty."""
    texts = [f"{name} is left out: {reason}" for name, reason in left_out.items()]
    cautions = {row.column: row.caution for row in evaluation.metrics if row.caution}
    texts += [f"{' '.join(column)}: {caution}" for column, caution in cautions.items()]
    reasons: dict[str, dict[str, None]] = {}
    for row in evaluation.metrics:
        if row.metric == "kendall" and row.reason:
            reasons.setdefault(f"{row.ranking}: {row.reason}", {})[row.space] = None
    return texts + [f"no value on {', '.join(spaces)} of {reason}" for reason, spaces in reasons.items()]


def mean_correlations(pairs: Iterable[Correlation]) -> tuple[list[str], np.ndarray[Any, Any]]:
    """Rankings, and the mean over spaces of Spearman's rho of each two, shape (n, n); NaN where no space has both."""
    pairs = list(pairs)
    names = list(dict.fromkeys(name for pair in pairs for name in (pair.ranking, pair.other)))
    values: dict[tuple[str, str], list[float]] = {}
    for pair in pairs:
        if pair.spearman is not None:
            values.setdefault((pair.ranking, pair.other), []).append(pair.spearman)
    matrix = np.full((len(names), len(names)), np.nan)
    np.fill_diagonal(matrix, 1.0)
    for (name, other), of_spaces in values.items():
        i, j = names.index(name), names.index(other)
        matrix[i, j] = matrix[j, i] = np.mean(of_spaces)
    return names, matrix


def spaces_text(evaluation: SpacesEvaluation, left_out: Mapping[str, str], width: int = 120) -> str:
    """The tables for a terminal; columns that do not fit into ``width`` go below."""
    parts = []
    for grid in spaces_grids(evaluation):
        parts += [textwrap.fill(f"{grid.title}. {grid.caption}", width), *_ruled(grid, width)]
    parts.append(textwrap.fill(_KEY, width))
    parts.append("\n".join(textwrap.fill(f"note: {text}", width) for text in notes(evaluation, left_out)))
    return "\n\n".join(filter(None, parts)) + "\n"


def _metric_grid(rows: Iterable[SpaceMetric], heads: Heads, metric: str) -> Grid:
    rows = [row for row in rows if row.metric == metric]
    heads = {row.column: heads[row.column] for row in rows if row.estimate.value is not None} or heads
    lines = {}
    for ranking, of_ranking in _by_ranking(rows).items():
        cells = [_cell(of_ranking.get(column), lambda row: row.estimate, lambda row: row.best) for column in heads]
        mean = _mean_of_spaces(of_ranking.values(), len(heads))
        lines[ranking] = (*cells, Cell(_number(mean), value=mean))
    title = {
        "kendall": "Kendall's tau",
        "spearman": "Spearman's rho",
        "ndcg": "nDCG of the first tenth",
    }[metric]
    caption = (
        "In brackets the 95 % interval over samples of networks. Marked is the best of a column if it is better than every "
        "other one, that is, if the paired interval of each difference lies above 0; where there is no such ranking, those "
        "that cannot be told from the best one. Mean: over spaces, of each the mean over its data sets."
    )
    return Grid("metric", title, caption, (*heads.values(), "mean"), lines)


def _difference_grid(rows: Iterable[SpaceMetric], heads: Heads, baseline: str) -> Grid:
    rows = [row for row in rows if row.metric == "kendall"]
    lines = {}
    for ranking, of_ranking in _by_ranking(rows).items():
        if ranking == baseline:
            continue
        cells = [
            _cell(
                of_ranking.get(column),
                lambda row: row.differences[baseline],
                lambda row: _side(row.differences[baseline]),
                "+",
            )
            for column in heads
        ]
        sides = [cell.mark for cell in cells if cell.value is not None]
        lines[ranking] = (*cells, Cell(f"{sides.count(BETTER)} / {sides.count(WORSE)} of {len(sides)}"))
    title = f"Kendall's tau minus that of {baseline}"
    caption = (
        "Paired: both on the same networks in every sample. Marked where the whole 95 % interval lies above 0 (better) or "
        "below (worse); the last column counts these."
    )
    return Grid("difference", title, caption, (*heads.values(), "better\n/ worse"), lines)


def _fixed_grid(rows: Sequence[FixedSize], heads: Heads, which: str) -> Grid:
    lines = {
        ranking: tuple(
            _cell(of_ranking.get(column), lambda row: getattr(row, which), lambda row: _side(getattr(row, which)))
            for column in heads
        )
        for ranking, of_ranking in _by_ranking(rows).items()
    }
    title, what = {
        "partial": (
            f"With {SIZE} held fixed: partial Spearman's rho",
            f"Of what a regression on the ranks of {SIZE} leaves of the ranks of scores and accuracies.",
        ),
        "within": (
            f"Among networks of similar size: Kendall's tau within {GROUPS} groups of {SIZE}",
            f"Over the pairs of networks in the same group; the line of {SIZE} shows how much size still says there.",
        ),
    }[which]
    caption = f"{what} Marked where the whole 95 % interval lies above or below 0."
    return Grid("difference", title, caption, tuple(heads.values()), lines)


def _cell(row: Any, estimate: Any, mark: Any, sign: str = "") -> Cell:
    if row is None:
        return Cell("")
    value = estimate(row)
    if value.value is None:
        return Cell("–" if row.reason else "", "", row.reason)
    return Cell(estimate_text(value, sign), mark(row), value=value.value)


def estimate_text(estimate: Estimate, sign: str = "") -> str:
    """``0.764 [0.75, 0.78]``; ``sign`` is ``+`` to show it of positive numbers too."""
    ends = "" if estimate.low is None else f" [{_number(estimate.low, 2, sign)}, {_number(estimate.high, 2, sign)}]"
    return f"{_number(estimate.value, 3, sign)}{ends}"


def _side(estimate: Estimate) -> str:
    return {1: BETTER, -1: WORSE, 0: ""}[estimate.side]


def _number(value: float | None, digits: int = 3, sign: str = "") -> str:
    return "" if value is None or np.isnan(value) else f"{value:{sign}.{digits}f}".replace("-", "−")


def columns_of(rows: Iterable[Any]) -> Columns:
    """Space and data set of the rows, in their order."""
    return list(dict.fromkeys(row.column for row in rows))


def _by_ranking(rows: Iterable[Any]) -> dict[str, dict[tuple[str, str], Any]]:
    lines: dict[str, dict[tuple[str, str], Any]] = {}
    for row in rows:
        lines.setdefault(row.ranking, {})[row.column] = row
    return lines


def _heads(rows: Iterable[SpaceMetric]) -> Heads:
    heads = {}
    for row in rows:
        measure = Measure(row.dataset, row.split, row.unit, row.better == "higher")
        named = row.dataset if measure.is_accuracy else measure.axis
        heads[row.column] = f"{row.space}\n{named}\nn = {row.n:,}"
    return heads


def _mean_of_spaces(rows: Iterable[SpaceMetric], count: int) -> float | None:
    """None where a column has no value: the mean of fewer is another quantity."""
    values: dict[str, list[float]] = {}
    rows = [row for row in rows if row.estimate.value is not None]
    for row in rows:
        values.setdefault(row.space, []).append(row.estimate.value or 0.0)
    if len(rows) < count:
        return None
    return float(np.mean([np.mean(of_space) for of_space in values.values()]))


def _ruled(grid: Grid, width: int) -> list[str]:
    """The grid as text, in as many tables one below the other as it takes."""
    names = ["ranking", *grid.lines]
    columns = [
        [head, *(f"{cells[i].text}{_TEXT[cells[i].mark]}" for cells in grid.lines.values())]
        for i, head in enumerate(grid.heads)
    ]
    groups: list[list[list[str]]] = []
    for column in columns:
        fits = groups and sum(map(_width, [names, *groups[-1], column])) <= width
        groups = [*groups[:-1], [*groups[-1], column]] if fits else [*groups, [column]]
    texts = []
    for group in groups:
        head, *lines = zip(names, *group)
        align = ["left", *["right"] * len(group)]
        texts.append(tabulate(lines, head, disable_numparse=True, preserve_whitespace=True, colalign=align))
    return [re.sub(r" +$", "", text, flags=re.MULTILINE) for text in texts]


def _width(column: Sequence[str]) -> int:
    """Of a column of text; tabulate makes it 2 wider than its head."""
    head, *cells = column
    return 2 + max(2 + max(map(len, head.split("\n"))), *map(len, cells))
