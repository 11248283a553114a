"""Rankings on several spaces in the report."""

from __future__ import annotations

from collections.abc import Sequence

from vkdnw_pl.report.figures.spaces import metrics_panel
from vkdnw_pl.report.figures.style import to_svg
from vkdnw_pl.report.run_figures import Figure
from vkdnw_pl.report.run_rankings import correlation_map
from vkdnw_pl.report.runs import Run, mapping_or_empty
from vkdnw_pl.report.spaces import columns_of, mean_correlations, notes, spaces_grids
from vkdnw_pl.report.tables import Line


def spaces_sections(runs: Sequence[Run]) -> list[Line]:
    """Of each run on several spaces: ``run``, ``grids``, ``notes``, ``correlations`` (a map, or None) and
    how many ``spaces``."""
    sections = []
    for place, run in enumerate(runs):
        if run.spaces is None:
            continue
        left_out = {str(name): str(reason) for name, reason in mapping_or_empty(run.meta.get("left_out")).items()}
        names, rho = mean_correlations(run.spaces.correlations)
        sections.append(
            Line(
                run=place,
                grids=spaces_grids(run.spaces),
                notes=notes(run.spaces, left_out),
                correlations=correlation_map(names, rho) if len(names) > 2 else None,
                spaces=len({row.space for row in run.spaces.metrics}),
            )
        )
    return sections


def spaces_figures(runs: Sequence[Run]) -> dict[int, list[Figure]]:
    """Run -> a drawing for each data set of each space."""
    figures: dict[int, list[Figure]] = {}
    for place, run in enumerate(runs):
        for column in columns_of(run.spaces.metrics) if run.spaces is not None else ():
            assert run.spaces is not None
            caption = " ".join(column)
            figures.setdefault(place, []).append(Figure(caption, to_svg(metrics_panel(run.spaces, column), caption)))
    return figures
