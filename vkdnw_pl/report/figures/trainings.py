"""Figures of trainings: values over the epochs, and proxies before the training against the accuracy after it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from vkdnw_pl.report.figures.style import draw_points, hover, panel
from vkdnw_pl.report.text import clean

_MARKED = 30


class Curve(NamedTuple):
    """Values of one run; one that is not finite is a gap."""

    name: str
    line: Mapping[str, Any]
    """Colour and style."""
    x: Sequence[float]
    y: Sequence[float]


def epoch_curves(curves: Sequence[Curve], label: str) -> Figure:
    """Draw a value over the epochs, one line per run; few epochs, and those between gaps, have a dot each."""
    with panel(4.0, 2.5) as (figure, ax):
        for curve in curves:
            x, y = np.asarray(curve.x, dtype=float), np.asarray(curve.y, dtype=float)
            (line,) = ax.plot(x, y, linewidth=1.8, **curve.line)
            hover(line, [curve.name])
            finite = np.isfinite(y)
            alone = finite & ~np.append(finite[1:], False) & ~np.insert(finite[:-1], 0, False)
            marked = finite if len(x) <= _MARKED else alone
            texts = [f"{curve.name}: {value:.4g} at {epoch:g}" for epoch, value in zip(x[marked], y[marked])]
            draw_points(ax, x[marked], y[marked], curve.line["color"], texts)
        ax.set(xlabel="epoch", ylabel=clean(label))
        ax.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    return figure


def value_and_accuracy(points: Sequence[tuple[str, str, float, float]], xlabel: str, ylabel: str) -> Figure:
    """Draw a value before the training against the accuracy after it: hover text, colour, x and y of each training."""
    with panel(3.1, 2.2) as (figure, ax):
        for text, color, x, y in points:
            draw_points(ax, np.array([x]), np.array([y]), color, [text])
        ax.set(xlabel=clean(xlabel), ylabel=clean(ylabel))
        ax.locator_params(nbins=4, axis="x")
    return figure
