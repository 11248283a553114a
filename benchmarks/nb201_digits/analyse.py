"""How reliable the accuracies of an embedded digits table are, and what they agree with.

python benchmarks/nb201_digits/analyse.py benchmarks/nb201_digits/runs.csv.gz --public ORACLE_PATH --figure scatter.png
python benchmarks/nb201_digits/analyse.py benchmarks/sss_digits/runs.csv.gz --oracle sss_digits
"""

import argparse
import csv
import gzip
import itertools
import statistics
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from scipy.stats import kendalltau, spearmanr

from vkdnw_pl.oracles import TABLES, load_oracle
from vkdnw_pl.report.figures.style import save_figure
from vkdnw_pl.spaces import SPACES

SEEDS = (0, 1, 2)


def read_runs(path: Path) -> dict[str, dict[int, dict[str, float]]]:
    """arch -> seed -> the columns of accuracies: ``accuracy``, perhaps those on the even and the odd test images."""
    runs: dict[str, dict[int, dict[str, float]]] = {}
    with gzip.open(path, "rt") as file:
        for row in csv.DictReader(file):
            values = {name: float(value) for name, value in row.items() if name.startswith("accuracy")}
            runs.setdefault(row["arch"], {})[int(row["seed"])] = values
    return runs


def spearman(a: np.ndarray, b: np.ndarray) -> float:
    return float(spearmanr(a, b)[0])


def two_seeds(by_seed: np.ndarray) -> tuple[float, float]:
    """Spearman and Pearson of one seed (columns of ``by_seed``) and another, mean over pairs."""
    pairs = list(itertools.combinations(by_seed.T, 2))
    return statistics.fmean(spearman(a, b) for a, b in pairs), statistics.fmean(
        float(np.corrcoef(a, b)[0, 1]) for a, b in pairs
    )


def stepped_up(r: float, k: int) -> float:
    """Spearman-Brown: reliability of the mean of k seeds of which two correlate with r."""
    return k * r / (1 + (k - 1) * r)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("runs", type=Path)
    parser.add_argument("--oracle", default="digits")
    parser.add_argument("--public", help="folder of the public tables of the same architectures")
    parser.add_argument("--figure", type=Path, help="where to draw them against the public accuracies")
    args = parser.parse_args()
    runs = read_runs(args.runs)
    by_seed = np.array([[runs[arch][seed]["accuracy"] for seed in SEEDS] for arch in runs])
    mean, k = by_seed.mean(1), len(SEEDS)
    print(f"{len(runs)} architectures, {by_seed.size} runs, {len(np.unique(mean))} different means")
    print(f"accuracy {mean.min():.1f} to {mean.max():.1f}, median {np.median(mean):.1f}, std {mean.std(ddof=1):.2f}")
    within = by_seed.std(1, ddof=1)
    print(
        f"std over seeds: mean over architectures {within.mean():.2f}, root mean square {(within**2).mean() ** 0.5:.2f}"
    )
    better = mean >= np.median(mean)
    for name, part in (("all", by_seed), ("better half", by_seed[better])):
        others = [(part[:, i], np.delete(part, i, 1).mean(1)) for i in range(k)]
        rank, linear = two_seeds(part)
        rest = [
            statistics.fmean(spearman(a, b) for a, b in others),
            statistics.fmean(float(np.corrcoef(a, b)[0, 1]) for a, b in others),
        ]
        print(f"{name}: two seeds: Spearman {rank:.3f}, Pearson {linear:.3f} (mean over {k * (k - 1) // 2} pairs)")
        print(f"{name}: a seed and the mean of the others: Spearman {rest[0]:.3f}, Pearson {rest[1]:.3f}")
        print(
            f"{name}: reliability of the mean of {k} seeds, Spearman-Brown: {stepped_up(rank, k):.3f} from Spearman, "
            f"{stepped_up(linear, k):.3f} from Pearson"
        )
    if "accuracy_even" in next(iter(runs.values()))[SEEDS[0]]:
        halves = (
            np.array([[runs[arch][seed][f"accuracy_{half}"] for seed in SEEDS] for arch in runs]).mean(1)
            for half in ("even", "odd")
        )
        half = spearman(*halves)
        print(
            f"even and odd test images, means of {k} seeds: Spearman {half:.3f}, whole test set {stepped_up(half, 2):.3f}"
        )
    space = SPACES[TABLES[args.oracle]]
    costs = [space.cost(arch, **load_oracle(args.oracle, space=space.key).network("digits")) for arch in runs]
    for name, values in (("macs", [c.macs for c in costs]), ("params", [c.num_params for c in costs])):
        tau = float(kendalltau(mean, values)[0])
        print(f"{name}: Spearman {spearman(mean, np.array(values)):.3f}, Kendall tau-b {tau:.3f}")
    if args.public is None:
        return
    oracle = load_oracle(space.key, args.public, space.key)
    figure = Figure(figsize=(12, 4), layout="constrained")
    for axes, dataset in zip(figure.subplots(1, len(oracle.datasets)), oracle.datasets, strict=True):
        known = oracle.accuracies(dataset)
        other = np.array([known[arch] for arch in runs])
        rho, tau = spearman(mean, other), float(kendalltau(mean, other)[0])
        print(f"{dataset}: Spearman {rho:.3f}, Kendall tau-b {tau:.3f}")
        axes.plot(mean, other, ".", alpha=0.6)
        axes.set(
            xlabel="digits accuracy (%)", ylabel=f"{dataset} test accuracy (%)", title=f"SPR {rho:.3f}  KT {tau:.3f}"
        )
        axes.set_ylim(np.quantile(other, 0.02), None)
    if args.figure:
        save_figure(figure, args.figure)


if __name__ == "__main__":
    main()
