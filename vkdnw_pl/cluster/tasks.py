"""What became of each task of a launch: from its run folder, the marker of its script, and what SLURM knows."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vkdnw_pl.cluster.queue import JobState
from vkdnw_pl.cluster.record import Job, Launch, LaunchFolder, Task

FINISHED, RUNNING, WAITING, FAILED, LOST, MISSING, UNKNOWN = (
    *("finished", "running", "waiting", "failed", "lost", "missing", "unknown"),
)
ACTIVE = (RUNNING, WAITING)
BROKEN = (FAILED, LOST, MISSING)

States = Mapping[tuple[str, int | None], JobState]

_NO_NEWS = re.compile(
    r"srun: (error: .*Exited with exit code|Force Terminated)|see .*--help$|slurmstepd.*DUE TO JOB REQUEUE|==="
)
_TAIL_BYTES = 20_000


@dataclass(frozen=True)
class TaskState:
    """What became of a task."""

    task: Task
    state: str
    """finished, running, waiting; failed: it ended before the end; lost: SLURM does not know it and it left no end; missing:
    it was never submitted; unknown: SLURM does not answer."""
    done: int | None
    """Rows that are on the disk."""
    failed_rows: int
    restarts: int | None
    exit_code: int | None
    job: str | None
    note: str
    """Why it waits or failed, or the last line of its log."""
    in_queue: bool = False
    """Whether its job waits in the queue; so does one that will never begin, which is failed."""

    def record(self) -> dict[str, Any]:
        """JSON-able form."""
        return {
            "task": self.task.name,
            "state": self.state,
            "rows": self.done,
            "of": self.task.rows,
            "failed_rows": self.failed_rows,
            "restarts": self.restarts,
            "exit_code": self.exit_code,
            "job": self.job,
            "note": self.note,
        }


def merge_task(launch: Launch) -> Task:
    """The job that joins the parts."""
    rows = [task.rows for task in launch.tasks]
    return Task("merge", rows=None if None in rows else sum(row or 0 for row in rows))


def all_tasks(launch: Launch) -> list[Task]:
    """The parts, and the job that joins them."""
    return [*launch.tasks, *([merge_task(launch)] if launch.merge is not None else [])]


def judge(folder: LaunchFolder, launch: Launch, states: States | None) -> list[TaskState]:
    """What became of each task.

    Args:
        folder: of the launch.
        launch: its record.
        states: what SLURM knows of its jobs; None if it does not answer.
    """
    return [_judge(folder, launch, task, states) for task in all_tasks(launch)]


def latest_job(launch: Launch, task: Task) -> Job | None:
    """The job that was submitted last for a task."""
    return next((job for job in reversed(launch.jobs) if task.name in job.tasks), None)


def rows_done(folder: Path) -> int:
    """Rows of a run folder, of an unfinished run too; of a search, lines of its history."""
    tables = [folder / "scores.csv", folder / "history.csv", *(folder / "rows").glob("*.csv")]
    return sum(max(0, _lines(table) - 1) for table in tables)


def _judge(folder: LaunchFolder, launch: Launch, task: Task, states: States | None) -> TaskState:
    job, mark = latest_job(launch, task), folder.read_mark(task.name)
    known = None
    if job is not None and states is not None:
        known = states.get((job.id, task.index if job.array is not None else None))
    current = job is None or mark.get("job", "").partition("_")[0] == job.id
    meta = _meta(folder.out / task.folder)
    run = meta["runs"][-1] if meta.get("runs") else {}
    done = min(rows_done(folder.out / task.folder), task.rows) if task.rows is not None else None
    code = known.exit_code if known is not None and not (known.waits or known.runs) else None
    if code is None and current and mark.get("exit_code", "").isdecimal():
        code = int(mark["exit_code"])
    log = _log(folder, task, job, mark if current else {})
    last = _last_line(log) if log is not None else ""
    finished = _finished(folder, launch, task, meta, done, mark if current else {})

    if known is not None and known.never_begins:
        state, note = FAILED, "it will never begin: the job that it depends on did not end as it was to"
    elif known is not None and known.waits:
        state, note = WAITING, _why_waiting(known)
    elif known is not None and known.runs and not (finished and known.state == "COMPLETING"):
        state, note = RUNNING, f"{known.run_time} on {known.node}" + (f": {last}" if last else "")
    elif finished:
        state, note = FINISHED, last if code else ""
    elif job is None and not mark:
        state, note = MISSING, "never submitted"
    elif states is None:
        state, note = UNKNOWN, last
    elif known is not None or (current and "exit_code" in mark):
        what = known.state if known is not None else "ended"
        if not code:
            what += " with exit code 0, but its run folder is not finished"
        state, note = FAILED, f"{what}: {last}" if last else what
    elif current and mark:
        state = LOST
        note = f"it began on {mark.get('node')} at {mark.get('began_at')} and left no end" + (
            f": {last}" if last else ""
        )
    else:
        state, note = LOST, f"job {job.id if job else ''} left no trace: cancelled before it began?"
    restarts = known.restarts if known is not None and known.restarts is not None else None
    if restarts is None and current and mark.get("restarts", "").isdecimal():
        restarts = int(mark["restarts"])
    number = None if job is None else job.id if task.index is None or job.array is None else f"{job.id}_{task.index}"
    return TaskState(
        task=task,
        state=state,
        done=done,
        failed_rows=int(run.get("rows_failed") or run.get("failed") or 0) if task.name != "merge" else 0,
        restarts=restarts,
        exit_code=None if state in ACTIVE else code,
        job=number,
        note=note,
        in_queue=known is not None and known.waits,
    )


def _finished(
    folder: LaunchFolder, launch: Launch, task: Task, meta: Mapping[str, Any], done: int | None, mark: Mapping[str, str]
) -> bool:
    """Whether a task has done all that it was to do: its run folder says so."""
    if not task.meta:
        return mark.get("exit_code") == "0"
    if meta.get("status") == "exhausted":
        return True
    if task.until is not None and meta.get("runs") and meta["runs"][-1].get("until") != task.until:
        return False
    whole = meta.get("status") == "finished" and (task.rows is None or (done or 0) >= task.rows)
    if task.name != "merge":
        return whole
    parts = [folder.out / part.folder / "meta.json" for part in launch.tasks]
    return (
        whole
        and "merged" in meta
        and all(part.is_file() for part in parts)
        and max(part.stat().st_mtime for part in parts) <= (folder.out / "meta.json").stat().st_mtime
    )


def _meta(folder: Path) -> dict[str, Any]:
    try:
        content = json.loads((folder / "meta.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _lines(file: Path) -> int:
    try:
        return file.read_bytes().count(b"\n")
    except OSError:  # it is not there, or was just joined into the table
        return 0


def _why_waiting(state: JobState) -> str:
    note = state.reason or "in the queue"
    if state.reason == "BeginTime" and state.starts_at:
        note += f" {state.starts_at}"
    if state.reason.startswith("JobHeld"):
        note += " (until scontrol release)"
    return note


def _log(folder: LaunchFolder, task: Task, job: Job | None, mark: Mapping[str, str]) -> Path | None:
    if job is not None and folder.logs.is_dir():
        name = f"{job.id}.log" if job.array is None else f"{job.id}_{task.index}.log"
        if (folder.logs / name).is_file():
            return folder.logs / name
    noted = Path(mark.get("log") or "-")
    return noted if noted.is_file() else None


def _last_line(log: Path) -> str:
    """The last line that says something."""
    with log.open("rb") as file:
        size = file.seek(0, 2)
        file.seek(max(0, size - _TAIL_BYTES))
        text = file.read().decode("utf-8", errors="replace")
    lines = [line.rpartition("\r")[2].strip() for line in text.splitlines()]
    return next((line for line in reversed(lines) if line and not _NO_NEWS.match(line)), "")
