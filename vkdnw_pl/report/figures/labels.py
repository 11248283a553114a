"""Accuracy against multiply-adds of the networks of an accuracy table."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any

from matplotlib.figure import Figure

from vkdnw_pl.report.figures.style import ACCENT, BLUE, GREY, INK, RUN_COLORS, hover, panel
from vkdnw_pl.report.labels import TrainedNetwork
from vkdnw_pl.report.text import shortened

GROUP_COLORS = {"found": ACCENT, "random": BLUE, "timm": RUN_COLORS[2], "given": GREY}
_MOST_NAMED = 24


def accuracy_and_macs(networks: Sequence[TrainedNetwork]) -> Figure:
    """A point for each network, with bars of one standard deviation over its seeds, and its name where there are few."""
    drawn = [network for network in networks if network.mean is not None and network.macs]
    with panel(6.4, 4.2) as (figure, ax):
        for group in dict.fromkeys(network.group for network in drawn):
            members = [network for network in drawn if network.group == group]
            x, y = (
                [network.macs / 1e6 for network in members if network.macs],
                [network.mean or 0 for network in members],
            )
            spread = [_std(network) for network in members]
            color: Any = GROUP_COLORS.get(group, GREY)
            ax.errorbar(x, y, spread, fmt="none", ecolor=color, elinewidth=1, alpha=0.6, zorder=2)
            points = ax.scatter(x, y, s=34 if len(drawn) <= _MOST_NAMED else 12, color=color, zorder=3, label=group)
            hover(points, [f"{network.name}: {network.mean:.2f} %, {network.arch}" for network in members])
            for network, left, height in zip(members, x, y) if len(drawn) <= _MOST_NAMED else ():
                ax.annotate(
                    shortened(network.name, 24),
                    (left, height),
                    (5, 4),
                    textcoords="offset points",
                    color=INK,
                    fontsize=9,
                )
        ax.set(xlabel="multiply-adds of one image (M)", ylabel="accuracy (%)")
        if len(drawn) > 1 and max(n.macs or 1 for n in drawn) > 4 * min(n.macs or 1 for n in drawn):
            ax.set_xscale("log")
        ax.margins(0.12)
        ax.legend(loc="best")
    return figure


def _std(network: TrainedNetwork) -> float:
    values = list(network.accuracies.values())
    return statistics.stdev(values) if len(values) > 1 else 0.0
