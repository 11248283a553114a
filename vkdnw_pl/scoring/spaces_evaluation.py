"""Rankings on several spaces: metrics with intervals, paired differences, agreement, and what is left at equal size."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from vkdnw_pl.oracles import Measure
from vkdnw_pl.ranking import METRICS, aggregate, columns_of, rank_agreement
from vkdnw_pl.scoring.bootstrap import Interval, Resamples, interval
from vkdnw_pl.scoring.evaluation import (
    Array,
    Terms,
    scores_by_seed,
    scores_with_accuracies,
    seeds_with_values,
)
from vkdnw_pl.scoring.fixed_size import SIZE, FixedSizeMeasure
from vkdnw_pl.scoring.space_tables import SpaceTable

TOP_SHARE = 0.1
"""nDCG looks at this share of the networks."""
_OF_SIZE = ""  # no ranking has an empty name
BEST, TIED = "best", "tied"

RankingTerms = Mapping[str, Mapping[str, Terms | str]]
"""Ranking -> name of a space -> its terms, or why its table does not allow it."""


class Estimate(NamedTuple):
    """A value with its interval; None where it is undefined."""

    value: float | None = None
    low: float | None = None
    high: float | None = None

    @property
    def side(self) -> int:
        """1 or -1 where the whole interval lies above or below 0, else 0."""
        return int((self.low or 0) > 0) - int((self.high or 0) < 0)


class SpaceMetric(NamedTuple):
    """One metric of one ranking on one data set of a space."""

    space: str
    dataset: str
    split: str
    unit: str
    """Of the known values, with ``better`` (``higher`` or ``lower``), which the metrics have taken into account."""
    better: str
    ranking: str
    metric: str
    """``kendall``, ``spearman`` or ``ndcg``."""
    estimate: Estimate
    """Mean over seeds; the interval is over samples of architectures."""
    best: str
    """``best`` if the paired difference to every other ranking of this column lies above 0; where there is no such ranking,
    ``tied`` for the one with the highest value and those whose difference to it does not."""
    n: int
    """Networks with known value."""
    ndcg_k: int | None
    """None where the known values are no accuracies in percent, and so have no nDCG."""
    seeds: int
    differences: Mapping[str, Estimate]
    """Baseline -> this metric minus that of the baseline, paired."""
    reason: str = ""
    """Why there is no value."""
    caution: str = ""
    """What to know before trusting the known values of the data set."""

    @property
    def column(self) -> tuple[str, str]:
        """Space and data set."""
        return self.space, self.dataset


class FixedSize(NamedTuple):
    """Agreement of a ranking with the accuracies of networks of equal size."""

    space: str
    dataset: str
    ranking: str
    spearman: float | None
    """Size not held fixed, for comparison; so is ``kendall``."""
    partial: Estimate
    """Spearman's rho of the parts of both ranks that the ranks of the size do not explain linearly."""
    kendall: float | None
    within: Estimate
    """Kendall's tau-b over the pairs of networks in the same group of size."""
    n: int
    groups: int
    reason: str = ""

    @property
    def column(self) -> tuple[str, str]:
        """Space and data set."""
        return self.space, self.dataset


class Correlation(NamedTuple):
    """How far two rankings order the networks of a table alike, the mean over seeds; None where undefined."""

    space: str
    ranking: str
    other: str
    spearman: float | None
    kendall: float | None
    n: int


class SpacesEvaluation(NamedTuple):
    """What is known of rankings on several spaces."""

    metrics: list[SpaceMetric]
    fixed_size: list[FixedSize]
    correlations: list[Correlation]


def evaluate_spaces(
    tables: Sequence[SpaceTable],
    rankings: RankingTerms,
    baselines: Sequence[str],
    resamples: int = 1000,
    step: Callable[[], object] = lambda: None,
) -> SpacesEvaluation:
    """Measure rankings on every data set of every space.

    Intervals are as of `bootstrap.bootstrap_intervals`, of the level 0.95. Within a data set every ranking sees the same
    resamples, so that differences are paired. nDCG looks at the first tenth of the networks, at least one.

    Args:
        tables: scores and known values.
        rankings: see `space_tables.rankings_of`; all baselines must be among them.
        baselines: rankings that the others are compared with.
        resamples: see `bootstrap.bootstrap_intervals`; 0 for no intervals, and so no best one.
        step: called after each ranking of each data set.
    """
    metrics: list[SpaceMetric] = []
    fixed: list[FixedSize] = []
    for space in tables:
        for column in _columns(space, rankings):
            of_metrics, of_size = _evaluate(column, rankings, baselines, resamples, step)
            metrics += of_metrics
            fixed += of_size
    return SpacesEvaluation(metrics, fixed, [line for space in tables for line in correlations(space, rankings)])


def count_steps(tables: Iterable[SpaceTable], rankings: RankingTerms) -> int:
    """How often `evaluate_spaces` calls ``step``."""
    return sum(len(space.datasets) for space in tables) * len(rankings)


class _Column(NamedTuple):
    """A data set of a space, with the scores of the rankings that its table allows."""

    space: str
    dataset: str
    measure: Measure
    accuracies: Array
    scores: Mapping[str, list[Array]]
    size: Array | None
    networks: int
    caution: str


def _columns(space: SpaceTable, rankings: RankingTerms) -> Iterator[_Column]:
    allowed = {name: terms for name, by_space in rankings.items() if not isinstance(terms := by_space[space.name], str)}
    if SIZE in space.table.columns:  # also where it is none of the rankings
        allowed[_OF_SIZE] = (SIZE,)
    networks = len(scores_by_seed(space.table)[0])
    for dataset, _, accuracies, scores in scores_with_accuracies(space.table, space.oracle, allowed):
        if dataset in space.datasets:
            caution = space.oracle.cautions.get(dataset, "")
            measure = space.oracle.measure(dataset)
            size = scores.pop(_OF_SIZE, [None])[0]
            yield _Column(space.name, dataset, measure, accuracies, scores, size, networks, caution)


def _evaluate(
    column: _Column, rankings: RankingTerms, baselines: Sequence[str], resamples: int, step: Callable[[], object]
) -> tuple[list[SpaceMetric], list[FixedSize]]:
    n = len(column.accuracies)
    measure = column.measure
    top_k = max(1, round(TOP_SHARE * n)) if measure.is_accuracy else None
    known = f"values are known for {n} of the {column.networks} architectures"
    drawn = Resamples(column.accuracies, resamples, top_k) if resamples and column.scores else None
    size = None if column.size is None else FixedSizeMeasure(column.size, column.accuracies)
    fixed: list[FixedSize] = []
    measured: dict[str, dict[str, float | None]] = {}
    samples: dict[str, dict[str, Array]] = {}
    for ranking, per_seed in column.scores.items():
        values = [rank_agreement(score, column.accuracies, top_k, "average") for score in per_seed]
        measured[ranking] = {metric: _mean(of_seed[metric] for of_seed in values) for metric in METRICS}
        if drawn is not None:
            samples[ranking] = drawn.measure(per_seed)
        fixed.append(_fixed_size(column, ranking, measured[ranking], size, drawn))
        step()
    metrics = []
    for metric in METRICS:
        values_of = {ranking: row[metric] for ranking, row in measured.items()}
        samples_of = {ranking: of_metrics[metric] for ranking, of_metrics in samples.items()}
        marks = best_marks(values_of, samples_of)
        for ranking in rankings:
            reason = rankings[ranking][column.space]
            value = values_of.get(ranking)
            if isinstance(reason, str) or ranking not in measured:
                text = reason if isinstance(reason, str) else known
            else:
                text = "" if value is not None else "undefined" if metric != "ndcg" or top_k else "not for these values"
            differences = {baseline: _difference(ranking, baseline, values_of, samples_of) for baseline in baselines}
            estimate = _estimate(value, samples_of.get(ranking))
            seeds = len(column.scores.get(ranking, ()))
            better = "higher" if measure.higher_is_better else "lower"
            head = (column.space, column.dataset, measure.split, measure.unit, better, ranking, metric)
            metrics.append(
                SpaceMetric(*head, estimate, marks.get(ranking, ""), n, top_k, seeds, differences, text, column.caution)
            )
    for ranking in rankings:
        if ranking not in measured:
            step()
    return metrics, fixed


def best_marks(values: Mapping[str, float | None], samples: Mapping[str, Array]) -> dict[str, str]:
    """Ranking -> ``best`` or ``tied``, see `SpaceMetric.best`; none without intervals, and of a ranking alone.

    Args:
        values: ranking -> metric.
        samples: ranking -> the metric in each resample, the same resamples for all.
    """
    defined = {ranking: value for ranking, value in values.items() if value is not None and ranking in samples}
    if len(defined) < 2:
        return {}
    top = max(defined, key=lambda ranking: defined[ranking])
    tied = [name for name in defined if name == top or _estimate(0.0, samples[top] - samples[name]).side <= 0]
    return {top: BEST} if tied == [top] else dict.fromkeys(tied, TIED)


def correlations(space: SpaceTable, rankings: RankingTerms) -> list[Correlation]:
    """Each two rankings of a table among all of its networks; in the order of ``rankings``, a pair once."""
    from vkdnw_pl.metrics.functional import kendall_tau, spearman_rho

    archs, scores = scores_by_seed(space.table)
    ranked: dict[str, dict[int, Array]] = {}
    for name, by_space in rankings.items():
        terms = by_space[space.name]
        if not isinstance(terms, str) and len(archs) > 1:
            seeds = seeds_with_values(scores, columns_of(terms))
            ranked[name] = {seed: aggregate(scores[seed], terms) for seed in seeds}
    lines = []
    for name, other in itertools.combinations(ranked, 2):
        pairs = [(ranked[name][seed], ranked[other][seed]) for seed in ranked[name] if seed in ranked[other]]
        means = [_mean(float(measure(x, y)) for x, y in pairs) for measure in (spearman_rho, kendall_tau)]
        lines.append(Correlation(space.name, name, other, means[0], means[1], len(archs)))
    return lines


def _fixed_size(
    column: _Column,
    ranking: str,
    row: Mapping[str, float | None],
    fixed: FixedSizeMeasure | None,
    drawn: Resamples | None,
) -> FixedSize:
    head = (column.space, column.dataset, ranking)
    n = len(column.accuracies)
    if fixed is None:
        reason = f"the table has no column {SIZE}"
        return FixedSize(*head, row["spearman"], Estimate(), row["kendall"], Estimate(), n, 0, reason)
    per_seed = column.scores[ranking]
    once = np.ones((1, n))
    partial = _mean(float(fixed.partial_spearman(score, once)[0]) for score in per_seed)
    within = _mean(float(fixed.within_kendall(score, once)[0]) for score in per_seed)
    partials = withins = None
    if drawn is not None:
        partials = np.mean([fixed.partial_spearman(score, drawn.draws) for score in per_seed], axis=0)
        withins = np.mean([fixed.within_kendall(score, drawn.kendall_draws) for score in per_seed], axis=0)
    reason = "" if partial is not None else f"{SIZE} alone decides this order, or that of the accuracies"
    of_partial, of_within = _estimate(partial, partials), _estimate(within, withins)
    return FixedSize(*head, row["spearman"], of_partial, row["kendall"], of_within, n, fixed.num_groups, reason)


def _difference(
    ranking: str, baseline: str, values: Mapping[str, float | None], samples: Mapping[str, Array]
) -> Estimate:
    first, second = values.get(ranking), values.get(baseline)
    if first is None or second is None:
        return Estimate()
    both = ranking in samples and baseline in samples
    return _estimate(first - second, samples[ranking] - samples[baseline] if both else None)


def _estimate(value: float | None, samples: Array | None) -> Estimate:
    ends: Interval | None = None if value is None or samples is None else interval(samples)
    return Estimate(value, *(ends or (None, None)))


def _mean(values: Iterable[float | None]) -> float | None:
    """The mean; None where a value is undefined, or there is none."""
    defined = [math.nan if value is None else value for value in values]
    mean = float(np.mean(defined)) if defined else math.nan
    return None if math.isnan(mean) else mean
