"""Pictures of a comparison with the paper: the table with coloured cells, and the paper's three figures.

Drawn like `report.figures`: without pyplot, in matplotlib's default style, equal input gives equal files.
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib import style
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.patches import Patch, Rectangle

from vkdnw_pl.report.paper_comparison import CLOSE, COVERED, DIFFERS, VERDICTS, Cell, Comparison
from vkdnw_pl.report.paper_text import difference_text, interval_text, ours_text, paper_text
from vkdnw_pl.report.tables import METRICS

_OURS, _PAPER, _GREY = "#D55E00", "#56B4E9", "#5c6670"
_COLORS = {CLOSE: "#dff3e4", COVERED: "#fdf3cf", DIFFERS: "#fbdcd6"}
_EMPTY = "#f0f1f3"
_CELL, _LINE, _NAME_INCH = 1.32, 0.145, 0.085  # inches: width of a cell, height of a line of text, width of a letter
_TITLE_INCH, _LEGEND_INCH, _NARROWEST = (
    0.1,
    3.4,
    4.2,
)  # inches: a letter of the title, an entry of the legend, the table


def table_figure(comparison: Comparison) -> Figure:
    """Draw the table: each cell with our value, its spread, the paper's value and the difference."""
    table = comparison.table
    cells = [[cell for some in row.cells for cell in some] for row in comparison.rows]
    lines = [max((len(_cell_lines(cell)) for cell in row), default=1) for row in cells]
    heights = [0.09 + _LINE * count for count in lines]
    names = 0.2 + _NAME_INCH * max(len(row.row.label) for row in comparison.rows)
    width = max(names + _CELL * len(cells[0]), _NARROWEST)
    title = textwrap.wrap(table.title, int(width / _TITLE_INCH))
    legend_columns = next(count for count in (4, 2, 1) if width >= _LEGEND_INCH * count or count == 1)
    head = 0.75 + 0.2 * len(title)
    height = head + sum(heights) + 0.2 + 0.17 * 4 / legend_columns
    with style.context("default"):
        figure = Figure(figsize=(width + 0.2, height), dpi=150)
        ax = figure.add_axes((0, 0, 1, 1))
        ax.set_xlim(-0.1, width + 0.1)
        ax.set_ylim(height, 0)
        ax.set_axis_off()
        for i, line in enumerate(title):
            ax.text(0.03, 0.22 + 0.2 * i, line, fontsize=11, fontweight="bold", va="center")
        group = len(table.metrics)
        for i, column in enumerate(table.columns):
            left = names + _CELL * group * i
            ax.text(
                left + _CELL * group / 2,
                head - 0.38,
                column.label,
                fontsize=9,
                fontweight="bold",
                ha="center",
                va="center",
            )
            for j, metric in enumerate(table.metrics):
                ax.text(left + _CELL * (j + 0.5), head - 0.15, METRICS[metric], fontsize=8.5, ha="center", va="center")
        top = head
        for row, some, tall in zip(comparison.rows, cells, heights):
            ax.text(0.03, top + tall / 2, row.row.label, fontsize=8.5, va="center")
            for i, cell in enumerate(some):
                _draw_cell(ax, cell, names + _CELL * i, top, tall)
            top += tall
        marks = [Patch(color=_COLORS[one], label=VERDICTS[one]) for one in (CLOSE, COVERED, DIFFERS)]
        marks.append(Patch(color=_EMPTY, label="not computed here"))
        figure.legend(handles=marks, loc="lower left", ncols=legend_columns, frameon=False, fontsize=7.5)
    return figure


def paired_bars(comparison: Comparison, metric: str) -> Figure:
    """Draw our and the paper's values side by side, one panel per column, rows in the paper's order.

    A row that was not computed keeps its place and says so; our bars carry the interval, or else the spread of seeds.
    """
    table = comparison.table
    place = table.metrics.index(metric)
    with style.context("default"):
        layout = ConstrainedLayoutEngine(w_pad=0.08, h_pad=0.08)
        figure = Figure(
            figsize=(2.0 + 4.6 * len(table.columns), 1.2 + 0.42 * len(comparison.rows)), dpi=150, layout=layout
        )
        axes = figure.subplots(1, len(table.columns), squeeze=False, sharey=True).ravel()
        for i, (ax, column) in enumerate(zip(axes, table.columns)):
            cells = [row.cells[i][place] for row in comparison.rows]
            _bars(ax, cells)
            ax.set_yticks(range(len(cells)), [row.row.label for row in comparison.rows], fontsize=8.5)
            ax.set_ylim(len(cells) - 0.4, -0.6)
            ax.set_title(column.label, fontsize=10.5, fontweight="bold")
            ax.set_xlabel(_axis(metric, cells), fontsize=9)
        figure.suptitle(table.title, fontsize=11, fontweight="bold")
        handles = [Patch(color=_OURS, label="here"), Patch(color=_PAPER, label="paper")]
        figure.legend(handles=handles, loc="outside lower center", ncols=2, frameon=False, fontsize=8.5)
    return figure


def toy_figure(accuracies: Mapping[str, Sequence[float]], comparison: Comparison) -> Figure:
    """Draw accuracies in the order of each ranking, best first, with the metrics above; the moved ones accentuated."""
    with style.context("default"):
        layout = ConstrainedLayoutEngine(w_pad=0.1, h_pad=0.08)
        figure = Figure(figsize=(8.6, 3.9), dpi=150, layout=layout)
        axes = figure.subplots(1, len(accuracies), squeeze=False, sharey=True).ravel()
        for ax, (name, values) in zip(axes, accuracies.items()):
            ordered = sorted(values, reverse=True)
            colors = [_PAPER if value == right else _OURS for value, right in zip(values, ordered)]
            ax.bar(range(1, len(values) + 1), values, color=colors)
            ax.set_xticks(range(1, len(values) + 1))
            cells = next(row.cells[0] for row in comparison.rows if row.row.key == name)
            shown = [f"{METRICS[cell.metric]} {cell.ours:.4f}" for cell in cells if cell.ours is not None]
            paper = [f"{METRICS[cell.metric]} {paper_text(cell)}" for cell in cells]
            ax.set_title(name, fontsize=11, fontweight="bold", pad=30)
            for text, offset, color in (("here   ", 17, "black"), ("paper   ", 5, _GREY)):
                line = text + "   ".join(shown if offset == 17 else paper)
                ax.annotate(
                    line,
                    (0.5, 1),
                    (0, offset),
                    "axes fraction",
                    "offset points",
                    ha="center",
                    fontsize=8.5,
                    color=color,
                )
            ax.set_xlabel("place in the ranking", fontsize=9)
            _tidy(ax)
        axes[0].set_ylabel("accuracy (%)", fontsize=9)
        handles = [Patch(color=_OURS, label="not at its place"), Patch(color=_PAPER, label="at its place")]
        figure.legend(handles=handles, loc="outside lower center", ncols=2, frameon=False, fontsize=8.5)
    return figure


def size_scatter(aleph: Any, components: Mapping[str, Any], comparison: Comparison) -> Figure:
    """Draw each component against the number of trainable layers, after Figure 3 of the paper.

    Components are drawn as the share of networks that score lower, which is all that Kendall's tau sees: values such as
    trainability's reach over five orders of magnitude.

    Args:
        aleph: number of trainable layers of each network, shape (n,).
        components: by row of the comparison, the values of each network, shape (n,); NaN where there is none.
        comparison: of ``fig3``.
    """
    from vkdnw_pl.ranking import rank_values

    aleph = np.asarray(aleph, dtype=np.float64)
    sizes = np.unique(aleph)
    place = np.searchsorted(sizes, aleph)
    spread = np.random.default_rng(0).uniform(-0.3, 0.3, len(aleph))  # so that points of equal size stay apart
    rows = {row.row.key: row for row in comparison.rows}
    with style.context("default"):
        layout = ConstrainedLayoutEngine(w_pad=0.08, h_pad=0.1)
        figure = Figure(figsize=(3.0 * len(components), 3.5), dpi=150, layout=layout)
        axes = figure.subplots(1, len(components), squeeze=False, sharey=True).ravel()
        for ax, (name, values) in zip(axes, components.items()):
            share = (rank_values(values) - 0.5) / len(aleph)
            own = name.startswith("vkdnw")
            dots = {"s": float(np.clip(4000 / len(aleph), 2, 14)), "alpha": float(np.clip(400 / len(aleph), 0.1, 0.6))}
            ax.scatter(place + spread, share, color=_OURS if own else "#0072B2", linewidths=0, **dots)
            medians = [np.median(share[place == i]) for i in range(len(sizes))]
            ax.plot(range(len(sizes)), medians, color="black", marker="o", markersize=4, linewidth=1.4)
            ax.set_xticks(range(len(sizes)), [f"{size:g}" for size in sizes], fontsize=8)
            ax.set_title(rows[name].row.label, fontsize=11, fontweight="bold", pad=18)
            cell = rows[name].cells[0][0]
            text = f"KT {ours_text(cell)}   paper {paper_text(cell)}"
            ax.annotate(
                text, (0.5, 1), (0, 5), "axes fraction", "offset points", ha="center", fontsize=8.5, color=_GREY
            )
            ax.set_xlabel("trainable layers (ℵ)", fontsize=9)
            ax.tick_params(axis="y", labelsize=8)
            _tidy(ax)
        axes[0].set_ylabel("share of networks that score lower", fontsize=9)
        figure.supxlabel(f"{len(aleph)} networks; line: median", fontsize=8.5, color=_GREY)
    return figure


def _bars(ax: Axes, cells: Sequence[Cell]) -> None:
    height = 0.36
    known = [cell.ours if cell.ours is not None else 0.0 for cell in cells]
    printed = [cell.paper if cell.paper is not None else 0.0 for cell in cells]
    places = np.arange(len(cells))
    ax.barh(places - height / 2, known, height=height, color=_OURS)
    ax.barh(places + height / 2, printed, height=height, color=_PAPER)
    for i, cell in enumerate(cells):
        ends = _ends(cell)
        if cell.ours is not None and ends:
            ax.plot(ends, [i - height / 2] * 2, color="black", linewidth=1)
        ours = "not computed" if cell.ours is None else f"{cell.ours:.3f}"
        right = max([0.0, known[i], *(ends or ())])
        low = min([0.0, known[i], printed[i], *(ends or ())])
        small: dict[str, Any] = {"textcoords": "offset points", "va": "center", "fontsize": 7.5}
        ax.annotate(ours, (right, i - height / 2), (3, 0), color="black" if cell.ours is not None else _GREY, **small)
        if cell.paper is not None:
            ax.annotate(paper_text(cell), (max(0.0, printed[i]), i + height / 2), (3, 0), color=_GREY, **small)
        ax.update_datalim([(low * 1.05, i)])
    reach = max([0.1, *known, *printed, *(end for cell in cells for end in (_ends(cell) or ()))])
    lowest = min([0.0, *known, *printed, *(end for cell in cells for end in (_ends(cell) or ()))])
    ax.set_xlim(lowest * 1.1, reach * 1.2)
    ax.axvline(0, color="black", linewidth=0.8)
    ax.tick_params(axis="x", labelsize=8)
    ax.tick_params(axis="y", length=0)
    _tidy(ax)
    ax.grid(axis="x", color="#e6e6e6", linewidth=0.6)


def _ends(cell: Cell) -> tuple[float, float] | None:
    """Ends of the error bar: the interval over architectures, or the deviation over seeds."""
    if cell.interval is not None:
        return cell.interval
    if cell.ours is None or cell.std is None:
        return None
    return cell.ours - cell.std, cell.ours + cell.std


def _axis(metric: str, cells: Sequence[Cell]) -> str:
    made = next((cell.sizes for cell in cells if cell.sizes[0]), None)
    if made is None:
        return METRICS[metric]
    cut = f" of the first {made[1]}" if metric == "ndcg" else ""
    return f"{METRICS[metric]}{cut}, n = {made[0]}"


def _cell_lines(cell: Cell) -> list[str]:
    if cell.ours is None and cell.paper is None:
        return ["–"] if cell.problem else [""]
    lines = [ours_text(cell), interval_text(cell)]
    if cell.paper is not None:
        change = difference_text(cell)
        lines.append(f"paper {paper_text(cell)}" + (f" ({change})" if change else ""))
    return [line for line in lines if line]


def _draw_cell(ax: Axes, cell: Cell, left: float, top: float, tall: float) -> None:
    color = _COLORS.get(cell.verdict, "white" if cell.ours is not None else _EMPTY)
    ax.add_patch(Rectangle((left, top), _CELL, tall, facecolor=color, edgecolor="white", linewidth=1.2))
    lines = _cell_lines(cell)
    for i, line in enumerate(lines):
        y = top + tall / 2 + (i - (len(lines) - 1) / 2) * _LINE
        first = i == 0 and cell.ours is not None
        ax.text(
            left + _CELL / 2,
            y,
            textwrap.shorten(line, 30, placeholder="…"),
            fontsize=8 if first else 7,
            fontweight="bold" if first else "normal",
            color="black" if first else _GREY,
            ha="center",
            va="center",
        )


def _tidy(ax: Axes) -> None:
    ax.set_axisbelow(True)
    for side in ("top", "right"):
        ax.spines[side].set_visible(False)
