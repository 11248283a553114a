"""What became of each task of a launch: from its run folder, the marker of its script, and what SLURM knows."""

from __future__ import annotations

import re
import shlex
import shutil
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from time import sleep
from typing import Any

from tabulate import tabulate

from vkdnw_pl.cluster.record import Job, Launch, LaunchFolder, Task, launches_of, read_run_meta
from vkdnw_pl.cluster.slurm import JobKey, JobState, SlurmError, job_states
from vkdnw_pl.errors import program

_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 1.0, 15.0
_MAX_NOTE = 120
_NO_NEWS = re.compile(
    r"srun: (error: .*Exited with exit code|Force Terminated)|see .*--help$|slurmstepd.*DUE TO JOB REQUEUE|==="
)
_TAIL_BYTES = 20_000


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


def task_states(
    folder: LaunchFolder, launch: Launch, slurm_states: Mapping[JobKey, JobState] | None
) -> list[TaskState]:
    """What became of each task, and of the job that joins the parts; ``slurm_states`` is None if SLURM does not answer."""
    tasks = [*launch.tasks, launch.merge_task]
    return [_task_state(folder, launch, task, slurm_states) for task in tasks if task is not None]


def _task_state(
    folder: LaunchFolder, launch: Launch, task: Task, slurm_states: Mapping[JobKey, JobState] | None
) -> TaskState:
    job, marker = launch.latest_job(task), folder.read_marker(task.name)
    in_slurm = JobState("")  # not known
    if job is not None:
        if marker.get("job", "").partition("_")[0] != job.id:
            marker = {}  # of an earlier job
        in_slurm = (slurm_states or {}).get((job.id, None if job.array is None else task.index), in_slurm)
    meta = read_run_meta(folder.out / task.folder)
    attempt = meta["runs"][-1] if meta.get("runs") else {}
    done = None if task.rows is None else min(_rows_done(folder.out / task.folder), task.rows)
    is_finished = _is_finished(folder.out, launch, task, meta, done) if task.meta else marker.get("exit_code") == "0"
    exit_code = None if in_slurm.waits or in_slurm.runs else in_slurm.exit_code
    if exit_code is None:
        exit_code = _number(marker, "exit_code")
    last = _last_line(folder, task, job, marker)
    last_too = f": {last}" if last else ""

    if in_slurm.waits and in_slurm.reason == "DependencyNeverSatisfied":  # only some clusters cancel such a job
        state, note = State.FAILED, "it will never begin: the job that it depends on did not end as it was to"
    elif in_slurm.waits:
        state, note = State.WAITING, _why_waiting(in_slurm)
    elif in_slurm.runs and not (is_finished and in_slurm.state == "COMPLETING"):
        state, note = State.RUNNING, f"{in_slurm.run_time} on {in_slurm.node}{last_too}"
    elif is_finished:
        state, note = State.FINISHED, last if exit_code else ""
    elif job is None and not marker:
        state, note = State.MISSING, "never submitted"
    elif slurm_states is None:
        state, note = State.UNKNOWN, last
    elif in_slurm.state or "exit_code" in marker:
        without_reason = "" if exit_code else " with exit code 0, but its run folder is not finished"
        state, note = State.FAILED, f"{in_slurm.state or 'ended'}{without_reason}{last_too}"
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
        restarts=_number(marker, "restarts") if in_slurm.restarts is None else in_slurm.restarts,
        exit_code=None if state.is_active else exit_code,
        job=None if job is None else job.id if task.index is None or job.array is None else f"{job.id}_{task.index}",
        note=note,
        in_queue=in_slurm.waits,
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
    tables = (folder / name for name in ("scores.csv", "labels.csv", "history.csv"))
    for table in (*tables, *(folder / "rows").glob("*.csv")):
        with suppress(OSError):  # it is not there, or was just joined into the table
            rows += max(0, table.read_bytes().count(b"\n") - 1)
    return rows


def _why_waiting(state: JobState) -> str:
    if state.reason == "BeginTime":
        return f"{state.reason} {state.starts_at}".strip()
    held = " (until scontrol release)" if state.reason.startswith("JobHeld") else ""
    return (state.reason or "in the queue") + held


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


def current_states(folder: LaunchFolder, launch: Launch) -> tuple[list[TaskState], str]:
    """What became of the tasks, and what is wrong with SLURM if it does not answer."""
    if not launch.script:
        launch = launches_of(folder.out)[launch.command]  # known by markers alone, which become more
    try:
        return task_states(folder, launch, job_states(job.id for job in launch.jobs)), ""
    except SlurmError as error:
        return task_states(folder, launch, None), str(error)


def follow(folder: LaunchFolder, launch: Launch, quiet: bool = False) -> int:
    """Show how far the tasks are until none is in the queue or running, then the table; the code is `exit_code`'s.

    Ctrl-C ends the waiting; the jobs go on.
    """
    pause_s, shown = _FIRST_PAUSE_S, ""
    try:
        while True:
            states, trouble = current_states(folder, launch)
            line = trouble or summary(states)
            if line != shown and not quiet:
                _show(line)
                shown = line
            if not trouble and not any(state.state.is_active for state in states):
                break
            if trouble and shutil.which("scontrol") is None:  # it will not come back
                break
            sleep(pause_s)
            pause_s = min(pause_s * 1.3, _LONGEST_PAUSE_S)
    except KeyboardInterrupt:
        print(
            f"\nthe jobs go on; follow them again with: {program()} status {shlex.quote(str(folder.out))} --wait",
            file=sys.stderr,
        )
        raise
    if not quiet:
        if sys.stdout.isatty():
            _show("")
        print_states(folder, launch, states)
    return exit_code(states)


def summary(states: Sequence[TaskState]) -> str:
    """How many tasks are in which state, and how many rows there are."""
    counts = Counter(state.state for state in states)
    text = ", ".join(f"{counts[state]} {state}" for state in State if counts[state])
    parts = [state for state in states if state.task.name != "merge" and state.task.rows is not None]
    if parts:
        done, rows = sum(state.done or 0 for state in parts), sum(state.task.rows or 0 for state in parts)
        text += f"; {done:,} of {rows:,} rows"
    if failed := sum(state.failed_rows for state in states):
        text += f", {failed} of them failed"
    return text


def exit_code(states: Sequence[TaskState]) -> int:
    """0 if all is done or on its way, 1 if something failed or nothing is known of it."""
    bad = (State.FAILED, State.LOST, State.MISSING, State.UNKNOWN)
    return int(any(state.state in bad or state.failed_rows or state.exit_code for state in states))


def print_states(folder: LaunchFolder, launch: Launch, states: Sequence[TaskState]) -> None:
    """Print the table of the tasks and what to do about those that failed."""
    header = ("task", "state", "rows", "restarts", "exit", "job", "note")
    print(tabulate(map(_cells, states), header, tablefmt="plain", disable_numparse=True))
    print(summary(states))
    if any(state.state.is_broken for state in states) and launch.script:
        print(f"submit what failed again with: {program()} status {shlex.quote(str(folder.out))} --resubmit")
    elif any(state.failed_rows for state in states) and launch.script:
        print("make the failed rows again with the command of the launch and --retry_failed")


def _cells(state: TaskState) -> tuple[str, ...]:
    rows_failed = state.failed_rows and state.state == State.FINISHED
    note = f"{state.failed_rows} rows failed" if rows_failed else state.note
    return (
        state.task.name,
        state.state,
        "-" if state.task.rows is None else f"{state.done or 0}/{state.task.rows}",
        "-" if state.restarts is None else str(state.restarts),
        "-" if state.exit_code is None else str(state.exit_code),
        state.job or "-",
        note if len(note) <= _MAX_NOTE else note[: _MAX_NOTE - 4] + " ...",
    )


def _show(line: str) -> None:
    """On a terminal in the place of the line before."""
    on_terminal = sys.stdout.isatty()
    print(f"\r\x1b[K{line}" if on_terminal else line, end="" if on_terminal else "\n", flush=True)
