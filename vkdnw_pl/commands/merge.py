"""The command ``merge``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from vkdnw_pl.commands.results import (
    failed_rows,
    print_failures,
    result_notes,
    write_label_results,
    write_results,
)
from vkdnw_pl.errors import program, user_input
from vkdnw_pl.labels.folder import LabelFolder
from vkdnw_pl.options import WandbOptions, as_config
from vkdnw_pl.oracles import find_oracle
from vkdnw_pl.runs.record import RunRecord
from vkdnw_pl.scoring.folder import ScoreFolder, join_shards
from vkdnw_pl.spaces import make_space
from vkdnw_pl.tracking.results import log_evaluation, log_labels, log_score_files, log_scores
from vkdnw_pl.tracking.run import wandb_run


@dataclass(frozen=True, kw_only=True)
class MergeOptions(WandbOptions):
    """Options of ``merge``."""

    shards: list[str]
    """Run folders made by score, or by label, with --shard 0/n, 1/n, ... and otherwise equal settings."""
    space: str | None = None
    """The search space of the shards, where it is a class of your own and an oracle file is of it: its dotted name."""
    out: str | None = None
    """Folder for the result. Default: a name made from the settings, below runs/."""
    allow_missing: bool = False
    """Write the table though rows are missing. The command that is printed then makes them."""


def merge(options: MergeOptions) -> int:
    """Join the shards of a scoring run into one score table, and evaluate it; or those of an accuracy table.

    The result is the run folder that score, or label, would have made without shards. The shards stay as they are.

    Returns:
        0, or 1 if a row failed.
    """
    from vkdnw_pl.scoring.evaluation import choose_rankings

    with user_input():
        if ScoreFolder(options.shards[0]).read_meta().get("command") == LabelFolder.command:
            return _merge_labels(options)
        joined = join_shards([ScoreFolder(shard) for shard in options.shards], options.allow_missing)
        settings, config = joined.settings, joined.config
        if options.space is not None and make_space(options.space).key != settings["space"]:
            raise ValueError(f"space={options.space!r} is not allowed: the shards are of {settings['space']!r}")
        oracle = None
        if config["oracle"] is not None:
            oracle = find_oracle(
                config["oracle"], config["oracle_path"], settings["space"], config.get("oracle_measures")
            )
        folder = ScoreFolder(options.out or f"runs/{settings['space']}-{joined.digest}")
        folder.check_continues(settings)
        rankings = choose_rankings(joined.table.columns, config["rankings"])
    group = config.get("wandb_group") or f"score-{joined.digest}"
    config |= _whole(options, folder)
    with folder.lock():
        folder.write_archs(joined.archs)
        record = RunRecord(folder, config, settings, digest=joined.digest, **joined.facts)
        meta = {**record.meta, "command": "merge"}
        with record, wandb_run(options, config, folder.path, "merge", meta, group) as run:
            table = joined.table
            folder.write_scores(table)
            rows = len(table.rows) + joined.missing
            print(f"merged {len(options.shards)} folders: {len(table.rows)} of {rows} rows in {folder.scores}")
            if joined.missing:
                print(f"score the {joined.missing} missing rows with: {program()} score --config {folder.config}")
            log_scores(run, table)
            evaluation = write_results(folder, table, oracle, rankings, config["top_k"])
            log_evaluation(run, folder, evaluation, oracle)
            record.meta["notes"] = result_notes(evaluation, oracle)
            record.meta["cautions"] = [] if oracle is None else oracle.warnings
            record.end("stopped" if joined.missing else "finished")
            log_score_files(run, folder)
            run.exit_code = 1 if failed_rows(table) else 0
            return run.exit_code


def _merge_labels(options: MergeOptions) -> int:
    folders = [LabelFolder(shard) for shard in options.shards]
    joined = join_shards(folders, options.allow_missing)
    if options.space is not None:
        options.refuse("with shards of label", "space")
    groups = {arch: group for folder in folders for arch, group in folder.read_groups().items()}
    folder = LabelFolder(options.out or f"runs/label-{joined.digest}")
    folder.check_continues(joined.settings)
    config = joined.config | _whole(options, folder)
    with folder.lock():
        folder.write_archs(joined.archs)
        record = RunRecord(folder, config, joined.settings, digest=joined.digest, **joined.facts)
        group = config.get("wandb_group") or f"label-{joined.digest}"
        meta = {**record.meta, "command": "merge"}
        with record, wandb_run(options, config, folder.path, "merge", meta, group) as run:
            folder.write_labels(joined.table, groups)
            rows = len(joined.table.rows) + joined.missing
            print(f"merged {len(folders)} folders: {len(joined.table.rows)} of {rows} rows in {folder.scores}")
            if joined.missing:
                print(f"train the {joined.missing} missing ones with: {program()} label --config {folder.config}")
            write_label_results(folder, joined.settings)
            print_failures(joined.table.rows)
            record.end("stopped" if joined.missing else "finished")
            log_labels(run, folder, folder.scores)
            run.exit_code = 1 if failed_rows(joined.table) else 0
            return run.exit_code


def _whole(options: MergeOptions, folder: ScoreFolder) -> dict[str, Any]:
    """Options of the joined run that are not those of its shards."""
    own = as_config(options)
    return {"shard": None, "out": str(folder.path), **{name: own[name] for name in own if name.startswith("wandb")}}
