"""What a command needs to run as jobs: its options, checked as the command itself checks them, its tasks and scripts."""

from __future__ import annotations

import os
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vkdnw_pl.cluster.options import LaunchOptions
from vkdnw_pl.cluster.record import Launch, Task
from vkdnw_pl.errors import UsageError
from vkdnw_pl.runs.folder import RunFolder

TRAINING = ("fit", "validate", "test", "predict")
LAUNCHED = ("score", "search", *TRAINING, "evaluate")
"""Commands that can be launched."""


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


def check_for_command(launch_options: LaunchOptions, command: str) -> None:
    """Refuse options that have no use with this command.

    Raises:
        UsageError: naming the commands that they are for.
    """
    for name, commands in (("array", ("score", "fit")), ("nodes", ("search", *TRAINING))):
        if getattr(launch_options, name) is not None and command not in commands:
            raise UsageError(f"--{name} is not for {command}; it is for {', '.join(commands)}")


def plan_evaluate(options: Any, arguments: Sequence[str], launch_options: LaunchOptions) -> LaunchPlan:
    """Check what an evaluation reads and where it writes.

    Raises:
        UsageError: for what is not allowed.
    """
    if options.out is None:
        raise UsageError("out is missing: with --launch, say where the results go, such as --out runs/evaluation")
    for path in [options.scores] if isinstance(options.scores, str) else options.scores:
        if not Path(path).expanduser().exists():
            raise UsageError(f"{path} cannot be read: there is no such file or folder")
    return plan_other("evaluate", options.out, arguments, launch_options)


def plan_other(command: str, out: str, arguments: Sequence[str], launch_options: LaunchOptions) -> LaunchPlan:
    """A command that runs as one task, with its arguments as they are."""
    launch = new_launch(
        command,
        out_folder(out),
        arguments,
        launch_options,
        script="command.sbatch",
        script_arguments=[command, *_without_out(arguments)],
        tasks=[Task(command, meta=False)],
    )
    return LaunchPlan(launch, repeat=True)


def new_launch(
    command: str, out: str, arguments: Sequence[str], launch_options: LaunchOptions, **values: Any
) -> Launch:
    """A launch from here, of which nothing is submitted yet."""
    return Launch(
        command=command,
        out=out,
        arguments=list(arguments),
        directory=os.getcwd(),
        resources=launch_options.resources(),
        merge_resources=launch_options.merge_resources(),
        job_name=launch_options.job_name or f"vkdnw-{command}",
        at_once=launch_options.at_once,
        dependency=launch_options.dependency,
        **values,
    )


def out_folder(out: str) -> str:
    """The run folder as the jobs are given it.

    Raises:
        UsageError: if it is a file.
    """
    path = Path(out).expanduser()
    if path.exists() and not path.is_dir():
        raise UsageError(f"out={out!r} is not allowed: it is a file")
    return str(path.absolute() if out.startswith("-") else path)  # in a script it would be read as an option


def wandb_group(out: str, wandb: bool | str | None, group: str | None) -> str | None:
    """Name under which W&B shows the tasks of an array together; None where the user gave one, or wants no W&B."""
    if not wandb or group or os.environ.get("WANDB_RUN_GROUP"):
        return None
    return f"{Path(out).name}-{secrets.token_hex(3)}"


def _without_out(arguments: Sequence[str]) -> list[str]:
    """Arguments without ``--out VALUE`` and ``--out=VALUE``."""
    before = ["", *arguments]
    return [
        argument
        for previous, argument in zip(before, arguments)
        if argument != "--out" and previous != "--out" and not argument.startswith("--out=")
    ]
