"""Runs SLURM's commands: submits and cancels jobs, and asks for their states."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

from vkdnw_pl.errors import CommandFailed

JobKey = tuple[str, int | None]
"""Number of a job, and of the task of its array; None for a job without array."""

_PATIENCE_S = 120
_WAITING = ("PENDING", "REQUEUED", "REQUEUE_FED", "REQUEUE_HOLD", "SPECIAL_EXIT", "RESV_DEL_HOLD")
_RUNNING = ("RUNNING", "CONFIGURING", "COMPLETING", "SUSPENDED", "STOPPED", "SIGNALING", "STAGE_OUT", "RESIZING")
_WHOLE = {"SLURM_BITSTR_LEN": "0"}  # else the numbers of a long array end in "..."


class SlurmError(CommandFailed):
    """A command of SLURM failed or is not there."""


@dataclass(frozen=True)
class JobState:
    """State of a job, or of one task of an array."""

    state: str
    """As SLURM writes it: PENDING, RUNNING, COMPLETED, FAILED, CANCELLED, TIMEOUT, NODE_FAIL, OUT_OF_MEMORY, ..."""
    reason: str = ""
    """Why it waits."""
    starts_at: str = ""
    """When it is to begin, if that is known."""
    run_time: str = ""
    node: str = ""
    restarts: int | None = None
    exit_code: int | None = None

    @property
    def waits(self) -> bool:
        """Whether it is in the queue."""
        return self.state in _WAITING

    @property
    def runs(self) -> bool:
        """Whether it is running."""
        return self.state in _RUNNING


def run_slurm(command: Sequence[str], environment: Mapping[str, str] | None = None) -> str:
    """Run a command, with ``environment`` besides the variables of this process, and return what it prints.

    Raises:
        SlurmError: if it is not there, fails, or does not answer.
    """
    is_of_job = re.compile(r"SLURM_(?!(CONF|CLUSTERS|JWT|EXIT_\w+)$)").match  # of a job around this process
    env = {name: value for name, value in os.environ.items() if not is_of_job(name)} | dict(environment or {})
    try:
        process = subprocess.run(command, capture_output=True, text=True, timeout=_PATIENCE_S, env=env)
    except FileNotFoundError as error:
        raise SlurmError(f"there is no command {command[0]!r} here: use a machine that has SLURM") from error
    except subprocess.TimeoutExpired as error:
        raise SlurmError(f"{command[0]} does not answer after {_PATIENCE_S} s") from error
    if process.returncode != 0:
        raise SlurmError(f"{command[0]}: {' '.join((process.stderr or process.stdout).split()) or 'failed'}")
    return process.stdout


def submit(command: Sequence[str], environment: Mapping[str, str]) -> str:
    """Run ``sbatch --parsable ...`` and return the number of the job; a ``SlurmError`` if it is refused."""
    try:
        answer = run_slurm(command, environment)
    except SlurmError as error:
        if "Invalid job array" in str(error):
            raise SlurmError(f"{error}: take fewer tasks; scontrol show config tells the MaxArraySize") from error
        raise
    job = answer.strip().partition(";")[0]
    if not job.isdecimal():
        raise SlurmError(f"sbatch answered {job!r} in place of the number of a job")
    return job


def job_states(jobs: Iterable[str]) -> dict[JobKey, JobState]:
    """States of jobs and their tasks, from ``scontrol`` and, where it has forgotten them, from ``sacct``, if there is one.

    Raises:
        SlurmError: if SLURM does not answer.
    """
    states: dict[JobKey, JobState] = {}
    forgotten = []
    for job in dict.fromkeys(jobs):
        try:
            states.update(_read_scontrol(run_slurm(["scontrol", "-o", "show", "job", job], _WHOLE)))
        except SlurmError as error:
            if "invalid job id" not in str(error).lower():
                raise
            forgotten.append(job)
    if forgotten:
        with suppress(SlurmError):  # a cluster without accounting
            command = ["sacct", "-n", "-P", "-X", "-j", ",".join(forgotten), "-o", "JobID,State,ExitCode"]
            states.update(_read_sacct(run_slurm(command)))
    return states


def array_indices(text: str) -> Iterator[int]:
    """The numbers in an array's ``0,2-4%8``, or ``0-14:2``, as SLURM writes every second one."""
    for part in text.partition("%")[0].split(","):
        if match := re.fullmatch(r"(\d+)(?:-(\d+)(?::(\d+))?)?", part):
            first, last, step = match.groups()
            yield from range(int(first), int(last or first) + 1, int(step or 1))


def array_ranges(indices: Iterable[int]) -> str:
    """Numbers as sbatch takes them: ``0-2,5``."""
    parts: list[list[int]] = []
    for index in sorted(indices):
        if parts and parts[-1][-1] == index - 1:
            parts[-1][1:] = [index]
        else:
            parts.append([index])
    return ",".join("-".join(map(str, part)) for part in parts)


def _read_scontrol(text: str) -> dict[JobKey, JobState]:
    states: dict[JobKey, JobState] = {}
    for line in text.splitlines():
        pairs = re.findall(r"(?:^|\s)([A-Za-z]+)=(\S*)", line.partition(" Command=")[0])
        values = {name: "" if value in ("None", "Unknown", "N/A") else value for name, value in pairs}
        if "JobState" not in values:
            continue
        state = JobState(
            state=values["JobState"],
            reason=values.get("Reason", ""),
            starts_at=values.get("StartTime", ""),
            run_time=values.get("RunTime", ""),
            node=values.get("BatchHost", ""),
            restarts=int(values.get("Restarts", 0)),
            exit_code=_exit_code(values.get("ExitCode", "")),
        )
        job, array = values.get("ArrayJobId", values["JobId"]), values.get("ArrayTaskId")
        for index in [None] if array is None else array_indices(array):
            # The line of one task says more than that of the tasks which still wait together.
            if (job, index) not in states or array is None or array.isdecimal():
                states[job, index] = state
    return states


def _read_sacct(text: str) -> dict[JobKey, JobState]:
    states: dict[JobKey, JobState] = {}
    for line in text.splitlines():
        name, state, code = [*line.split("|"), "", ""][:3]
        job, _, array = name.partition("_")
        for index in array_indices(array.strip("[]")) if array else [None]:
            states[job, index] = JobState(state.partition(" ")[0], exit_code=_exit_code(code))
    return states


def _exit_code(text: str) -> int | None:
    """Exit code of ``code:signal``."""
    code, _, number = text.partition(":")
    if not code.isdecimal():
        return None
    return 128 + int(number) if number.isdecimal() and int(number) else int(code)
