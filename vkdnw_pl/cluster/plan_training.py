"""Plans ``fit``, ``validate``, ``test`` and ``predict`` as jobs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from vkdnw_pl.cluster.options import LaunchOptions
from vkdnw_pl.cluster.plan import LaunchPlan, out_folder, plan_other, plan_run
from vkdnw_pl.cluster.record import Task
from vkdnw_pl.errors import UsageError
from vkdnw_pl.networks.arch_file import read_arch_file
from vkdnw_pl.runs.folder import digest
from vkdnw_pl.spaces.resolve import resolve_arch
from vkdnw_pl.training.folder import TrainingFolder, training_settings

_SHELL_NAMES = ("bash", "interactive")  # of a job in which Lightning takes itself for a shell on a node
_GPU = ("gpu", "cuda")
_OF_THE_NETWORK = ("model.arch", "model.space", "model.network")


def plan_training(
    command: str, config: dict[str, Any], arguments: Sequence[str], launch_options: LaunchOptions
) -> LaunchPlan:
    """Check the options of a training, ``config``, and cut it into tasks; see `plan_launch`."""
    if launch_options.job_name in _SHELL_NAMES:
        raise UsageError(f"job_name={launch_options.job_name!r} is not allowed: Lightning takes such a job for a shell")
    if command == "fit":
        return _plan_fit(config, arguments, launch_options)
    if config["out"] is None:
        raise UsageError("out is missing: with --launch, give the run folder of the training, such as --out runs/x")
    return plan_other(command, config["out"], arguments, launch_options)


def _plan_fit(config: dict[str, Any], arguments: Sequence[str], launch_options: LaunchOptions) -> LaunchPlan:
    arch, count = str(config["model"]["arch"]), launch_options.num_tasks
    if count is not None:
        if not arch.endswith(".json"):
            raise UsageError(
                f"array={count} trains the best networks of a search: give --model.arch found.json, not {arch!r}"
            )
        read_arch_file(f"{arch}#{count}")  # refuses more than it holds
    until = {key: config["trainer"][key] for key in ("max_epochs", "max_steps")}
    settings = _settings(config)
    # What is set here would stand in the way of the number of processes that the job has.
    launch_options = _with_processes(config["trainer"], launch_options)
    if count is None:
        folder = TrainingFolder(out_folder(config["out"] or f"runs/fit-{digest(settings)}"))
        return plan_run(
            folder, config, settings, arguments, launch_options, "fit_ddp.sbatch", [Task("fit", until=until)]
        )
    settings = {name: value for name, value in settings.items() if not name.startswith(_OF_THE_NETWORK)}
    folder = TrainingFolder(out_folder(config["out"] or f"runs/sweep-{digest(settings)}"))
    tasks = [Task(f"rank-{i + 1}", f"rank-{i + 1}", i, until=until) for i in range(count)]
    script, script_arguments = "sweep_train.sbatch", ["--model.arch", arch]
    return plan_run(folder, config, settings, arguments, launch_options, script, tasks, script_arguments)


def _settings(config: Mapping[str, Any]) -> dict[str, Any]:
    """What decides the training's result, with the network in place of the name of a file."""
    model = config["model"]
    resolved = resolve_arch(model["arch"], model["space"])
    network = {**resolved.network, **(model["network"] or {})}
    return training_settings(
        {**config, "model": {**model, "arch": resolved.arch, "space": resolved.space, "network": network}}
    )


def _with_processes(trainer: Mapping[str, Any], launch_options: LaunchOptions) -> LaunchOptions:
    """Options for a job with one task for each device, which the trainer's options must not contradict."""
    devices, accelerator, gpus = _number(trainer["devices"]), trainer["accelerator"], launch_options.gpu_count
    nodes = launch_options.nodes or trainer["num_nodes"]
    if trainer["num_nodes"] not in (1, nodes):
        raise UsageError(f"trainer.num_nodes={trainer['num_nodes']}, but --nodes {nodes}: leave out the former")
    if gpus is None and accelerator in _GPU:
        raise UsageError(f"trainer.accelerator={accelerator} needs --gpus N, for example --gpus {devices or 1}")
    if gpus is not None and accelerator == "cpu":
        raise UsageError(f"trainer.accelerator=cpu has no use for --gpus {gpus}; leave one of them out")
    if gpus is not None and devices not in (None, gpus):
        raise UsageError(f"trainer.devices={devices}, but --gpus {gpus}: leave out the former")
    sbatch = launch_options.sbatch_options
    if not any("ntasks" in option for option in sbatch):
        sbatch = [f"--ntasks-per-node={gpus or devices or 1}", *sbatch]
    return replace(launch_options, nodes=None if nodes == 1 else nodes, sbatch=sbatch)


def _number(devices: Any) -> int | None:
    """How many devices; None where that is open."""
    if isinstance(devices, list | tuple):
        return len(devices)
    return int(devices) if str(devices).isdecimal() and int(devices) > 0 else None
