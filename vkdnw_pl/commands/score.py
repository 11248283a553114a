"""The command ``score``."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from statistics import fmean
from typing import Any

import yaml

from vkdnw_pl.commands.results import (
    failed_rows,
    first_results,
    print_failures,
    print_notes,
    print_rows_there,
    print_shard,
    print_stopped,
    record_rows,
    result_notes,
    write_results,
)
from vkdnw_pl.errors import CommandFailed, WorkerDied, user_input
from vkdnw_pl.options import as_config
from vkdnw_pl.runs.record import RunRecord
from vkdnw_pl.runs.signals import Stopped, stop_signals
from vkdnw_pl.runs.table import Key, ScoreRow, ScoreTable, new_journal, row_line
from vkdnw_pl.scoring.folder import ScoreFolder
from vkdnw_pl.scoring.plan import ScoreOptions, ScorePlan, plan_scoring
from vkdnw_pl.scoring.progress import Progress
from vkdnw_pl.tracking.results import log_evaluation, log_score_files, log_scores
from vkdnw_pl.tracking.run import WandbRun, wandb_run

_CURVE_EVERY_S = 10.0  # between two points of W&B's curves
_FIRST_RESULTS_S, _FEWEST_ROWS = 20.0, 30  # a table of fewer says nothing


def score(options: ScoreOptions) -> int:
    """Score architectures without training them, rank them, and compare with known accuracies.

    Every (architecture, seed) is one row of OUT/scores.csv. Rows are kept as they are made: after a Ctrl-C or a crash
    the same command continues, and the result is the same as without the interruption, whatever the number of workers.

    Returns:
        0 if every row is ok, 1 if some failed, 130 after Ctrl-C.
    """
    began_at = time.monotonic()
    with user_input():
        plan = plan_scoring(options)
        folder = ScoreFolder(options.out or plan.default_out)
        folder.check_continues(plan.record, options.overwrite)  # before waiting for a run of other settings
    with folder.lock():
        with user_input():
            if options.overwrite:
                folder.clear()
            folder.check_continues(plan.record)
            rows = folder.read_rows()
        _print_plan(plan, folder, rows, options.retry_failed)
        if options.retry_failed:
            rows = {key: row for key, row in rows.items() if not row.failed}
            folder.write_scores(_table(plan, rows))
        folder.write_archs(plan.archs)
        config = as_config(replace(options, **plan.resolved, out=str(folder.path), overwrite=False, retry_failed=False))
        record = RunRecord(
            folder, config, plan.record, plan.settings.device, digest=plan.settings.digest(), notes=[*plan.notes]
        )
        if record.earlier and rows:
            _warn_of_other_versions(record.earlier, record.meta["environment"])
        group = None if plan.shard is None else f"score-{plan.settings.digest()}"
        with record, wandb_run(options, config, folder.path, "score", record.meta, group) as run:
            run.exit_code = _make_and_evaluate(options, plan, folder, rows, record, run, began_at)
            return run.exit_code


def _make_and_evaluate(
    options: ScoreOptions,
    plan: ScorePlan,
    folder: ScoreFolder,
    rows: Mapping[Key, ScoreRow],
    record: RunRecord,
    run: WandbRun,
    began_at: float,
) -> int:
    """Make the missing rows, and write the results."""
    keys = [key for key in plan.keys if key not in rows]
    stopped = None
    proxy_seconds: dict[str, list[float]] = {}
    try:
        if keys:
            _make_rows(options, plan, folder, keys, run, proxy_seconds)
    except Stopped as stop:
        stopped = stop
    rows = folder.read_rows()
    table = _table(plan, rows)
    folder.write_scores(table)
    record_rows(record, plan, keys, rows, table, stopped)
    record.attempt["proxy_seconds"] = {name: round(fmean(seconds), 6) for name, seconds in proxy_seconds.items()}
    if stopped is not None:
        record.end("stopped")
        print_stopped(stopped, folder, len(table.rows), len(plan.keys))
        return stopped.exit_code
    log_scores(run, table)
    if plan.shard is None:
        evaluation = write_results(folder, table, plan.oracle, plan.rankings, options.top_k)
        record.meta["notes"] += result_notes(evaluation, plan.oracle)
        record.meta["cautions"] = [] if plan.oracle is None else plan.oracle.warnings
        log_evaluation(run, folder, evaluation, plan.oracle)
    else:
        print_failures(table.rows)
    record.end("finished")
    log_score_files(run, folder)
    seconds = time.monotonic() - began_at
    print(f"scores of {len(table.rows)} rows in {folder.scores} ({len(keys)} made now, {seconds:.0f} s in all)")
    if plan.shard is not None:
        print_shard(plan.shard)
    return 1 if failed_rows(table) else 0


def _make_rows(
    options: ScoreOptions,
    plan: ScorePlan,
    folder: ScoreFolder,
    keys: Sequence[Key],
    run: WandbRun,
    proxy_seconds: dict[str, list[float]],
) -> None:
    """Score into a journal of ``folder``; ``proxy_seconds`` gets the time that each proxy took for each row."""
    from vkdnw_pl.scoring.scorer import Scorer  # imports what a finished run does without
    from vkdnw_pl.scoring.workers import Workers

    started_at = time.monotonic()
    display = Progress(len(keys), shown=options.progress)

    def point() -> Mapping[str, float]:
        per_s = display.done / max(time.monotonic() - started_at, 1e-9)
        return {"score/rows": len(plan.keys) - len(keys) + display.done, "score/rows_per_s": per_s}

    journal = new_journal(folder.journals, plan.columns)
    scorer, device = Scorer(plan.settings), plan.settings.device
    oracle = plan.oracle if options.progress else None  # until the first results were shown
    try:
        with stop_signals(), display, Workers(scorer, device, plan.workers, options.row_timeout) as workers:
            for row in workers.rows(keys, display.waiting):
                journal.append(row_line(row, plan.columns))
                display.add(row.failed)
                for name, seconds in row.proxy_seconds.items():
                    proxy_seconds.setdefault(name, []).append(seconds)
                waited = display.done >= _FEWEST_ROWS and time.monotonic() - started_at > _FIRST_RESULTS_S
                if oracle is not None and waited:
                    display.say(first_results(_table(plan, folder.read_rows()), oracle, plan.rankings, options.top_k))
                    oracle = None
                run.log_every(_CURVE_EVERY_S, point)
    except WorkerDied as death:
        raise CommandFailed(f"a worker died: {death}. The rows made so far are kept; run it again") from death
    finally:
        journal.close()
        run.log(point())


def _table(plan: ScorePlan, rows: Mapping[Key, ScoreRow]) -> ScoreTable:
    """The rows in the order of the table, which does not depend on who made them when."""
    return ScoreTable(plan.columns, [rows[key] for key in plan.keys if key in rows])


def _print_plan(plan: ScorePlan, folder: ScoreFolder, rows: Mapping[Key, ScoreRow], retry_failed: bool) -> None:
    settings = plan.settings
    archs, seeds = len({arch for arch, _ in plan.keys}), len(settings.seeds)
    part = "" if plan.shard is None else f" (shard {plan.shard} of {len(settings.archs)})"
    print(
        f"scoring {archs} architectures of {settings.space}{part} with {seeds} seed{'s' * (seeds > 1)} on "
        f"{settings.device}, run folder {folder.path}"
    )
    network = yaml.safe_dump(dict(settings.network), default_flow_style=True, sort_keys=False, width=10_000).strip()
    print(f"networks {network if settings.network else 'as the space makes them by default'}: {plan.why_network}")
    if rows:
        print_rows_there(rows, len(plan.keys), retry_failed, "scored", "scores")
    print_notes(plan.notes)
    sys.stdout.flush()


def _warn_of_other_versions(earlier: Mapping[str, Any], environment: Mapping[str, Any]) -> None:
    before, now = earlier["environment"]["versions"], environment["versions"]
    if changed := [f"{name} {before.get(name)} -> {now[name]}" for name in now if before.get(name) != now[name]]:
        print(
            f"note: the rows that are there were made with other versions ({', '.join(changed)}), which may score "
            "differently in the last digits",
            file=sys.stderr,
        )
