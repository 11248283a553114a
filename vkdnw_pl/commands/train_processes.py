"""The trainer of a process that Slurm or torchrun started together with others."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pytorch_lightning import Trainer

from vkdnw_pl.errors import UsageError, user_input
from vkdnw_pl.training.processes import Processes, trainer_options
from vkdnw_pl.training.slurm import SlurmTasks


def launched_options(processes: Processes | None, given: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments of the trainer that follow from how the processes were started.

    Args:
        processes: None where nobody else did.
        given: the trainer's options by the user.

    Raises:
        UsageError: if the user's options make other processes.
    """
    if processes is None:
        return {}
    with user_input():
        options: dict[str, Any] = dict(
            trainer_options(processes, given.get("devices", "auto"), given.get("num_nodes", 1))
        )
    if processes.launcher == "Slurm":
        plugins = given.get("plugins") or []
        options["plugins"] = [*(plugins if isinstance(plugins, list) else [plugins]), SlurmTasks(processes)]
    return options


def check_world(trainer: Trainer, processes: Processes | None) -> None:
    """Make sure that every process of the training is there, and knows of the others.

    Lightning itself lets a process train alone that then sees a part of the images only.

    Raises:
        UsageError: if not.
    """
    here = trainer.num_devices * trainer.num_nodes
    total = here if processes is None else processes.total
    if here == trainer.world_size == total:
        return
    started = (
        "" if processes is None else f"{processes.launcher} started {total} process(es) ({processes.options}), but "
    )
    raise UsageError(
        f"{started}this process trains as one of {trainer.world_size}, with {trainer.num_devices} device(s) on "
        f"{trainer.num_nodes} node(s): take trainer.strategy=ddp (or auto) and no cluster environment in trainer.plugins"
    )


def hint(processes: Processes | None, text: str) -> str:
    """Lightning's message, with what is mostly behind it under Slurm."""
    if processes is not None and processes.total > 1 and "requested gpu" in text.lower():
        return (
            f"{text} Each of the {processes.total} tasks must see all GPUs of its node: give Slurm --gpus-per-node, not "
            "--gpus-per-task or --gpu-bind"
        )
    return text
