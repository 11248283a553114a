"""From a score table to rankings and, where accuracies are known, metrics."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vkdnw_pl.oracles import Oracle
from vkdnw_pl.ranking import Term, aggregate, available_rankings, count_non_finite, parse_ranking, rank_values
from vkdnw_pl.runs.files import write_csv
from vkdnw_pl.runs.table import Key, ScoreRow, ScoreTable

METRIC_COLUMNS = (
    *("ranking", "dataset", "split", "n", "kendall", "spearman", "ndcg", "ndcg_k", "seeds"),
    *("kendall_std", "spearman_std", "ndcg_std"),
)
_NAMES = ("kendall", "spearman", "ndcg")

Array = np.ndarray[Any, np.dtype[np.float64]]
Terms = tuple[Term, ...]


@dataclass(frozen=True)
class Evaluation:
    """Rankings of a score table, and how they agree with known accuracies."""

    archs: list[str]
    """Architectures that have a row for every seed, in the table's order: those that are ranked."""
    ranks: dict[str, Array]
    """Ranking -> rank among ``archs``, 1 = best, ties averaged, mean over seeds."""
    metrics: list[dict[str, Any]]
    """Rows of ``metrics.csv``; None where a metric is undefined, and for the deviations where there is one seed."""
    known: dict[str, list[int]]
    """Data set -> places in ``archs`` of the architectures whose accuracy is known."""
    non_finite: dict[str, int]
    """Column -> how many of its values are missing, and so rank last; only columns that have some."""


def choose_rankings(columns: Sequence[str], rankings: Sequence[str] | None) -> dict[str, Terms]:
    """Name -> terms of the rankings asked for, or of all that the columns allow.

    Raises:
        ValueError: if a ranking needs a column that the table lacks, or a name repeats.
    """
    if rankings is None:
        rankings = available_rankings(columns)
        if not rankings:
            raise ValueError(f"the score table has no column to rank by (it has: {', '.join(columns) or 'none'})")
    if len(set(rankings)) < len(rankings):
        raise ValueError(f"rankings={list(rankings)!r} is not allowed: a ranking repeats")
    chosen = {}
    nothing: dict[str, Array] = {column: np.zeros(0) for column in columns}
    for name in rankings:
        chosen[name] = parse_ranking(name)
        try:
            aggregate(nothing, chosen[name])
        except ValueError as error:
            raise ValueError(f"rankings: {name!r}: {error}") from None
    return chosen


def seeds_with_values(columns: Mapping[int, Mapping[str, Array]], terms: Terms) -> list[int]:
    """Seeds in which every column of a ranking has some value: in others it was not scored, as in joined tables."""
    names = [name for term in terms for name in ([term] if isinstance(term, str) else term)]
    found = [seed for seed, some in columns.items() if all(np.isfinite(some[name]).any() for name in names)]
    return found or list(columns)


def evaluate_table(
    table: ScoreTable,
    oracle: Oracle | None,
    rankings: Mapping[str, Terms],
    top_k: int = 1000,
    ties: str = "average",
    places: float = 1.0,
) -> Evaluation:
    """Rank the architectures of a score table and compare with the accuracies that the oracle knows.

    A missing value ranks last. Every metric is computed for each seed in which all columns of the ranking were scored, among the architectures that the oracle knows;
    its mean and sample standard deviation over the seeds are reported.

    Args:
        table: at most one row for each (architecture, seed).
        oracle: known accuracies; a data set of which it knows fewer than two architectures gets no metrics. None: no metrics.
        rankings: see ``choose_rankings``.
        top_k: nDCG looks at this many from the top.
        ties: nDCG's rule for equal scores, see ``metrics.functional.ndcg``.
        places: how many places each architecture takes in nDCG, see there.
    """
    rows = {row.key: row for row in table.rows}
    seeds = table.seeds
    archs = [arch for arch in table.archs if all((arch, seed) in rows for seed in seeds)]
    columns = {seed: _columns(rows, archs, seed, table.columns) for seed in seeds}
    ranks = {}
    for name, terms in rankings.items():
        scored = seeds_with_values(columns, terms)
        per_seed = [len(archs) + 1 - rank_values(aggregate(columns[seed], terms)) for seed in scored]
        ranks[name] = np.mean(per_seed, axis=0) if per_seed else np.zeros(0)
    metrics: list[dict[str, Any]] = []
    known: dict[str, list[int]] = {}
    tables = () if oracle is None else [(name, oracle.split[name], oracle.tables[name]) for name in oracle.datasets]
    for dataset, split, accuracies in tables:
        known[dataset] = there = [i for i, arch in enumerate(archs) if arch in accuracies]
        if len(there) < 2:
            continue
        target = np.array([accuracies[archs[i]] for i in there])
        here = {seed: {name: values[there] for name, values in columns[seed].items()} for seed in seeds}
        for name, terms in rankings.items():
            scored = seeds_with_values(columns, terms)
            measured = [_measure(aggregate(here[seed], terms), target, top_k, ties, places) for seed in scored]
            metrics.append(
                {
                    **{"ranking": name, "dataset": dataset, "split": split, "n": len(there)},
                    **{metric: _mean([one[metric] for one in measured]) for metric in _NAMES},
                    **{"ndcg_k": min(top_k, round(len(there) * places)), "seeds": len(scored)},
                    **{f"{metric}_std": _std([one[metric] for one in measured]) for metric in _NAMES},
                }
            )
    counts = count_non_finite({column: values_of(table.rows, column) for column in table.columns})
    return Evaluation(archs, ranks, metrics, known, {column: count for column, count in counts.items() if count})


def write_ranking(path: Path, evaluation: Evaluation) -> None:
    """Write ``ranking.csv``: ``arch`` and one column of ranks per ranking, rows in the table's order."""
    body = zip(evaluation.archs, *evaluation.ranks.values())
    write_csv(path, ["arch", *evaluation.ranks], ([arch, *ranks] for arch, *ranks in body))


def write_metrics(path: Path, evaluation: Evaluation) -> None:
    """Write ``metrics.csv``; a cell is empty where a metric is undefined, and for deviations where there is one seed."""
    rows = ([row[column] for column in METRIC_COLUMNS] for row in evaluation.metrics)
    write_csv(path, METRIC_COLUMNS, rows)


def _columns(rows: Mapping[Key, ScoreRow], archs: Sequence[str], seed: int, names: Sequence[str]) -> dict[str, Array]:
    return {name: values_of((rows[arch, seed] for arch in archs), name) for name in names}


def values_of(rows: Iterable[ScoreRow], column: str) -> Array:
    """One column of some rows, NaN where there is no value."""
    values = (row.values[column] for row in rows)
    return np.array([math.nan if value is None else value for value in values], dtype=np.float64)


def _measure(score: Array, target: Array, top_k: int, ties: str, places: float) -> dict[str, float]:
    from vkdnw_pl.metrics.functional import kendall_tau, ndcg, spearman_rho

    functions: dict[str, Callable[[], Any]] = {
        "kendall": lambda: kendall_tau(score, target),
        "spearman": lambda: spearman_rho(score, target),
        "ndcg": lambda: ndcg(score, target, top_k=top_k, ties=ties, places=places),  # type: ignore[arg-type]
    }
    return {name: float(function()) for name, function in functions.items()}


def _mean(values: Sequence[float]) -> float | None:
    return None if any(map(math.isnan, values)) else statistics.fmean(values)


def _std(values: Sequence[float]) -> float | None:
    return None if len(values) < 2 or any(map(math.isnan, values)) else statistics.stdev(values)
