"""What a command needs to run as jobs: its options, checked as the command itself checks them, its tasks and scripts."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from vkdnw_pl.cluster.options import LaunchOptions
from vkdnw_pl.cluster.record import Launch, LaunchFolder, Task
from vkdnw_pl.errors import UsageError, user_input
from vkdnw_pl.option_parser import make_parser
from vkdnw_pl.runs.settings import Record
from vkdnw_pl.scoring.folder import ScoreFolder
from vkdnw_pl.scoring.options import Shard

LAUNCHED = ("score", "search", "fit", "validate", "test", "predict", "evaluate")
"""Commands that can be launched."""
TRAINING = ("fit", "validate", "test", "predict")

_NOT_OF_TASKS = ("out", "overwrite", "retry_failed", "shard", "nodes")


@dataclass(frozen=True)
class Planned:
    """A launch that is not submitted yet."""

    launch: Launch
    options: str | None = None
    """Content of the options file that the tasks are given, so that a later change of the user's files changes nothing."""
    overwrite: bool = False
    retry_failed: bool = False
    clear: Callable[[], None] | None = None
    """Deletes the results that are in the run folder."""
    depends: bool = True
    """Whether the condition of ``--dependency`` is still to be waited for."""
    repeat: bool = False
    """Whether what has ended is done again, as without ``--launch``: for commands that keep no record of their end."""


def plan_launch(command: str, arguments: Sequence[str], chosen: LaunchOptions, prog: str) -> Planned:
    """Check the command's own options and cut it into tasks.

    Args:
        command: one of `LAUNCHED`.
        arguments: of the command.
        chosen: options of ``--launch``.
        prog: how the user calls the command.

    Raises:
        UsageError: for what is not allowed.
        SystemExit: after --print_config.
    """
    for name, commands in (("array", ("score", "fit")), ("nodes", ("search", *TRAINING))):
        if getattr(chosen, name) is not None and command not in commands:
            raise UsageError(f"--{name} is not for {command}; it is for {', '.join(commands)}")
    if command == "score":
        return _plan_score(arguments, chosen, prog)
    if command == "search":
        return _plan_search(arguments, chosen, prog)
    if command == "evaluate":
        return _plan_evaluate(arguments, chosen, prog)
    from vkdnw_pl.commands.launch_training import plan_training

    return plan_training(command, arguments, chosen, prog)


def new_launch(command: str, out: str, arguments: Sequence[str], chosen: LaunchOptions, **values: Any) -> Launch:
    """A launch from here, of which nothing is submitted yet."""
    return Launch(
        command=command,
        out=out,
        arguments=list(arguments),
        directory=os.getcwd(),
        resources=chosen.resources(),
        place=chosen.place(),
        job_name=chosen.job_name or f"vkdnw-{command}",
        at_once=chosen.at_once,
        dependency=chosen.dependency,
        **values,
    )


def group(out: str, options: Mapping[str, Any]) -> str | None:
    """Name under which W&B shows the tasks of an array together."""
    if not options.get("wandb") or options.get("wandb_group") or os.environ.get("WANDB_RUN_GROUP"):
        return None
    return f"{Path(out).name}-{secrets.token_hex(3)}"


def _plan_score(arguments: Sequence[str], chosen: LaunchOptions, prog: str) -> Planned:
    from vkdnw_pl.commands.score import score
    from vkdnw_pl.commands.score_plan import plan_scoring

    options = make_parser(score, prog).parse_options(arguments)
    if options["shard"] is not None:
        raise UsageError(f"shard={options['shard']!r} has no use with --launch: --array N cuts the work into N parts")
    with user_input():
        _check_wandb(options)
        plan = plan_scoring({**options, **_HERE})
    count = chosen.array
    archs, seeds = plan.settings.archs, len(plan.settings.seeds)
    if count is not None and count > len(archs):
        raise UsageError(f"array={count} is not allowed: there are only {len(archs)} architectures")
    out = out_folder(options["out"] or f"runs/{plan.settings.space}-{plan.settings.digest()}")
    settings = _comparable(plan.settings.record(), options)
    if count is None:
        tasks = [Task("score", rows=len(plan.keys))]
    else:
        tasks = [
            Task(f"{i}-of-{count}", f"shards/{i}-of-{count}", i, len(Shard(i, count).of(archs)) * seeds)
            for i in range(count)
        ]
    with user_input():
        for folder in [Path(out), *(Path(out) / task.folder for task in tasks)]:
            ScoreFolder(folder).check_continues(settings, options["overwrite"], partial=True)
    if not options["overwrite"]:
        _check_count(Path(out), count)
    options_file = LaunchFolder(out, "score").options
    launch = new_launch(
        "score",
        out,
        arguments,
        _with_cores(chosen, options),
        script="command.sbatch" if count is None else "score_array.sbatch",
        script_arguments=[
            *(["score"] if count is None else []),
            *("--config", str(options_file)),
            *([] if count is None else ["--shards", str(count)]),
        ],
        tasks=tasks,
        settings=settings,
        merge=None if count is None else ["--shards", str(count), *_wandb_arguments(options)],
        group=None if count is None else group(out, options),
    )
    return Planned(
        launch,
        _task_options(options),
        options["overwrite"],
        options["retry_failed"],
        ScoreFolder(out).clear,
    )


def _plan_search(arguments: Sequence[str], chosen: LaunchOptions, prog: str) -> Planned:
    from vkdnw_pl.commands.search import search
    from vkdnw_pl.commands.search_plan import plan_search
    from vkdnw_pl.search.folder import SearchFolder

    options = make_parser(search, prog).parse_options(arguments)
    with user_input():
        _check_wandb(options)
        plan = plan_search({**options, **_HERE, "nodes": 1})
    nodes = chosen.nodes or options["nodes"]
    if nodes > 1 and not plan.settings.proxies:
        raise UsageError(f"nodes={nodes} has no use here: there is no proxy to compute; leave it out")
    chosen = replace(chosen, nodes=None if nodes == 1 else nodes)
    if nodes == 1:
        chosen = _with_cores(chosen, options)
    else:  # one process per task
        per_node = options["workers"] if options["workers"] != "auto" else chosen.gpu_count or chosen.cpus or 1
        chosen = replace(chosen, cpus=None, sbatch=(f"--ntasks-per-node={per_node}", *chosen.sbatch))
    out = out_folder(options["out"] or f"runs/search-{plan.settings.space}-{plan.settings.digest()}")
    settings = _comparable(plan.settings.record(), options)
    folder = SearchFolder(out)
    with user_input():
        folder.check_continues(settings, options["overwrite"], partial=True)
    launch = new_launch(
        "search",
        out,
        arguments,
        chosen,
        script="search.sbatch",
        script_arguments=["--config", str(LaunchFolder(out, "search").options)],
        tasks=[Task("search", rows=options["evaluations"])],
        settings=settings,
    )
    return Planned(launch, _task_options(options), options["overwrite"], clear=folder.clear)


def _plan_evaluate(arguments: Sequence[str], chosen: LaunchOptions, prog: str) -> Planned:
    from vkdnw_pl.commands.evaluate import evaluate

    options = make_parser(evaluate, prog).parse_options(arguments)
    if options["out"] is None:
        raise UsageError("out is missing: with --launch, say where the results go, such as --out runs/evaluation")
    for path in [options["scores"]] if isinstance(options["scores"], str) else options["scores"]:
        if not Path(path).expanduser().exists():
            raise UsageError(f"{path} cannot be read: there is no such file or folder")
    with user_input():
        _check_wandb(options)
    out, rest = out_folder(options["out"]), without(arguments, "out")
    launch = new_launch(
        "evaluate",
        out,
        arguments,
        chosen,
        script="command.sbatch",
        script_arguments=["evaluate", *rest],
        tasks=[Task("evaluate", meta=False)],
    )
    return Planned(launch, repeat=True)


_HERE = {"device": "cpu", "workers": 1}
"""In place of what a compute node has, while options are checked here."""


def without(arguments: Sequence[str], option: str) -> list[str]:
    """Arguments without ``--option VALUE`` and ``--option=VALUE``."""
    kept, skip = [], False
    for argument in arguments:
        if skip:
            skip = False
        elif argument == f"--{option}":
            skip = True
        elif not argument.startswith(f"--{option}="):
            kept.append(argument)
    return kept


def _check_wandb(options: Mapping[str, Any]) -> None:
    from vkdnw_pl.tracking.options import wandb_options

    wandb_options(options)


def _wandb_arguments(options: Mapping[str, Any]) -> list[str]:
    """For the job that joins the parts, what W&B is told."""
    if not options["wandb"]:
        return []
    named = options["wandb_group"]
    return [
        f"--wandb={'true' if options['wandb'] is True else options['wandb']}",
        *([f"--wandb_group={named}"] if named else []),
        *([f"--wandb_tags={options['wandb_tags']}"] if options["wandb_tags"] else []),
    ]


def out_folder(text: str) -> str:
    """The run folder as the jobs are given it.

    Raises:
        UsageError: if it is a file.
    """
    out = Path(text).expanduser()
    if out.exists() and not out.is_dir():
        raise UsageError(f"out={text!r} is not allowed: it is a file")
    return str(out.absolute() if text.startswith("-") else out)  # in a script it would be read as an option


def _comparable(settings: Record, options: Mapping[str, Any]) -> Record:
    """Settings as far as they are known before a job runs."""
    known = {name: value for name, value in settings.items() if name not in ("device", "how_to_measure")}
    return known if options["device"] == "auto" else {**known, "device": options["device"]}


def _with_cores(chosen: LaunchOptions, options: Mapping[str, Any]) -> LaunchOptions:
    """As many cores as there are to be workers, if nothing else is said."""
    if chosen.cpus is None and chosen.gpus is None and options["workers"] != "auto":
        return replace(chosen, cpus=options["workers"])
    return chosen


def _task_options(options: Mapping[str, Any]) -> str:
    kept = {name: value for name, value in options.items() if name not in _NOT_OF_TASKS}
    return yaml.safe_dump(kept, sort_keys=False, allow_unicode=True)


def _check_count(out: Path, count: int | None) -> None:
    """Refuse to cut again what was cut into another number of parts.

    Raises:
        UsageError: if the folder holds such parts.
    """
    others = sorted({path.name.rpartition("-of-")[2] for path in out.glob("shards/*-of-*")} - {str(count)})
    if others:
        raise UsageError(
            f"{out}/shards holds parts of {', '.join(others)}; give --array {others[0]} to go on with them, another folder "
            "with --out, or --overwrite to delete them"
        )
