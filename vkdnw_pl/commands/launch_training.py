"""What ``fit``, ``validate``, ``test`` and ``predict`` need to run as jobs."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from vkdnw_pl.cluster.options import LaunchOptions
from vkdnw_pl.cluster.record import LaunchFolder, Task
from vkdnw_pl.commands.launch_plan import Planned, group, new_launch, out_folder, without
from vkdnw_pl.errors import UsageError, user_input
from vkdnw_pl.networks.arch_file import read_arch_file
from vkdnw_pl.runs.settings import digest
from vkdnw_pl.spaces.resolve import resolve_arch
from vkdnw_pl.training.folder import TrainingFolder, training_settings

_OF_A_SHELL = ("bash", "interactive")  # names by which a training knows a shell on a node
_GPU = ("gpu", "cuda")


def plan_training(command: str, arguments: Sequence[str], chosen: LaunchOptions, prog: str) -> Planned:
    """Check the options of a training and cut it into tasks; see `plan_launch`."""
    if chosen.job_name in _OF_A_SHELL:
        raise UsageError(f"job_name={chosen.job_name!r} is not allowed: Lightning takes such a job for a shell")
    config = _resolved(command, arguments, prog)
    if command == "fit":
        return _plan_fit(arguments, config, chosen)
    if config["out"] is None:
        raise UsageError("out is missing: with --launch, give the run folder of the training, such as --out runs/x")
    out = out_folder(config["out"])
    launch = new_launch(
        command,
        out,
        arguments,
        chosen,
        script="command.sbatch",
        script_arguments=[command, *without(arguments, "out")],
        tasks=[Task(command, meta=False)],
    )
    return Planned(launch, repeat=True)


def _plan_fit(arguments: Sequence[str], config: dict[str, Any], chosen: LaunchOptions) -> Planned:
    found = str(config["model"]["arch"])
    if chosen.array is not None and not found.endswith(".json"):
        raise UsageError(
            f"array={chosen.array} trains the best networks of a search: give --model.arch found.json, not {found!r}"
        )
    with user_input():
        if chosen.array is not None:
            read_arch_file(f"{found}#{chosen.array}")  # refuses more than it holds
        settings = _settings(config)
    # What is set here would stand in the way of the number of processes that the job has.
    chosen = _with_processes(config["trainer"], chosen)
    if chosen.array is not None:
        settings = {name: value for name, value in settings.items() if not name.startswith(_OF_THE_NETWORK)}
    name = "fit" if chosen.array is None else "sweep"
    out = out_folder(config["out"] or f"runs/{name}-{digest(settings)}")
    until = {key: config["trainer"][key] for key in ("max_epochs", "max_steps")}
    if chosen.array is None:
        tasks = [Task("fit", until=until)]
    else:
        tasks = [Task(f"rank-{i + 1}", f"rank-{i + 1}", i, until=until) for i in range(chosen.array)]
    overwrite = bool(config["overwrite"])
    with user_input():
        for task in tasks:
            TrainingFolder(Path(out) / task.folder).check_continues(settings, overwrite, partial=True)
    launch = new_launch(
        "fit",
        out,
        arguments,
        chosen,
        script="fit_ddp.sbatch" if chosen.array is None else "sweep_train.sbatch",
        script_arguments=[
            *("--config", str(LaunchFolder(out, "fit").options)),
            *([] if chosen.array is None else ["--model.arch", found]),
        ],
        tasks=tasks,
        settings=settings,
        group=None if chosen.array is None else group(out, config),
    )
    kept = {key: value for key, value in config.items() if key not in ("out", "overwrite")}
    options = yaml.safe_dump(kept, sort_keys=False, allow_unicode=True)
    return Planned(launch, options, overwrite, clear=TrainingFolder(out).clear)


_OF_THE_NETWORK = ("model.arch", "model.space", "model.network")


def _resolved(command: str, arguments: Sequence[str], prog: str) -> dict[str, Any]:
    """All options of the command, as its own parser reads them.

    Raises:
        UsageError: for what is not allowed.
        SystemExit: after --print_config.
    """
    print("checking the options ...", flush=True)
    from vkdnw_pl.commands.train import train

    if "--print_config" in arguments:
        train(command, arguments, prog)
    text = io.StringIO()
    try:
        with redirect_stdout(text):
            train(command, [*arguments, "--print_config"], prog)
    except SystemExit as done:
        if done.code not in (None, 0):
            raise
    return yaml.safe_load(text.getvalue())


def _settings(config: Mapping[str, Any]) -> dict[str, Any]:
    """What decides the training's result, with the network in place of the name of a file.

    Raises:
        ValueError: if there is no such network.
    """
    model = config["model"]
    found = resolve_arch(model["arch"], model["space"])
    network = {**found.network, **(model["network"] or {})}
    return training_settings(
        {**config, "model": {**model, "arch": found.arch, "space": found.space, "network": network}}
    )


def _with_processes(trainer: Mapping[str, Any], chosen: LaunchOptions) -> LaunchOptions:
    """Options for a job with one task for each device.

    Raises:
        UsageError: if the trainer's options say something else than those of the job.
    """
    devices, accelerator, gpus = _number(trainer["devices"]), trainer["accelerator"], chosen.gpu_count
    nodes = chosen.nodes or trainer["num_nodes"]
    if trainer["num_nodes"] not in (1, nodes):
        raise UsageError(f"trainer.num_nodes={trainer['num_nodes']}, but --nodes {nodes}: leave out the former")
    if gpus is None and accelerator in _GPU:
        raise UsageError(f"trainer.accelerator={accelerator} needs --gpus N, for example --gpus {devices or 1}")
    if gpus is not None and accelerator == "cpu":
        raise UsageError(f"trainer.accelerator=cpu has no use for --gpus {gpus}; leave one of them out")
    if gpus is not None and devices not in (None, gpus):
        raise UsageError(f"trainer.devices={devices}, but --gpus {gpus}: leave out the former")
    tasks = gpus or devices or 1
    more = (
        chosen.sbatch
        if any("ntasks" in one for one in chosen.sbatch)
        else (f"--ntasks-per-node={tasks}", *chosen.sbatch)
    )
    return replace(chosen, nodes=None if nodes == 1 else nodes, sbatch=more)


def _number(devices: Any) -> int | None:
    """How many devices; None where that is open."""
    if isinstance(devices, list | tuple):
        return len(devices)
    return int(devices) if str(devices).isdecimal() and int(devices) > 0 else None
