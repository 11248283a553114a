"""What ``evaluate`` does with model-driven rankings: trains, measures, draws and keeps them, or uses one that was kept."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from vkdnw_pl.oracles import Oracle
from vkdnw_pl.ranking.learned import LEARNED_ROWS, MODELS, PAPER_TRAIN_SIZE, LearnedRanking, default_train_size
from vkdnw_pl.runs.table import ScoreRow, ScoreTable
from vkdnw_pl.scoring.evaluation import seeds_with_values, values_of
from vkdnw_pl.scoring.learned_evaluation import LearnedEvaluation, evaluate_learned

SUFFIX = ".skops"
_GRAPH_ONLY = [name for name, features in LEARNED_ROWS.items() if not features.required]


def check_models(models: Sequence[str]) -> None:
    """Check the option ``models``: names to train, and files of trained ones.

    Raises:
        ValueError: naming the one that is neither.
    """
    for model in models:
        if model not in MODELS and not model.endswith(SUFFIX):
            raise ValueError(f"models: {model!r} is not known (known: {', '.join(MODELS)}, or a file *{SUFFIX})")
    if len(set(models)) < len(models):
        raise ValueError(f"models={list(models)!r} is not allowed: one repeats")


def with_predictions(table: ScoreTable, files: Sequence[str]) -> ScoreTable:
    """The table with one more column for each file of a trained model: what it predicts, named like the file.

    Raises:
        ValueError: if a file is no model, or its column is there already or lacks the columns that it needs.
    """
    for file in files:
        name = re.sub(r"[^A-Za-z0-9_]+", "_", Path(file).name.removesuffix(SUFFIX))
        if name in table.columns:
            raise ValueError(f"models: {file!r} would be the column {name!r}, which the scores have; rename the file")
        model = LearnedRanking.load(file)
        rows = []
        for seed in table.seeds:
            some = [row for row in table.rows if row.seed == seed]
            predicted = model.predict(_columns(some, table.columns), [row.arch for row in some])
            rows += [
                ScoreRow(row.arch, seed, {**row.values, name: float(value)}, row.status, row.reason, row.seconds)
                for row, value in zip(some, predicted, strict=True)
            ]
        place = {arch: i for i, arch in enumerate(table.archs)}
        table = ScoreTable((*table.columns, name), sorted(rows, key=lambda row: (place[row.arch], row.seed)))
    return table


def train_models(
    table: ScoreTable,
    oracle: Oracle,
    models: Sequence[str],
    train_size: int | None,
    top_k: int,
    ties: str,
    space: str,
    folder: Path,
    rows: Sequence[str] | None = None,
    places: float = 1.0,
) -> LearnedEvaluation:
    """Train and measure; write ``models/<ranking>-<data set>.skops`` and ``figures/importances_<data set>.png``.

    Only seeds in which every column was scored are used. The model that is kept is that of the first seed.
    """
    complete = _complete(table)
    kept: dict[str, LearnedRanking] = {}

    def keep(model: LearnedRanking) -> None:
        name = model.row if model.model == MODELS[0] else f"{model.row}-{model.model}"
        kept.setdefault(re.sub(r"[^A-Za-z0-9_.-]+", "_", f"{name}-{model.dataset}"), model)

    result = evaluate_learned(
        complete,
        oracle,
        rows,
        models,
        train_size=train_size,
        top_k=top_k,
        ties=ties,
        space=space,
        places=places,
        progress=_progress,
        on_model=keep,
    )
    for name, model in kept.items():
        model.save(folder / "models" / f"{name}{SUFFIX}")
    _draw(result.importances, folder)
    return result


def paper_rows(
    table: ScoreTable, oracle: Oracle, models: Sequence[str], train_size: int | None, ties: str, folder: Path
) -> LearnedEvaluation:
    """The model-driven rows of Table 1.

    Rows of graph features alone need no scores, so they are those of all architectures that the oracle knows among the
    paper's 9,445. In nDCG the test part stands for the paper's 8,421.
    """
    from vkdnw_pl.spaces import NB201

    unique = list(NB201().enumerate(unique=True))
    known = set(oracle.archs)
    everything = ScoreTable((), [ScoreRow(arch, 1, {}) for arch in unique if arch in known])
    found = LearnedEvaluation()
    for some, rows in ((table, [r for r in LEARNED_ROWS if r not in _GRAPH_ONLY]), (everything, _GRAPH_ONLY)):
        n = len(some.archs)
        size = default_train_size(n) if train_size is None or some is everything else train_size
        places = max(1.0, (len(unique) - PAPER_TRAIN_SIZE) / max(n - size, 1))
        usable = [row for row in rows if not set(LEARNED_ROWS[row].required) - set(some.columns)]
        if usable and n >= 4:
            part = train_models(some, oracle, models, size, 1000, ties, "nb201", folder, usable, places)
            found.metrics.extend(part.metrics)
            found.notes.extend(part.notes)
    return found


def _complete(table: ScoreTable) -> ScoreTable:
    columns = {seed: _columns([row for row in table.rows if row.seed == seed], table.columns) for seed in table.seeds}
    seeds = seeds_with_values(columns, table.columns)
    return ScoreTable(table.columns, [row for row in table.rows if row.seed in seeds])


def _columns(rows: Sequence[ScoreRow], names: Sequence[str]) -> dict[str, Any]:
    return {name: values_of(rows, name) for name in names}


def _progress(done: int, total: int) -> None:
    if sys.stderr.isatty() or done == total or done % 50 == 0:
        print(f"\r{done} of {total} models trained", end="\n" if done == total else "", file=sys.stderr, flush=True)


def _draw(importances: Mapping[tuple[str, str], Mapping[str, Sequence[float]]], folder: Path) -> None:
    from vkdnw_pl.report.figures import save_figure
    from vkdnw_pl.report.importance_figure import feature_importances

    for dataset in dict.fromkeys(dataset for _, dataset in importances):
        panels = {f"{name}, {dataset}": some for (name, there), some in importances.items() if there == dataset}
        kinds = "-".join(dict.fromkeys(name.partition(":")[0] for name, there in importances if there == dataset))
        safe = re.sub(r"[^A-Za-z0-9._-]+", "_", f"{kinds}_{dataset}")
        save_figure(feature_importances(panels), folder / "figures" / f"importances_{safe}.png")
