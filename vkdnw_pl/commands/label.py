"""The command ``label``."""

from __future__ import annotations

import json
import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import yaml

from vkdnw_pl.commands.results import (
    failed_rows,
    print_failures,
    print_notes,
    print_rows_there,
    print_shard,
    print_stopped,
    record_rows,
    write_label_results,
)
from vkdnw_pl.errors import CommandFailed, UsageError, WorkerDied, unknown, user_input
from vkdnw_pl.labels.folder import LabelFolder
from vkdnw_pl.labels.plan import NO_ARCH, LabelOptions, LabelPlan, plan_labels, seeds_text
from vkdnw_pl.labels.settings import COLUMNS
from vkdnw_pl.option_parser import CommandParser
from vkdnw_pl.options import as_config
from vkdnw_pl.runs.documents import read_yaml
from vkdnw_pl.runs.record import RunRecord
from vkdnw_pl.runs.signals import Stopped, stop_signals
from vkdnw_pl.runs.table import Key, ScoreRow, ScoreTable, new_journal, row_line
from vkdnw_pl.scoring.progress import Progress
from vkdnw_pl.tracking.results import log_labels
from vkdnw_pl.tracking.run import WandbRun, wandb_run

_CURVE_EVERY_S = 10.0
_OF_THE_RECIPE = f"{UsageError.__name__}: "
"""Begins the reason of a training that would fail with every network."""
_RECIPE = ("model", "data", "trainer")
_OF_FIT = (*_RECIPE, "test_after", "seed_everything", "ckpt_path")
"""Top-level options of ``fit`` that a recipe may hold; the last three have no meaning here."""


def label(options: LabelOptions) -> int:
    """Train several networks with one recipe, and make an accuracy table of them.

    It is a benchmark of your own images: every (network, seed) is one row of OUT/labels.csv, trained as fit trains with this recipe and seed. The means are
    OUT/accuracies.csv; score, search and evaluate take the folder as --oracle. Rows are kept as they are made: after a
    Ctrl-C or a crash the same command continues. The recipe is that of fit: --config FILE, --data ..., --model...,
    --trainer...

    Returns:
        0 if every training is ok, 1 if some failed, 130 after Ctrl-C.
    """
    began_at = time.monotonic()
    with user_input():
        plan = plan_labels(options)
        folder = LabelFolder(options.out or plan.default_out)
        folder.check_continues(plan.record, options.overwrite)
    with folder.lock():
        with user_input():
            if options.overwrite:
                folder.clear()
            folder.check_continues(plan.record)
            rows = folder.read_rows()
        _print_plan(plan, folder, rows, options.retry_failed)
        if options.retry_failed:
            rows = {key: row for key, row in rows.items() if not row.failed}
            folder.write_labels(_table(plan, rows), plan.groups)
        folder.write_archs(list(plan.groups))
        config = as_config(replace(options, out=str(folder.path), overwrite=False, retry_failed=False))
        record = RunRecord(
            folder, config, plan.record, plan.settings.device, digest=plan.settings.digest(), notes=[*plan.notes]
        )
        group = None if plan.shard is None else f"label-{plan.settings.digest()}"
        with record, wandb_run(options, config, folder.path, "label", record.meta, group) as run:
            run.exit_code = _make_table(options, plan, folder, rows, record, run, began_at)
            return run.exit_code


def label_options(arguments: Sequence[str], prog: str, note: str = "") -> LabelOptions:
    """The options of ``label`` from a command line; those of the recipe as ``fit`` reads them."""
    parser = CommandParser(label, prog, note)
    names = [item.name for item in fields(LabelOptions) if item.name not in _RECIPE]
    with TemporaryDirectory() as folder:
        own, recipe = _split(list(arguments), names, Path(folder))
        options = parser.parse(own)
        if not options.archs:
            raise UsageError("archs is missing: say which networks to train, such as --archs found.json,random:5")
        from vkdnw_pl.commands.train import training_config

        fit = training_config("fit", ["--model.arch", NO_ARCH, *recipe], prog)
    options = replace(options, **{name: fit[name] for name in _RECIPE})
    if "--print_config" in arguments:
        print(yaml.safe_dump(as_config(options), sort_keys=False, allow_unicode=True), end="")
        raise SystemExit(0)
    return options


def _split(arguments: list[str], names: Sequence[str], folder: Path) -> tuple[list[str], list[str]]:
    """Arguments of ``label`` itself, and those of its recipe; of a config file that holds both, a part goes into ``folder``."""
    own: list[str] = []
    recipe: list[str] = []
    target = own
    while arguments:
        argument = arguments.pop(0)
        flag, _, value = argument.partition("=")
        head = flag.removeprefix("--").partition(".")[0].replace("-", "_")
        if flag in ("-c", "--config"):
            path = value or (arguments.pop(0) if arguments else "")
            if not path:
                raise UsageError("--config needs a file")
            of_label, of_fit = _split_file(path, names, folder)
            own += of_label
            recipe += of_fit
        elif argument == "--print_config":
            pass
        elif argument.startswith("--") and head == "seed_everything":
            raise UsageError(
                "--seed_everything has no use here: --seeds says with which seeds every network is trained"
            )
        elif argument.startswith("--") and head in _OF_FIT:
            target = recipe
            target.append(argument)
        elif argument.startswith("--") and head not in (*names, "help"):
            raise UsageError(unknown("option", flag, [f"--{name}" for name in (*names, *_RECIPE)]))
        else:
            target = own if argument.startswith("-") and not argument[1:2].isdigit() else target
            target.append(argument)
    return own, recipe


def _split_file(path: str, names: Sequence[str], folder: Path) -> tuple[list[str], list[str]]:
    file = Path(path).expanduser()
    if not file.is_file():
        return [], ["--config", path]  # which fit's parser knows by name, or refuses
    with user_input():
        content = read_yaml(file)
    of_label = [f"--{name}={_as_argument(value)}" for name, value in content.items() if name in names]
    if of_label:
        file = folder / f"{len(list(folder.iterdir()))}.yaml"
        file.write_text(json.dumps({name: value for name, value in content.items() if name not in names}), "utf-8")
    return of_label, ["--config", str(file)]


def _as_argument(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _make_table(
    options: LabelOptions,
    plan: LabelPlan,
    folder: LabelFolder,
    rows: Mapping[Key, ScoreRow],
    record: RunRecord,
    run: WandbRun,
    began_at: float,
) -> int:
    """Train what is missing, and write the results."""
    keys = [key for key in plan.keys if key not in rows]
    stopped = None
    try:
        if keys:
            _make_rows(options, plan, folder, keys, run)
    except Stopped as stop:
        stopped = stop
    rows = folder.read_rows()
    table = _table(plan, rows)
    folder.write_labels(table, plan.groups)
    record_rows(record, plan, keys, rows, table, stopped)
    if stopped is not None:
        record.end("stopped")
        print_stopped(stopped, folder, len(table.rows), len(plan.keys))
        return stopped.exit_code
    folder.remove_unfinished()
    if plan.shard is None:
        write_label_results(folder, plan.settings.record())
        log_labels(run, folder, folder.scores)
    print_failures(table.rows)
    record.end("finished")
    seconds = time.monotonic() - began_at
    print(f"{len(table.rows)} rows in {folder.scores} ({len(keys)} made now, {seconds:.0f} s in all)")
    if plan.shard is not None:
        print_shard(plan.shard)
    return 1 if failed_rows(table) else 0


def _make_rows(options: LabelOptions, plan: LabelPlan, folder: LabelFolder, keys: Sequence[Key], run: WandbRun) -> None:
    """Train into a journal of ``folder``."""
    from vkdnw_pl.labels.rows import RowTrainer
    from vkdnw_pl.scoring.workers import Workers

    display = Progress(len(keys), verb="training", unit="training", shown=options.progress)
    journal = new_journal(folder.journals, COLUMNS)
    trainer, device = RowTrainer(plan.settings, folder.unfinished), plan.settings.device
    try:
        with stop_signals(), display, Workers(trainer, device, plan.workers, options.row_timeout) as workers:
            for row in workers.rows(keys, display.waiting):
                if row.reason.startswith(_OF_THE_RECIPE) and display.done == display.failed:
                    raise UsageError(row.reason.removeprefix(_OF_THE_RECIPE))
                journal.append(row_line(row, COLUMNS))
                display.add(row.failed)
                run.log_every(_CURVE_EVERY_S, lambda: {"label/rows": len(plan.keys) - len(keys) + display.done})
    except WorkerDied as death:
        raise CommandFailed(f"a worker died: {death}. The rows made so far are kept; run it again") from death
    finally:
        journal.close()


def _table(plan: LabelPlan, rows: Mapping[Key, ScoreRow]) -> ScoreTable:
    return ScoreTable(COLUMNS, [rows[key] for key in plan.keys if key in rows])


def _print_plan(plan: LabelPlan, folder: LabelFolder, rows: Mapping[Key, ScoreRow], retry_failed: bool) -> None:
    settings, groups = plan.settings, plan.groups
    counts = ", ".join(f"{count} {name}" for name, count in Counter(groups.values()).items())
    part = "" if plan.shard is None else f" (shard {plan.shard} of {len(settings.groups)})"
    epochs = settings.recipe["trainer"]["max_epochs"]
    print(
        f"training {len(groups)} networks{part} ({counts}; space {settings.space}) for {epochs} epochs each with "
        f"seed{'s' * (len(settings.seeds) > 1)} {seeds_text(settings.seeds)} on {settings.device}, run folder {folder.path}"
    )
    if rows:
        print_rows_there(rows, len(plan.keys), retry_failed, "trained", "trains")
    print_notes(plan.notes)
    sys.stdout.flush()
