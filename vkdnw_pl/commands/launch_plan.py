"""Plans ``score`` and ``search`` as jobs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import yaml

from vkdnw_pl.cluster.options import LaunchOptions
from vkdnw_pl.cluster.plan import LaunchPlan, new_launch, out_folder, plan_evaluate, wandb_group
from vkdnw_pl.cluster.record import LaunchFolder, Task
from vkdnw_pl.errors import UsageError, user_input
from vkdnw_pl.option_parser import make_parser
from vkdnw_pl.options import WandbOptions, as_config
from vkdnw_pl.runs.settings import Record
from vkdnw_pl.scoring.folder import ScoreFolder
from vkdnw_pl.scoring.plan import Shard

_NOT_OF_TASKS = ("out", "overwrite", "retry_failed", "shard", "nodes")


def plan_command(command: str, arguments: Sequence[str], chosen: LaunchOptions, prog: str) -> LaunchPlan:
    """Check the command's own options and cut it into tasks."""
    if command == "score":
        return _plan_score(arguments, chosen, prog)
    if command == "search":
        return _plan_search(arguments, chosen, prog)
    from vkdnw_pl.commands.evaluate import evaluate

    return plan_evaluate(SimpleNamespace(**make_parser(evaluate, prog).parse_options(arguments)), arguments, chosen)


def _plan_score(arguments: Sequence[str], chosen: LaunchOptions, prog: str) -> LaunchPlan:
    from vkdnw_pl.commands.score import score
    from vkdnw_pl.scoring.plan import plan_scoring

    options = make_parser(score, prog).parse(arguments)
    if options.shard is not None:
        raise UsageError(f"shard={options.shard!r} has no use with --launch: --array N cuts the work into N parts")
    with user_input():
        plan = plan_scoring(replace(options, **_HERE))
    count = chosen.num_tasks
    archs, seeds = plan.settings.archs, len(plan.settings.seeds)
    if count is not None and count > len(archs):
        raise UsageError(f"array={count} is not allowed: there are only {len(archs)} architectures")
    out = out_folder(options.out or plan.default_out)
    settings = _comparable(plan.settings.record(), options.device)
    if count is None:
        tasks = [Task("score", rows=len(plan.keys))]
    else:
        tasks = [
            Task(f"{i}-of-{count}", f"shards/{i}-of-{count}", i, len(Shard(i, count).of(archs)) * seeds)
            for i in range(count)
        ]
    with user_input():
        for folder in [Path(out), *(Path(out) / task.folder for task in tasks)]:
            ScoreFolder(folder).check_continues(settings, options.overwrite, partial=True)
    if not options.overwrite:
        _check_count(Path(out), count)
    options_file = LaunchFolder(out, "score").options
    launch = new_launch(
        "score",
        out,
        arguments,
        _with_cores(chosen, options.workers),
        script="command.sbatch" if count is None else "score_array.sbatch",
        script_arguments=[
            *(["score"] if count is None else []),
            *("--config", str(options_file)),
            *([] if count is None else ["--shards", str(count)]),
        ],
        tasks=tasks,
        settings=settings,
        merge=None if count is None else ["--shards", str(count), *_wandb_arguments(options)],
        group=None if count is None else wandb_group(out, options.wandb, options.wandb_group),
    )
    return LaunchPlan(launch, _task_options(options), options.overwrite, options.retry_failed, ScoreFolder(out))


def _plan_search(arguments: Sequence[str], chosen: LaunchOptions, prog: str) -> LaunchPlan:
    from vkdnw_pl.commands.search import search
    from vkdnw_pl.search.folder import SearchFolder
    from vkdnw_pl.search.plan import plan_search

    options = make_parser(search, prog).parse(arguments)
    with user_input():
        plan = plan_search(replace(options, **_HERE, nodes=1))
    nodes = chosen.nodes or options.nodes
    if nodes > 1 and not plan.settings.proxies:
        raise UsageError(f"nodes={nodes} has no use here: there is no proxy to compute; leave it out")
    chosen = replace(chosen, nodes=None if nodes == 1 else nodes)
    if nodes == 1:
        chosen = _with_cores(chosen, options.workers)
    else:  # one process per task
        per_node = options.workers if options.workers != "auto" else chosen.gpu_count or chosen.cpus or 1
        chosen = replace(chosen, cpus=None, sbatch=[f"--ntasks-per-node={per_node}", *chosen.sbatch_options])
    out = out_folder(options.out or plan.default_out)
    settings = _comparable(plan.settings.record(), options.device)
    folder = SearchFolder(out)
    with user_input():
        folder.check_continues(settings, options.overwrite, partial=True)
    launch = new_launch(
        "search",
        out,
        arguments,
        chosen,
        script="search.sbatch",
        script_arguments=["--config", str(LaunchFolder(out, "search").options)],
        tasks=[Task("search", rows=options.evaluations)],
        settings=settings,
    )
    return LaunchPlan(launch, _task_options(options), options.overwrite, run_folder=folder)


_HERE: dict[str, Any] = {"device": "cpu", "workers": 1}
"""In place of what a compute node has, while options are checked here."""


def _wandb_arguments(options: WandbOptions) -> list[str]:
    """For the job that joins the parts, what W&B is told."""
    if not options.wandb:
        return []
    return [
        f"--wandb={'true' if options.wandb is True else options.wandb}",
        *([f"--wandb_group={options.wandb_group}"] if options.wandb_group else []),
        *([f"--wandb_tags={options.wandb_tags}"] if options.wandb_tags else []),
    ]


def _comparable(settings: Record, device: str) -> Record:
    """Settings as far as they are known before a job runs."""
    known = {name: value for name, value in settings.items() if name not in ("device", "how_to_measure")}
    return known if device == "auto" else {**known, "device": device}


def _with_cores(chosen: LaunchOptions, workers: int | str) -> LaunchOptions:
    """As many cores as there are to be workers, if nothing else is said."""
    if chosen.cpus is None and chosen.gpus is None and isinstance(workers, int):
        return replace(chosen, cpus=workers)
    return chosen


def _task_options(options: WandbOptions) -> str:
    kept = {name: value for name, value in as_config(options).items() if name not in _NOT_OF_TASKS}
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
