"""From a score table to rankings and, where accuracies are known, metrics."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vkdnw_pl.oracles import Measure, Oracle
from vkdnw_pl.ranking import (
    METRICS,
    ByAgreement,
    Term,
    aggregate,
    available_rankings,
    columns_of,
    parse_ranking,
    rank_agreement,
    rank_values,
    term_weights,
)
from vkdnw_pl.runs.files import write_csv
from vkdnw_pl.runs.table import ScoreTable

METRIC_COLUMNS = (
    *("ranking", "dataset", "split", "n", "kendall", "spearman", "ndcg", "ndcg_k", "seeds"),
    *("kendall_std", "spearman_std", "ndcg_std", "unit", "better"),
)

Array = np.ndarray[Any, Any]
Terms = tuple[Term, ...]


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
    weights: dict[str, dict[str, float]]
    """Ranking whose terms are weighted by their agreement -> term -> weight among ``archs``, mean over seeds; 0: no part."""


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
    """Seeds in which every column has some value: in others it was not scored, as in joined tables; all if none has.

    A column without values in any seed, as of a proxy that has no meaning in a space, does not count.
    """
    scored = {seed: {name for name in columns if np.isfinite(values[name]).any()} for seed, values in scores.items()}
    somewhere: set[str] = set().union(*scored.values())
    return [seed for seed, names in scored.items() if names == somewhere] or list(scores)


def scores_with_accuracies(
    table: ScoreTable, oracle: Oracle, rankings: Mapping[str, Terms]
) -> Iterator[tuple[str, list[int], Array, dict[str, list[Array]]]]:
    """For each data set, what its metrics are computed from.

    Yields:
        Its name; places of the architectures with known accuracy; their accuracies, of which more is better: where less
        is, as of latencies, their negatives; and ranking -> their aggregated scores, one array for each seed in which all
        columns were scored. Nothing is ranked where fewer than two are known.
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
        sign = oracle.measure(dataset).sign
        yield dataset, places, np.array([sign * accuracies[archs[i]] for i in places]), aggregated


def evaluate_table(
    table: ScoreTable,
    oracle: Oracle | None,
    rankings: Mapping[str, Terms],
    top_k: int = 1000,
    ties: str = "average",
    places: float = 1.0,
) -> Evaluation:
    """Rank the architectures of a score table and compare with the accuracies that the oracle knows.

    More is always better of a metric, also of one against values of which less is better, such as latencies: their sign is
    turned. nDCG is there for percentages alone. A missing value ranks last. Every metric is computed for each seed in which all columns of the ranking were scored,
    among the architectures that the oracle knows; its mean and sample standard deviation over the seeds are reported.

    Args:
        table: at most one row for each (architecture, seed).
        oracle: a data set of which it knows fewer than two architectures gets no metrics. None: no metrics.
        rankings: see `choose_rankings`.
        top_k, ties, places: see ``metrics.functional.ndcg``.
    """
    archs, scores = scores_by_seed(table)
    ranks, weights = {}, {}
    for name, terms in rankings.items():
        seeds = seeds_with_values(scores, columns_of(terms))
        per_seed = [len(archs) + 1 - rank_values(aggregate(scores[seed], terms)) for seed in seeds]
        ranks[name] = np.mean(per_seed, axis=0) if per_seed else np.zeros(0)
        if isinstance(terms, ByAgreement) and per_seed:
            of_seeds = [term_weights(scores[seed], terms) for seed in seeds]
            weights[name] = {term: statistics.fmean(of[term] for of in of_seeds) for term in of_seeds[0]}
    metrics: list[dict[str, Any]] = []
    known: dict[str, list[int]] = {}
    if oracle is not None:
        for dataset, known_places, accuracy, by_ranking in scores_with_accuracies(table, oracle, rankings):
            known[dataset] = known_places
            n, measure = len(accuracy), oracle.measure(dataset)
            cut = top_k if measure.is_accuracy else None
            for name, per_seed in by_ranking.items():
                measured = [rank_agreement(values, accuracy, cut, ties, places) for values in per_seed]
                ndcg_k = None if cut is None else min(cut, round(n * places))
                metrics.append(metric_row(name, measure, n, ndcg_k, measured))
    missing = {column: sum(row.values[column] is None for row in table.rows) for column in table.columns}
    missing = {column: count for column, count in missing.items() if count}
    return Evaluation(archs, ranks, metrics, known, missing, weights)


def metric_row(
    ranking: str, measure: Measure, n: int, ndcg_k: int | None, measured: Sequence[Mapping[str, float | None]]
) -> dict[str, Any]:
    """A row of ``metrics.csv``: mean and sample deviation over seeds, one entry of ``measured`` each.

    A metric that is undefined for some seed is None, and so is the deviation of one seed. ``ndcg_k`` is None where the
    values are no percentages, and so have no nDCG.
    """
    means: dict[str, float | None] = {}
    deviations: dict[str, float | None] = {}
    for metric in METRICS:
        values = [value for seed in measured if (value := seed[metric]) is not None]
        defined = len(values) == len(measured)
        means[metric] = statistics.fmean(values) if defined else None
        deviations[f"{metric}_std"] = statistics.stdev(values) if defined and len(values) > 1 else None
    head = {"ranking": ranking, "dataset": measure.dataset, "split": measure.split, "n": n}
    kind = {"unit": measure.unit, "better": "higher" if measure.higher_is_better else "lower"}
    return {**head, **means, "ndcg_k": ndcg_k, "seeds": len(measured), **deviations, **kind}


def write_ranking(path: Path, evaluation: Evaluation) -> None:
    """Write ``ranking.csv``: ``arch`` and one column of ranks per ranking, rows in the table's order."""
    rows = zip(evaluation.archs, *(ranks.tolist() for ranks in evaluation.ranks.values()))
    write_csv(path, ["arch", *evaluation.ranks], rows)


def write_metrics(path: Path, metrics: Sequence[Mapping[str, Any]], columns: Sequence[str] = METRIC_COLUMNS) -> None:
    """Write metric rows as CSV; a cell is empty where a value is None."""
    write_csv(path, columns, ([row[column] for column in columns] for row in metrics))
