"""What became of each task of a launch: from its run folder, the marker of its script, and what SLURM knows."""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from vkdnw_pl.cluster.record import Job, Launch, LaunchFolder, Task, read_run_meta
from vkdnw_pl.cluster.slurm import JobKey, JobState


class State(StrEnum):
    """State of a task."""

    FINISHED = "finished"
    RUNNING = "running"
    WAITING = "waiting"
    FAILED = "failed"
    """It ended before the end."""
    LOST = "lost"
    """SLURM does not know it and it left no end."""
    MISSING = "missing"
    """It was never submitted."""
    UNKNOWN = "unknown"
    """SLURM does not answer."""

    @property
    def is_active(self) -> bool:
        """Whether it is in the queue or running."""
        return self in (State.RUNNING, State.WAITING)

    @property
    def is_broken(self) -> bool:
        """Whether it is to be submitted again."""
        return self in (State.FAILED, State.LOST, State.MISSING)


@dataclass(frozen=True)
class TaskState:
    """A task and what became of it."""

    task: Task
    state: State
    done: int | None = None
    """Rows that are on the disk."""
    failed_rows: int = 0
    restarts: int | None = None
    exit_code: int | None = None
    job: str | None = None
    note: str = ""
    """Why it waits or failed, or the last line of its log."""
    in_queue: bool = False
    """Whether its job waits in the queue; so does one that will never begin, which is failed."""

    def record(self) -> dict[str, Any]:
        """JSON-able form."""
        values = {name: getattr(self, name) for name in ("failed_rows", "restarts", "exit_code", "job", "note")}
        return {"task": self.task.name, "state": self.state, "rows": self.done, "of": self.task.rows, **values}


def task_states(folder: LaunchFolder, launch: Launch, job_states: Mapping[JobKey, JobState] | None) -> list[TaskState]:
    """What became of each task, and of the job that joins the parts; ``job_states`` is None if SLURM does not answer."""
    tasks = [*launch.tasks, launch.merge_task]
    return [_task_state(folder, launch, task, job_states) for task in tasks if task is not None]


def _task_state(
    folder: LaunchFolder, launch: Launch, task: Task, job_states: Mapping[JobKey, JobState] | None
) -> TaskState:
    job, marker = launch.latest_job(task), folder.read_marker(task.name)
    in_slurm = None
    if job is not None and marker.get("job", "").partition("_")[0] != job.id:
        marker = {}  # of an earlier job
    if job is not None and job_states is not None:
        in_slurm = job_states.get((job.id, task.index if job.array is not None else None))
    meta = read_run_meta(folder.out / task.folder)
    attempt = meta["runs"][-1] if meta.get("runs") else {}
    done = None if task.rows is None else min(_rows_done(folder.out / task.folder), task.rows)
    is_finished = _is_finished(folder.out, launch, task, meta, done) if task.meta else marker.get("exit_code") == "0"
    exit_code = None if in_slurm is None or in_slurm.waits or in_slurm.runs else in_slurm.exit_code
    if exit_code is None:
        exit_code = _number(marker, "exit_code")
    restarts = None if in_slurm is None else in_slurm.restarts
    last = _last_line(folder, task, job, marker)
    last_too = f": {last}" if last else ""

    if in_slurm is not None and in_slurm.waits and in_slurm.reason == "DependencyNeverSatisfied":
        # Only some clusters cancel such a job.
        state, note = State.FAILED, "it will never begin: the job that it depends on did not end as it was to"
    elif in_slurm is not None and in_slurm.waits:
        state, note = State.WAITING, _why_waiting(in_slurm)
    elif in_slurm is not None and in_slurm.runs and not (is_finished and in_slurm.state == "COMPLETING"):
        state, note = State.RUNNING, f"{in_slurm.run_time} on {in_slurm.node}{last_too}"
    elif is_finished:
        state, note = State.FINISHED, last if exit_code else ""
    elif job is None and not marker:
        state, note = State.MISSING, "never submitted"
    elif job_states is None:
        state, note = State.UNKNOWN, last
    elif in_slurm is not None or "exit_code" in marker:
        end = in_slurm.state if in_slurm is not None else "ended"
        if not exit_code:
            end += " with exit code 0, but its run folder is not finished"
        state, note = State.FAILED, end + last_too
    elif marker:
        began = f"it began on {marker.get('node')} at {marker.get('began_at')} and left no end"
        state, note = State.LOST, began + last_too
    else:
        state, note = State.LOST, f"job {job.id if job else ''} left no trace: cancelled before it began?"
    return TaskState(
        task=task,
        state=state,
        done=done,
        failed_rows=int(attempt.get("rows_failed") or attempt.get("failed") or 0) if task.name != "merge" else 0,
        restarts=_number(marker, "restarts") if restarts is None else restarts,
        exit_code=None if state.is_active else exit_code,
        job=None if job is None else job.id if task.index is None or job.array is None else f"{job.id}_{task.index}",
        note=note,
        in_queue=in_slurm is not None and in_slurm.waits,
    )


def _number(marker: Mapping[str, str], name: str) -> int | None:
    return int(marker[name]) if marker.get(name, "").isdecimal() else None


def _is_finished(out: Path, launch: Launch, task: Task, meta: Mapping[str, Any], done: int | None) -> bool:
    """Whether the run folder says that a task has done all that it was to do."""
    if meta.get("status") == "exhausted":
        return True
    if task.until is not None and meta.get("runs") and meta["runs"][-1].get("until") != task.until:
        return False
    is_whole = meta.get("status") == "finished" and (task.rows is None or (done or 0) >= task.rows)
    if task.name != "merge":
        return is_whole
    parts = [out / part.folder / "meta.json" for part in launch.tasks]
    if not is_whole or "merged" not in meta or not all(part.is_file() for part in parts):
        return False
    return max(part.stat().st_mtime for part in parts) <= (out / "meta.json").stat().st_mtime


def _rows_done(folder: Path) -> int:
    """Rows of a run folder, of an unfinished run too; of a search, lines of its history."""
    rows = 0
    for table in (folder / "scores.csv", folder / "history.csv", *(folder / "rows").glob("*.csv")):
        with suppress(OSError):  # it is not there, or was just joined into the table
            rows += max(0, table.read_bytes().count(b"\n") - 1)
    return rows


def _why_waiting(state: JobState) -> str:
    note = state.reason or "in the queue"
    if state.reason == "BeginTime" and state.starts_at:
        note += f" {state.starts_at}"
    if state.reason.startswith("JobHeld"):
        note += " (until scontrol release)"
    return note


_NO_NEWS = re.compile(
    r"srun: (error: .*Exited with exit code|Force Terminated)|see .*--help$|slurmstepd.*DUE TO JOB REQUEUE|==="
)
_TAIL_BYTES = 20_000


def _last_line(folder: LaunchFolder, task: Task, job: Job | None, marker: Mapping[str, str]) -> str:
    """The last line of a task's log that says something, or an empty text."""
    logs = [Path(marker.get("log") or "-")]
    if job is not None:
        logs.insert(0, folder.logs / (f"{job.id}.log" if job.array is None else f"{job.id}_{task.index}.log"))
    log = next((path for path in logs if path.is_file()), None)
    if log is None:
        return ""
    with log.open("rb") as file:
        size = file.seek(0, 2)
        file.seek(max(0, size - _TAIL_BYTES))
        text = file.read().decode("utf-8", errors="replace")
    lines = [line.rpartition("\r")[2].strip() for line in text.splitlines()]
    return next((line for line in reversed(lines) if line and not _NO_NEWS.match(line)), "")
