"""Figures of trainings: values over the epochs, and a value or a cost against the quality that comes with it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from vkdnw_pl.report.figures.style import (
    MAX_NAMES,
    PAGE_WIDTH,
    Floats,
    draw_points,
    drawing,
    hover,
    name_points,
    new_figure,
    panel,
)
from vkdnw_pl.report.text import clean, counted, shortened

_MARKED = 30
_FAR = 30
"""A value is an outlier where those below it span less than one part in so many of its distance; a loss that falls from 4
to 0.3 within three epochs and ends at 0.1 has none."""
_NAME = 22


class Curve(NamedTuple):
    """Values of one run; one that is not finite is a gap."""

    name: str
    line: Mapping[str, Any]
    """Colour and style."""
    x: Sequence[float]
    y: Sequence[float]


class NamedPoint(NamedTuple):
    """A point of a scatter plot."""

    name: str
    """Beside it, where there is room; empty for none."""
    color: str
    x: float
    y: float
    text: str
    """Shown where one points at it."""


def epoch_curves(curves: Sequence[Curve], label: str) -> Figure:
    """Draw a value over the epochs, one line per run; few epochs, and those between gaps, have a dot each.

    A few values that would flatten everything else, such as a loss of two million in the first epoch, are triangles on
    the upper edge with their values beside them; the axis says how many there are.
    """
    with panel(PAGE_WIDTH, 2.5) as (figure, ax):
        _name_outliers(ax, _draw_curves(ax, curves, label))
    return figure


def curve_panels(panels: Mapping[str, Sequence[Curve]]) -> Figure:
    """Draw values over the epochs in a panel for each label, as `epoch_curves` draws one."""
    columns = len(panels) if len(panels) <= 3 else 2
    rows = -(-len(panels) // columns)
    with drawing():
        figure = new_figure(columns * PAGE_WIDTH, rows * 2.5)
        axes = list(figure.subplots(rows, columns, squeeze=False).flat)
        outliers = []
        for ax, (label, curves) in zip(axes, panels.items()):
            outliers.append(_draw_curves(ax, curves, label))
            if len(curves) > 1:
                ax.legend(ax.get_lines(), [clean(curve.name) for curve in curves])
        for ax in axes[len(panels) :]:
            ax.set_axis_off()
        for ax, of_panel in zip(axes, outliers):  # which fixes the layout
            _name_outliers(ax, of_panel)
    return figure


def _draw_curves(ax: Axes, curves: Sequence[Curve], label: str) -> list[tuple[float, float]]:
    """Draw the lines of a panel; returns its outliers, epoch and value."""
    limit = outlier_limit([curve.y for curve in curves])
    top = np.inf if limit is None else limit
    outliers: list[tuple[float, float]] = []
    for curve in curves:
        x, y = np.asarray(curve.x, dtype=float), np.asarray(curve.y, dtype=float)
        (line,) = ax.plot(x, np.minimum(y, top), linewidth=1.8, **curve.line)
        hover(line, [curve.name])
        finite = np.isfinite(y)
        alone = finite & ~np.append(finite[1:], False) & ~np.insert(finite[:-1], 0, False)
        inside, outside = finite & (y <= top), finite & (y > top)
        marked = inside & (finite if len(x) <= _MARKED else alone)
        texts = [f"{curve.name}: {value:.4g} at {epoch:g}" for epoch, value in zip(x[marked], y[marked])]
        draw_points(ax, x[marked], y[marked], curve.line["color"], texts)
        if outside.any():
            _draw_at_edge(ax, curve, x[outside], y[outside], top)
            outliers += zip(x[outside], y[outside])
    ax.set(xlabel="epoch", ylabel=clean(label))
    ax.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    if limit is not None:
        ax.set_ylim(top=limit)
        ax.set_xlabel(f"epoch\n▲ {counted(len(outliers), 'value')} above {limit:.3g}, drawn at the edge")
    return outliers


def _name_outliers(ax: Axes, outliers: Sequence[tuple[float, float]]) -> None:
    """Write the values of the largest ones beside their triangles at the edge."""
    largest = sorted(outliers, key=lambda outlier: -outlier[1])[:MAX_NAMES]
    if largest:
        edge = ax.get_ylim()[1]
        name_points(ax, [x for x, _ in largest], [edge] * len(largest), [f"{y:.3g}" for _, y in largest])


def outlier_limit(curves: Sequence[Sequence[float]]) -> float | None:
    """The upper end of an axis that leaves far larger values of single epochs out; None where there are none.

    Of each curve at most a third is left out: what is so far above all others that they would be a flat line.
    """
    ordered = [np.sort([value for value in values if np.isfinite(value)]) for values in curves]
    kept = [_without_outliers(values) for values in ordered if len(values)]
    if not kept:
        return None
    low, high = min(float(values[0]) for values in kept), max(float(values[-1]) for values in kept)
    if all(values[-1] <= high for values in ordered if len(values)):
        return None
    return high + (0.15 * (high - low) or 0.1 * abs(high) or 1.0)


def _without_outliers(values: Floats) -> Floats:
    """The smaller ones of ascending values."""
    for count in range(len(values) // 3, 0, -1):
        kept = values[:-count]
        if values[-count] - kept[0] > _FAR * max(kept[-1] - kept[0], 0.1 * abs(kept[-1]), 1e-9):
            return kept
    return values


def named_scatter(points: Sequence[NamedPoint], xlabel: str, ylabel: str, log: bool = False) -> Figure:
    """Draw points with their names where there are few; ``log``: the x axis is logarithmic."""
    with panel(PAGE_WIDTH, 2.5) as (figure, ax):
        if log:
            ax.set_xscale("log")
            ax.xaxis.set_major_formatter("{x:g}")
            ax.xaxis.set_minor_formatter("")
        for point in points:
            draw_points(ax, np.array([point.x]), np.array([point.y]), point.color, [point.text])
        ax.set(xlabel=clean(xlabel), ylabel=clean(ylabel))
        ax.margins(0.12)
        if not log:
            ax.locator_params(nbins=4, axis="x")
        named = [point for point in points if point.name]
        if len(named) <= MAX_NAMES:
            # All points are in the way of names, those without a name too.
            order = named + [point for point in points if not point.name]
            names = [shortened(point.name, _NAME) for point in order]
            name_points(ax, [point.x for point in order], [point.y for point in order], names)
    return figure


def _draw_at_edge(ax: Axes, curve: Curve, x: Floats, y: Floats, edge: float) -> None:
    marks: dict[str, Any] = {"marker": "^", "s": 26, "linewidths": 0, "clip_on": False, "zorder": 4}
    triangles = ax.scatter(x, np.full(len(x), edge), color=curve.line["color"], **marks)
    hover(triangles, [f"{curve.name}: {value:.4g} at {epoch:g}" for epoch, value in zip(x, y)])
