"""Accuracy against multiply-adds of the networks of an accuracy table."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from matplotlib.figure import Figure

from vkdnw_pl.report.figures.style import ACCENT, BLUE, GREY, MAX_NAMES, RUN_COLORS, hover, name_points, panel
from vkdnw_pl.report.labels import TrainedNetwork
from vkdnw_pl.report.text import shortened

_COLORS = {"found": ACCENT, "random": BLUE, "timm": RUN_COLORS[2], "given": GREY}
_ORDER = ("found", "timm", "random", "given")
"""In which names are written while there is room."""


def accuracy_and_macs(networks: Sequence[TrainedNetwork], width: float = 6.4, height: float = 4.2) -> Figure:
    """A point for each network, with bars of one standard deviation over its seeds, and its name where there are few."""
    drawn = [(network, network.macs / 1e6, network.mean) for network in networks if network.macs and network.mean]
    drawn.sort(key=lambda point: _ORDER.index(point[0].group) if point[0].group in _ORDER else len(_ORDER))
    few = len(drawn) <= MAX_NAMES
    with panel(width, height) as (figure, ax):
        for group in dict.fromkeys(network.group for network, _, _ in drawn):
            members = [point for point in drawn if point[0].group == group]
            trained, macs, accuracies = zip(*members)
            color = _COLORS.get(group, GREY)
            ax.errorbar(
                macs, accuracies, [_std(item) for item in trained], fmt="none", ecolor=color, alpha=0.6, zorder=2
            )
            points = ax.scatter(macs, accuracies, s=30 if few else 12, color=color, zorder=3, label=group)
            hover(points, [f"{item.name}: {item.mean:.2f} %, {item.arch}" for item in trained])
        ax.set(xlabel="multiply-adds of one image (M)", ylabel="accuracy (%)")
        if drawn and max(point[1] for point in drawn) > 4 * min(point[1] for point in drawn):
            ax.set_xscale("log")
        ax.margins(0.12)
        figure.legend(loc="outside lower center", ncols=4)
        if few:
            name_points(
                ax,
                [x for _, x, _ in drawn],
                [y for _, _, y in drawn],
                [shortened(item.name, 20) for item, _, _ in drawn],
            )
    return figure


def _std(network: TrainedNetwork) -> float:
    values = list(network.accuracies.values())
    return statistics.stdev(values) if len(values) > 1 else 0.0
