"""The section of accuracy tables in a report: groups of networks, each network, and accuracy against MACs."""

from __future__ import annotations

from collections.abc import Sequence

from vkdnw_pl.report.figures.labels import accuracy_and_macs
from vkdnw_pl.report.figures.style import PAGE_WIDTH, to_svg
from vkdnw_pl.report.labels import (
    RESULT_HEADS,
    best_first,
    network_columns,
    result_lines,
    verdict,
)
from vkdnw_pl.report.run_figures import Figure
from vkdnw_pl.report.run_tables import Column
from vkdnw_pl.report.runs import Run
from vkdnw_pl.report.tables import Line

_MOST_NETWORKS = 500


def label_sections(runs: Sequence[Run]) -> list[Line]:
    """What each accuracy table says: ``run``, ``verdict`` in words, ``images`` (which ones), ``results`` of groups under
    ``result_heads``, and ``columns`` of the networks."""
    lines = []
    for i, run in enumerate(runs):
        if run.command != "label" or not run.trained:
            continue
        images = "test" if run.settings.get("accuracy") == "test" else "validation"
        networks = best_first(run.trained)[:_MOST_NETWORKS]
        lines.append(
            Line(
                run=i,
                verdict=verdict(run.trained),
                images=f"Accuracy on the {images} images of {run.settings.get('dataset') or 'the data set'}",
                results=result_lines(run.trained),
                result_heads=RESULT_HEADS,
                networks=len(networks),
                columns=[
                    *network_columns(networks),
                    Column("architecture", [network.arch for network in networks], "arch"),
                ],
            )
        )
    return lines


def label_figures(runs: Sequence[Run]) -> dict[int, Figure]:
    """Accuracy against MACs, for each run with an accuracy table."""
    figures = {}
    for i, run in enumerate(runs):
        if run.command == "label" and any(network.accuracies for network in run.trained):
            caption = "accuracy against multiply-adds"
            svg = to_svg(accuracy_and_macs(run.trained, PAGE_WIDTH, 3.0), caption)
            figures[i] = Figure(caption, svg, note="bars: standard deviation over seeds")
    return figures
