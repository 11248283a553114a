"""Intervals of rank metrics over samples of architectures, by the percentile bootstrap."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from vkdnw_pl.errors import check_number, check_whole
from vkdnw_pl.oracles import Oracle
from vkdnw_pl.ranking import METRICS
from vkdnw_pl.runs.table import ScoreTable
from vkdnw_pl.scoring.evaluation import Array, Terms, scores_with_accuracies

Interval = tuple[float, float]
Intervals = dict[tuple[str, str], dict[str, Interval]]
"""(ranking, data set) -> metric -> (low, high)."""

LEVEL = 0.95
"""Share of the resamples between the ends of an interval."""

INTERVAL_COLUMNS = tuple(f"{metric}_{end}" for metric in METRICS for end in ("low", "high"))
"""Columns of ``metrics.csv`` where intervals were asked for."""

_KENDALL_WORK = 5e9  # resamples times pairs; one core does about 1e10 of them in a second
_FEWEST = 100
_CHUNK = 4_000_000  # numbers in one temporary array: 32 MB


def bootstrap_intervals(
    table: ScoreTable,
    oracle: Oracle,
    rankings: Mapping[str, Terms],
    top_k: int = 1000,
    resamples: int = 1000,
    level: float = LEVEL,
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
        target = Resamples(accuracies, resamples, top_k if oracle.measure(dataset).is_accuracy else None, seed, places)
        for name, per_seed in scores.items():
            values = target.measure(per_seed)
            intervals[name, dataset] = {metric: ends for metric in values if (ends := interval(values[metric], level))}
            step()
    return intervals


def with_intervals(metrics: Sequence[Mapping[str, Any]], intervals: Intervals) -> list[dict[str, Any]]:
    """Metric rows with their `INTERVAL_COLUMNS`, None where a metric has no interval."""
    rows = []
    for row in metrics:
        of_row = intervals.get((row["ranking"], row["dataset"]), {})
        ends = [end for metric in METRICS for end in of_row.get(metric, (None, None))]
        rows.append({**row, **dict(zip(INTERVAL_COLUMNS, ends, strict=True))})
    return rows


def check_resampling(resamples: int) -> None:
    """Refuse a number of resamples that gives no interval."""
    check_whole("bootstrap", resamples, _FEWEST, "or 0 for no intervals")


def interval(values: Array, level: float = LEVEL) -> Interval | None:
    """Ends between which the share ``level`` of a metric's resamples lies; None where it is undefined in some."""
    if not np.isfinite(values).all():
        return None
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def kendall_resamples(n: int, resamples: int) -> int:
    """How many of the resamples Kendall's tau takes."""
    return min(resamples, max(_FEWEST, int(_KENDALL_WORK / n**2)))


class Resamples:
    """Samples of the architectures of one data set, drawn with replacement, on which any ranking can be measured.

    Every ranking sees the same draws, so that differences of their metrics are paired.

    Args:
        accuracies: shape (n,), higher = better.
        resamples: how often n architectures are drawn.
        top_k, places: see ``metrics.functional.ndcg``; ``top_k`` None where these are no accuracies: nDCG is undefined.
        seed: of the draws.
    """

    def __init__(
        self, accuracies: Array, resamples: int, top_k: int | None, seed: int = 0, places: float = 1.0
    ) -> None:
        from vkdnw_pl.metrics.functional import discount_sums

        n = len(accuracies)
        generator = np.random.default_rng(seed)
        # How often each architecture is in each resample, shape (resamples, n).
        self.draws = generator.multinomial(n, np.full(n, 1 / n), size=resamples).astype(np.float64)
        self.kendall_draws = self.draws[: kendall_resamples(n, resamples)]
        self.dense_ranks = dense_ranks(accuracies)
        self.untied = untied_pairs(accuracies, self.kendall_draws)
        self.ranks = centred_ranks(accuracies, self.draws)
        self.square = (self.draws * self.ranks**2).sum(axis=1)
        self.has_gains = top_k is not None
        if top_k is not None:
            # Divided by 2^max, as in metrics.functional.ndcg: nothing overflows.
            self.gains = np.exp2(accuracies - accuracies.max()) - np.exp2(-accuracies.max())
            self.discounts = discount_sums(len(accuracies), top_k, places)
            self.ideal = self._gain(accuracies)

    def measure(self, per_seed: Sequence[Array]) -> dict[str, Array]:
        """Each metric in every resample, the mean over seeds of which each has a score (n,); NaN where it is undefined."""
        measured = [self._measure(score) for score in per_seed]
        return {metric: np.mean([values[metric] for values in measured], axis=0) for metric in measured[0]}

    def _measure(self, score: Array) -> dict[str, Array]:
        ranks = centred_ranks(score, self.draws)
        weighted = self.draws * ranks
        has_ndcg = self.has_gains and len(np.unique(score)) > 1  # as in `ranking.rank_agreement`
        with np.errstate(invalid="ignore", divide="ignore"):
            return {
                "kendall": agreement(dense_ranks(score), self.dense_ranks, self.kendall_draws)
                / np.sqrt(untied_pairs(score, self.kendall_draws) * self.untied),
                "spearman": (weighted * self.ranks).sum(axis=1) / np.sqrt((weighted * ranks).sum(axis=1) * self.square),
                "ndcg": self._gain(score) / self.ideal if has_ndcg else np.full(len(self.draws), np.nan),
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


def agreement(x: Array, y: Array, draws: Array) -> Array:
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


def untied_pairs(values: Array, draws: Array) -> Array:
    """Ordered pairs of unequal values in every resample."""
    order = np.argsort(values, kind="stable")
    counts = np.add.reduceat(draws[:, order], _group_starts(values[order]), axis=1)
    return draws.sum(axis=1) ** 2 - (counts**2).sum(axis=1)


def dense_ranks(values: Array) -> Array:
    """Values replaced by their place among the different ones, which float32 holds exactly."""
    return np.unique(values, return_inverse=True)[1].reshape(-1).astype(np.float32)


def centred_ranks(values: Array, draws: Array) -> Array:
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
