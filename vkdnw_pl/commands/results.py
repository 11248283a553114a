"""What ``score``, ``label``, ``merge`` and ``evaluate`` do with a finished table: rankings, metrics, figures, and a summary."""

from __future__ import annotations

import shlex
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace

from vkdnw_pl.errors import program
from vkdnw_pl.labels.folder import LabelFolder, write_accuracies
from vkdnw_pl.labels.plan import LabelPlan
from vkdnw_pl.oracles import Oracle
from vkdnw_pl.ranking import columns_of, weights_text
from vkdnw_pl.report import labels
from vkdnw_pl.report.text import counted, shortened
from vkdnw_pl.runs.folder import Record
from vkdnw_pl.runs.record import RunRecord
from vkdnw_pl.runs.signals import Stopped
from vkdnw_pl.runs.table import Key, ScoreRow, ScoreTable
from vkdnw_pl.scoring.bootstrap import INTERVAL_COLUMNS, bootstrap_intervals, with_intervals
from vkdnw_pl.scoring.evaluation import (
    METRIC_COLUMNS,
    Evaluation,
    Terms,
    evaluate_table,
    write_metrics,
    write_ranking,
)
from vkdnw_pl.scoring.folder import ScoreFolder
from vkdnw_pl.scoring.plan import ScorePlan, Shard
from vkdnw_pl.scoring.progress import Progress
from vkdnw_pl.search.history import Candidate

_BEST = 5
_MOST_NETWORKS = 20
"""More trained networks than these are not listed one by one."""
_RANKING = "vkdnw_agg"
"""What best means without accuracies, where there is such a ranking."""


def write_results(
    folder: ScoreFolder,
    table: ScoreTable,
    oracle: Oracle | None,
    rankings: Mapping[str, Terms],
    top_k: int,
    ties: str = "average",
    resamples: int = 0,
) -> Evaluation:
    """Evaluate the table, write ``ranking.csv``, ``metrics.csv`` and figures into the folder, print the summary.

    Without known accuracies there is the ranking alone. With ``resamples`` the metrics have intervals.
    """
    evaluation = evaluate_table(table, oracle, rankings, top_k, ties)
    if oracle is not None and resamples:
        with Progress(len(evaluation.metrics), verb=f"{resamples:,} resamples", unit="ranking") as progress:
            intervals = bootstrap_intervals(
                table, oracle, rankings, top_k, resamples, step=lambda: progress.add(failed=False)
            )
        evaluation = replace(evaluation, metrics=with_intervals(evaluation.metrics, intervals))
    folder.path.mkdir(parents=True, exist_ok=True)
    write_ranking(folder.ranking, evaluation)
    folder.remove_figures()
    files = [folder.ranking.name]
    if oracle is None:
        folder.metrics.unlink(missing_ok=True)
        _print_best(evaluation)
    else:
        columns = (*METRIC_COLUMNS, *INTERVAL_COLUMNS) if resamples else METRIC_COLUMNS
        write_metrics(folder.metrics, evaluation.metrics, columns)
        files.append(folder.metrics.name)
        _print_metrics(evaluation, oracle)
    if oracle is not None and evaluation.metrics:
        from vkdnw_pl.report.figures.rankings import save_ranking_figures

        accuracies = {dataset: oracle.accuracies(dataset) for dataset in evaluation.known}
        figures = save_ranking_figures(evaluation, accuracies, folder.figures)
        files.append(f"{folder.figures.name}/{{{','.join(path.name for path in figures)}}}")
    _print_problems(table, evaluation, rankings)
    print_notes(result_notes(evaluation, oracle))
    print(f"\nresults in {folder.path}: {', '.join(files)}")
    return evaluation


def first_results(table: ScoreTable, oracle: Oracle, rankings: Mapping[str, Terms], top_k: int) -> str:
    """The metrics of the rows that are there, as text; empty where there are none."""
    from vkdnw_pl.report.tables import text_table

    evaluation = evaluate_table(table, oracle, rankings, top_k)
    if not evaluation.metrics:
        return ""
    metrics = text_table(evaluation.metrics, width=120)
    return f"\nPARTIAL, of the first {len(table.rows)} rows (the scoring goes on):\n\n{metrics}"


def result_notes(evaluation: Evaluation, oracle: Oracle | None) -> list[str]:
    """What a user should know of how the architectures were ranked and compared."""
    notes = [weights_text(name, weights) for name, weights in evaluation.weights.items()]
    if oracle is not None:
        return [*oracle.coverage(evaluation.archs), *oracle.doubts(), *notes]
    name = _best_ranking(evaluation)
    if name == _RANKING or len(evaluation.ranks) == 1:
        return notes
    return [*notes, f"the best are those by {name} because it stands first; --rankings chooses another"]


def print_notes(notes: Sequence[str]) -> None:
    """One line for each."""
    for note in notes:
        print(f"note: {note}")


def _best_ranking(evaluation: Evaluation) -> str:
    return _RANKING if _RANKING in evaluation.ranks else next(iter(evaluation.ranks))


def _print_best(evaluation: Evaluation) -> None:
    name = _best_ranking(evaluation)
    ranks = evaluation.ranks[name]
    print(f"\nbest by {name} (of {len(evaluation.archs)}):")
    for place in ranks.argsort(kind="stable")[:_BEST]:
        print(f"  {ranks[place]:g}  {evaluation.archs[place]}")
    print("no metrics: no accuracies of this space are known here (--oracle)")


def print_rows_there(rows: Mapping[Key, ScoreRow], count: int, retry_failed: bool, made: str, makes: str) -> None:
    """Say how many of ``count`` rows an earlier call left; ``made`` and ``makes`` are such as scored and scores."""
    note = ""
    if failed := sum(row.failed for row in rows.values()):
        again = f", which are {made} again" if retry_failed else f" (--retry_failed {makes} those again)"
        note = f", {failed} of them failed{again}"
    print(f"{len(rows)} of {count} rows are there already{note}")


def record_rows(
    record: RunRecord,
    plan: ScorePlan | LabelPlan,
    keys: Sequence[Key],
    rows: Mapping[Key, ScoreRow],
    table: ScoreTable,
    stopped: Stopped | None,
) -> None:
    """Put into the record what became of this attempt at the rows ``keys``."""
    record.attempt |= {
        "processes": max(1, min(plan.workers, len(keys))),
        "threads_per_process": 1 if plan.settings.device == "cpu" else None,
        "rows_made": sum(key in rows for key in keys),
        "rows_in_table": len(table.rows),
        "rows_failed": failed_rows(table),
        "stopped_by": stopped.name if stopped else None,
    }


def print_stopped(stopped: Stopped, folder: ScoreFolder, kept: int, count: int) -> None:
    """Say what a signal left, and how to go on."""
    print(
        f"\nstopped by {stopped.name}: {kept} of {count} rows are kept in {folder.path}. "
        f"Continue with: {program()} {folder.command} --config {shlex.quote(str(folder.config))}",
        file=sys.stderr,
    )


def print_shard(shard: Shard) -> None:
    """Say what is to be done with a part of the work."""
    print(f"this is shard {shard}; when all are done, join them with: {program()} merge SHARD_FOLDERS... --out DIR")


def write_label_results(folder: LabelFolder, settings: Record) -> None:
    """Write ``accuracies.csv`` and the figure of a table of trainings, and print what it says.

    ``settings`` is the record of the whole run.
    """
    from tabulate import tabulate

    from vkdnw_pl.report.figures.labels import accuracy_and_macs
    from vkdnw_pl.report.figures.style import save_figure

    rows = folder.read_rows().values()
    dataset = settings["dataset"]
    count = write_accuracies(folder.accuracies, list(rows), settings["seeds"], dataset, settings["accuracy"])
    networks = labels.read_labels(folder.scores)
    if any(network.accuracies for network in networks):
        save_figure(accuracy_and_macs(networks), folder.figure)
        images = "test" if settings["accuracy"] == "test" else "validation"
        print(f"\naccuracy on the {images} images of {dataset} after the last epoch:\n")
        if len(networks) <= _MOST_NETWORKS:
            table = {column.head: [*map(column.text, column.cells)] for column in labels.network_columns(networks)}
            print(tabulate(table, "keys", disable_numparse=True) + "\n")
        print(tabulate(labels.result_lines(networks), labels.RESULT_HEADS, disable_numparse=True))
    if sentence := labels.verdict(networks):
        print(f"\n{sentence}")
    if count:
        print(
            f"\n{counted(count, 'architecture')} of {settings['space']} in {folder.accuracies}; compare proxies with them: "
            f"{program()} score --space {settings['space']} --oracle {shlex.quote(str(folder.path))} --archs oracle"
        )


def failed_rows(table: ScoreTable) -> int:
    """How many rows failed."""
    return sum(row.failed for row in table.rows)


def _print_metrics(evaluation: Evaluation, oracle: Oracle) -> None:
    from vkdnw_pl.report.tables import print_table

    print()
    if evaluation.metrics:
        print_table(evaluation.metrics)
    too_few: dict[int, list[str]] = {}
    for dataset, places in evaluation.known.items():
        if len(places) < 2:
            too_few.setdefault(len(places), []).append(dataset)
    for number, datasets in too_few.items():
        what = "its accuracies" if len(datasets) == 1 else "their accuracies"
        known = f"{what} are known for {number} of the {len(evaluation.archs)} architectures"
        print(f"no metrics on {', '.join(datasets)}: {known}, and a ranking needs two")
    print(f"accuracies: {oracle.description}")


def _print_problems(table: ScoreTable, evaluation: Evaluation, rankings: Mapping[str, Terms]) -> None:
    incomplete = len(table.archs) - len(evaluation.archs)
    if incomplete:
        print(f"not ranked: {incomplete} architectures without a row for every seed")
    ranked = {name for terms in rankings.values() for name in columns_of(terms)}
    counts = [f"{column} {count}" for column, count in evaluation.non_finite.items() if column in ranked]
    if counts:
        print(f"without a finite value, and so ranked last (of {len(table.rows)} rows): {', '.join(counts)}")
    print_failures(table.rows)


def print_failures(rows: Sequence[ScoreRow | Candidate], noun: str = "rows", file: str = "table") -> None:
    """Say how many rows or candidates failed and why; nothing if none did."""
    reasons = Counter(row.reason for row in rows if row.failed)
    if reasons:
        print(f"FAILED {noun}: {reasons.total()} of {len(rows)}; the reasons stand in the {file}. Most frequent:")
        for reason, count in reasons.most_common(3):
            print(f"  {count} x {shortened(reason, 200)}")
