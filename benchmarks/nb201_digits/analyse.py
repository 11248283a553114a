"""How reliable ``nb201_digits`` is, and how it agrees with the public NAS-Bench-201 accuracies.

    python analyse.py runs.csv                                   # reliability
    python analyse.py runs.csv --nb201 DIR --figure scatter.png  # and correlations with the three public tables

Prints the tables of README.md, which defines every quantity.
"""

import argparse
import itertools
import statistics
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray
from scipy.stats import kendalltau, pearsonr, spearmanr
from train import NETWORK, SEEDS, read_runs

from vkdnw_pl.oracles import load_oracle
from vkdnw_pl.spaces import NB201

Array = NDArray[np.float64]
STATISTICS: dict[str, Callable[[Array, Array], float]] = {
    "Spearman": lambda a, b: float(spearmanr(a, b).statistic),
    "Kendall": lambda a, b: float(kendalltau(a, b).statistic),
    "Pearson": lambda a, b: float(pearsonr(a, b).statistic),
}
RESAMPLES = 1_000


def step_up(r: float, k: int) -> float:
    """Spearman-Brown: the reliability of a mean over k parallel measurements that agree at r."""
    return k * r / (1 + (k - 1) * r)


def interval(a: Array, b: Array, statistic: Callable[[Array, Array], float]) -> tuple[float, float]:
    """95 % bootstrap interval over architectures (percentile, seed 0)."""
    rng = np.random.default_rng(0)
    draws = [statistic(a[i], b[i]) for i in (rng.integers(0, len(a), len(a)) for _ in range(RESAMPLES))]
    low, high = np.quantile(draws, [0.025, 0.975])
    return float(low), float(high)


def line(*cells: object) -> None:
    print("| " + " | ".join(f"{cell:.3f}" if isinstance(cell, float) else str(cell) for cell in cells) + " |")


def describe(means: Array, runs: Array, seconds: Array) -> None:
    seed_std = float(np.sqrt(runs.var(axis=1, ddof=1).mean()))
    low, median, high = np.quantile(means, [0, 0.5, 1])
    print(f"{len(means)} architectures, {runs.size} runs, {seconds.sum() / 60:.1f} minutes, {seconds.mean():.2f} s a run")
    print(f"mean over seeds: lowest {low:.1f}, median {median:.1f}, highest {high:.1f} %; std {means.std(ddof=1):.2f}")
    print(f"std of one run about its architecture's mean {seed_std:.2f}; distinct means {len(np.unique(means))}\n")


def reliability(runs: Array, even: Array, odd: Array) -> None:
    """Print the agreement between measurements that share no run, no test image, or neither. Arrays (n, seeds)."""
    pairs = list(itertools.combinations(range(runs.shape[1]), 2))
    best = runs.mean(axis=1) >= np.median(runs.mean(axis=1))
    line("agreement between", *STATISTICS)
    line("---", *["---:"] * len(STATISTICS))

    def row(name: str, value: Callable[[Callable[[Array, Array], float]], float], ranks_only: bool = False) -> None:
        line(name, *("" if ranks_only and key == "Kendall" else value(f) for key, f in STATISTICS.items()))

    def one_to_one(f: Callable[[Array, Array], float], keep: Array | slice = slice(None)) -> float:
        return statistics.fmean(f(runs[keep, i], runs[keep, j]) for i, j in pairs)

    def one_to_others(f: Callable[[Array, Array], float]) -> float:
        seeds = range(runs.shape[1])
        return statistics.fmean(f(runs[:, i], runs[:, [j for j in seeds if j != i]].mean(axis=1)) for i in seeds)

    def disjoint(f: Callable[[Array, Array], float]) -> float:
        return statistics.fmean(f(even[:, i], odd[:, j]) for i, j in itertools.permutations(range(runs.shape[1]), 2))

    row("S1 one seed, another seed", one_to_one)
    row("S2 one seed, mean of the other two", one_to_others)
    row("S3 mean of three, stepped up from S1", lambda f: step_up(one_to_one(f), 3), ranks_only=True)
    row("T1 even, odd test images, same runs", lambda f: f(even.mean(axis=1), odd.mean(axis=1)))
    row("B1 one seed on even, another on odd images", disjoint)
    row("B3 mean of three, stepped up from B1", lambda f: step_up(disjoint(f), 3), ranks_only=True)
    row("S1 within the better half", lambda f: one_to_one(f, best))
    row("S3 within the better half", lambda f: step_up(one_to_one(f, best), 3), ranks_only=True)
    print()


def agreement(name_a: str, a: Array, name_b: str, b: Array) -> None:
    cells = [f"{f(a, b):.3f} ({', '.join(f'{x:.3f}' for x in interval(a, b, f))})" for f in STATISTICS.values()]
    line(f"{name_a}, {name_b}", *cells[:2])


def public(archs: Sequence[str], means: Array, folder: Path) -> dict[str, Array]:
    oracle = load_oracle("nb201", folder)
    columns = {name: np.array([oracle.accuracies(name)[arch] for arch in archs]) for name in oracle.datasets}
    line("pair", "Spearman (95 %)", "Kendall tau-b (95 %)")
    line("---", "---:", "---:")
    for name, column in columns.items():
        agreement("digits", means, name, column)
    for (a, x), (b, y) in itertools.combinations(columns.items(), 2):
        agreement(a, x, b, y)
    macs = np.array([NB201().cost(arch, **NETWORK).macs for arch in archs], dtype=float)
    for name, column in {"digits": means, **columns}.items():
        agreement("MACs", macs, name, column)
    best = means >= np.median(means)
    for name, column in columns.items():
        agreement("digits, better half only", means[best], name, column[best])
    return columns


def scatter(means: Array, errors: Array, columns: dict[str, Array], path: Path) -> None:
    figure = Figure(figsize=(12, 4), layout="constrained")
    FigureCanvasAgg(figure)
    for axis, (name, column) in zip(figure.subplots(1, len(columns)), columns.items(), strict=True):
        axis.errorbar(means, column, xerr=errors, fmt=".", color="#0072B2", ecolor="#BBBBBB", ms=4, lw=0.8)
        axis.set(xlabel="digits, mean and standard error of 3 seeds (%)", ylabel=f"{name} test accuracy (%)")
        # The few networks near chance would flatten the rest; they stay in every number and sit at the edge here.
        low = np.quantile(column, 0.02) - 3
        axis.set_ylim(low, column.max() + 1)
        axis.plot(means[column < low], np.full((column < low).sum(), low), "v", color="#D55E00", ms=5, clip_on=False)
        rho = STATISTICS["Spearman"](means, column)
        axis.set_title(f"{name}: Spearman {rho:.3f} (triangles: below the axis)", fontsize=9)
    figure.savefig(path, dpi=120, metadata={"Software": None})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path)
    parser.add_argument("--nb201", type=Path, help="folder of the public tables")
    parser.add_argument("--figure", type=Path, help="where the scatter plot goes; needs --nb201")
    args = parser.parse_args()
    if args.figure and not args.nb201:
        parser.error("--figure needs --nb201")
    done = read_runs(args.runs)

    def column(name: str) -> Array:
        return np.array([[by_seed[seed][name] for seed in SEEDS] for by_seed in done.values()])

    runs = column("accuracy")
    means = runs.mean(axis=1)
    describe(means, runs, column("seconds"))
    reliability(runs, column("accuracy_even"), column("accuracy_odd"))
    if args.nb201:
        columns = public(list(done), means, args.nb201)
        if args.figure:
            scatter(means, runs.std(axis=1, ddof=1) / np.sqrt(runs.shape[1]), columns, args.figure)


if __name__ == "__main__":
    main()
