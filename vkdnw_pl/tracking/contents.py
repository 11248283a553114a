"""What the commands log of their results, read from what stands in the run folder."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from vkdnw_pl.oracles import Oracle
from vkdnw_pl.runs.folder import RunFolder
from vkdnw_pl.runs.table import ScoreTable
from vkdnw_pl.scoring.evaluation import METRIC_COLUMNS, Evaluation
from vkdnw_pl.tracking.tracked import Tracked

_METRICS = ("kendall", "spearman", "ndcg", "kendall_std", "spearman_std", "ndcg_std")
_IN_FOUND = ("space", "arch", "score", "macs", "num_params", "layers", "latency_ms", "peak_mb", "index", "evaluated")


def log_scores(tracked: Tracked, table: ScoreTable) -> None:
    """Every row as a row of the table ``scores``, and their numbers in the summary."""
    if not tracked.active:
        return
    columns = ("arch", "seed", *table.columns, "status", "reason", "seconds")
    rows = (
        [row.arch, row.seed, *(row.values[name] for name in table.columns), row.status, row.reason, row.seconds]
        for row in table.rows
    )
    tracked.table("scores", columns, rows)
    failed = sum(row.failed for row in table.rows)
    tracked.summary({"rows": len(table.rows), "rows_failed": failed, "architectures": len(table.archs)})


def log_evaluation(tracked: Tracked, folder: RunFolder, evaluation: Evaluation, oracle: Oracle | None) -> None:
    """Rankings, with the known accuracies beside them, as the table ``ranking``, metrics, and the figures."""
    if not tracked.active:
        return
    columns: dict[str, list[Any]] = {"arch": evaluation.archs}
    columns |= {name: ranks.tolist() for name, ranks in evaluation.ranks.items() if len(ranks)}
    for dataset, known in (oracle.tables if oracle is not None else {}).items():
        columns[f"accuracy/{dataset}"] = [known.get(arch) for arch in evaluation.archs]
    tracked.table("ranking", list(columns), zip(*columns.values(), strict=True))
    log_metrics(tracked, "metrics", METRIC_COLUMNS, evaluation.metrics)
    tracked.images(sorted(folder.figures.glob("*.png")))


def log_metrics(tracked: Tracked, name: str, columns: Iterable[str], metrics: Iterable[Mapping[str, Any]]) -> None:
    """Metric rows as a table, and as ``<data set>/<ranking>/<metric>`` in the summary."""
    rows = list(metrics)
    if not rows:
        return
    columns = list(columns)
    tracked.table(name, columns, ([row.get(column) for column in columns] for row in rows))
    tracked.summary(
        {f"{row['dataset']}/{row['ranking']}/{metric}": row.get(metric) for row in rows for metric in _METRICS}
    )


def log_score_files(tracked: Tracked, folder: RunFolder) -> None:
    """The score table and what belongs to it, as an artifact."""
    names = (folder.scores, folder.ranking, folder.metrics, folder.config, folder.meta)
    tracked.artifact("scores", [*names, *sorted(folder.path.glob("learned_metrics.csv"))])


def log_found(tracked: Tracked, found: Mapping[str, Any]) -> None:
    """The found network in the summary, and the best ones as the table ``top``."""
    if not tracked.active:
        return
    known = {f"found/{name}": found[name] for name in _IN_FOUND if found.get(name) is not None}
    values = {name: value for name, value in found["scores"].items() if value is not None and is_main(name)}
    known |= {f"found/{name}": value for name, value in values.items()}
    accuracies = found.get("accuracies", {})
    known |= {f"found/accuracy/{name}": value for name, value in accuracies.items() if value is not None}
    tracked.summary(known)
    costs = [name for name in ("macs", "num_params", "layers", "latency_ms", "peak_mb") if found[name] is not None]
    proxies, datasets = list(found["scores"]), list(accuracies)
    columns = ["rank", "arch", "score", *costs, *proxies, *(f"accuracy/{name}" for name in datasets), "index"]
    rows = (
        [
            *(one["rank"], one["arch"], one["score"], *(one[name] for name in costs)),
            *(one["scores"][name] for name in proxies),
            *(one["accuracies"][name] for name in datasets),
            one["index"],
        ]
        for one in found["top"]
    )
    tracked.table("top", columns, rows)


def is_main(column: str) -> bool:
    """Whether a column is a score of its own, not one of those that explain another."""
    return "_decile_" not in column


def log_csv(tracked: Tracked, path: Path) -> None:
    """A CSV file as a table of its name; cells that are numbers as numbers."""
    if not tracked.active:
        return
    with path.open(newline="", encoding="utf-8") as file:
        header, *rows = csv.reader(file)
    tracked.table(path.stem, header, ([_read(cell) for cell in row] for row in rows))


def log_paper(tracked: Tracked, folder: Path, paper: str) -> None:
    """What ``evaluate --paper`` wrote: its tables, figures and pages, and our values in the summary."""
    if not tracked.active:
        return
    from vkdnw_pl.report.paper.tables import PAPER_CHOICES

    files = [folder / f"{paper}.html"]
    for name in PAPER_CHOICES[paper]:
        log_csv(tracked, folder / f"{name}.csv")
        tracked.images(sorted(folder.glob(f"figures/{name}*.png")))
        files += [folder / f"{name}.csv", folder / f"{name}.md"]
        with (folder / f"{name}.csv").open(newline="", encoding="utf-8") as file:
            cells = list(csv.DictReader(file))
        tracked.summary(
            {f"{name}/{one['row']}/{one['column']}/{one['metric']}": _read(one["ours"]) for one in cells if one["ours"]}
        )
    tracked.artifact("paper", files)


def _read(cell: str) -> str | float | None:
    try:
        return float(cell) if cell else None
    except ValueError:
        return cell
