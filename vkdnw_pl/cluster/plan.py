"""What a command needs to run as jobs: its options, checked as the command itself checks them, its tasks and scripts."""

from __future__ import annotations

import os
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from vkdnw_pl.cluster.options import TRAINING, LaunchOptions
from vkdnw_pl.cluster.record import Launch, LaunchFolder, Task
from vkdnw_pl.errors import UsageError, user_input
from vkdnw_pl.labels.folder import LabelFolder
from vkdnw_pl.labels.plan import LabelOptions, LabelPlan, plan_labels
from vkdnw_pl.networks.arch_file import read_arch_file
from vkdnw_pl.options import WandbOptions, as_config
from vkdnw_pl.runs.folder import Record, RunFolder, digest
from vkdnw_pl.scoring.folder import ScoreFolder
from vkdnw_pl.scoring.plan import ScoreOptions, ScorePlan, Shard, plan_scoring
from vkdnw_pl.search.folder import SearchFolder
from vkdnw_pl.search.plan import SearchOptions, plan_search
from vkdnw_pl.spaces.resolve import resolve_arch
from vkdnw_pl.training.folder import TrainingFolder, training_settings


@dataclass(frozen=True)
class LaunchPlan:
    """A launch that is not submitted yet."""

    launch: Launch
    options: str | None = None
    """Content of the options file that the tasks are given, so that a later change of the user's files changes nothing."""
    overwrite: bool = False
    retry_failed: bool = False
    run_folder: RunFolder | None = None
    """What ``overwrite`` clears."""
    depends: bool = True
    """Whether the condition of ``--dependency`` is still to be waited for."""
    repeat: bool = False
    """Whether what has ended is done again, as without ``--launch``: for commands that keep no record of their end."""


_COMMAND_SCRIPT = "command.sbatch"
_NOT_OF_TASKS = ("out", "overwrite", "retry_failed", "shard", "nodes")
_UNKNOWN_BEFORE = ("device", "how_to_measure")
"""Settings that depend on the node."""
_SHELL_NAMES = ("bash", "interactive")  # of a job in which Lightning takes itself for a shell on a node
_OF_THE_NETWORK = ("model.arch", "model.space", "model.network")


def plan_launch(command: str, options: Any, arguments: Sequence[str], launch_options: LaunchOptions) -> LaunchPlan:
    """Check the command's own options and cut it into tasks.

    Args:
        command: its name.
        options: of the command, as its parser reads them.
        arguments: of the command, as the user typed them.
        launch_options: those of ``--launch``.
    """
    for name, commands in (("array", ("score", "label", "fit")), ("nodes", ("search", *TRAINING))):
        if getattr(launch_options, name) is not None and command not in commands:
            raise UsageError(f"--{name} is not for {command}; it is for {', '.join(commands)}")
    if command in TRAINING and launch_options.job_name in _SHELL_NAMES:
        raise UsageError(f"job_name={launch_options.job_name!r} is not allowed: Lightning takes such a job for a shell")
    with user_input():
        if command == "score":
            return _plan_score(options, arguments, launch_options)
        if command == "label":
            return _plan_label(options, arguments, launch_options)
        if command == "search":
            return _plan_search(options, arguments, launch_options)
        if command == "fit":
            return _plan_fit(options, arguments, launch_options)
        return _plan_other(command, options, arguments, launch_options)


def _plan_score(options: ScoreOptions, arguments: Sequence[str], launch_options: LaunchOptions) -> LaunchPlan:
    plan = plan_scoring(replace(options, device="cpu", workers=1))
    return _plan_shards(ScoreFolder, replace(options, **plan.resolved), plan, arguments, launch_options)


def _plan_label(options: LabelOptions, arguments: Sequence[str], launch_options: LaunchOptions) -> LaunchPlan:
    return _plan_shards(
        LabelFolder, options, plan_labels(replace(options, device="cpu", workers=1)), arguments, launch_options
    )


def _plan_shards(
    kind: type[ScoreFolder],
    options: ScoreOptions | LabelOptions,
    plan: ScorePlan | LabelPlan,
    arguments: Sequence[str],
    launch_options: LaunchOptions,
) -> LaunchPlan:
    """A command that makes rows, as one task, or as tasks of an array that make a part each."""
    if options.shard is not None:
        raise UsageError(f"shard={options.shard!r} has no use with --launch: --array N cuts the work into N parts")
    archs, num_seeds, count = plan.settings.archs, len(plan.settings.seeds), launch_options.num_tasks
    if count is not None and count > len(archs):
        raise UsageError(f"array={count} is not allowed: there are only {len(archs)} architectures")
    folder, config = kind(_out_folder(options.out or plan.default_out)), as_config(options)
    settings = _comparable(plan.settings.record(), options.device)
    folder.check_continues(settings, options.overwrite, partial=True)
    if not options.overwrite:
        _check_count(folder.path, count)
    resources = _with_cores(launch_options, options.workers)
    if count is None:
        tasks = [Task(folder.command, rows=len(archs) * num_seeds)]
        return _plan_run(folder, config, settings, arguments, resources, _COMMAND_SCRIPT, tasks)
    rows = [len(Shard(i, count).of(archs)) * num_seeds for i in range(count)]
    tasks = [Task(f"{i}-of-{count}", f"shards/{i}-of-{count}", i, rows[i]) for i in range(count)]
    shards = ["--shards", str(count)]
    command = [] if folder.command == ScoreFolder.command else ["--command", folder.command]
    merge = [*shards, *_wandb_arguments(options)]
    return _plan_run(
        folder, config, settings, arguments, resources, "score_array.sbatch", tasks, [*command, *shards], merge=merge
    )


def _plan_search(options: SearchOptions, arguments: Sequence[str], launch_options: LaunchOptions) -> LaunchPlan:
    plan = plan_search(replace(options, device="cpu", workers=1, nodes=1))
    nodes = launch_options.nodes or options.nodes
    if nodes > 1 and not plan.settings.proxies:
        raise UsageError(f"nodes={nodes} has no use here: there is no proxy to compute; leave it out")
    if nodes == 1:
        resources = _with_cores(replace(launch_options, nodes=None), options.workers)
    else:  # one process per task
        num_cpus = launch_options.gpu_count or launch_options.cpus or 1
        per_node = num_cpus if options.workers == "auto" else options.workers
        sbatch = [f"--ntasks-per-node={per_node}", *launch_options.sbatch_options]
        resources = replace(launch_options, nodes=nodes, cpus=None, sbatch=sbatch)
    folder = SearchFolder(_out_folder(options.out or plan.default_out))
    settings = _comparable(plan.settings.record(), options.device)
    tasks = [Task("search", rows=options.evaluations)]
    return _plan_run(folder, as_config(options), settings, arguments, resources, "search.sbatch", tasks)


def _plan_fit(config: dict[str, Any], arguments: Sequence[str], launch_options: LaunchOptions) -> LaunchPlan:
    arch, count = str(config["model"]["arch"]), launch_options.num_tasks
    if count is not None:
        if not arch.endswith(".json"):
            raise UsageError(
                f"array={count} trains the best networks of a search: give --model.arch found.json, not {arch!r}"
            )
        read_arch_file(f"{arch}#{count}")  # refuses more than it holds
    until = {key: config["trainer"][key] for key in ("max_epochs", "max_steps")}
    settings = _training_settings(config)
    # What is set here would stand in the way of the number of processes that the job has.
    launch_options = _with_processes(config["trainer"], launch_options)
    if count is None:
        folder = TrainingFolder(_out_folder(config["out"] or f"runs/fit-{digest(settings)}"))
        return _plan_run(
            folder, config, settings, arguments, launch_options, "fit_ddp.sbatch", [Task("fit", until=until)]
        )
    settings = {name: value for name, value in settings.items() if not name.startswith(_OF_THE_NETWORK)}
    folder = TrainingFolder(_out_folder(config["out"] or f"runs/sweep-{digest(settings)}"))
    tasks = [Task(f"rank-{i + 1}", f"rank-{i + 1}", i, until=until) for i in range(count)]
    script, script_arguments = "sweep_train.sbatch", ["--model.arch", arch]
    return _plan_run(folder, config, settings, arguments, launch_options, script, tasks, script_arguments)


def _plan_run(
    folder: RunFolder,
    config: Mapping[str, Any],
    settings: Record,
    arguments: Sequence[str],
    launch_options: LaunchOptions,
    script: str,
    tasks: list[Task],
    script_arguments: Sequence[str] = (),
    merge: list[str] | None = None,
) -> LaunchPlan:
    """A command that makes a run folder, whose tasks get its options ``config`` as a file.

    Raises:
        ValueError: if the folders of the tasks hold results of other settings.
    """
    overwrite = bool(config["overwrite"])
    for task in tasks:
        type(folder)(folder.path / task.folder).check_continues(settings, overwrite, partial=True)
    task_config = {name: value for name, value in config.items() if name not in _NOT_OF_TASKS}
    options = yaml.safe_dump(task_config, sort_keys=False, allow_unicode=True)
    command = [folder.command] if script == _COMMAND_SCRIPT else []
    config_file = LaunchFolder(folder.path, folder.command).options
    launch = _new_launch(folder.command, str(folder.path), arguments, launch_options, script, tasks)
    launch.script_arguments = [*command, "--config", str(config_file), *script_arguments]
    launch.settings, launch.merge = settings, merge
    if tasks[0].index is not None:
        launch.group = _wandb_group(folder.path, config)
    return LaunchPlan(launch, options, overwrite, bool(config.get("retry_failed")), folder)


def _plan_other(command: str, options: Any, arguments: Sequence[str], launch_options: LaunchOptions) -> LaunchPlan:
    """A command that runs as one task, with its arguments as they are."""
    out = options["out"] if command in TRAINING else options.out
    if out is None:
        raise UsageError("out is missing: with --launch, give the run folder, such as --out runs/x")
    for path in options.paths if command == "evaluate" else ():
        if not Path(path).expanduser().exists():
            raise UsageError(f"{path} cannot be read: there is no such file or folder")
    tasks = [Task(command, meta=False)]
    launch = _new_launch(command, _out_folder(out), arguments, launch_options, _COMMAND_SCRIPT, tasks)
    launch.script_arguments = [command, *_without_out(arguments)]
    return LaunchPlan(launch, repeat=True)


def _new_launch(
    command: str, out: str, arguments: Sequence[str], launch_options: LaunchOptions, script: str, tasks: list[Task]
) -> Launch:
    """A launch from the working directory, of which nothing is submitted yet."""
    return Launch(
        command=command,
        out=out,
        tasks=tasks,
        arguments=list(arguments),
        directory=os.getcwd(),
        script=script,
        resources=launch_options.resources(),
        merge_resources=launch_options.merge_resources(),
        job_name=launch_options.job_name or f"vkdnw-{command}",
        at_once=launch_options.at_once,
        dependency=launch_options.dependency,
    )


def _out_folder(out: str) -> str:
    """The run folder as the jobs are given it."""
    path = Path(out).expanduser()
    if path.exists() and not path.is_dir():
        raise UsageError(f"out={out!r} is not allowed: it is a file")
    return str(path.absolute() if out.startswith("-") else path)  # in a script it would be read as an option


def _wandb_group(out: Path, config: Mapping[str, Any]) -> str | None:
    """Name under which W&B shows the tasks of an array together; None where the user gave one, or wants no W&B."""
    if not config.get("wandb") or config.get("wandb_group") or os.environ.get("WANDB_RUN_GROUP"):
        return None
    return f"{out.name}-{secrets.token_hex(3)}"


def _without_out(arguments: Sequence[str]) -> list[str]:
    """Arguments without ``--out VALUE`` and ``--out=VALUE``."""
    return [
        argument
        for previous, argument in zip(["", *arguments], arguments)
        if "--out" not in (previous, argument) and not argument.startswith("--out=")
    ]


def _wandb_arguments(options: WandbOptions) -> list[str]:
    """For the job that joins the parts, what W&B is told."""
    if not options.wandb:
        return []
    values = {"wandb": options.wandb, "wandb_group": options.wandb_group, "wandb_tags": options.wandb_tags}
    return [f"--{name}={'true' if value is True else value}" for name, value in values.items() if value]


def _comparable(settings: Record, device: str) -> Record:
    """Settings as far as they are known before a job runs."""
    comparable = {name: value for name, value in settings.items() if name not in _UNKNOWN_BEFORE}
    return comparable if device == "auto" else {**comparable, "device": device}


def _with_cores(launch_options: LaunchOptions, workers: int | str) -> LaunchOptions:
    """As many cores as there are to be workers, if nothing else is said."""
    if launch_options.cpus is None and launch_options.gpus is None and isinstance(workers, int):
        return replace(launch_options, cpus=workers)
    return launch_options


def _check_count(out: Path, count: int | None) -> None:
    """Refuse to cut again what was cut into another number of parts."""
    counts = sorted({path.name.rpartition("-of-")[2] for path in out.glob("shards/*-of-*")} - {str(count)})
    if counts:
        raise UsageError(
            f"{out}/shards holds parts of {', '.join(counts)}; give --array {counts[0]} to go on with them, another folder "
            "with --out, or --overwrite to delete them"
        )


def _training_settings(config: Mapping[str, Any]) -> dict[str, Any]:
    """What decides the training's result, with the network in place of the name of a file."""
    model = config["model"]
    resolved = resolve_arch(model["arch"], model["space"])
    network = {**resolved.network, **(model["network"] or {})}
    return training_settings(
        {**config, "model": {**model, "arch": resolved.arch, "space": resolved.space, "network": network}}
    )


def _with_processes(trainer: Mapping[str, Any], launch_options: LaunchOptions) -> LaunchOptions:
    """Options for a job with one task for each device, which the trainer's options must not contradict."""
    devices, accelerator, gpus = _device_count(trainer["devices"]), trainer["accelerator"], launch_options.gpu_count
    nodes = launch_options.nodes or trainer["num_nodes"]
    if trainer["num_nodes"] not in (1, nodes):
        raise UsageError(f"trainer.num_nodes={trainer['num_nodes']}, but --nodes {nodes}: leave out the former")
    if gpus is None and accelerator in ("gpu", "cuda"):
        raise UsageError(f"trainer.accelerator={accelerator} needs --gpus N, for example --gpus {devices or 1}")
    if gpus is not None and accelerator == "cpu":
        raise UsageError(f"trainer.accelerator=cpu has no use for --gpus {gpus}; leave one of them out")
    if gpus is not None and devices not in (None, gpus):
        raise UsageError(f"trainer.devices={devices}, but --gpus {gpus}: leave out the former")
    sbatch = launch_options.sbatch_options
    if not any("ntasks" in option for option in sbatch):
        sbatch = [f"--ntasks-per-node={gpus or devices or 1}", *sbatch]
    return replace(launch_options, nodes=None if nodes == 1 else nodes, sbatch=sbatch)


def _device_count(devices: Any) -> int | None:
    """How many devices; None where that is open."""
    if isinstance(devices, list | tuple):
        return len(devices)
    return int(devices) if str(devices).isdecimal() and int(devices) > 0 else None
