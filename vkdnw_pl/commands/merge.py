"""The command ``merge``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from vkdnw_pl.commands.results import failed_rows, write_results
from vkdnw_pl.errors import CommandFailed, user_input
from vkdnw_pl.oracles import find_oracle
from vkdnw_pl.runs.folder import FolderBusy
from vkdnw_pl.runs.record import RunRecord
from vkdnw_pl.runs.settings import Record, differences
from vkdnw_pl.runs.table import Key, ScoreRow, ScoreTable, join_rows
from vkdnw_pl.scoring.folder import ScoreFolder
from vkdnw_pl.tracking.contents import log_evaluation, log_score_files, log_scores
from vkdnw_pl.tracking.options import wandb_options
from vkdnw_pl.tracking.tracked import group_of, tracked_run


def merge(
    shards: list[str],
    out: str | None = None,
    allow_missing: bool = False,
    wandb: bool | str = False,
    wandb_group: str | None = None,
    wandb_tags: list[str] = [],  # noqa: B006  (only read)
) -> int:
    """Join the shards of a scoring run into one score table, and evaluate it.

    The result is the run folder that score would have made without shards. The shards stay as they are.

    Args:
        shards: Run folders made by score with --shard 0/n, 1/n, ... and otherwise equal settings.
        out: Folder for the result. Default: a name made from the settings, below runs/.
        allow_missing: Write the table though rows are missing. The command that is printed then scores them.
        wandb: Log to Weights & Biases too: true (the project vkdnw_pl, or WANDB_PROJECT), PROJECT, or ENTITY/PROJECT.
            Without a key or network it writes offline into OUT/wandb.
        wandb_group: Group of the run there. Default: that of the shards.
        wandb_tags: Tags of the run there, such as '[first, second]'.

    Returns:
        0, or 1 if a row failed.

    Raises:
        UsageError: if a folder is no run folder, settings differ, rows contradict each other or are missing.
        CommandFailed: if the folder for the result is in use.
    """
    given = {"wandb": wandb, "wandb_group": wandb_group, "wandb_tags": wandb_tags}
    with user_input():
        wandb_options(given)
        folders = [ScoreFolder(shard) for shard in shards]
        metas = [folder.read_meta() for folder in folders]
        settings = _common_settings(folders, metas)
        archs = folders[0].read_archs()
        keys = [(arch, seed) for arch in archs for seed in settings["seeds"]]
        rows = _join(folders)
        missing = [key for key in keys if key not in rows]
        if missing and not allow_missing:
            raise ValueError(_describe_missing(missing, keys, metas))
        columns = _columns(rows)
        options = yaml.safe_load(folders[0].config.read_text(encoding="utf-8"))
        oracle = find_oracle(options["oracle"], options["oracle_path"], settings["space"])
        target = ScoreFolder(out or f"runs/{settings['space']}-{metas[0]['digest']}")
        target.check_continues(settings)
        from vkdnw_pl.scoring.evaluation import choose_rankings

        rankings = choose_rankings(columns, options["rankings"])
    group = options.get("wandb_group") or group_of("score", metas[0]["digest"])
    options.update(shard=None, out=str(target.path), **given)
    table = ScoreTable(columns, [rows[key] for key in keys if key in rows])
    facts = {
        "digest": metas[0]["digest"],
        "environment": metas[0]["environment"],
        "runs": [run for meta in metas for run in meta["runs"]],
        "merged": [
            {"folder": str(folder.path), "shard": meta["settings"]["shard"], "environment": meta["environment"]}
            for folder, meta in zip(folders, metas)
        ],
    }
    try:
        with target.lock():
            target.write_archs(archs)
            record = RunRecord(target, options, settings, **facts)
            meta = {**record.meta, "command": "merge"}
            with record, tracked_run(options, target.path, "merge", meta, group) as tracked:
                target.write_scores(table)
                print(f"merged {len(folders)} folders: {len(table.rows)} of {len(keys)} rows in {target.scores}")
                if missing:
                    print(
                        f"score the {len(missing)} missing rows with: python -m vkdnw_pl score --config {target.config}"
                    )
                log_scores(tracked, table)
                evaluation = write_results(target, table, oracle, rankings, options["top_k"])
                log_evaluation(tracked, target, evaluation, oracle)
                record.end("stopped" if missing else "finished")
                log_score_files(tracked, target)
                return tracked.ended(1 if failed_rows(table) else 0)
    except FolderBusy as error:
        raise CommandFailed(str(error)) from error


def _common_settings(folders: Sequence[ScoreFolder], metas: Sequence[Mapping[str, Any]]) -> Record:
    first, *others = ({**meta["settings"], "shard": None} for meta in metas)
    for folder, other in zip(folders[1:], others):
        if different := differences(first, other):
            raise ValueError(
                f"{folder.path} was made with other settings than {folders[0].path}: "
                f"{'; '.join(different).replace('there:', 'first:').replace('now:', 'this:')}"
            )
    return first


def _join(folders: Sequence[ScoreFolder]) -> dict[Key, ScoreRow]:
    """All rows of all shards; a row that several have must be the same in each."""
    rows = [row for folder in folders for row in folder.read_rows().values()]
    return join_rows(rows, "the shards")


def _columns(rows: Mapping[Key, ScoreRow]) -> tuple[str, ...]:
    if not rows:
        raise ValueError("the shards hold no rows")
    return tuple(next(iter(rows.values())).values)


def _describe_missing(missing: Sequence[Key], keys: Sequence[Key], metas: Sequence[Mapping[str, Any]]) -> str:
    given = [meta["settings"]["shard"] for meta in metas]
    counts = {shard.partition("/")[2] for shard in given if shard}
    absent = ""
    if len(counts) == 1:
        count = counts.pop()
        names = [f"{i}/{count}" for i in range(int(count)) if f"{i}/{count}" not in given]
        archs = list(dict.fromkeys(arch for arch, _ in keys))
        place = {arch: i for i, arch in enumerate(archs)}
        lacking = sorted({place[arch] % int(count) for arch, _ in missing})
        unfinished = [f"{i}/{count}" for i in lacking if f"{i}/{count}" in given]
        parts = [
            f"{what}: shard {', '.join(which)}"
            for what, which in (("not given", names), ("not finished", unfinished))
            if which
        ]
        absent = f" ({'; '.join(parts)})"
    arch, seed = missing[0]
    return (
        f"{len(missing)} of {len(keys)} rows are missing{absent}, the first is {arch} with seed {seed}; give all shards, "
        "finish them, or merge what there is with --allow_missing"
    )
