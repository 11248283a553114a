"""Pictures of a comparison with the paper: the table with coloured cells, and the paper's three figures."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.transforms import Bbox

from vkdnw_pl.ranking import rank_values
from vkdnw_pl.report.figures.style import (
    ACCENT,
    BLUE,
    GREY,
    LIGHT_BLUE,
    Floats,
    color_legend,
    drawing,
    new_figure,
    save_figure,
    write_above,
)
from vkdnw_pl.report.paper.comparison import CLOSE, COVERED, DIFFERS, VERDICTS, Cell, Comparison
from vkdnw_pl.report.paper.sample import TOY
from vkdnw_pl.report.tables import METRICS
from vkdnw_pl.runs.table import ScoreTable

_COLORS = {CLOSE: "#dff3e4", COVERED: "#fdf3cf", DIFFERS: "#fbdcd6"}
_EMPTY = "#f0f1f3"
_BAR = 0.36  # of the distance between two rows
# Inches: width of a cell, height of a line of text, width of a letter of a name and of the title, of an entry of the
# legend, and of the narrowest table.
_CELL, _LINE, _LETTER, _TITLE_LETTER, _LEGEND_ENTRY, _NARROWEST = 1.32, 0.145, 0.085, 0.1, 3.4, 4.2


def save_comparison_figures(comparison: Comparison, table: ScoreTable | None, folder: Path) -> list[Path]:
    """Draw a comparison as PNG files, beside Figure 3 a scatter plot of the scores in ``table``; return their paths."""
    name = comparison.table.name
    draw = {"fig1": paired_bars, "fig2": toy_figure, "fig3": paired_bars}.get(name, table_figure)
    figures = {name: draw(comparison)}
    keys = [row.row.key for row in comparison.rows if table and row.row.key in table.columns]
    if name == "fig3" and table and "aleph" in table.columns and keys:
        rows = [row for row in table.rows if row.seed == table.seeds[0] and row.values["aleph"] is not None]
        values = {key: np.array([row.values[key] for row in rows], dtype=np.float64) for key in ("aleph", *keys)}
        figures["fig3_scatter"] = size_scatter(values.pop("aleph"), values, comparison)
    return [save_figure(figure, folder / f"{key}.png") for key, figure in figures.items()]


def table_figure(comparison: Comparison) -> Figure:
    """Draw the table: each cell with our value, its spread, the paper's value and the difference."""
    table = comparison.table
    texts = [[row.row.label, *("\n".join(_cell_lines(cell)) for cell in row.all_cells)] for row in comparison.rows]
    labels = [textwrap.fill(column.label, 16) for column in table.columns]
    heads = [f"{label}\n{METRICS[metric]}" for label in labels for metric in table.metrics]
    lines = [max(text.count("\n") + 1 for text in row) for row in (heads, *texts)]
    heights = [0.09 + _LINE * count for count in lines]
    widths = [0.2 + _LETTER * max(len(row[0]) for row in texts), *[_CELL] * len(heads)]
    width = max(sum(widths), _NARROWEST)
    title = textwrap.wrap(table.title, int(width / _TITLE_LETTER))
    legend_columns = next(count for count in (4, 2, 1) if width >= _LEGEND_ENTRY * count or count == 1)
    above, below = 0.15 + 0.2 * len(title), 0.15 + 0.17 * 4 / legend_columns
    height = above + sum(heights) + below
    with drawing():
        figure = new_figure(width + 0.2, height)
        figure.set_layout_engine("none")
        ax = figure.add_axes((0.1 / (width + 0.2), below / height, sum(widths) / (width + 0.2), sum(heights) / height))
        ax.set_axis_off()
        colors = [["white", *map(_cell_color, row.all_cells)] for row in comparison.rows]
        drawn = ax.table([["", *heads], *texts], [["white"] * len(widths), *colors], "center", bbox=Bbox.unit())
        drawn.auto_set_font_size(False)
        for (i, j), box in drawn.get_celld().items():
            box.PAD = 0.02
            box.set(height=heights[i], width=widths[j], edgecolor="white")
            box.set_text_props(fontsize=8.5 if j == 0 else 7.5, ha="left" if j == 0 else "center")
            box.get_text().set_fontweight("bold" if i == 0 else "normal")
        figure.text(0.13 / width, 1 - 0.1 / height, "\n".join(title), fontsize=11, fontweight="bold", va="top")
        marks = [Patch(color=color, label=VERDICTS[verdict]) for verdict, color in _COLORS.items()]
        marks.append(Patch(color=_EMPTY, label="not computed here"))
        figure.legend(handles=marks, loc="lower left", ncols=legend_columns, fontsize=7.5)
    return figure


def paired_bars(comparison: Comparison) -> Figure:
    """Draw our and the paper's values side by side, one panel per column; our bars carry the interval or the spread."""
    table = comparison.table
    with drawing():
        figure = new_figure(2.0 + 4.6 * len(table.columns), 1.2 + 0.42 * len(comparison.rows))
        axes = figure.subplots(1, len(table.columns), squeeze=False, sharey=True).ravel()
        for i, (ax, column) in enumerate(zip(axes, table.columns)):
            cells = [row.cells[i][0] for row in comparison.rows]
            _draw_bars(ax, cells)
            ax.set_yticks(range(len(cells)), [row.row.label for row in comparison.rows], fontsize=8.5)
            ax.set_ylim(len(cells) - 0.4, -0.6)
            ax.set_title(column.label)
            ax.set_xlabel(_axis_label(table.metrics[0], cells))
        figure.suptitle(table.title, fontsize=11, fontweight="bold")
        color_legend(figure, {"here": ACCENT, "paper": LIGHT_BLUE})
    return figure


def toy_figure(comparison: Comparison) -> Figure:
    """Draw the toy example: accuracies in the order of each ranking, best first; those out of place accentuated."""
    with drawing():
        figure = new_figure(8.6, 3.9)
        axes = figure.subplots(1, len(TOY), squeeze=False, sharey=True).ravel()
        for ax, (name, accuracies) in zip(axes, TOY.items()):
            places = range(1, len(accuracies) + 1)
            in_place = [a == b for a, b in zip(accuracies, sorted(accuracies, reverse=True))]
            ax.bar(places, accuracies, color=[LIGHT_BLUE if right else ACCENT for right in in_place])
            ax.set_xticks(places)
            ax.set_title(name, pad=30)
            cells = next(row.cells[0] for row in comparison.rows if row.row.key == name)
            write_above(
                ax, "here   " + "   ".join(f"{METRICS[cell.metric]} {cell.ours:.4f}" for cell in cells), 17, "black"
            )
            write_above(ax, "paper   " + "   ".join(f"{METRICS[cell.metric]} {cell.paper_text}" for cell in cells))
            ax.set_xlabel("place in the ranking")
        axes[0].set_ylabel("accuracy (%)")
        color_legend(figure, {"not at its place": ACCENT, "at its place": LIGHT_BLUE})
    return figure


def size_scatter(aleph: Floats, components: Mapping[str, Floats], comparison: Comparison) -> Figure:
    """Draw each component against the number of trainable layers, after Figure 3 of the paper.

    Components are drawn as the share of networks that score lower, which is all that Kendall's tau sees: values such as
    trainability's reach over five orders of magnitude. NaN is no value.
    """
    n = len(aleph)
    sizes, place = np.unique(aleph, return_inverse=True)
    spread = np.random.default_rng(0).uniform(-0.3, 0.3, n)  # so that points of equal size stay apart
    rows = {row.row.key: row for row in comparison.rows}
    dots = {"s": float(np.clip(4000 / n, 2, 14)), "alpha": float(np.clip(400 / n, 0.1, 0.6)), "linewidths": 0}
    with drawing():
        figure = new_figure(3.0 * len(components), 3.5)
        axes = figure.subplots(1, len(components), squeeze=False, sharey=True).ravel()
        for ax, (name, values) in zip(axes, components.items()):
            share = (rank_values(values) - 0.5) / n
            ax.scatter(place + spread, share, color=ACCENT if name.startswith("vkdnw") else BLUE, **dots)
            medians = [np.median(share[place == i]) for i in range(len(sizes))]
            ax.plot(range(len(sizes)), medians, color="black", marker="o", markersize=4, linewidth=1.4)
            ax.set_xticks(range(len(sizes)), [f"{size:g}" for size in sizes], fontsize=8)
            ax.set_title(rows[name].row.label, pad=18)
            cell = rows[name].cells[0][0]
            write_above(ax, f"KT {cell.ours_text}   paper {cell.paper_text}")
            ax.set_xlabel("trainable layers (ℵ)")
        axes[0].set_ylabel("share of networks that score lower")
        figure.supxlabel(f"{n} networks; line: median", fontsize=8.5, color=GREY)
    return figure


def _draw_bars(ax: Axes, cells: Sequence[Cell]) -> None:
    values = []
    for i, cell in enumerate(cells):
        bar = cell.interval
        if bar is None and cell.ours is not None and cell.std is not None:
            bar = cell.ours - cell.std, cell.ours + cell.std
        ours_text = "not computed" if cell.ours is None else f"{cell.ours:.3f}"
        paper_text = "" if cell.paper is None else cell.paper_text
        _draw_bar(ax, i - _BAR / 2, cell.ours, ours_text, ACCENT, GREY if cell.ours is None else "black", bar or ())
        _draw_bar(ax, i + _BAR / 2, cell.paper, paper_text, LIGHT_BLUE, GREY)
        values += [value for value in (cell.ours, cell.paper, *(bar or ())) if value]
    ax.set_xlim(min([0.0, *values]) * 1.1, max([0.1, *values]) * 1.2)
    ax.axvline(0, color="black", linewidth=0.8)
    ax.grid(axis="y", visible=False)


def _draw_bar(
    ax: Axes, y: float, value: float | None, text: str, color: str, text_color: str, error: Sequence[float] = ()
) -> None:
    ax.barh(y, value or 0.0, height=_BAR, color=color)
    ax.plot(error, [y] * len(error), color="black", linewidth=1)

    right = max(0.0, value or 0.0, *error)
    ax.annotate(text, (right, y), (3, 0), textcoords="offset points", va="center", fontsize=7.5, color=text_color)


def _axis_label(metric: str, cells: Sequence[Cell]) -> str:
    n, ndcg_k, _ = next((cell.sizes for cell in cells if cell.sizes[0]), ("", "", ""))
    if not n:
        return METRICS[metric]
    cut = f" of the first {ndcg_k}" if metric == "ndcg" else ""
    return f"{METRICS[metric]}{cut}, n = {n}"


def _cell_lines(cell: Cell) -> list[str]:
    if cell.is_empty:
        return ["–"] if cell.problem else [""]
    lines = [cell.ours_text, cell.interval_text]
    if cell.paper is not None:
        lines.append(f"paper {cell.paper_text}" + (f" ({cell.difference_text})" if cell.difference_text else ""))
    return [line for line in lines if line]


def _cell_color(cell: Cell) -> str:
    return _COLORS.get(cell.verdict, "white" if cell.ours is not None else _EMPTY)
