"""How reliable the digits accuracies are, and how they agree with the public data sets.

python benchmarks/nb201_digits/analyse.py runs.csv.gz ORACLE_PATH benchmarks/nb201_digits/scatter.png
"""

import csv
import gzip
import itertools
import statistics
import sys
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from scipy.stats import kendalltau, spearmanr

from vkdnw_pl.oracles import load_oracle
from vkdnw_pl.report.figures.style import save_figure

SEEDS = (0, 1, 2)


def read_runs(path: Path) -> dict[str, dict[int, dict[str, float]]]:
    """arch -> seed -> columns: ``accuracy``, and those on the even and the odd test images."""
    runs: dict[str, dict[int, dict[str, float]]] = {}
    with gzip.open(path, "rt") as file:
        for row in csv.DictReader(file):
            values = {name: float(row[name]) for name in ("accuracy", "accuracy_even", "accuracy_odd")}
            runs.setdefault(row["arch"], {})[int(row["seed"])] = values
    return runs


def main(runs_path: str, oracle_path: str, figure_path: str) -> None:
    runs = read_runs(Path(runs_path))
    by_seed = np.array([[runs[arch][seed]["accuracy"] for seed in SEEDS] for arch in runs])
    even = np.array([[runs[arch][seed]["accuracy_even"] for seed in SEEDS] for arch in runs]).mean(1)
    odd = np.array([[runs[arch][seed]["accuracy_odd"] for seed in SEEDS] for arch in runs]).mean(1)
    mean = by_seed.mean(1)
    pairs = list(itertools.combinations(range(len(SEEDS)), 2))
    rank = statistics.fmean(float(spearmanr(by_seed[:, i], by_seed[:, j])[0]) for i, j in pairs)
    linear = statistics.fmean(float(np.corrcoef(by_seed[:, i], by_seed[:, j])[0, 1]) for i, j in pairs)
    k = len(SEEDS)
    print(f"{len(runs)} architectures, {by_seed.size} runs")
    print(f"accuracy {mean.min():.1f} to {mean.max():.1f}, median {np.median(mean):.1f}, std {mean.std(ddof=1):.2f}")
    print(f"std over seeds, mean over architectures: {by_seed.std(1, ddof=1).mean():.2f}")
    print(f"two seeds: Spearman {rank:.3f}, Pearson {linear:.3f} (mean over {len(pairs)} pairs)")
    print(f"mean of {k} seeds, Spearman-Brown: {k * rank / (1 + (k - 1) * rank):.3f} (from Spearman)")
    half = float(spearmanr(even, odd)[0])
    print(
        f"even and odd test images, means of {k} seeds: Spearman {half:.3f}, of the whole test set {2 * half / (1 + half):.3f}"
    )
    oracle = load_oracle("nb201", oracle_path)
    figure = Figure(figsize=(12, 4), layout="constrained")
    for axes, dataset in zip(figure.subplots(1, 3), oracle.datasets, strict=True):
        known = oracle.accuracies(dataset)
        other = np.array([known[arch] for arch in runs])
        rho, tau = float(spearmanr(mean, other)[0]), float(kendalltau(mean, other)[0])
        print(f"{dataset}: Spearman {rho:.3f}, Kendall tau-b {tau:.3f}")
        axes.plot(mean, other, ".", alpha=0.6)
        axes.set(
            xlabel="digits accuracy (%)", ylabel=f"{dataset} test accuracy (%)", title=f"SPR {rho:.3f}  KT {tau:.3f}"
        )
        axes.set_ylim(np.quantile(other, 0.02), None)
    save_figure(figure, Path(figure_path))


if __name__ == "__main__":
    main(*sys.argv[1:])
