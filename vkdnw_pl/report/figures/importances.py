"""A figure of what model-driven rankings look at: the importance of each feature."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from vkdnw_pl.errors import check_whole
from vkdnw_pl.report.figures.style import ACCENT, GREY, LIGHT_BLUE, color_legend, drawing, new_figure, save_figure

_KINDS = {
    "VKDNW": ACCENT,
    "other proxies and costs": LIGHT_BLUE,
    "graph features (GRAF)": "#009E73",
    "all the rest": "#bbbbbb",
}
_SHORT_OPS = {"skip_connect": "skip", "nor_conv_": "", "avg_pool_3x3": "pool"}

Importances = Mapping[str, float | Sequence[float]]
"""Feature -> importance, one value or one per seed."""


def save_importances(importances: Mapping[tuple[str, str], Importances], folder: Path) -> None:
    """Draw ``importances_<rankings>_<data set>.png`` for each data set; keys are (ranking, data set)."""
    for dataset in dict.fromkeys(dataset for _, dataset in importances):
        panels = {name: values for (name, of_dataset), values in importances.items() if of_dataset == dataset}
        rows = "-".join(dict.fromkeys(name.partition(":")[0] for name in panels))
        path = folder / f"importances_{re.sub(r'[^A-Za-z0-9._-]+', '_', f'{rows}_{dataset}')}.png"
        save_figure(feature_importances({f"{name}, {dataset}": values for name, values in panels.items()}), path)


def feature_importances(
    panels: Mapping[str, Importances], top: int = 15, xlabel: str = "share of what the trees explain"
) -> Figure:
    """Draw the ``top`` features as sorted bars, one panel per model; all others are one bar, their sum.

    Bars are means, error bars the sample deviation over seeds.
    """
    check_whole("top", top, 1)
    if not panels or not all(panels.values()):
        raise ValueError("panels is empty or holds an empty one: there are no importances to draw")
    bars = {title: _bars(title, importances, top) for title, importances in panels.items()}
    num_columns = 2 if len(bars) == 4 else min(len(bars), 3)
    num_lines = math.ceil(len(bars) / num_columns)
    longest = max(len(names) for names, _, _ in bars.values())
    with drawing():
        figure = new_figure(0.4 + 4.6 * num_columns, 0.7 + num_lines * (0.8 + 0.22 * longest))
        axes = figure.subplots(num_lines, num_columns, squeeze=False).ravel()
        for ax, (title, (names, means, spreads)) in zip(axes, bars.items()):
            places = range(len(names))
            kinds = [_kind(name) for name in names]
            ax.barh(places, means, height=0.72, color=[_KINDS[kind] for kind in kinds])
            if spreads.any():
                ax.errorbar(means, places, xerr=spreads, fmt="none", ecolor="black", elinewidth=1, capsize=2)
            ends = np.maximum(means, 0) + spreads
            for i, mean in enumerate(means):
                ax.annotate(f"{mean:.3f}", (ends[i], i), (4, 0), textcoords="offset points", va="center", fontsize=7.5)
            ax.set_yticks(places, [_label(name) for name in names], fontsize=8)
            for tick, kind in zip(ax.get_yticklabels(), kinds):
                tick.set_fontweight("bold" if kind == "VKDNW" else "normal")
                tick.set_color(GREY if kind == "all the rest" else "black")
            ax.set_ylim(longest - 0.4, -0.6)  # bars of equal height in all panels
            ax.set_xlim(min(0.0, 1.1 * float(means.min())), 1.2 * max(float(ends.max()), 1e-9))
            ax.set_xlabel(xlabel)
            ax.set_title(title)
            ax.grid(axis="y", visible=False)
        for ax in axes[len(bars) :]:
            ax.set_axis_off()
        drawn = {_kind(name) for names, _, _ in bars.values() for name in names}
        color_legend(figure, {kind: _KINDS[kind] for kind in _KINDS if kind in drawn}, min(len(drawn), 2 * num_columns))
    return figure


def _bars(title: str, importances: Importances, top: int) -> tuple[list[str], np.ndarray, np.ndarray]:
    """Names, means and deviations of the top features in descending order, and of the sum of the rest."""
    names = list(importances)
    if len({np.shape(np.atleast_1d(importances[name])) for name in names}) > 1:
        raise ValueError(f"panels[{title!r}]: the features have different numbers of seeds")
    values = np.array([np.atleast_1d(importances[name]) for name in names], dtype=np.float64)
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


def _kind(name: str) -> str:
    if name.startswith("the other "):
        return "all the rest"
    if name.startswith("graf_"):
        return "graph features (GRAF)"
    return "VKDNW" if name.startswith("vkdnw") or name == "aleph" else "other proxies and costs"


def _label(name: str) -> str:
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
