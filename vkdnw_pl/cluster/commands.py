"""Runs SLURM's commands."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Mapping, Sequence

_KEPT = re.compile(r"SLURM_(CONF|CLUSTERS|JWT|EXIT_\w+)$")
_PATIENCE_S = 120


class SlurmError(RuntimeError):
    """A command of SLURM failed or is not there; the text says which and why."""


def run_slurm(command: Sequence[str], environment: Mapping[str, str] | None = None) -> str:
    """Run a command and return what it prints.

    Args:
        command: with its arguments.
        environment: variables set besides those of this process, without what a job around it has set.

    Raises:
        SlurmError: if it is not there, fails, or does not answer.
    """
    own = {name: value for name, value in os.environ.items() if not name.startswith("SLURM_") or _KEPT.match(name)}
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=_PATIENCE_S, env={**own, **(environment or {})}
        )
    except FileNotFoundError as error:
        raise SlurmError(f"there is no command {command[0]!r} here: use a machine that has SLURM") from error
    except subprocess.TimeoutExpired as error:
        raise SlurmError(f"{command[0]} does not answer after {_PATIENCE_S} s") from error
    if done.returncode != 0:
        raise SlurmError(f"{command[0]}: {' '.join((done.stderr or done.stdout).split()) or 'failed'}")
    return done.stdout


def submit(command: Sequence[str], environment: Mapping[str, str]) -> str:
    """Run ``sbatch --parsable ...`` and return the number of the job.

    Raises:
        SlurmError: if the job is refused.
    """
    try:
        answer = run_slurm(command, environment)
    except SlurmError as error:
        if "Invalid job array" not in str(error):
            raise
        raise SlurmError(
            f"{error}: take fewer tasks; scontrol show config tells this cluster's MaxArraySize"
        ) from error
    job = answer.strip().partition(";")[0]
    if not job.isdecimal():
        raise SlurmError(f"sbatch answered {job!r} in place of the number of a job")
    return job


def cancel(job: str) -> None:
    """Take a job out of the queue.

    Raises:
        SlurmError: if that is not possible.
    """
    run_slurm(["scancel", job])
