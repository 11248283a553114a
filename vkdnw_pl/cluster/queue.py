"""What SLURM knows of jobs: states, reasons, exit codes."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from vkdnw_pl.cluster.commands import SlurmError, run_slurm

_WAITING = ("PENDING", "REQUEUED", "REQUEUE_FED", "REQUEUE_HOLD", "SPECIAL_EXIT", "RESV_DEL_HOLD")
_RUNNING = ("RUNNING", "CONFIGURING", "COMPLETING", "SUSPENDED", "STOPPED", "SIGNALING", "STAGE_OUT", "RESIZING")
_WHOLE = {"SLURM_BITSTR_LEN": "0"}  # else the numbers of a long array end in "..."


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
    def never_begins(self) -> bool:
        """Whether it waits for what cannot happen any more; only some clusters cancel such a job."""
        return self.waits and self.reason == "DependencyNeverSatisfied"

    @property
    def runs(self) -> bool:
        """Whether it is running."""
        return self.state in _RUNNING


def job_states(jobs: Iterable[str]) -> dict[tuple[str, int | None], JobState]:
    """What SLURM knows, from ``scontrol`` and, of jobs that it has forgotten, from ``sacct`` where there is one.

    Args:
        jobs: their numbers.

    Returns:
        (job, task of the array or None) -> state; without those that SLURM does not know.

    Raises:
        SlurmError: if SLURM does not answer.
    """
    found: dict[tuple[str, int | None], JobState] = {}
    forgotten = []
    for job in dict.fromkeys(jobs):
        try:
            found.update(_read_scontrol(run_slurm(["scontrol", "-o", "show", "job", job], _WHOLE)))
        except SlurmError as error:
            if "invalid job id" not in str(error).lower():
                raise
            forgotten.append(job)
    if forgotten:
        try:
            text = run_slurm(["sacct", "-n", "-P", "-X", "-j", ",".join(forgotten), "-o", "JobID,State,ExitCode"])
        except SlurmError:
            return found  # a cluster without accounting
        found.update(_read_sacct(text))
    return found


def array_places(text: str) -> Iterator[int]:
    """The numbers in an array's ``0,2-4%8``, or ``0-14:2``, as SLURM writes every second one."""
    for part in text.partition("%")[0].split(","):
        if match := re.fullmatch(r"(\d+)(?:-(\d+)(?::(\d+))?)?", part):
            first, last, step = match.groups()
            yield from range(int(first), int(last or first) + 1, int(step or 1))


def _read_scontrol(text: str) -> dict[tuple[str, int | None], JobState]:
    found: dict[tuple[str, int | None], JobState] = {}
    for line in text.splitlines():
        values: dict[str, str] = dict(re.findall(r"(?:^|\s)([A-Za-z]+)=(\S*)", line.partition(" Command=")[0]))
        if "JobState" not in values:
            continue
        state = JobState(
            state=values["JobState"],
            reason=values.get("Reason", "").replace("None", ""),
            starts_at=values.get("StartTime", "").replace("Unknown", "").replace("N/A", ""),
            run_time=values.get("RunTime", ""),
            node=values.get("BatchHost", ""),
            restarts=int(values.get("Restarts", 0)),
            exit_code=_exit_code(values.get("ExitCode", "")),
        )
        job = values.get("ArrayJobId", values["JobId"])
        places: Iterable[int | None] = array_places(values["ArrayTaskId"]) if "ArrayTaskId" in values else [None]
        for place in places:
            if (job, place) not in found or "ArrayTaskId" not in values or values["ArrayTaskId"].isdecimal():
                found[job, place] = state
    return found


def _read_sacct(text: str) -> dict[tuple[str, int | None], JobState]:
    found: dict[tuple[str, int | None], JobState] = {}
    for line in text.splitlines():
        name, state, code = [*line.split("|"), "", ""][:3]
        job, _, place = name.partition("_")
        for one in array_places(place.strip("[]")) if place else [None]:
            found[job, one] = JobState(state.partition(" ")[0], exit_code=_exit_code(code))
    return found


def _exit_code(text: str) -> int | None:
    """Exit code of ``code:signal``."""
    code, _, number = text.partition(":")
    if not code.isdecimal():
        return None
    return 128 + int(number) if number.isdecimal() and int(number) else int(code)
