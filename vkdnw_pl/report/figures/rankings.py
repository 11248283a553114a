"""Rankings against real accuracies: predicted ranks, rank metrics as bars, and what model-driven rankings look at."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from vkdnw_pl.errors import check_whole
from vkdnw_pl.oracles import Measure
from vkdnw_pl.ranking import NAMED_SETS, columns_of, rank_values
from vkdnw_pl.report.figures import style
from vkdnw_pl.report.figures.style import ACCENT, BLUE, GREY, INK, LIGHT_BLUE, drawing, new_figure
from vkdnw_pl.report.tables import METRICS, Row, Value, measure_of, metric_value, span
from vkdnw_pl.report.text import clean, shortened
from vkdnw_pl.scoring.evaluation import Evaluation

_CUT = 0.02  # the share of architectures, from the worst, that may be drawn on the edge of a scatter plot
_EDGE_MARKS = 40
ACCURACY = Measure("accuracy", "")
_MAX_PANELS = 9


_KINDS = {
    "VKDNW": ACCENT,
    "other proxies and costs": LIGHT_BLUE,
    "graph features (GRAF)": "#009E73",
    "all the rest": "#bbbbbb",
}
_SHORT_OPS = {"skip_connect": "skip", "nor_conv_": "", "avg_pool_3x3": "pool"}

Importances = Mapping[str, float | Sequence[float]]
"""Feature -> importance, one value or one per seed."""


class Bars(NamedTuple):
    """The bars of one colour, or of a colour each."""

    label: str
    color: str | Sequence[str]
    values: Sequence[Value | None]
    """One per line; None has no bar."""


def save_ranking_figures(
    evaluation: Evaluation, accuracies: Mapping[str, Mapping[str, float]], folder: Path
) -> list[Path]:
    """Draw an evaluation with metrics: ``ndcg.png`` where some data set has nDCG, and for each ``ranks_*.png``.

    ``accuracies``, or other values, are by data set, then architecture.
    """
    paths = []
    if any(row["ndcg_k"] is not None for row in evaluation.metrics):
        paths.append(style.save_figure(ndcg_bars(evaluation.metrics), folder / "ndcg.png"))
    names = list(evaluation.ranks)[:_MAX_PANELS]
    if "vkdnw_agg" in evaluation.ranks:  # the paper's ranking, and what it is made of
        parts = ["vkdnw_agg", "vkdnw_single", *columns_of(NAMED_SETS["vkdnw_agg"])]
        names = [name for name in parts if name in evaluation.ranks]
    for dataset in dict.fromkeys(row["dataset"] for row in evaluation.metrics):
        places = evaluation.known[dataset]
        accuracy = [accuracies[dataset][evaluation.archs[i]] for i in places]
        ranks = {name: evaluation.ranks[name][places] for name in names}
        path = folder / f"ranks_{re.sub(r'[^A-Za-z0-9._-]+', '_', dataset)}.png"
        paths.append(style.save_figure(rank_scatter(ranks, accuracy, evaluation.metrics, dataset), path))
    return paths


def rank_scatter(ranks: Mapping[str, Any], accuracy: Any, rows: Iterable[Row], dataset: str) -> Figure:
    """Draw the predicted rank against the accuracy, one panel per ranking, its metrics above it; the first in accent.

    ``ranks`` has for each ranking the rank of each architecture, shape (n,), 1 = predicted to be best; where they are
    ranks among more architectures, those among these n are drawn. ``accuracy`` is in percent, shape (n,), or what the
    metric rows say that it is; the better is above. ``rows`` are metric rows that contain each ranking on ``dataset``.

    Raises:
        ValueError: if there is no ranking, a ranking has no row on ``dataset``, or lengths differ.
    """
    accuracy = np.asarray(accuracy, dtype=np.float64)
    metrics = {str(row["ranking"]): row for row in rows if row["dataset"] == dataset}
    for name, values in ranks.items():
        if name not in metrics:
            raise ValueError(f"ranking {name!r} has no metrics on {dataset!r} (there: {', '.join(metrics) or 'none'})")
        if np.shape(values) != accuracy.shape:
            raise ValueError(f"ranking {name!r} has shape {np.shape(values)} and accuracy {accuracy.shape}")
    if not ranks:
        raise ValueError("ranks is empty: give at least one ranking")
    num_columns = min(3, len(ranks))
    num_lines = math.ceil(len(ranks) / num_columns)
    measure = measure_of(metrics[next(iter(ranks))])
    with drawing():
        figure = new_figure(0.6 + 3.1 * num_columns, 0.9 + 2.7 * num_lines)
        panels = figure.subplots(num_lines, num_columns, sharex=True, sharey=True, squeeze=False).ravel()
        for i, (name, values) in enumerate(ranks.items()):
            ax = panels[i]
            drawn = np.asarray(values, dtype=np.float64)
            floor, below = draw_ranks(ax, drawn, accuracy, BLUE if i else ACCENT, measure=measure)
            ax.set_title(clean(name), pad=18)
            means = {short: metric_value(metrics[name], metric).mean for metric, short in METRICS.items()}
            style.write_above(ax, "   ".join(f"{short} {_text(mean)}" for short, mean in means.items()))
            # Panels without a neighbour below carry the axis.
            ax.tick_params(labelbottom=i + num_columns >= len(ranks))
        for ax in panels[len(ranks) :]:
            ax.set_axis_off()
        split = "" if measure.split == "unspecified" else measure.split
        parts = (dataset, split, measure.axis) if measure.is_accuracy else (split, measure.axis)
        figure.supylabel(" ".join(filter(None, parts)))
        edge = f"below {floor:.1f} %" if measure.is_accuracy else f"worse than {measure.text(floor)}"
        note = f"\n▼ {below} of them {edge}" if below else ""
        figure.supxlabel(f"predicted rank of {len(accuracy)} architectures (1 = best){note}")
    return figure


def rank_panel(ranks: Any, accuracy: Any, archs: Sequence[str], measure: Measure = ACCURACY) -> Figure:
    """Draw one ranking as `rank_scatter` does, with the name of each architecture where one points at it."""
    with drawing():
        figure = new_figure(style.PAGE_WIDTH, 2.4)
        figure.set_layout_engine("none")  # a page has a hundred of these, and room for labels takes half of their time
        ax = figure.add_axes((0.17, 0.19, 0.81, 0.78), xlabel="rank (best on the right)", ylabel=measure.axis)
        draw_ranks(ax, ranks, accuracy, BLUE, archs, measure)
    return figure


def draw_ranks(
    ax: Axes,
    ranks: np.ndarray[Any, Any],
    accuracy: np.ndarray[Any, Any],
    color: str,
    archs: Sequence[str] = (),
    measure: Measure = ACCURACY,
) -> tuple[float, int]:
    """Draw the rank among these architectures against the accuracy, and set the limits of the axes.

    The few worst (a network without any path has 10 % on CIFAR-10) would squeeze all others into the top of the panel:
    they are drawn as triangles on its lower edge. Returned are that edge, and how many lie below it. Where less is better
    the axis is turned round.
    """
    x, n = rank_values(ranks), len(accuracy)
    floor, ceiling = accuracy_limits(accuracy, measure)
    below = measure.sign * accuracy < measure.sign * floor
    ticks = MaxNLocator(5, integer=True).tick_values(1, max(n, 2))
    ax.set_xticks([1, *(tick for tick in ticks if max(1, 0.08 * n) < tick <= n)])
    ax.set(xlim=(1.03 * n + 0.1, 0.9 - 0.03 * n), ylim=(floor, ceiling))  # the best on the right
    named = archs if n <= style.MAX_POINTS else ()
    texts = [f"{arch}: rank {rank:g}, {measure.text(value)}" for arch, rank, value in zip(named, x, accuracy)]
    inside, outside = np.flatnonzero(~below), np.flatnonzero(below)
    if len(outside) > _EDGE_MARKS:
        outside = outside[np.linspace(0, len(outside) - 1, _EDGE_MARKS).round().astype(int)]
    style.draw_points(ax, x[inside], accuracy[inside], color, [texts[i] for i in inside] if texts else [])
    marks: dict[str, Any] = {"marker": "v", "s": 18, "alpha": 0.6, "linewidths": 0, "clip_on": False, "zorder": 4}
    triangles = ax.scatter(x[outside], np.full(len(outside), floor), color=color, **marks)
    style.hover(triangles, [texts[i] for i in outside] if texts else [])
    return floor, int(below.sum())


def accuracy_limits(accuracy: np.ndarray[Any, Any], measure: Measure = ACCURACY) -> tuple[float, float]:
    """The lower and the upper edge of a panel of `draw_ranks`, the better one above."""
    worst, top = np.quantile(measure.sign * accuracy, [_CUT, 1])
    margin = 0.06 * max(float(top - worst), 1e-9)
    return measure.sign * (float(worst) - margin), measure.sign * (float(top) + margin)


def ndcg_bars(rows: Iterable[Row]) -> Figure:
    """Draw the nDCG of metric rows as sorted bars, one panel per data set, after Figure 1 of the VKDNW paper.

    Intervals, or else standard deviations over seeds, become error bars. Rankings whose name begins with ``vkdnw`` have the accent colour.
    """
    panels: dict[Measure, list[Row]] = {}
    for row in rows:
        if (measure := measure_of(row)).is_accuracy:  # others have no nDCG
            panels.setdefault(measure, []).append(row)
    if not panels:
        raise ValueError("rows is empty: there are no metrics to draw")
    with drawing():
        figure = new_figure(0.4 + 3.6 * len(panels), 1.3 + 0.25 * max(map(len, panels.values())))
        axes = figure.subplots(1, len(panels), squeeze=False).ravel()
        for ax, (measure, dataset_rows) in zip(axes, panels.items()):
            values = {str(row["ranking"]): metric_value(row, "ndcg") for row in dataset_rows}
            # Best on top; what is undefined below all; names decide between equals.
            names = sorted(values, key=lambda name: (-(-1.0 if (mean := values[name].mean) is None else mean), name))
            vkdnw = [name.startswith("vkdnw") for name in names]
            colors = [ACCENT if accentuated else LIGHT_BLUE for accentuated in vkdnw]
            draw_bars(ax, [clean(name) for name in names], [Bars("", colors, [values[name] for name in names])])
            for tick, accentuated in zip(ax.get_yticklabels(), vkdnw):
                tick.set_fontweight("bold" if accentuated else "normal")
            label = f"nDCG of the first {span(dataset_rows, 'ndcg_k')} of {span(dataset_rows, 'n')}"
            ax.set(title=measure.title, xlabel=label)
        style.color_legend(figure, {"VKDNW rankings": ACCENT, "other rankings": LIGHT_BLUE})
    return figure


def metric_bars(names: Sequence[str], groups: Sequence[Bars], label: str) -> Figure:
    """Draw one metric of several runs, a bar of each run (``groups``) for every ranking; the first on top."""
    with style.panel(style.PAGE_WIDTH, 0.6 + 0.14 * len(names) * (len(groups) + 0.8)) as (figure, ax):
        draw_bars(ax, [shortened(clean(name), 20) for name in names], groups)
        ax.set_xlabel(clean(label))
    return figure


def draw_bars(ax: Axes, names: Sequence[str], groups: Sequence[Bars]) -> None:
    """Draw horizontal bars, the first line on top: error bars where there are intervals or deviations, numbers where there is room."""
    height = 0.8 / len(groups)
    ends = [0.0]
    for number, group in enumerate(groups):
        for line, (name, value) in enumerate(zip(names, group.values)):
            if value is None:
                continue
            mean, std = value.mean or 0.0, value.std or 0.0
            low, high = value.interval or (mean - std, mean + std)
            y = line + (number + 0.5) * height - 0.4
            color = group.color if isinstance(group.color, str) else group.color[line]
            (bar,) = ax.barh(y, mean, height=0.92 * height, color=color)
            style.hover(bar, [f"{name}, {group.label}: {value}"])
            side = -1 if mean < 0 else 1
            ends += [low, high]
            if low < high:
                error = [[max(mean - low, 0.0)], [max(high - mean, 0.0)]]
                ax.errorbar(mean, y, xerr=error, fmt="none", ecolor=INK, elinewidth=1, capsize=2)
            if len(groups) <= 2:
                place: dict[str, Any] = {"xytext": (4 * side, 0), "textcoords": "offset points", "va": "center"}
                place |= {"ha": "left" if side > 0 else "right", "fontsize": style.SMALL}
                ax.annotate(_text(value.mean), (low if side < 0 else high, y), **place)
    wide = max(max(ends) - min(ends), 0.1)
    ax.set_xlim(min(ends) - 0.2 * wide * (min(ends) < 0), max(ends) + 0.2 * wide * (max(ends) > 0))  # for the numbers
    ax.set_yticks(range(len(names)), names)
    ax.set_ylim(len(names) - 0.4, -0.6)
    ax.grid(axis="y", visible=False)
    ax.axvline(0, color=GREY, linewidth=0.8)


def save_importances(importances: Mapping[tuple[str, str], Importances], folder: Path) -> None:
    """Draw ``importances_<rankings>_<data set>.png`` for each data set; keys are (ranking, data set)."""
    for dataset in dict.fromkeys(dataset for _, dataset in importances):
        panels = {name: values for (name, of_dataset), values in importances.items() if of_dataset == dataset}
        rows = "-".join(dict.fromkeys(name.partition(":")[0] for name in panels))
        path = folder / f"importances_{re.sub(r'[^A-Za-z0-9._-]+', '_', f'{rows}_{dataset}')}.png"
        style.save_figure(feature_importances({f"{name}, {dataset}": values for name, values in panels.items()}), path)


def feature_importances(
    panels: Mapping[str, Importances], top: int = 15, xlabel: str = "share of what the trees explain"
) -> Figure:
    """Draw the ``top`` most important features as sorted bars, and the sum of all others; one panel per model.

    Panels are by title (such as ``vkdnw_m, cifar10``); bars are means, error bars the sample deviation over seeds.

    Raises:
        ValueError: if there are no panels, a panel has no features, a value is not finite, or ``top`` is not positive.
    """
    check_whole("top", top, 1)
    if not panels or not all(panels.values()):
        raise ValueError("panels is empty or holds an empty one: there are no importances to draw")
    bars = {title: _importance_bars(title, importances, top) for title, importances in panels.items()}
    num_columns = 2 if len(bars) == 4 else min(len(bars), 3)
    num_lines = math.ceil(len(bars) / num_columns)
    longest = max(len(names) for names, _, _ in bars.values())
    with drawing():
        figure = new_figure(0.4 + 4.6 * num_columns, 0.7 + num_lines * (0.8 + 0.22 * longest))
        axes = figure.subplots(num_lines, num_columns, squeeze=False).ravel()
        for ax, (title, (names, means, spreads)) in zip(axes, bars.items()):
            kinds = [_feature_kind(name) for name in names]
            values = [Value(mean, spread) for mean, spread in zip(means, spreads)]
            draw_bars(
                ax, [_feature_label(name) for name in names], [Bars("", [_KINDS[kind] for kind in kinds], values)]
            )
            for tick, kind in zip(ax.get_yticklabels(), kinds):
                tick.set_fontweight("bold" if kind == "VKDNW" else "normal")
                tick.set_color(GREY if kind == "all the rest" else INK)
            ax.set(title=title, xlabel=xlabel, ylim=(longest - 0.4, -0.6))  # bars of equal height in all panels
        for ax in axes[len(bars) :]:
            ax.set_axis_off()
        drawn = {_feature_kind(name) for names, _, _ in bars.values() for name in names}
        style.color_legend(
            figure, {kind: _KINDS[kind] for kind in _KINDS if kind in drawn}, min(len(drawn), 2 * num_columns)
        )
    return figure


def _importance_bars(title: str, importances: Importances, top: int) -> tuple[list[str], np.ndarray, np.ndarray]:
    """Names, means and deviations of the top features in descending order, and of the sum of the rest."""
    names, seeds = list(importances), [np.atleast_1d(values) for values in importances.values()]
    if len(set(map(len, seeds))) > 1:
        raise ValueError(f"panels[{title!r}]: the features have different numbers of seeds")
    values = np.array(seeds, dtype=np.float64)
    finite = np.isfinite(values).all(axis=1)
    if not finite.all():
        raise ValueError(f"panels[{title!r}]: the importance of {names[int(np.argmin(finite))]!r} is not finite")
    order = sorted(range(len(names)), key=lambda i: (-values[i].mean(), names[i]))
    if len(order) == top + 1:
        top += 1  # a rest of one is no rest
    shown, rows = [names[i] for i in order[:top]], [values[i] for i in order[:top]]
    if order[top:]:
        shown.append(f"the other {len(order) - top} together")
        rows.append(values[order[top:]].sum(axis=0))
    bars = np.array(rows)
    deviations = bars.std(axis=1, ddof=1) if bars.shape[1] > 1 else np.zeros(len(bars))
    return shown, bars.mean(axis=1), deviations


def _feature_kind(name: str) -> str:
    if name.startswith("the other "):
        return "all the rest"
    if name.startswith("graf_"):
        return "graph features (GRAF)"
    return "VKDNW" if name.startswith("vkdnw") or name == "aleph" else "other proxies and costs"


def _feature_label(name: str) -> str:
    """``graf_max_op_on_path_allowed_skip_connect-nor_conv_3x3`` -> ``max_op_on_path {skip,3x3}``."""
    if not name.startswith("graf_"):
        return name
    short = name.removeprefix("graf_")
    for op, text in _SHORT_OPS.items():
        short = short.replace(op, text)
    parts = re.fullmatch(r"(.*)_(allowed|banned)_(.+?)(?:_(in_degree|out_degree|avg_in|avg_out))?", short)
    if parts is None:
        return short
    family, relation, ops, degree = parts.groups()
    inside = "" if ops == "nothing" else ops.replace("-", ",")
    return f"{(degree or family)} {'' if relation == 'allowed' else 'not '}{{{inside}}}"


def _text(mean: float | None) -> str:
    return "n/a" if mean is None else f"{mean:.3f}"
