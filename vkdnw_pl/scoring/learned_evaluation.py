"""Model-driven rankings of a score table: trained on some of the known accuracies, measured on the others."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from vkdnw_pl.errors import check_choice
from vkdnw_pl.oracles import Measure, Oracle
from vkdnw_pl.ranking.learned import (
    LEARNED_ROWS,
    MODELS,
    PAPER_TRAIN_SIZE,
    LearnedRanking,
    available_rows,
    default_train_size,
    make_features,
)
from vkdnw_pl.runs.table import ScoreTable
from vkdnw_pl.scoring.evaluation import METRIC_COLUMNS, metric_row, scores_by_seed, seeds_with_values

LEARNED_COLUMNS = (*METRIC_COLUMNS, "row", "model", "train_size", "num_features", "missing")
"""Columns of `LearnedEvaluation.metrics`: those of ``metrics.csv``, and what the model was made from."""
MODEL_SUFFIX = ".skops"
_SEEDS = (1, 2, 3, 4, 5)

Array = np.ndarray[Any, np.dtype[np.float64]]


@dataclass(frozen=True)
class LearnedEvaluation:
    """How model-driven rankings agree with known accuracies that they were not trained on."""

    metrics: list[dict[str, Any]] = field(default_factory=list)
    """Rows with `LEARNED_COLUMNS`; ``n`` counts the architectures of one test part, ``missing`` is text."""
    importances: dict[tuple[str, str], dict[str, list[float]]] = field(default_factory=dict)
    """(ranking, data set) -> feature -> impurity importance, one value per seed."""
    notes: list[str] = field(default_factory=list)
    """Missing features, the training size chosen, data sets without enough accuracies."""


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
    places: float = 1.0,
    on_model: Callable[[LearnedRanking], None] = lambda model: None,
) -> LearnedEvaluation:
    """Train model-driven rankings and measure them, for each data set, row, model and seed.

    A ranking has the name of its row; ``_partial`` follows where optional features are missing, and ``:model`` where
    the model is not the paper's random forest. All models of a seed have the same split. Values of which less is better,
    such as latencies, are learned with their sign turned, so that more is better of predictions, too.

    Args:
        table: at most one row for each (architecture, seed), canonical spelling. The row ``graf`` needs no columns.
        oracle: known accuracies.
        rows: names of ``LEARNED_ROWS``; None: all that the table and the space allow.
        models: names of ``MODELS``.
        seeds: of splits and models. Of a table with several seeds, seed s is trained on the scores of seed s, as in the
            paper. None: those of the table if it has several, else 1 to 5.
        train_size: architectures to train on; None: see ``default_train_size``.
        top_k, ties, places: see ``metrics.functional.ndcg``.
        space: the name of the architectures' space.
        on_model: called with each trained model, see `ModelKeeper`.
    """
    _check_choices("models", models, MODELS)
    notes: list[str] = []
    archs, scores = scores_by_seed(table)
    if len(archs) < len(table.archs):
        notes.append(f"left out: {len(table.archs) - len(archs)} architectures without a row for every seed")
    seeds = _choose_seeds(table.seeds, seeds)
    # The scores that the models of a seed see: those of that seed, or the only ones that there are.
    sources = {seed: seed if len(table.seeds) > 1 else table.seeds[0] for seed in seeds}
    columns = {source: scores[source] for source in dict.fromkeys(sources.values())}
    usable = [name for name in table.columns if all(np.isfinite(values[name]).any() for values in columns.values())]
    if rows is None:
        rows = available_rows(usable, space)
        if not rows:
            raise ValueError("rows: the score table has no model-driven ranking; vkdnw_m needs the VKDNW deciles")
    _check_choices("rows", rows, LEARNED_ROWS)
    places_by_dataset = {}
    for dataset in oracle.datasets:
        known_places = [i for i, arch in enumerate(archs) if arch in oracle.tables[dataset]]
        n = len(known_places)
        if n < 4:
            notes.append(f"nothing on {dataset}: accuracies of {n} architectures are known, and 4 are needed")
            continue
        places_by_dataset[dataset] = known_places
        size = default_train_size(n)
        if train_size is None and size != PAPER_TRAIN_SIZE:
            notes.append(
                f"trained on {size} of {n} architectures: half of them, because the paper's {PAPER_TRAIN_SIZE} need "
                f"{2 * PAPER_TRAIN_SIZE} (train_size sets another number)"
            )
    result = LearnedEvaluation(notes=list(dict.fromkeys(notes)))
    total = len(places_by_dataset) * len(rows) * len(models) * len(seeds)
    with tqdm(total=total, desc="training", unit="model", mininterval=1.0) as bar:
        for row in rows:
            features = {
                source: make_features(row, {name: values[name] for name in usable}, archs, space)
                for source, values in columns.items()
            }
            if missing := features[sources[seeds[0]]].missing:
                optional = len(LEARNED_ROWS[row].optional)
                result.notes.append(
                    f"{row} is partial: without {', '.join(missing)} ({len(missing)} of {optional} companions)"
                )
            for (dataset, known_places), model in itertools.product(places_by_dataset.items(), models):
                known_archs = tuple(archs[i] for i in known_places)
                measure = oracle.measure(dataset)
                accuracy = np.array([measure.sign * oracle.tables[dataset][arch] for arch in known_archs])
                cut = top_k if measure.is_accuracy else None
                trained = []
                for seed in seeds:
                    whole = features[sources[seed]]
                    part = replace(whole, archs=known_archs, values=whole.values[known_places])
                    ranking = LearnedRanking.fit(part, accuracy, model, seed, train_size, dataset, cut, ties, places)
                    trained.append(ranking)
                    bar.update()
                    on_model(ranking)
                metrics = _metric_row(trained, measure)
                result.metrics.append(metrics)
                shares = [ranking.impurity_importances() for ranking in trained]
                result.importances[metrics["ranking"], dataset] = {
                    name: [share[name] for share in shares] for name in trained[0].features
                }
    return result


class ModelKeeper:
    """Saves the first model of each ranking and data set as ``<ranking>-<data set>.skops``; for ``on_model``."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.saved: set[Path] = set()

    def __call__(self, model: LearnedRanking) -> None:
        name = re.sub(r"[^A-Za-z0-9_.-]+", "_", f"{model.name.replace(':', '-')}-{model.dataset}")
        path = self.folder / f"{name}{MODEL_SUFFIX}"
        if path not in self.saved:
            self.saved.add(model.save(path))


def check_models(models: Sequence[str]) -> None:
    """Refuse what is neither a model to train nor a file of a trained one, and repetitions."""
    for model in models:
        if not model.endswith(MODEL_SUFFIX):
            check_choice("models", model, [*MODELS, f"a file *{MODEL_SUFFIX}"])
    if len(set(models)) < len(models):
        raise ValueError(f"models={list(models)!r} is not allowed: one repeats")


def with_predictions(table: ScoreTable, files: Sequence[str]) -> ScoreTable:
    """The table with one more column for each file of a trained model: what it predicts, named like the file."""
    for file in files:
        name = re.sub(r"[^A-Za-z0-9_]+", "_", Path(file).name.removesuffix(MODEL_SUFFIX))
        if name in table.columns:
            raise ValueError(f"models: {file!r} would be the column {name!r}, which the scores have; rename the file")
        model = LearnedRanking.load(file)
        predicted: dict[tuple[str, int], float] = {}
        for seed in table.seeds:
            rows = [row for row in table.rows if row.seed == seed]
            columns = {column: np.array([row.values[column] for row in rows], float) for column in table.columns}
            values = model.predict(columns, [row.arch for row in rows])
            predicted |= zip([row.key for row in rows], values.tolist(), strict=True)
        rows = [replace(row, values={**row.values, name: predicted[row.key]}) for row in table.rows]
        table = ScoreTable((*table.columns, name), rows)
    return table


def complete_seeds(table: ScoreTable) -> ScoreTable:
    """The rows of the seeds in which every column was scored."""
    seeds = seeds_with_values(scores_by_seed(table)[1], table.columns)
    return ScoreTable(table.columns, [row for row in table.rows if row.seed in seeds])


def _metric_row(trained: Sequence[LearnedRanking], measure: Measure) -> dict[str, Any]:
    first = trained[0]
    name = first.name.replace(first.row, f"{first.row}_partial", 1) if first.missing else first.name
    n, cut = first.num_archs - first.train_size, first.metrics["ndcg_k"]
    ndcg_k = None if cut is None else int(cut)
    return {
        **metric_row(name, measure, n, ndcg_k, [ranking.metrics for ranking in trained]),
        **{"row": first.row, "model": first.model, "train_size": first.train_size},
        **{"num_features": len(first.features), "missing": " ".join(first.missing)},
    }


def _choose_seeds(table_seeds: Sequence[int], seeds: Sequence[int] | None) -> Sequence[int]:
    several = len(table_seeds) > 1
    if seeds is None:
        return table_seeds if several else _SEEDS
    if not seeds or len(set(seeds)) < len(seeds):
        raise ValueError(f"seeds={list(seeds)!r} is not allowed: give at least one, none of them twice")
    if several and (missing := [seed for seed in seeds if seed not in table_seeds]):
        raise ValueError(
            f"seeds={list(seeds)!r}: the score table has no scores of seed {missing[0]} (it has {table_seeds})"
        )
    return seeds


def _check_choices(option: str, names: Sequence[str], known: Collection[str]) -> None:
    for name in names:
        check_choice(option, name, known)
    if not names or len(set(names)) < len(names):
        raise ValueError(f"{option}={list(names)!r} is not allowed: give at least one, none of them twice")
