"""Draws the figures of the README and of the documentation from committed tables: ``python docs/figures/draw.py``."""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping
from pathlib import Path

from matplotlib.axes import Axes

from vkdnw_pl.report.figures.style import (
    ACCENT,
    BLUE,
    GREY,
    RUN_COLORS,
    color_legend,
    css_colors,
    drawing,
    new_figure,
    to_svg,
)

HERE = Path(__file__).parent
BENCHMARKS = HERE.parents[1] / "benchmarks"
DATASETS = {"cifar10": "CIFAR-10", "cifar100": "CIFAR-100", "ImageNet16-120": "ImageNet16-120"}
OURS, SIZE, OTHER = ACCENT, RUN_COLORS[2], BLUE
"""Colours of rankings with VKDNW, of the network's size alone, and of all others."""
COLORS = {"with VKDNW": OURS, "size alone": SIZE, "other proxies": OTHER}
RANKINGS = {
    "vkdnw_plus": OURS,
    "vkdnw_agg": OURS,
    "az_nas": OTHER,
    "vkdnw_single": OURS,
    "aleph": SIZE,
    "params": SIZE,
    "macs": SIZE,
    "jacov": OTHER,
    "zico": OTHER,
    "naswot": OTHER,
    "synflow": OTHER,
}
Interval = tuple[float, float, float]
"""Value, lower end, upper end."""


def rankings() -> str:
    """Kendall's tau of rankings: NAS-Bench-201 on three data sets, and timm's models."""
    panels: dict[str, dict[str, Interval]] = {title: {} for title in DATASETS.values()}
    for row in _rows("paper/table1.csv"):
        if row["metric"] == "kendall" and row["ranking"] in RANKINGS:
            value = float(row["ours"])
            interval = (value, float(row["low"] or value), float(row["high"] or value))
            panels[DATASETS[row["column"]]][row["ranking"]] = interval
    for panel in panels.values():  # MACs and parameters order NAS-Bench-201's networks alike
        panel["params"] = panel["macs"]
    panels["timm's models"] = {
        row["ranking"]: (float(row["kendall"]), float(row["low"]), float(row["high"]))
        for row in _rows("timm_zoo/intervals.csv")
        if row["ranking"] in RANKINGS
    }
    with drawing():
        figure = new_figure(9.4, 3.9)
        for ax, (title, values) in zip(figure.subplots(1, 4, sharey=True), panels.items()):
            _intervals(ax, values, RANKINGS)
            ax.set(title=title, xlabel="Kendall's tau", xlim=(-0.12, 0.89))
        color_legend(figure, COLORS, columns=3)
    return to_svg(figure, "Kendall's tau of rankings before training with accuracies after it, with 95 % intervals")


def searches() -> str:
    """Accuracies of the networks that searches of NAS-Bench-201 find, from the table in the benchmark's README."""
    colors = {
        "best of 1,000, all trained": GREY,
        "largest network (MACs)": SIZE,
        "vkdnw_agg": OURS,
        "vkdnw_single": OURS,
        "az_nas": OTHER,
        "a random network": GREY,
    }
    names = {
        ("true accuracy", "1,000 random networks, all trained, the best"): "best of 1,000, all trained",
        ("`macs`", "ageing evolution"): "largest network (MACs)",
        ("none", "a random network"): "a random network",
        **{(f"`{name}`", "ageing evolution"): name for name in ("vkdnw_agg", "vkdnw_single", "az_nas")},
    }
    panels: dict[str, dict[str, Interval]] = {title: {} for title in DATASETS.values()}
    text = (BENCHMARKS / "nb201_search" / "README.md").read_text(encoding="utf-8")
    for ranking, strategy, *cells in re.findall(r"\| (.+?) \| (.+?) \| (.+?) \| (.+?) \| (.+?) \|", text):
        if (ranking, strategy) in names:
            for cell, values in zip(cells, panels.values()):
                value, low, high = map(float, re.findall(r"\d+\.\d+", cell))
                values[names[ranking, strategy]] = (value, low, high)
    with drawing():
        figure = new_figure(9.4, 2.7)
        for ax, (title, values) in zip(figure.subplots(1, 3, sharey=True), panels.items()):
            _intervals(ax, values, colors)
            ax.set(title=title, xlabel="test accuracy, %")
    return to_svg(figure, "Test accuracies of the networks that searches of NAS-Bench-201 find, over ten seeds")


FIGURES = {"rankings": rankings, "searches": searches}


def main() -> None:
    """Write all figures beside this file."""
    for name, draw in FIGURES.items():
        (HERE / f"{name}.svg").write_text(standing_alone(draw()), encoding="utf-8")


def _intervals(ax: Axes, values: Mapping[str, Interval], colors: Mapping[str, str]) -> None:
    """A point with its interval for each name, the first on top."""
    for place, (name, color) in enumerate(colors.items()):
        if name in values:
            value, low, high = values[name]
            ax.plot([low, high], [place, place], color=color, linewidth=1.6)
            ax.plot(value, place, "o", color=color, markersize=5)
    ax.set_yticks(range(len(colors)), list(colors))
    ax.set_ylim(len(colors) - 0.5, -0.5)


def _rows(table: str) -> list[dict[str, str]]:
    with (BENCHMARKS / table).open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def standing_alone(svg: str) -> str:
    """A page's SVG as a file: with colours and a ground of its own, for light and dark."""
    width, height = re.findall(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', svg)[0]
    style = f"{css_colors()}svg {{ background: var(--paper); font-family: system-ui, sans-serif; }}"
    width, height = (str(round(1.35 * float(size))) for size in (width, height))
    start = f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
    return str(svg).replace("<svg ", start, 1).replace(">", f"><style>\n{style}</style>", 1) + "\n"


if __name__ == "__main__":
    main()
