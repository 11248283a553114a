"""From a score table to rankings and, where accuracies are known, metrics and their intervals over samples."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vkdnw_pl.errors import check_number, check_whole
from vkdnw_pl.oracles import Oracle
from vkdnw_pl.ranking import (
    METRICS,
    Term,
    aggregate,
    available_rankings,
    columns_of,
    parse_ranking,
    rank_agreement,
    rank_values,
)
from vkdnw_pl.runs.files import write_csv
from vkdnw_pl.runs.table import ScoreTable

METRIC_COLUMNS = (
    *("ranking", "dataset", "split", "n", "kendall", "spearman", "ndcg", "ndcg_k", "seeds"),
    *("kendall_std", "spearman_std", "ndcg_std"),
)

Array = np.ndarray[Any, Any]
Terms = tuple[Term, ...]
Interval = tuple[float, float]
Intervals = dict[tuple[str, str], dict[str, Interval]]
"""(ranking, data set) -> metric -> (low, high)."""

_KENDALL_WORK = 5e9  # resamples times pairs; one core does about 1e10 of them in a second
_FEWEST = 100
_CHUNK = 4_000_000  # numbers in one temporary array: 32 MB


@dataclass(frozen=True)
class Evaluation:
    """Rankings of a score table, and how they agree with known accuracies."""

    archs: list[str]
    """Architectures that have a row for every seed, in the table's order: those that are ranked."""
    ranks: dict[str, Array]
    """Ranking -> rank among ``archs``, 1 = best, ties averaged, mean over seeds."""
    metrics: list[dict[str, Any]]
    """Rows of ``metrics.csv``; None where a metric is undefined, and for deviations of one seed."""
    known: dict[str, list[int]]
    """Data set -> places in ``archs`` of the architectures whose accuracy is known."""
    non_finite: dict[str, int]
    """Column -> how many of its values are missing, and so rank last; only columns that have some."""


def choose_rankings(columns: Sequence[str], rankings: Sequence[str] | None) -> dict[str, Terms]:
    """Name -> terms of the given rankings; None is all that the columns allow. Refuses what needs other columns."""
    if rankings is None:
        rankings = available_rankings(columns)
        if not rankings:
            raise ValueError(f"the score table has no column to rank by (it has: {', '.join(columns) or 'none'})")
    if not rankings:
        raise ValueError(
            "rankings=[] is not allowed: name at least one, or leave it out for all that the columns allow"
        )
    if len(set(rankings)) < len(rankings):
        raise ValueError(f"rankings={list(rankings)!r} is not allowed: a ranking repeats")
    no_values: dict[str, Array] = {column: np.zeros(0) for column in columns}
    terms = {}
    for name in rankings:
        terms[name] = parse_ranking(name)
        try:
            aggregate(no_values, terms[name])
        except ValueError as error:
            raise ValueError(f"rankings: {name!r}: {error}") from None
    return terms


def scores_by_seed(table: ScoreTable) -> tuple[list[str], dict[int, dict[str, Array]]]:
    """The architectures that have a row for every seed, and their scores: seed -> column -> values, NaN for none."""
    rows = {row.key: row for row in table.rows}
    seeds = table.seeds
    archs = [arch for arch in table.archs if all((arch, seed) in rows for seed in seeds)]
    scores = {}
    for seed in seeds:
        values = [rows[arch, seed].values for arch in archs]
        scores[seed] = {name: np.array([row[name] for row in values], dtype=np.float64) for name in table.columns}
    return archs, scores


def seeds_with_values(scores: Mapping[int, Mapping[str, Array]], columns: Sequence[str]) -> list[int]:
    """Seeds in which every column has some value: in others it was not scored, as in joined tables; all if none has."""
    seeds = [seed for seed, values in scores.items() if all(np.isfinite(values[name]).any() for name in columns)]
    return seeds or list(scores)


def scores_with_accuracies(
    table: ScoreTable, oracle: Oracle, rankings: Mapping[str, Terms]
) -> Iterator[tuple[str, list[int], Array, dict[str, list[Array]]]]:
    """For each data set, what its metrics are computed from.

    Yields:
        Its name; places of the architectures with known accuracy; their accuracies; and ranking -> their aggregated
        scores, one array for each seed in which all columns were scored. Nothing is ranked where fewer than two are known.
    """
    archs, scores = scores_by_seed(table)
    for dataset in oracle.datasets:
        accuracies = oracle.tables[dataset]
        places = [i for i, arch in enumerate(archs) if arch in accuracies]
        known_scores = {
            seed: {column: values[places] for column, values in columns.items()} for seed, columns in scores.items()
        }
        ranked = rankings if len(places) >= 2 else {}
        aggregated = {
            name: [aggregate(known_scores[seed], terms) for seed in seeds_with_values(scores, columns_of(terms))]
            for name, terms in ranked.items()
        }
        yield dataset, places, np.array([accuracies[archs[i]] for i in places]), aggregated


def evaluate_table(
    table: ScoreTable,
    oracle: Oracle | None,
    rankings: Mapping[str, Terms],
    top_k: int = 1000,
    ties: str = "average",
    places: float = 1.0,
) -> Evaluation:
    """Rank the architectures of a score table and compare with the accuracies that the oracle knows.

    A missing value ranks last. Every metric is computed for each seed in which all columns of the ranking were scored,
    among the architectures that the oracle knows; its mean and sample standard deviation over the seeds are reported.

    Args:
        table: at most one row for each (architecture, seed).
        oracle: a data set of which it knows fewer than two architectures gets no metrics. None: no metrics.
        rankings: see `choose_rankings`.
        top_k, ties, places: see ``metrics.functional.ndcg``.
    """
    archs, scores = scores_by_seed(table)
    ranks = {}
    for name, terms in rankings.items():
        seeds = seeds_with_values(scores, columns_of(terms))
        per_seed = [len(archs) + 1 - rank_values(aggregate(scores[seed], terms)) for seed in seeds]
        ranks[name] = np.mean(per_seed, axis=0) if per_seed else np.zeros(0)
    metrics: list[dict[str, Any]] = []
    known: dict[str, list[int]] = {}
    if oracle is not None:
        for dataset, known_places, accuracy, by_ranking in scores_with_accuracies(table, oracle, rankings):
            known[dataset] = known_places
            n = len(accuracy)
            for name, per_seed in by_ranking.items():
                measured = [rank_agreement(values, accuracy, top_k, ties, places) for values in per_seed]
                ndcg_k = min(top_k, round(n * places))
                metrics.append(metric_row(name, dataset, oracle.split[dataset], n, ndcg_k, measured))
    missing = {column: sum(row.values[column] is None for row in table.rows) for column in table.columns}
    return Evaluation(archs, ranks, metrics, known, {column: count for column, count in missing.items() if count})


def metric_row(
    ranking: str, dataset: str, split: str, n: int, ndcg_k: int, measured: Sequence[Mapping[str, float | None]]
) -> dict[str, Any]:
    """A row of ``metrics.csv``: mean and sample deviation over seeds, one entry of ``measured`` each.

    A metric that is undefined for some seed is None, and so is the deviation of one seed.
    """
    means: dict[str, float | None] = {}
    deviations: dict[str, float | None] = {}
    for metric in METRICS:
        values = [value for seed in measured if (value := seed[metric]) is not None]
        defined = len(values) == len(measured)
        means[metric] = statistics.fmean(values) if defined else None
        deviations[f"{metric}_std"] = statistics.stdev(values) if defined and len(values) > 1 else None
    head = {"ranking": ranking, "dataset": dataset, "split": split, "n": n}
    return {**head, **means, "ndcg_k": ndcg_k, "seeds": len(measured), **deviations}


def write_ranking(path: Path, evaluation: Evaluation) -> None:
    """Write ``ranking.csv``: ``arch`` and one column of ranks per ranking, rows in the table's order."""
    rows = zip(evaluation.archs, *(ranks.tolist() for ranks in evaluation.ranks.values()))
    write_csv(path, ["arch", *evaluation.ranks], rows)


def write_metrics(path: Path, metrics: Sequence[Mapping[str, Any]], columns: Sequence[str] = METRIC_COLUMNS) -> None:
    """Write metric rows as CSV; a cell is empty where a value is None."""
    write_csv(path, columns, ([row[column] for column in columns] for row in metrics))


def bootstrap_intervals(
    table: ScoreTable,
    oracle: Oracle,
    rankings: Mapping[str, Terms],
    top_k: int = 1000,
    resamples: int = 1000,
    level: float = 0.95,
    seed: int = 0,
    places: float = 1.0,
    step: Callable[[], object] = lambda: None,
) -> Intervals:
    """Percentile bootstrap over architectures: the metrics of as many architectures, drawn with replacement.

    A metric is its mean over the seeds, as in `evaluate_table`; a resample draws the same architectures for every seed
    and ranking, so that intervals can be compared. Approximations: scores of aggregated rankings are those in the whole
    sample; nDCG treats ties by their average; Kendall's tau, which looks at all pairs, takes fewer resamples where
    ``n * n * resamples`` exceeds 5e9 (312 at n = 4,000; at least 100). The sample is taken as drawn from an endless
    supply, which makes the intervals a little too wide where it is a large part of the space.

    Args:
        table: scores; architectures without a row for every seed are left out.
        oracle: known accuracies.
        rankings: name -> terms.
        top_k, places: see ``metrics.functional.ndcg``.
        resamples: how often to draw.
        level: share of the resamples between the ends. A metric that is undefined in a resample has no interval.
        seed: of the draws; equal arguments give equal intervals.
        step: called after each (ranking, data set), for progress.
    """
    check_resampling(resamples)
    check_number("level", level, 0, 1, open_low=True, open_high=True)
    intervals: Intervals = {}
    for dataset, _, accuracies, scores in scores_with_accuracies(table, oracle, rankings):
        if not scores:
            continue
        draws = _draw(len(accuracies), resamples, seed)
        target = _Target(accuracies, draws, top_k, places)
        for name, per_seed in scores.items():
            intervals[name, dataset] = _intervals([target.measure(score) for score in per_seed], level)
            step()
    return intervals


def check_resampling(resamples: int) -> None:
    """Refuse a number of resamples that gives no interval."""
    check_whole("bootstrap", resamples, _FEWEST, "or 0 for no intervals")


def kendall_resamples(n: int, resamples: int) -> int:
    """How many of the resamples Kendall's tau takes."""
    return min(resamples, max(_FEWEST, int(_KENDALL_WORK / n**2)))


class _Target:
    """The accuracies of one data set, and what of their resamples does not depend on the ranking."""

    def __init__(self, accuracies: Array, draws: Array, top_k: int, places: float) -> None:
        from vkdnw_pl.metrics.functional import discount_sums

        self.draws = draws
        self.kendall_draws = draws[: kendall_resamples(len(accuracies), len(draws))]
        self.dense_ranks = _dense_ranks(accuracies)
        self.untied = _untied_pairs(accuracies, self.kendall_draws)
        self.ranks = _centred_ranks(accuracies, draws)
        self.square = (draws * self.ranks**2).sum(axis=1)
        # Divided by 2^max, as in metrics.functional.ndcg: nothing overflows.
        self.gains = np.exp2(accuracies - accuracies.max()) - np.exp2(-accuracies.max())
        self.discounts = discount_sums(len(accuracies), top_k, places)
        self.ideal = self._gain(accuracies)

    def measure(self, score: Array) -> dict[str, Array]:
        """Each metric of one score in every resample; NaN where it is undefined."""
        ranks = _centred_ranks(score, self.draws)
        weighted = self.draws * ranks
        with np.errstate(invalid="ignore", divide="ignore"):
            return {
                "kendall": _agreement(_dense_ranks(score), self.dense_ranks, self.kendall_draws)
                / np.sqrt(_untied_pairs(score, self.kendall_draws) * self.untied),
                "spearman": (weighted * self.ranks).sum(axis=1) / np.sqrt((weighted * ranks).sum(axis=1) * self.square),
                "ndcg": self._gain(score) / self.ideal,
            }

    def _gain(self, score: Array) -> Array:
        """Discounted cumulative gain of every resample, ties by their average."""
        order = np.argsort(-score, kind="stable")
        starts = _group_starts(score[order])
        counts = np.add.reduceat(self.draws[:, order], starts, axis=1)
        gains = np.add.reduceat(self.draws[:, order] * self.gains[order], starts, axis=1)
        ends = np.cumsum(counts, axis=1).astype(np.intp)
        discounts = np.diff(self.discounts[ends], axis=1, prepend=0.0)
        return (np.divide(gains, counts, out=np.zeros_like(gains), where=counts > 0) * discounts).sum(axis=1)


def _draw(n: int, resamples: int, seed: int) -> Array:
    """How often each architecture is in each resample, shape (resamples, n)."""
    return np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), size=resamples).astype(np.float64)


def _agreement(x: Array, y: Array, draws: Array) -> Array:
    """Concordant minus discordant ordered pairs in every resample; whole numbers, so exact."""
    n = len(x)
    counts = draws.astype(np.float32)  # which holds whole numbers up to 2^24
    total = np.zeros(len(draws))
    size = max(1, _CHUNK // n)
    for start in range(0, n, size):
        rows = slice(start, min(start + size, n))
        signs = np.sign((x[:, None] - x[None, rows]) * (y[:, None] - y[None, rows]))
        total += ((counts @ signs) * counts[:, rows]).sum(axis=1, dtype=np.float64)
    return total


def _untied_pairs(values: Array, draws: Array) -> Array:
    """Ordered pairs of unequal values in every resample."""
    order = np.argsort(values, kind="stable")
    counts = np.add.reduceat(draws[:, order], _group_starts(values[order]), axis=1)
    return draws.shape[1] ** 2 - (counts**2).sum(axis=1)


def _dense_ranks(values: Array) -> Array:
    """Values replaced by their place among the different ones, which float32 holds exactly."""
    return np.unique(values, return_inverse=True)[1].reshape(-1).astype(np.float32)


def _centred_ranks(values: Array, draws: Array) -> Array:
    """Average rank of each value among the values of each resample, minus the mean rank."""
    order = np.argsort(values, kind="stable")
    starts = _group_starts(values[order])
    counts = np.add.reduceat(draws[:, order], starts, axis=1)
    ranks = np.cumsum(counts, axis=1) - (counts - 1) / 2
    group = np.empty(len(values), dtype=np.intp)
    group[order] = np.repeat(np.arange(len(starts)), np.diff(np.r_[starts, len(values)]))
    return ranks[:, group] - (draws.shape[1] + 1) / 2


def _group_starts(ordered: Array) -> Array:
    return np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]])


def _intervals(per_seed: list[dict[str, Array]], level: float) -> dict[str, Interval]:
    intervals = {}
    for metric in per_seed[0]:
        values = np.mean([measured[metric] for measured in per_seed], axis=0)
        if np.isfinite(values).all():
            low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
            intervals[metric] = (float(low), float(high))
    return intervals
