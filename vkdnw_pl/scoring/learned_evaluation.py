"""Model-driven rankings of a score table: trained on some of the known accuracies, measured on the others."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from vkdnw_pl.oracles import Oracle
from vkdnw_pl.ranking.learned import (
    LEARNED_ROWS,
    MODELS,
    PAPER_TRAIN_SIZE,
    Features,
    LearnedRanking,
    available_rows,
    default_train_size,
    make_features,
)
from vkdnw_pl.runs.files import write_csv
from vkdnw_pl.runs.table import Key, ScoreRow, ScoreTable
from vkdnw_pl.scoring.evaluation import METRIC_COLUMNS

LEARNED_COLUMNS = (*METRIC_COLUMNS, "row", "model", "train_size", "num_features", "missing")
"""Columns of `LearnedEvaluation.metrics`: those of ``metrics.csv``, and what the model was made from."""
SCORE_SEEDS = ("paired", "mean")
_NAMES = ("kendall", "spearman", "ndcg")
_SEEDS = (1, 2, 3, 4, 5)

Array = np.ndarray[Any, np.dtype[np.float64]]


@dataclass(frozen=True)
class LearnedEvaluation:
    """How model-driven rankings agree with known accuracies that they were not trained on."""

    metrics: list[dict[str, Any]] = field(default_factory=list)
    """Rows with `LEARNED_COLUMNS`. ``n`` counts the architectures of one test part; metrics are means over seeds (None
    where undefined), ``_std`` their sample deviation (None with one seed); ``missing`` is text, empty if nothing is."""
    importances: dict[tuple[str, str], dict[str, list[float]]] = field(default_factory=dict)
    """(ranking, data set) -> feature -> impurity importance, one value per seed."""
    notes: list[str] = field(default_factory=list)
    """What the user should know: missing features, the training size chosen, data sets without enough accuracies."""


def evaluate_learned(
    table: ScoreTable,
    oracle: Oracle,
    rows: Sequence[str] | None = None,
    models: Sequence[str] = ("random_forest",),
    seeds: Sequence[int] | None = None,
    train_size: int | None = None,
    top_k: int = 1000,
    ties: str = "average",
    space: str = "nb201",
    score_seeds: str = "paired",
    places: float = 1.0,
    progress: Callable[[int, int], None] | None = None,
    on_model: Callable[[LearnedRanking], None] | None = None,
) -> LearnedEvaluation:
    """Train model-driven rankings and measure them, for each data set, row, model and seed.

    A ranking has the name of its row; ``_partial`` follows where optional features are missing, and ``:model`` where
    the model is not the paper's random forest. All models of a seed have the same split.

    Args:
        table: at most one row for each (architecture, seed), canonical spelling. The row ``graf`` needs no columns.
        oracle: known accuracies.
        rows: names of ``LEARNED_ROWS``; None: all that the table and the space allow.
        models: names of ``MODELS``.
        seeds: of splits and models; None: the seeds of the table if it has several, else 1 to 5.
        train_size: architectures to train on; None: see ``default_train_size``.
        top_k: nDCG looks at this many from the top.
        ties: nDCG's rule for equal predictions, see ``metrics.functional.ndcg``.
        space: the name of the architectures' space.
        score_seeds: where the table has several seeds, ``paired`` trains seed s on the scores of seed s (as the paper
            does), ``mean`` always on the mean over the table's seeds.
        places: how many places each architecture takes in nDCG, see ``metrics.functional.ndcg``.
        progress: called with (models trained, models to train).
        on_model: called with each trained model, for example to save it.

    Raises:
        ValueError: if an option is not allowed, or a row needs a column that the table lacks or that has no value.
    """
    _check_choices("models", models, MODELS)
    _check_choices("score_seeds", [score_seeds], SCORE_SEEDS)
    notes: list[str] = []
    scored = {row.key: row for row in table.rows}
    archs = [arch for arch in table.archs if all((arch, seed) in scored for seed in table.seeds)]
    if len(archs) < len(table.archs):
        notes.append(f"left out: {len(table.archs) - len(archs)} architectures without a row for every seed")
    seeds = _choose_seeds(table, seeds, score_seeds)
    paired = score_seeds == "paired" and len(table.seeds) > 1
    # The scores that the models of a seed see: of that seed alone, or the mean over all, which is the same for each.
    sources = {seed: (seed,) if paired else tuple(table.seeds) for seed in seeds}
    columns = {source: _columns(scored, archs, table, source) for source in sources.values()}
    usable = [
        name for name in table.columns if all(np.isfinite(one[name]).any() for one in columns.values()) and len(archs)
    ]
    if rows is None:
        rows = available_rows(usable, space)
        if not rows:
            raise ValueError("rows: the score table has no model-driven ranking; vkdnw_m needs the VKDNW deciles")
    _check_choices("rows", rows, tuple(LEARNED_ROWS))
    known_places = {}
    for dataset in oracle.datasets:
        known = oracle.accuracies(dataset)
        here = [i for i, arch in enumerate(archs) if arch in known]
        if len(here) >= 4:
            known_places[dataset] = here
        else:
            notes.append(f"nothing on {dataset}: accuracies of {len(here)} architectures are known, and 4 are needed")
    for n in sorted({len(here) for here in known_places.values()}) if train_size is None else []:
        if default_train_size(n) != PAPER_TRAIN_SIZE:
            notes.append(
                f"trained on {default_train_size(n)} of {n} architectures: half of them, because the paper's "
                f"{PAPER_TRAIN_SIZE} need {2 * PAPER_TRAIN_SIZE} (train_size sets another number)"
            )
    result = LearnedEvaluation(notes=notes)
    done, total = 0, len(known_places) * len(rows) * len(models) * len(seeds)
    for row in rows:
        features = {
            source: make_features(row, {name: some[name] for name in usable}, archs, space)
            for source, some in columns.items()
        }
        first = features[sources[seeds[0]]]
        if first.missing:
            optional = len(LEARNED_ROWS[row].optional)
            notes.append(
                f"{row} is partial: without {', '.join(first.missing)} ({len(first.missing)} of {optional} companions)"
            )
        for dataset, here in known_places.items():
            known = oracle.accuracies(dataset)
            accuracy = np.array([known[archs[i]] for i in here])
            for model in models:
                trained = []
                for seed in seeds:
                    part = _select(features[sources[seed]], here)
                    trained.append(
                        LearnedRanking.fit(part, accuracy, model, seed, train_size, dataset, top_k, ties, places)
                    )
                    done += 1
                    if progress is not None:
                        progress(done, total)
                    if on_model is not None:
                        on_model(trained[-1])
                ranking = row + ("_partial" if first.missing else "") + ("" if model == MODELS[0] else f":{model}")
                result.metrics.append(_metric_row(ranking, trained, oracle.split[dataset]))
                shares = [one.impurity_importances() for one in trained]
                result.importances[ranking, dataset] = {name: [one[name] for one in shares] for name in first.names}
    return result


def write_learned_metrics(path: Path, metrics: Sequence[Mapping[str, Any]]) -> None:
    """Write rows with `LEARNED_COLUMNS` as CSV; a cell is empty where a value is undefined."""
    write_csv(path, LEARNED_COLUMNS, ([row[column] for column in LEARNED_COLUMNS] for row in metrics))


def _metric_row(ranking: str, trained: Sequence[LearnedRanking], split: str) -> dict[str, Any]:
    first = trained[0]
    values = {name: [one.metrics[name] for one in trained] for name in _NAMES}
    defined = {name: [v for v in some if v is not None] for name, some in values.items()}
    complete = {name: len(defined[name]) == len(trained) for name in _NAMES}
    return {
        **{"ranking": ranking, "dataset": first.dataset, "split": split, "n": first.num_archs - first.train_size},
        **{name: statistics.fmean(defined[name]) if complete[name] else None for name in _NAMES},
        **{"ndcg_k": first.metrics["ndcg_k"], "seeds": len(trained)},
        **{
            f"{name}_std": statistics.stdev(defined[name]) if complete[name] and len(trained) > 1 else None
            for name in _NAMES
        },
        **{"row": first.row, "model": first.model, "train_size": first.train_size},
        **{"num_features": len(first.features), "missing": " ".join(first.missing)},
    }


def _choose_seeds(table: ScoreTable, seeds: Sequence[int] | None, score_seeds: str) -> tuple[int, ...]:
    several = len(table.seeds) > 1
    if seeds is None:
        return tuple(table.seeds) if several else _SEEDS
    if not seeds or len(set(seeds)) < len(seeds):
        raise ValueError(f"seeds={list(seeds)!r} is not allowed: give at least one, none of them twice")
    unknown = [seed for seed in seeds if seed not in table.seeds]
    if several and score_seeds == "paired" and unknown:
        raise ValueError(
            f"seeds={list(seeds)!r}: the score table has no scores of seed {unknown[0]} (it has {table.seeds}); choose "
            "among them, or score_seeds='mean'"
        )
    return tuple(seeds)


def _columns(
    scored: Mapping[Key, ScoreRow], archs: Sequence[str], table: ScoreTable, seeds: Sequence[int]
) -> dict[str, Array]:
    """Mean over ``seeds`` of the scores that there are, by column; NaN where there is none."""
    columns = {}
    for name in table.columns:
        values = np.array([[_number(scored[arch, seed].values[name]) for arch in archs] for seed in seeds])
        count = np.isfinite(values).sum(axis=0)
        columns[name] = np.where(count > 0, np.nansum(values, axis=0) / np.maximum(count, 1), math.nan)
    return columns


def _number(value: float | None) -> float:
    return math.nan if value is None else value


def _select(features: Features, places: Sequence[int]) -> Features:
    """The features of some of the architectures."""
    if len(places) == len(features.archs):
        return features
    archs = tuple(features.archs[i] for i in places)
    return Features(features.row, features.space, archs, features.names, features.values[places], features.missing)


def _check_choices(option: str, chosen: Sequence[str], known: Sequence[str]) -> None:
    from vkdnw_pl.oracles.base import nearest

    for name in chosen:
        if name not in known:
            raise ValueError(f"{option}: {name!r} is not known{nearest(name, known)} (known: {', '.join(known)})")
    if not chosen or len(set(chosen)) < len(chosen):
        raise ValueError(f"{option}={list(chosen)!r} is not allowed: give at least one, none of them twice")
