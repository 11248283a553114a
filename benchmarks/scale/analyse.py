"""Figures and exponents from the CSV files of `networks.py`, `tables.py` and `memory.py` in this folder.

    python benchmarks/scale/analyse.py                      # networks.png, tables.png, memory.png; exponents on the screen
    python benchmarks/scale/analyse.py --memory rss.csv     # another run's memory

An exponent is the slope of log(seconds) by log(value), each network with a level of its own; behind it its standard error.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

HERE = Path(__file__).parent
LABELS = {"batch": "batch", "cells": "cells a stage", "classes": "classes"}
COLOURS = {"vkdnw": "tab:blue", "vkdnw_agg": "tab:orange"}


def exponent(x: np.ndarray, y: np.ndarray, group: np.ndarray) -> tuple[float, float]:
    """Slope of log y by log x with a level for each group, and its standard error (NaN where nothing is left over)."""
    frame = pd.DataFrame({"x": np.log(x), "y": np.log(y), "group": group})
    centred = frame[["x", "y"]] - frame.groupby("group")[["x", "y"]].transform("mean")
    square = (centred.x**2).sum()
    slope = (centred.x * centred.y).sum() / square
    left = len(frame) - frame.group.nunique() - 1
    error = np.sqrt(((centred.y - slope * centred.x) ** 2).sum() / left / square) if left > 0 else np.nan
    return float(slope), float(error)


def networks(folder: Path) -> None:
    table, rates = pd.read_csv(folder / "axes.csv"), pd.read_csv(folder / "workers.csv")
    figure, panels = plt.subplots(1, 4, figsize=(15, 3.8), constrained_layout=True)
    print("| axis | proxies | exponent | seconds at the ends, median |\n|---|---|---|---|")
    for panel, (axis, label) in zip(panels, LABELS.items()):
        for what, rows in table[table.axis == axis].groupby("what"):
            slope, error = exponent(rows.value.to_numpy(), rows.seconds.to_numpy(), rows.arch.to_numpy())
            median = rows.groupby("value").seconds.median()
            panel.loglog(rows.value, rows.seconds, ".", color=COLOURS[what], alpha=0.4)
            panel.loglog(median.index, median, "-", color=COLOURS[what], label=f"{what}: {slope:.2f} ± {error:.2f}")
            ends = ", ".join(f"{value}: {median[value]:.2f}" for value in (median.index[0], median.index[-1]))
            print(f"| {label} | {what} | {slope:.2f} ± {error:.2f} | {ends} |")
            if axis == "batch":
                per_sample, fixed = np.polyfit(median.index, median, 1)
                print(f"| | | | {what}: about {fixed:.2f} s + {1000 * per_sample:.1f} ms a sample |")
        panel.set_xlabel(label)
        panel.set_xticks(sorted(table[table.axis == axis].value.unique()), minor=False)
        panel.xaxis.set_major_formatter("{x:g}")
        panel.xaxis.set_minor_formatter("")
        panel.legend(fontsize=8)
    panels[0].set_ylabel("processor seconds a network")
    for batch, rows in rates.groupby("batch"):
        slope, _ = exponent(rows.workers.to_numpy(), rows.networks_per_s.to_numpy(), rows.batch.to_numpy())
        panels[3].loglog(rows.workers, rows.networks_per_s, "o-", label=f"batch {batch}: {slope:.2f}")
        print(f"| workers, batch {batch} | vkdnw_agg | {slope:.2f} | {list(rows.networks_per_s)} networks/s |")
    panels[3].set_xticks([1, 2], labels=["1", "2"])
    panels[3].xaxis.set_minor_formatter("")
    panels[3].set_xlabel("workers")
    panels[3].set_ylabel("networks/s by the clock")
    panels[3].legend(fontsize=8)
    figure.savefig(folder / "networks.png", dpi=110)


def tables(folder: Path) -> None:
    table = pd.read_csv(folder / "tables.csv").dropna(subset=["seconds"])
    table = table[table.error.isna() & ~table.what.str.startswith("lines")]
    figure, panels = plt.subplots(1, 2, figsize=(13, 5), constrained_layout=True, sharex=True)
    print("\n| work | exponent of time | of memory |\n|---|---|---|")
    for what, rows in table.groupby("what", sort=False):
        slopes = [
            exponent(rows.rows.to_numpy(), rows[column].to_numpy(), np.zeros(len(rows)))[0] if len(rows) > 1 else np.nan
            for column in ("seconds", "peak_mb")
        ]
        panels[0].loglog(rows.rows, rows.seconds, "o-", label=f"{what}: {slopes[0]:.2f}")
        panels[1].loglog(rows.rows, rows.peak_mb, "o-")
        print(f"| {what} | {slopes[0]:.2f} | {slopes[1]:.2f} |")
    for panel, label in zip(panels, ("processor seconds", "highest resident memory, MiB")):
        panel.set_xlabel("rows")
        panel.set_ylabel(label)
    panels[0].legend(fontsize=7)
    figure.savefig(folder / "tables.png", dpi=110)


def memory(file: Path, out: Path) -> None:
    table = pd.read_csv(file)
    figure, panel = plt.subplots(figsize=(7, 4), constrained_layout=True)
    print(
        "\n| process | rows | resident MiB: first quarter, last quarter | slope, MiB for 1,000 rows |\n|---|---|---|---|"
    )
    for (depth, pid), rows in table.groupby(["depth", "pid"]):
        if len(rows) < 8:
            continue  # a child of a moment
        x = rows["rows"] if rows["rows"].notna().all() else rows.seconds
        panel.plot(x, rows.rss_mb, label=f"{'worker' if depth else 'command'} {pid}")
        quarter = len(rows) // 4
        first, last = rows.rss_mb[:quarter].median(), rows.rss_mb[-quarter:].median()
        slope = np.polyfit(x[quarter:], rows.rss_mb[quarter:], 1)[0] * 1000
        print(f"| {'worker' if depth else 'command'} {pid} | {int(x.max())} | {first:.0f}, {last:.0f} | {slope:.1f} |")
    panel.set_xlabel("rows on the disk" if table["rows"].notna().all() else "seconds")
    panel.set_ylabel("resident MiB")
    panel.set_ylim(bottom=0)
    panel.legend(fontsize=8)
    figure.savefig(out, dpi=110)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, default=HERE)
    parser.add_argument("--memory", type=Path, help="CSV file of memory.py; default memory.csv in the folder")
    arguments = parser.parse_args()
    if (arguments.folder / "axes.csv").is_file():
        networks(arguments.folder)
    if (arguments.folder / "tables.csv").is_file():
        tables(arguments.folder)
    source = arguments.memory or arguments.folder / "memory.csv"
    if source.is_file():
        memory(source, source.with_suffix(".png"))
