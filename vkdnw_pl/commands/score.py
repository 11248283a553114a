"""The command ``score``."""

from __future__ import annotations

import shlex
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from vkdnw_pl.commands.results import failed_rows, print_failures, write_results
from vkdnw_pl.commands.score_plan import ScorePlan, plan_scoring
from vkdnw_pl.errors import CommandFailed, UsageError, WorkerDied, user_input
from vkdnw_pl.runs.folder import FolderBusy
from vkdnw_pl.runs.journal import Journal
from vkdnw_pl.runs.record import RunRecord
from vkdnw_pl.runs.signals import Stopped, stop_signals
from vkdnw_pl.runs.table import Key, ScoreRow, ScoreTable
from vkdnw_pl.scoring.folder import ScoreFolder
from vkdnw_pl.scoring.options import Shard
from vkdnw_pl.scoring.progress import Progress
from vkdnw_pl.scoring.settings import ScoreSettings
from vkdnw_pl.tracking.contents import log_evaluation, log_score_files, log_scores
from vkdnw_pl.tracking.options import wandb_options
from vkdnw_pl.tracking.tracked import Tracked, group_of, tracked_run

DEFAULT_PROXIES = (
    *("vkdnw", "aleph", "macs", "params", "jacov", "expressivity", "progressivity", "trainability", "synflow"),
)


def score(
    space: str = "nb201",
    network: dict[str, Any] | None = None,
    archs: str | list[str] = "digits",
    archs_seed: int = 0,
    max_macs: float | None = None,
    proxies: list[str | dict[str, Any]] = list(DEFAULT_PROXIES),  # noqa: B006  (only read; the help shows it)
    seeds: int | str | list[int] = 1,
    batch_size: int = 16,
    input: str | dict[str, Any] = "random",
    data: str | dict[str, Any] = "digits",
    init: str = "auto",
    oracle: str = "auto",
    oracle_path: str | None = None,
    rankings: list[str] | None = None,
    top_k: int = 1000,
    device: Literal["auto", "cpu", "cuda"] = "auto",
    workers: int | Literal["auto"] = "auto",
    row_timeout: float | None = None,
    shard: str | None = None,
    out: str | None = None,
    overwrite: bool = False,
    retry_failed: bool = False,
    progress: bool = True,
    wandb: bool | str = False,
    wandb_group: str | None = None,
    wandb_tags: list[str] = [],  # noqa: B006  (only read)
) -> int:
    """Score architectures without training them, rank them, and compare with known accuracies.

    Every (architecture, seed) is one row of OUT/scores.csv. Rows are kept as they are made: after a Ctrl-C or a crash
    the same command continues, and the result is the same as without the interruption, whatever the number of workers.

    Args:
        space: Search space: nb201 (NAS-Bench-201), mbv2 (the MobileNetV2 space of the paper's ImageNet search), or timm_zoo
            (timm's models, by name).
        network: Options of the space's networks, such as '{image_size: 16, num_classes: 120}'. Every space has
            num_classes, image_size and in_channels. nb201 (10 classes, 32 pixels): also channels (16), cells (5),
            bn_affine, bn_track_running_stats. mbv2 (1000 classes, 224 pixels): also use_se, bn_eps. timm_zoo (1000
            classes, 224 pixels): also what timm.create_model takes.
        archs: Architectures: digits (nb201: those of the embedded accuracy table), oracle (those of the table chosen by
            oracle), sample:N (N different ones at random; nb201: unique ones), all, unique (nb201: 9,445 of 15,625), a
            pattern such as 'mobilenet*', a file (one architecture per line, CSV with a column arch, or the found.json of
            a search: its best ones), one architecture, or a list. mbv2: a name such as mbv2_480m, or a structure string.
        archs_seed: Decides which architectures sample:N draws.
        max_macs: Leave out architectures with more multiply-adds per image, counted at the space's usual size of images;
            such as 1.0e9.
        proxies: Proxies, by name or with parameters; for example '[macs, aleph, {name: vkdnw, alpha: 0.1}]'.
        seeds: Seeds of initialisation and input: 1, '[1,2,3]' or 1..5. With several, metrics are means and standard
            deviations over them.
        batch_size: Images per batch.
        input: Images for proxies that take any: random (normal values, with random labels), digits, a .npy file of images, a .npz file of images and labels,
            or the training images of a LightningDataModule, '{class_path: my.DataModule, init_args: {...}}'.
        data: Images, the same choices, for proxies that are defined on real ones (jacov, grasp, snip, zico, ...).
        init: Initialisation of the weights: auto is each proxy's own (most have kaiming_normal; the README's table
            says which), or for all of them kaiming_normal, gaussian, zennas, pytorch (the constructors'), or keep.
        oracle: Known accuracies of the space. nb201: digits (embedded), nb201 (public tables), nats (NATS-Bench folder);
            timm_zoo: timm (timm's ImageNet results); any: a CSV file with columns arch,<data set>. auto: the public
            tables if they were downloaded, else for nb201 the embedded one, else none: then there are no metrics.
        oracle_path: Folder of the public tables, of NATS-Bench or of timm's results, if it is not the cache folder.
        rankings: Rankings to evaluate: columns, the named sets vkdnw_single, vkdnw_agg, vkdnw_plus, az_nas, te_nas, or own ones such as
            'aleph>vkdnw+jacov' (log-ranks of the pair and of jacov added). Default: all that the proxies allow.
        top_k: nDCG looks at this many architectures from the top of a ranking.
        device: Where to compute; auto takes CUDA if there is some.
        workers: Processes: auto is one for each CPU core that may be used (or for each GPU).
        row_timeout: Seconds that one network may take; one that takes longer becomes a failed row. Default: no limit.
        shard: Score only part i of n, for array jobs: i/n with i from 0. Give each its own out; then run merge.
        out: Run folder. Default: a name made from the settings, below runs/.
        overwrite: Delete the results that are in the run folder.
        retry_failed: Score again what failed in an earlier run.
        progress: Show how far it is; false for nothing but the results.
        wandb: Log to Weights & Biases too: true (the project vkdnw_pl, or WANDB_PROJECT), PROJECT, or ENTITY/PROJECT.
            Without a key or network it writes offline into OUT/wandb.
        wandb_group: Group of the run there. Default: the shards of a scoring are one, and their merge is in it.
        wandb_tags: Tags of the run there, such as '[first, second]'.

    Returns:
        0 if every row is ok, 1 if some failed, 130 after Ctrl-C.

    Raises:
        UsageError: if an option is not allowed, or the run folder holds results of other settings.
        CommandFailed: if the run folder is in use.
    """
    options = dict(locals())
    began_at = time.monotonic()
    with user_input():
        wandb_options(options)
        plan = plan_scoring(options)
    folder = ScoreFolder(out or _default_out(plan.settings, plan.shard))
    options.update(out=str(folder.path), overwrite=False, retry_failed=False)
    with user_input():
        folder.check_continues(
            plan.record, overwrite
        )  # before waiting for a run of other settings, such as another shard
    try:
        with folder.lock():
            return _run(plan, folder, options, overwrite, retry_failed, progress, began_at)
    except FolderBusy as error:
        raise CommandFailed(str(error)) from error
    except (FileExistsError, NotADirectoryError) as error:
        raise UsageError(f"out={out!r} is not allowed: {error.filename} is a file") from error


def _default_out(settings: ScoreSettings, shard: Shard | None) -> str:
    """A folder that the same settings lead to again."""
    name = f"{settings.space}-{settings.digest()}"
    return f"runs/{name}" if shard is None else f"runs/{name}-shard-{shard.index}-of-{shard.count}"


def _run(
    plan: ScorePlan,
    folder: ScoreFolder,
    options: Mapping[str, Any],
    overwrite: bool,
    retry_failed: bool,
    progress: bool,
    began_at: float,
) -> int:
    with user_input():
        if overwrite:
            folder.clear()
        folder.check_continues(plan.record)
        rows = folder.read_rows()
    _say_what(plan, folder, rows, retry_failed)
    if retry_failed:
        rows = {key: row for key, row in rows.items() if not row.failed}
        folder.write_scores(_table(plan, rows))
    folder.write_archs(plan.settings.archs)
    record = RunRecord(folder, options, plan.record, plan.settings.device, digest=plan.settings.digest())
    if record.earlier and rows:
        _warn_of_other_versions(record.earlier, record.meta["environment"])
    group = None if plan.shard is None else group_of("score", plan.settings.digest())
    with record, tracked_run(options, folder.path, "score", record.meta, group) as tracked:
        return tracked.ended(_make_and_evaluate(plan, folder, rows, record, progress, began_at, tracked))


def _make_and_evaluate(
    plan: ScorePlan,
    folder: ScoreFolder,
    rows: Mapping[Key, ScoreRow],
    record: RunRecord,
    progress: bool,
    began_at: float,
    tracked: Tracked,
) -> int:
    """Make the rows that are not there, and write the results."""
    keys = [key for key in plan.keys if key not in rows]
    stopped = None
    processes = max(1, min(plan.workers, len(keys)))
    if keys:
        try:
            _make_rows(plan, folder, keys, processes, progress, tracked)
        except Stopped as stop:
            stopped = stop
    rows = folder.read_rows()
    table = _table(plan, rows)
    folder.write_scores(table)
    record.attempt |= {
        "processes": processes,
        "threads_per_process": 1 if plan.settings.device == "cpu" else None,
        "rows_made": sum(key in rows for key in keys),
        "rows_in_table": len(table.rows),
        "rows_failed": failed_rows(table),
        "stopped_by": stopped.name if stopped else None,
    }
    if stopped is not None:
        record.end("stopped")
        print(
            f"\nstopped by {stopped.name}: {len(table.rows)} of {len(plan.keys)} rows are kept in {folder.path}. "
            f"Continue with: python -m vkdnw_pl score --config {shlex.quote(str(folder.config))}",
            file=sys.stderr,
        )
        return 128 + stopped.signum
    log_scores(tracked, table)
    if plan.shard is None:
        evaluation = write_results(folder, table, plan.oracle, plan.rankings, plan.top_k)
        log_evaluation(tracked, folder, evaluation, plan.oracle)
    else:
        print_failures(table)
    record.end("finished")
    log_score_files(tracked, folder)
    _say_done(plan, folder, table, len(keys), began_at)
    return 1 if failed_rows(table) else 0


def _make_rows(
    plan: ScorePlan, folder: ScoreFolder, keys: Sequence[Key], processes: int, progress: bool, tracked: Tracked
) -> None:
    """Score into a journal of ``folder``."""
    from vkdnw_pl.scoring.scorer import Scorer  # imports what a finished run does without
    from vkdnw_pl.scoring.workers import Workers
    from vkdnw_pl.tracking.curves import ScoreCurve

    curve = ScoreCurve(tracked.log, len(plan.keys) - len(keys))
    journal = Journal(folder.journals, plan.columns)
    scorer, device = Scorer.of(plan.settings), plan.settings.device
    try:
        with (
            stop_signals(),
            Progress(len(keys), shown=progress) as display,
            Workers(scorer, device, processes, plan.row_timeout) as workers,
        ):
            for row in workers.rows(keys, display.waiting):
                journal.append(row)
                display.add(row.failed)
                curve.add()
    except WorkerDied as death:
        raise CommandFailed(f"a worker died: {death}. The rows made so far are kept; run it again") from death
    finally:
        journal.close()
        curve.close()


def _table(plan: ScorePlan, rows: Mapping[Key, ScoreRow]) -> ScoreTable:
    """The rows in the order of the table, which does not depend on who made them when."""
    return ScoreTable(plan.columns, [rows[key] for key in plan.keys if key in rows])


def _say_what(plan: ScorePlan, folder: ScoreFolder, rows: Mapping[Key, ScoreRow], retry_failed: bool) -> None:
    settings = plan.settings
    archs, seeds = len({arch for arch, _ in plan.keys}), len(settings.seeds)
    part = "" if plan.shard is None else f" (shard {plan.shard} of {len(settings.archs)})"
    print(
        f"scoring {archs} architectures of {settings.space}{part} with {seeds} seed{'s' * (seeds > 1)} on "
        f"{settings.device}, run folder {folder.path}"
    )
    if rows:
        failed = sum(row.failed for row in rows.values())
        note = "" if not failed else f", {failed} of them failed"
        if failed:
            note += ", which are scored again" if retry_failed else " (--retry_failed scores those again)"
        print(f"{len(rows)} of {len(plan.keys)} rows are there already{note}")
    sys.stdout.flush()


def _warn_of_other_versions(earlier: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    before, after = earlier["environment"]["versions"], now["versions"]
    changed = [f"{name} {before.get(name)} -> {after[name]}" for name in after if before.get(name) != after[name]]
    if changed:
        print(
            f"note: the rows that are there were made with other versions ({', '.join(changed)}), which may score "
            "differently in the last digits",
            file=sys.stderr,
        )


def _say_done(plan: ScorePlan, folder: ScoreFolder, table: ScoreTable, made: int, began_at: float) -> None:
    seconds = time.monotonic() - began_at
    print(f"scores of {len(table.rows)} rows in {folder.scores} ({made} made now, {seconds:.0f} s in all)")
    if plan.shard is not None:
        print(
            f"this is shard {plan.shard}; when all are done, join them with: python -m vkdnw_pl merge SHARD_FOLDERS... "
            "--out DIR"
        )
