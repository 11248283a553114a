"""W&B for ``fit``, ``validate``, ``test`` and ``predict``: through Lightning's loggers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytorch_lightning import Trainer
from pytorch_lightning.loggers import Logger, WandbLogger

from vkdnw_pl.spaces import SPACES
from vkdnw_pl.tracking.logger import TrackedLogger, end_runs, tracked_logger
from vkdnw_pl.tracking.options import wandb_options
from vkdnw_pl.tracking.session import exit_code

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser

HELP = {
    "wandb": "Log to Weights & Biases too: true (the project vkdnw_pl, or WANDB_PROJECT), PROJECT, or ENTITY/PROJECT. The "
    "same as a WandbLogger in trainer.logger.",
    "wandb_group": "Group of the run there.",
    "wandb_tags": "Tags of the run there, such as '[first, second]'.",
}


def add_wandb_options(parser: ArgumentParser) -> None:
    """Add the options that every command has."""
    parser.add_argument("--wandb", type=bool | str, default=False, help=HELP["wandb"])
    parser.add_argument("--wandb_group", type=str | None, default=None, help=HELP["wandb_group"])
    parser.add_argument("--wandb_tags", type=list[str], default=[], help=HELP["wandb_tags"])


def with_wandb(loggers: Sequence[Logger], options: Mapping[str, Any], folder: Path, command: str) -> list[Logger]:
    """The loggers with W&B if it is asked for, by ``wandb`` or by a WandbLogger among them.

    Args:
        loggers: the user's.
        options: of the command.
        folder: run folder.
        command: its name.

    Raises:
        ValueError: if an option is not allowed, or contradicts the logger.
    """
    theirs = [one for one in loggers if isinstance(one, WandbLogger)]
    if len(theirs) > 1:
        raise ValueError(f"trainer.logger has {len(theirs)} WandbLoggers; a run folder has one run of W&B")
    # With a logger of the config, a group or tags have a use without wandb.
    wandb, group, tags = options["wandb"], options["wandb_group"], options["wandb_tags"]
    asked = wandb_options({"wandb": wandb or bool(theirs), "wandb_group": group, "wandb_tags": tags})
    if asked is None:
        return list(loggers)
    wanted = loggers if theirs else [*loggers, WandbLogger()]
    return [tracked_logger(one, asked, folder, command) if isinstance(one, WandbLogger) else one for one in wanted]


def describe_training(trainer: Trainer, module: Any, meta: Mapping[str, Any]) -> None:
    """Log which network is trained, where, and with what software."""
    mine = [one for one in trainer.loggers if isinstance(one, TrackedLogger)]
    if not mine:
        return
    channels, _, image_size = module.input_size
    network = {
        **module.network_options,
        "num_classes": module.num_classes,
        "image_size": image_size,
        "in_channels": channels,
    }
    known: dict[str, Any] = {"space": module.space, "arch": module.arch}
    known["num_params"] = sum(parameter.numel() for parameter in module.network.parameters())
    with suppress(ValueError, TypeError, RuntimeError):  # of a network that the space cannot count
        known["macs"] = SPACES[module.space].cost(module.arch, **network).macs
    device = {"kind": trainer.strategy.root_device.type, "processes": trainer.world_size}
    kept = {name: meta[name] for name in ("command", "digest")}
    kept["environment"] = {**meta["environment"], "device": device}
    for logger in mine:
        logger.describe(known, {"meta": kept})


@contextmanager
def training_runs() -> Iterator[None]:
    """End the W&B runs that are begun within, with the exit code of what happens there."""
    code = 0
    try:
        yield
    except BaseException as error:
        code = exit_code(error)
        raise
    finally:
        end_runs(code)
