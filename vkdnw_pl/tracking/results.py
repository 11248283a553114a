"""What the commands log: curves while they work, and their results."""

from __future__ import annotations

import csv
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from vkdnw_pl.oracles import Oracle
from vkdnw_pl.runs.folder import RunFolder
from vkdnw_pl.runs.table import FAILED, ScoreTable
from vkdnw_pl.scoring.bootstrap import INTERVAL_COLUMNS
from vkdnw_pl.scoring.evaluation import METRIC_COLUMNS, Evaluation
from vkdnw_pl.scoring.spaces_evaluation import SpacesEvaluation
from vkdnw_pl.search.history import Candidate, RankedHistory
from vkdnw_pl.search.proposals import DrawCounts
from vkdnw_pl.tracking.run import WandbRun

_METRICS = ("kendall", "spearman", "ndcg", "kendall_std", "spearman_std", "ndcg_std")
_COSTS = ("macs", "num_params", "layers", "latency_ms", "peak_mb")
_IN_FOUND = ("space", "arch", "score", *_COSTS, "index", "evaluated")
_DECILE = "_decile_"  # columns that explain another
_SEARCH_EVERY_S = 2.0
_PARENTS = 256  # so many of the latest candidates are asked for their parents


def log_scores(run: WandbRun, table: ScoreTable) -> None:
    """Every row as a row of the table ``scores``, and their numbers in the summary."""
    columns = ("arch", "seed", *table.columns, "status", "reason", "seconds")
    rows = (
        [row.arch, row.seed, *(row.values[name] for name in table.columns), row.status, row.reason, row.seconds]
        for row in table.rows
    )
    run.table("scores", columns, rows)
    failed = sum(row.failed for row in table.rows)
    run.summary({"rows": len(table.rows), "rows_failed": failed, "architectures": len(table.archs)})


def log_evaluation(run: WandbRun, folder: RunFolder, evaluation: Evaluation, oracle: Oracle | None) -> None:
    """Rankings, with the known accuracies beside them, as the table ``ranking``, metrics, and the figures."""
    columns: dict[str, list[Any]] = {"arch": evaluation.archs}
    columns |= {name: ranks.tolist() for name, ranks in evaluation.ranks.items() if len(ranks)}
    if oracle is not None:
        for dataset, accuracies in oracle.tables.items():
            columns[oracle.measure(dataset).key] = [accuracies.get(arch) for arch in evaluation.archs]
    run.table("ranking", columns, zip(*columns.values(), strict=True))
    intervals = INTERVAL_COLUMNS if evaluation.metrics and INTERVAL_COLUMNS[0] in evaluation.metrics[0] else ()
    log_metrics(run, "metrics", (*METRIC_COLUMNS, *intervals), evaluation.metrics)
    run.images(sorted(folder.figures.glob("*.png")))


def log_metrics(run: WandbRun, name: str, columns: Iterable[str], metrics: Iterable[Mapping[str, Any]]) -> None:
    """Metric rows as a table, and as ``<data set>/<ranking>/<metric>`` in the summary."""
    columns, rows = list(columns), list(metrics)
    if rows:
        run.table(name, columns, ([row.get(column) for column in columns] for row in rows))
    run.summary({f"{row['dataset']}/{row['ranking']}/{metric}": row.get(metric) for row in rows for metric in _METRICS})


def log_score_files(run: WandbRun, folder: RunFolder) -> None:
    """The score table and what belongs to it, as an artifact."""
    names = ("scores.csv", "ranking.csv", "metrics.csv", "config.yaml", "meta.json", "learned_metrics.csv")
    run.artifact("scores", [folder.path / name for name in names])


def log_found(run: WandbRun, found: Mapping[str, Any]) -> None:
    """The found network in the summary, and the best ones as the table ``top``."""
    scores, accuracies = found["scores"], found.get("accuracies", {})
    values = {name: found.get(name) for name in _IN_FOUND}
    values |= {name: value for name, value in scores.items() if _DECILE not in name}
    keys = {name: f"accuracy/{name}" for name in accuracies}
    keys |= {name: f"value/{name} ({unit})" for name, unit in found.get("units", {}).items()}
    values |= {keys[name]: value for name, value in accuracies.items()}
    run.summary({f"found/{name}": value for name, value in values.items()})
    costs = [name for name in _COSTS if found[name] is not None]
    rows = [
        {name: network[name] for name in ("rank", "arch", "score", *costs)}
        | network["scores"]
        | {keys[name]: network["accuracies"][name] for name in accuracies}
        | {"index": network["index"]}
        for network in found["top"]
    ]
    run.table("top", rows[0], [list(row.values()) for row in rows])


def log_labels(run: WandbRun, folder: RunFolder, labels: Path) -> None:
    """Every training of an accuracy table as a row of the table ``labels``, the figure, and the files."""
    if not run.active:
        return
    with labels.open(newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        rows = list(reader)
    run.table("labels", reader.fieldnames or (), ([_number(cell) for cell in row.values()] for row in rows))
    run.summary({"rows": len(rows), "rows_failed": sum(row["status"] == FAILED for row in rows)})
    run.images(sorted(folder.figures.glob("*.png")))
    run.artifact("labels", [labels, labels.with_name("accuracies.csv"), folder.config, folder.meta])


def log_paper(run: WandbRun, folder: Path, paper: str) -> None:
    """What ``evaluate --paper`` wrote: its tables, figures and pages, and our values in the summary."""
    if not run.active:
        return
    from vkdnw_pl.report.paper.tables import PAPER_CHOICES

    files = [folder / f"{paper}.html"]
    for name in PAPER_CHOICES[paper]:
        files += [folder / f"{name}.csv", folder / f"{name}.md"]
        with (folder / f"{name}.csv").open(newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file)
            rows = list(reader)
        run.table(name, reader.fieldnames or (), ([_number(cell) for cell in row.values()] for row in rows))
        run.images(sorted(folder.glob(f"figures/{name}*.png")))
        run.summary({f"{name}/{row['row']}/{row['column']}/{row['metric']}": _number(row["ours"]) for row in rows})
    run.artifact("paper", files)


def log_spaces(run: WandbRun, folder: RunFolder, evaluation: SpacesEvaluation) -> None:
    """What ``evaluate`` found on several spaces: its metrics as a table and in the summary, figures, and files."""
    if not run.active:
        return
    rows = [(*row.column, row.ranking, row.metric, *row.estimate, row.best) for row in evaluation.metrics]
    run.table("spaces", ("space", "dataset", "ranking", "metric", "value", "low", "high", "best"), rows)
    run.summary({"/".join((*row.column, row.ranking, row.metric)): row.estimate.value for row in evaluation.metrics})
    run.images(sorted(folder.figures.glob("*.png")))
    run.artifact("spaces", sorted(folder.path.glob("*.csv")))


def _number(cell: str) -> str | float | None:
    try:
        return float(cell) if cell else None
    except ValueError:
        return cell


class SearchCurve:
    """A `search.loop.SearchObserver` that logs every two seconds how far the search is."""

    def __init__(self, run: WandbRun) -> None:
        self._run = run
        self._made = 0
        self._acceptance = 1.0
        self._started_at = time.monotonic()
        self._history: RankedHistory | None = None
        run.attempt(lambda: run.run.define_metric("search/*", step_metric="search/evaluated"))

    def candidate(self, candidate: Candidate, counts: DrawCounts) -> None:
        self._made += 1
        self._acceptance = counts.acceptance

    def batch(self, history: RankedHistory) -> None:
        self._history = history
        self._run.log_every(_SEARCH_EVERY_S, self._point)

    def close(self) -> None:
        """Log the last point."""
        self._run.log_every(0, self._point)

    def _point(self) -> Mapping[str, float | None]:
        if self._history is None:
            return {}
        candidates = list(self._history)
        point: dict[str, float | None] = {
            "search/evaluated": len(candidates),
            "search/evaluations_per_s": self._made / max(time.monotonic() - self._started_at, 1e-9),
            "search/acceptance": self._acceptance,
            "search/failed": sum(candidate.failed for candidate in candidates),
            "search/effective_parents": _effective_parents(candidates[-_PARENTS:]),
        }
        for index in self._history.best(1).tolist():
            best = candidates[index]
            values = {"score": float(self._history.scores()[index]), "macs": best.macs, "num_params": best.num_params}
            values |= {name: value for name, value in best.values.items() if _DECILE not in name}
            point |= {f"search/best/{name}": value for name, value in values.items()}
        return point


def _effective_parents(candidates: Iterable[Candidate]) -> float | None:
    """Exponential of the entropy of the parents' shares: 1 where all are one, n where n are equally frequent."""
    parents = [candidate.parent for candidate in candidates if candidate.parent is not None]
    shares = np.unique(parents, return_counts=True)[1] / len(parents) if parents else None
    return None if shares is None else float(np.exp(-(shares * np.log(shares)).sum()))
