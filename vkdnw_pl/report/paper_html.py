"""A comparison with the paper as one HTML page that needs no other file; every value is escaped."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from vkdnw_pl.report.paper_comparison import (
    CLOSE,
    COVERED,
    DIFFERS,
    NO_PAPER,
    NOT_COMPUTED,
    VERDICTS,
    Cell,
    Comparison,
)
from vkdnw_pl.report.paper_text import difference_text, interval_text, legend, ours_text, paper_text, summary
from vkdnw_pl.report.tables import METRICS

_CSS = {CLOSE: "close", COVERED: "covered", DIFFERS: "differs", NO_PAPER: "none", NOT_COMPUTED: "missing"}


def comparison_html(
    comparisons: Sequence[Comparison],
    title: str,
    subtitle: str,
    figures: Mapping[str, Sequence[Path]] | None = None,
) -> str:
    """Render comparisons one below the other.

    Args:
        comparisons: the tables.
        title: of the page.
        subtitle: a line below it.
        figures: table -> PNG files that are shown above it, embedded.
    """
    environment = Environment(
        loader=PackageLoader("vkdnw_pl.report"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    template = environment.get_template("paper.html.j2")
    key = [(_CSS[verdict], VERDICTS[verdict]) for verdict in (CLOSE, COVERED, DIFFERS, NOT_COMPUTED)]
    parts = [_part(one, (figures or {}).get(one.table.name, ())) for one in comparisons]
    return template.render(title=title, subtitle=subtitle, key=key, legend=legend(), parts=parts, marks=_marks)


def _part(comparison: Comparison, figures: Sequence[Path]) -> dict[str, Any]:
    table = comparison.table
    return {
        "id": table.name,
        "comparison": comparison,
        "summary": summary(comparison),
        "metrics": [METRICS[metric] for metric in table.metrics],
        "columns": [
            {"label": column.label, "notes": notes} for column, notes in zip(table.columns, comparison.column_notes)
        ],
        "rows": [
            {
                "label": row.row.label,
                "kind": row.row.kind,
                "notes": row.notes,
                "cells": [_cell(cell) for cells in row.cells for cell in cells],
            }
            for row in comparison.rows
        ],
        "problems": [(row.row.label, row.problem) for row in comparison.rows if row.problem],
        "footnotes": comparison.footnotes,
        "remarks": comparison.remarks,
        "figures": [
            {"alt": path.stem, "data": base64.b64encode(path.read_bytes()).decode("ascii")} for path in figures
        ],
    }


def _cell(cell: Cell) -> dict[str, str]:
    empty = cell.ours is None and cell.paper is None
    title = [cell.problem or VERDICTS[cell.verdict], f"ranking {cell.ranking}", cell.source]
    if cell.paper_std is not None:
        title.append(f"the authors' standard deviation over 5 seeds: {cell.paper_std}")
    return {
        "css": "none" if empty and not cell.problem else _CSS[cell.verdict],
        "ours": ours_text(cell).partition(" ")[0],
        "std": ours_text(cell).partition(" ")[2],
        "interval": interval_text(cell),
        "paper": "" if cell.paper is None else paper_text(cell),
        "difference": difference_text(cell),
        "title": "; ".join(part for part in title if part),
    }


def _marks(table: str, numbers: Sequence[int]) -> Markup:
    """Links to footnotes: the names of tables are ours, and escaped all the same."""
    links = [Markup('<a href="#{}-{}">{}</a>').format(table, number, number) for number in numbers]
    return Markup("<sup> {}</sup>").format(Markup(",").join(links)) if links else Markup("")
