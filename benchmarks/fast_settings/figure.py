"""Quality against cost of every setting, from results.csv and deep.csv.

python benchmarks/fast_settings/figure.py benchmarks/fast_settings
"""

import csv
import statistics
import sys
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from settings import SETTINGS, Setting

from vkdnw_pl.metrics.functional import spearman_rho

PANELS = (  # ranking, whether C = 120, least change shown
    ("vkdnw_agg", False, -0.045),
    ("vkdnw_single", False, -0.02),
    ("vkdnw", True, -0.13),
)


def label(setting: Setting) -> str:
    companions = "" if (setting.maps, setting.jacov) == (16, 16) else f"/{setting.maps}/{setting.jacov}"
    sketch = f" k{setting.sketch}" if setting.sketch else ""
    return "small network" if setting.network.get("channels") else f"{setting.vkdnw}{companions}{sketch}"


def annotate(axis, points: list[tuple[float, float, str, str]]) -> None:
    """Names beside (x, y, name, colour), above and below in turn."""
    for number, (x, y, name, colour) in enumerate(sorted(points)):
        offset = (3, 5) if number % 2 else (3, -11)
        axis.annotate(name, (x, y), offset, textcoords="offset points", fontsize=8, color=colour)


def main(folder: str) -> None:
    with (Path(folder) / "results.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["cost"]]
    figure, axes = plt.subplots(2, 2, figsize=(13, 9.5), layout="constrained")
    for axis, (ranking, large, least) in zip(axes.flat, PANELS, strict=False):
        points, below = [], []
        for row in rows:
            setting = SETTINGS[row["setting"]]
            if row["ranking"] != ranking or row["setting"].startswith("C = 120") != large:
                continue
            change, cost = float(row["kendall_change"]), float(row["cost"])
            colour = "tab:orange" if setting.sketch else "tab:blue"
            if change < least:
                below.append(f"{label(setting)}: {change:.3f} at {cost:.2f}")
                continue
            if row["change_low"]:
                axis.plot([cost, cost], [float(row["change_low"]), float(row["change_high"])], color=colour, lw=0.8)
            axis.plot(cost, change, "o", color=colour, ms=5)
            if ranking != "vkdnw_agg" or not setting.sketch:  # there the sketches lie too close
                points.append((cost, change, label(setting), colour))
        annotate(axis, points)
        axis.text(0.02, 0.02, "not shown: " + ", ".join(below) if below else "", transform=axis.transAxes, fontsize=8)
        axis.axhline(0, color="grey", lw=0.8)
        axis.axhspan(-0.005, 0.005, color="grey", alpha=0.15, lw=0)
        axis.set_ylim(bottom=least * 1.3)
        axis.set_xlim(0.22, 2.2)
        axis.set(title=f"{ranking}, C = {120 if large else 10}", ylabel="change in Kendall's tau")
    deep = axes.flat[3]
    with (Path(folder) / "deep.csv").open() as file:
        networks = list(csv.DictReader(file))
    points = []
    for name in (
        name for name in networks[0] if name.endswith(("all", "1", "2", "4", "8", "16")) and "seconds" not in name
    ):
        agreement = float(spearman_rho(*([float(n[k] or "-inf") for n in networks] for k in (name, "16 images, all"))))
        timed = [n for n in networks if n[f"seconds {name}"]]
        cost = statistics.median(float(n[f"seconds {name}"]) / float(n["seconds 16 images, all"]) for n in timed)
        images, _, classes = name.split(" ")[0::1]
        colour = "tab:blue" if classes == "all" else "tab:orange"
        deep.plot(cost, agreement, "o", color=colour, ms=5)
        points.append((cost, agreement, images if classes == "all" else f"{images} k{classes}", colour))
        print(name, f"{agreement:.3f}", f"{cost:.3f}")
    annotate(deep, points)
    deep.set(
        title=f"vkdnw, {len(networks)} deep networks, C = 1,000", ylabel="Spearman's rho with 16 images, all classes"
    )
    deep.set_xlim(0.045, 1.3)
    for axis in axes.flat:
        limits = axis.get_xlim()
        axis.axvline(0.25, color="grey", lw=0.8, ls=":")
        axis.set(xscale="log", xlabel="processor time, default = 1")
        axis.set_xticks([0.05, 0.1, 0.25, 0.5, 1, 2], ["0.05", "0.1", "0.25", "0.5", "1", "2"], minor=False)
        axis.minorticks_off()
        axis.set_xlim(limits)
    figure.suptitle(
        "4: images for VKDNW; 4/8/16: for VKDNW, feature maps, Jacov; k2: a sketch of two random combinations of the classes (orange)",
        fontsize=10,
    )
    figure.savefig(Path(folder) / "quality_cost.png", dpi=100)


if __name__ == "__main__":
    main(*sys.argv[1:])
