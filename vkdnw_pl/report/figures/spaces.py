"""Rankings on several spaces: values with their intervals, a panel for each data set, and how far rankings agree."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from vkdnw_pl.report.figures import style
from vkdnw_pl.report.figures.style import ACCENT, BLUE, GREY, INK, LIGHT, drawing, new_figure
from vkdnw_pl.report.spaces import Columns, columns_of, estimate_text, mean_correlations
from vkdnw_pl.report.tables import METRICS
from vkdnw_pl.report.text import clean, shortened
from vkdnw_pl.scoring.fixed_size import SIZE
from vkdnw_pl.scoring.spaces_evaluation import Estimate, SpacesEvaluation

_IN_LINE = 4
_LONGEST = 24
_COLORS = {"kendall": BLUE, "spearman": LIGHT["c2"], "ndcg": ACCENT}
_BEST_IS_FILLED = "filled: the best of its panel, or not to be told from the best"
_MARKERS = {"kendall": "o", "spearman": "s", "ndcg": "D"}


class Series(NamedTuple):
    """Values of one kind, with a colour and a marker."""

    label: str
    color: str
    marker: str
    values: Mapping[tuple[tuple[str, str], str], Estimate]
    """(Column, ranking) -> value."""
    filled: frozenset[tuple[tuple[str, str], str]] | None = None
    """Those whose marker is filled; None: all."""


def save_spaces_figures(evaluation: SpacesEvaluation, folder: Path) -> list[Path]:
    """Draw ``spaces.png``, ``differences.png``, ``fixed_size.png``, and ``correlations.png`` with one more per space."""
    figures = {"spaces": metrics_figure(evaluation), "differences": differences_figure(evaluation)}
    if any(row.partial.value is not None for row in evaluation.fixed_size):
        figures["fixed_size"] = fixed_size_figure(evaluation)
    if evaluation.correlations:
        figures["correlations"] = correlations_figure(evaluation)
    return [style.save_figure(figure, folder / f"{name}.png") for name, figure in figures.items()]


def metrics_figure(evaluation: SpacesEvaluation) -> Figure:
    """Draw every metric of every ranking with its interval; filled where it is the best or cannot be told from the best."""
    return _panels(evaluation, metric_series(evaluation), _BEST_IS_FILLED)


def differences_figure(evaluation: SpacesEvaluation) -> Figure:
    """Draw Kendall's tau minus that of each baseline; filled where the interval leaves out 0."""
    return _panels(evaluation, difference_series(evaluation), "filled: the 95 % interval leaves out 0", zero=True)


def fixed_size_figure(evaluation: SpacesEvaluation) -> Figure:
    """Draw Spearman's rho with and without the size held fixed; filled where the interval leaves out 0."""
    return _panels(
        evaluation,
        fixed_size_series(evaluation),
        f"with the size held fixed: partial correlation given {SIZE}",
        zero=True,
    )


def correlations_figure(evaluation: SpacesEvaluation) -> Figure:
    """Draw the mean over spaces of Spearman's rho of each two rankings."""
    names, rho = mean_correlations(evaluation.correlations)
    side = 0.42 * len(names)
    with drawing():
        figure = new_figure(2.2 + side, 1.4 + side)
        ax = figure.subplots()
        ax.imshow(rho, cmap="RdBu_r", vmin=-1, vmax=1)
        for i, j in np.ndindex(rho.shape):
            if i != j and not math.isnan(rho[i, j]):
                ax.text(
                    j,
                    i,
                    f"{rho[i, j]:.2f}".replace("0.", ".").replace("-", "−"),
                    ha="center",
                    va="center",
                    fontsize=style.SMALL,
                    color="white" if abs(rho[i, j]) > 0.7 else INK,
                )
        labels = [shortened(clean(name), _LONGEST) for name in names]
        ax.set_yticks(range(len(names)), labels)
        ax.set_xticks(range(len(names)), labels, rotation=90)
        ax.grid(visible=False)
        for spine in ax.spines.values():
            spine.set_visible(False)
        count = len({pair.space for pair in evaluation.correlations})
        ax.set_title(
            f"Spearman's rho of rankings, mean over {count} spaces" if count > 1 else "Spearman's rho of rankings"
        )
    return figure


def metric_series(evaluation: SpacesEvaluation) -> list[Series]:
    """Kendall, Spearman and nDCG."""
    series = []
    for metric, short in METRICS.items():
        rows = [row for row in evaluation.metrics if row.metric == metric]
        values = {(row.column, row.ranking): row.estimate for row in rows}
        filled = frozenset((row.column, row.ranking) for row in rows if row.best)
        series.append(Series(short, _COLORS[metric], _MARKERS[metric], values, filled))
    return series


def difference_series(evaluation: SpacesEvaluation) -> list[Series]:
    """Kendall's tau minus that of each baseline."""
    rows = [row for row in evaluation.metrics if row.metric == "kendall"]
    series = []
    for number, baseline in enumerate(rows[0].differences if rows else ()):
        values = {(row.column, row.ranking): row.differences[baseline] for row in rows if row.ranking != baseline}
        filled = frozenset(key for key, value in values.items() if value.side)
        color, marker = (BLUE, ACCENT, LIGHT["c2"], LIGHT["c3"])[number % 4], "osD^"[number % 4]
        series.append(Series(f"KT minus that of {baseline}", color, marker, values, filled))
    return series


def fixed_size_series(evaluation: SpacesEvaluation) -> list[Series]:
    """Spearman's rho without and with the size held fixed."""
    rows = evaluation.fixed_size
    plain = {(row.column, row.ranking): Estimate(row.spearman) for row in rows}
    partial = {(row.column, row.ranking): row.partial for row in rows}
    filled = frozenset(key for key, value in partial.items() if value.side)
    return [
        Series("SPR", GREY, "|", plain),
        Series("SPR with the size held fixed", ACCENT, "o", partial, filled),
    ]


def draw_estimates(ax: Axes, names: Sequence[str], column: tuple[str, str], series: Sequence[Series]) -> None:
    """Draw one panel, the first ranking on top: a marker for each value, a line for its interval."""
    step = 0.72 / max(len(series), 1)
    for number, of_kind in enumerate(series):
        for line, name in enumerate(names):
            estimate = of_kind.values.get((column, name), Estimate())
            if estimate.value is None:
                continue
            y = line + (number + 0.5) * step - 0.36
            if estimate.low is not None and estimate.high is not None:
                ax.plot([estimate.low, estimate.high], [y, y], color=of_kind.color, linewidth=1.1, zorder=3)
            filled = of_kind.filled is None or (column, name) in of_kind.filled
            face: dict[str, Any] = {"markerfacecolor": of_kind.color if filled else LIGHT["paper"]}
            (point,) = ax.plot(estimate.value, y, of_kind.marker, color=of_kind.color, markersize=4, zorder=4, **face)
            style.hover(point, [f"{name}, {of_kind.label}: {estimate_text(estimate)}"])
    ax.set_yticks(range(len(names)), [shortened(clean(name), _LONGEST) for name in names])
    ax.set_ylim(len(names) - 0.4, -0.6)
    for line in range(1, len(names), 2):
        ax.axhspan(line - 0.5, line + 0.5, color=LIGHT["raised"], zorder=0)
    ax.grid(axis="y", visible=False)


def metrics_panel(evaluation: SpacesEvaluation, column: tuple[str, str]) -> Figure:
    """One panel of `metrics_figure` for a page."""
    names = list(dict.fromkeys(row.ranking for row in evaluation.metrics))
    with style.panel(style.PAGE_WIDTH, 0.8 + 0.2 * len(names)) as (figure, ax):
        draw_estimates(ax, names, column, metric_series(evaluation))
    return figure


def _panels(evaluation: SpacesEvaluation, series: Sequence[Series], note: str, zero: bool = False) -> Figure:
    columns: Columns = columns_of(evaluation.metrics)
    names = list(dict.fromkeys(row.ranking for row in evaluation.metrics))
    sizes = {row.column: row.n for row in evaluation.metrics}
    num_columns = min(_IN_LINE, len(columns))
    num_lines = math.ceil(len(columns) / num_columns)
    height = len(names) * max(0.2, 0.1 * len(series))
    with drawing():
        figure = new_figure(max(1.8 + 2.1 * num_columns, 5.0), 0.8 + num_lines * (0.75 + height))
        panels = figure.subplots(num_lines, num_columns, sharex=True, sharey=True, squeeze=False).ravel()
        for ax, column in zip(panels, columns):
            draw_estimates(ax, names, column, series)
            ax.set_title("\n".join(clean(shortened(part, _LONGEST)) for part in column), fontsize=style.SMALL + 1)
            ax.set_xlabel(f"n = {sizes[column]:,}")
            if zero:
                ax.axvline(0, color=GREY, linewidth=0.8, zorder=2)
            ax.tick_params(labelbottom=True)
        for ax in panels[len(columns) :]:
            ax.set_axis_off()
        handles = [
            Line2D([], [], color=of_kind.color, marker=of_kind.marker, linestyle="-", markersize=4, label=of_kind.label)
            for of_kind in series
        ]
        figure.legend(handles=handles, loc="outside upper left", ncols=len(handles))
        figure.supxlabel(f"lines: 95 % intervals over samples of networks; {note}", fontsize=style.SMALL)
    return figure
