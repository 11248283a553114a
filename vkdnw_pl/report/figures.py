"""Figures of rankings against real accuracies, drawn without pyplot, so that no global state is touched.

Equal input gives equal files: the style is matplotlib's default whatever the user's settings, and the PNG carries no
version or time.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import style
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from vkdnw_pl.report.tables import METRICS, Row, metric_value

# Okabe & Ito's colours, which stay apart for colour-blind readers, and in grey.
_OWN = "#D55E00"
_OTHER = "#56B4E9"
_POINTS = "#0072B2"
_GREY = "#666666"
_DPI = 150
_CUT = 0.02  # the share of architectures, from the worst, that may be drawn on the edge of a scatter plot


def rank_scatter(ranks: Mapping[str, Any], accuracy: Any, rows: Iterable[Row], dataset: str) -> Figure:
    """Draw the predicted rank against the accuracy, one panel per ranking, its metrics above it.

    Args:
        ranks: by ranking, the rank of each architecture, shape (n,), 1 = predicted to be best (as in
            ``ranking.csv``, maybe among more architectures than these); the first is drawn in the accent colour.
        accuracy: accuracies of the architectures in percent, shape (n,).
        rows: metric rows that contain each ranking on ``dataset``.
        dataset: its name in ``rows``.

    Raises:
        ValueError: if there is no ranking, a ranking has no row on ``dataset``, or lengths differ.
    """
    accuracy = np.asarray(accuracy, dtype=np.float64)
    found = {str(row["ranking"]): row for row in rows if row["dataset"] == dataset}
    for name, values in ranks.items():
        if name not in found:
            raise ValueError(f"ranking {name!r} has no metrics on {dataset!r} (there: {', '.join(found) or 'none'})")
        if np.shape(values) != accuracy.shape:
            raise ValueError(f"ranking {name!r} has shape {np.shape(values)} and accuracy {accuracy.shape}")
    if not ranks:
        raise ValueError("ranks is empty: give at least one ranking")
    num_columns = min(3, len(ranks))
    num_lines = math.ceil(len(ranks) / num_columns)
    # The few worst (a network without any path has 10 % on CIFAR-10) would squeeze all others into the top of the
    # panel: they are drawn as triangles on its lower edge.
    worst, top = np.quantile(accuracy, [_CUT, 1])
    floor = float(worst - 0.06 * max(top - worst, 1e-9))
    below = accuracy < floor
    n = len(accuracy)
    last = max(float(np.max(values)) for values in ranks.values())
    dots = {"s": float(np.clip(4000 / n, 2, 16)), "alpha": float(np.clip(400 / n, 0.12, 0.7)), "linewidths": 0}
    with _default_style():
        figure = _figure(0.6 + 3.1 * num_columns, 0.9 + 2.7 * num_lines)
        panels = figure.subplots(num_lines, num_columns, sharex=True, sharey=True, squeeze=False).ravel()
        for i, (name, values) in enumerate(ranks.items()):
            ax, x, color = panels[i], np.asarray(values, dtype=np.float64), _OWN if i == 0 else _POINTS
            ax.scatter(x[~below], accuracy[~below], color=color, **dots)
            edge = np.full(below.sum(), floor)
            ax.scatter(x[below], edge, color=color, marker="v", s=18, alpha=0.6, linewidths=0, clip_on=False, zorder=4)
            ax.set_title(name, fontsize=11, fontweight="bold", pad=18)
            means = {short: metric_value(found[name], metric).mean for metric, short in METRICS.items()}
            text = "   ".join(f"{short} {_text(mean)}" for short, mean in means.items())
            ax.annotate(text, (0.5, 1), (0, 5), "axes fraction", "offset points", ha="center", fontsize=8, color=_GREY)
            # Panels without a neighbour below carry the axis.
            ax.tick_params(labelsize=8, labelbottom=i + num_columns >= len(ranks))
            ax.grid(color="#e6e6e6", linewidth=0.6)
            _tidy(ax)
        for ax in panels[len(ranks) :]:
            ax.set_axis_off()
        ticks = MaxNLocator(5, integer=True).tick_values(1, max(last, 2))
        panels[0].set_xticks([1, *(tick for tick in ticks if 1 < tick <= last)])
        panels[0].set_xlim(1.03 * last, 1 - 0.03 * last)  # the best on the right
        panels[0].set_ylim(floor, float(top + 0.06 * max(top - worst, 1e-9)))
        split = str(found[next(iter(ranks))].get("split") or "")
        figure.supylabel(" ".join(part for part in (dataset, split, "accuracy (%)") if part), fontsize=10)
        note = f"\n▼ {below.sum()} of them below {floor:.1f} %" if below.any() else ""
        figure.supxlabel(f"predicted rank of {n} architectures (1 = best){note}", fontsize=10)
    return figure


def ndcg_bars(rows: Iterable[Row]) -> Figure:
    """Draw the nDCG of the rankings as sorted bars, one panel per data set, after Figure 1 of the VKDNW paper.

    Args:
        rows: metric rows; standard deviations over seeds become error bars. Rankings whose name begins with
            ``vkdnw`` have the accent colour.

    Raises:
        ValueError: if there are no rows, or a value is not a number.
    """
    panels: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        panels.setdefault((str(row["dataset"]), str(row.get("split") or "")), []).append(row)
    if not panels:
        raise ValueError("rows is empty: there are no metrics to draw")
    longest = max(len(some) for some in panels.values())
    with _default_style():
        figure = _figure(0.4 + 3.6 * len(panels), 1.3 + 0.25 * longest)
        axes = figure.subplots(1, len(panels), squeeze=False).ravel()
        for ax, ((dataset, split), some) in zip(axes, panels.items()):
            values = {str(row["ranking"]): metric_value(row, "ndcg") for row in some}
            # Best on top; what is undefined below all; names decide between equals.
            names = sorted(values, key=lambda name: (-(_or(values[name].mean, -1.0)), name))
            means = [_or(values[name].mean, 0.0) for name in names]
            spreads = [_or(values[name].std, 0.0) for name in names]
            own = [name.startswith("vkdnw") for name in names]
            ax.barh(range(len(names)), means, height=0.72, color=[_OWN if o else _OTHER for o in own])
            if any(spreads):
                ax.errorbar(means, range(len(names)), xerr=spreads, fmt="none", ecolor="black", elinewidth=1, capsize=2)
            for i, name in enumerate(names):
                label = _text(values[name].mean)
                place = (means[i] + spreads[i], i)
                weight = "bold" if own[i] else "normal"
                ax.annotate(
                    label, place, (4, 0), textcoords="offset points", va="center", fontsize=8, fontweight=weight
                )
            ax.set_yticks(range(len(names)), names, fontsize=8.5)
            for tick, o in zip(ax.get_yticklabels(), own):
                tick.set_fontweight("bold" if o else "normal")
            ax.set_ylim(len(names) - 0.4, -0.6)
            reach = max(mean + spread for mean, spread in zip(means, spreads))
            ax.set_xlim(0, max(reach, 0.1) * 1.2)  # room for the numbers
            ax.tick_params(axis="x", labelsize=8)
            ax.tick_params(axis="y", length=0)
            ax.set_title(f"{dataset} ({split})" if split else dataset, fontsize=11, fontweight="bold")
            ax.set_xlabel(f"nDCG of the first {_span(some, 'ndcg_k')} of {_span(some, 'n')}", fontsize=9)
            _tidy(ax)
            ax.grid(axis="x", color="#e6e6e6", linewidth=0.6)
        figure.legend(
            handles=[Patch(color=_OWN, label="VKDNW rankings"), Patch(color=_OTHER, label="other rankings")],
            loc="outside lower center",
            ncols=2,
            frameon=False,
            fontsize=8.5,
        )
    return figure


def save_figure(figure: Figure, path: str | Path) -> Path:
    """Write a figure as PNG, making its folder where needed, and return the path."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with _default_style():
        FigureCanvasAgg(figure)
        figure.savefig(path, format="png", dpi=_DPI, metadata={"Software": None})
    return path


def _default_style() -> AbstractContextManager[None]:
    """matplotlib's own defaults while drawing, the caller's settings afterwards."""
    return style.context("default")


def _figure(width: float, height: float) -> Figure:
    layout = ConstrainedLayoutEngine(w_pad=0.08, h_pad=0.08)
    return Figure(figsize=(width, height), dpi=_DPI, layout=layout)


def _tidy(ax: Axes) -> None:
    ax.set_axisbelow(True)
    for side in ("top", "right"):
        ax.spines[side].set_visible(False)


def _or(number: float | None, otherwise: float) -> float:
    return otherwise if number is None else number


def _text(mean: float | None) -> str:
    return "n/a" if mean is None else f"{mean:.3f}"


def _span(rows: Iterable[Row], column: str) -> str:
    numbers = sorted({int(row[column]) for row in rows})
    return str(numbers[0]) if len(numbers) == 1 else f"{numbers[0]}-{numbers[-1]}"
