"""Shows what became of launched tasks, and follows them until all have ended."""

from __future__ import annotations

import shlex
import shutil
import sys
from collections import Counter
from collections.abc import Sequence
from time import sleep

from vkdnw_pl.cluster.commands import SlurmError
from vkdnw_pl.cluster.discover import launches_of
from vkdnw_pl.cluster.queue import job_states
from vkdnw_pl.cluster.record import Launch, LaunchFolder
from vkdnw_pl.cluster.tasks import (
    ACTIVE,
    BROKEN,
    FAILED,
    FINISHED,
    LOST,
    MISSING,
    RUNNING,
    UNKNOWN,
    WAITING,
    TaskState,
    judge,
)

INTERRUPTED = 130

_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 1.0, 15.0
_ORDER = (FINISHED, RUNNING, WAITING, FAILED, LOST, MISSING, UNKNOWN)
_MAX_NOTE = 120


def look(folder: LaunchFolder, launched: Launch) -> tuple[list[TaskState], str]:
    """What became of the tasks, and what is wrong with SLURM if it does not answer."""
    if not launched.script:
        launched = launches_of(str(folder.out))[launched.command]  # known by markers alone, which become more
    try:
        known = job_states(job.id for job in launched.jobs)
    except SlurmError as error:
        return judge(folder, launched, None), str(error)
    return judge(folder, launched, known), ""


def follow(folder: LaunchFolder, launched: Launch, quiet: bool = False) -> int:
    """Wait until no task is in the queue or running, show how far they are, and then the table.

    Ctrl-C ends the waiting; the jobs go on.

    Args:
        folder: of the launch.
        launched: its record.
        quiet: show nothing.

    Returns:
        See `exit_code`; 130 after Ctrl-C.
    """
    pause_s, before = _FIRST_PAUSE_S, ""
    try:
        while True:
            states, trouble = look(folder, launched)
            line = trouble or summary(states)
            if line != before and not quiet:
                _show(line)
                before = line
            if not trouble and not any(state.state in ACTIVE for state in states):
                break
            if trouble and shutil.which("scontrol") is None:  # it will not come back
                break
            sleep(pause_s)
            pause_s = min(pause_s * 1.3, _LONGEST_PAUSE_S)
    except KeyboardInterrupt:
        print(
            f"\nthe jobs go on; follow them again with: python -m vkdnw_pl status {shlex.quote(str(folder.out))} --wait",
            file=sys.stderr,
        )
        return INTERRUPTED
    if not quiet:
        _show("", end="")
        print_states(folder, launched, states)
    return exit_code(states)


def summary(states: Sequence[TaskState]) -> str:
    """How many tasks are in which state, and how many rows there are."""
    counts = Counter(state.state for state in states)
    text = ", ".join(f"{counts[name]} {name}" for name in _ORDER if counts[name])
    parts = [state for state in states if state.task.name != "merge" and state.task.rows is not None]
    if parts:
        done, rows = sum(state.done or 0 for state in parts), sum(state.task.rows or 0 for state in parts)
        text += f"; {done:,} of {rows:,} rows"
    if failed := sum(state.failed_rows for state in states):
        text += f", {failed} of them failed"
    return text


def exit_code(states: Sequence[TaskState]) -> int:
    """0 if all is done or on its way, 1 if something failed or nothing is known of it."""
    bad = (*BROKEN, UNKNOWN)
    return int(any(state.state in bad or state.failed_rows or (state.exit_code or 0) > 0 for state in states))


def print_states(folder: LaunchFolder, launched: Launch, states: Sequence[TaskState]) -> None:
    """Print the table of the tasks and what to do about those that failed."""
    head = ("task", "state", "rows", "restarts", "exit", "job", "note")
    rows = [
        (
            state.task.name,
            state.state,
            "-" if state.task.rows is None else f"{state.done or 0}/{state.task.rows}",
            "-" if state.restarts is None else str(state.restarts),
            "-" if state.exit_code is None else str(state.exit_code),
            state.job or "-",
            _note(state),
        )
        for state in states
    ]
    widths = [max(map(len, column)) for column in zip(head, *rows)]
    for row in (head, *rows):
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip())
    print(summary(states))
    broken = [state for state in states if state.state in BROKEN]
    if broken and launched.script:
        print(f"submit what failed again with: python -m vkdnw_pl status {shlex.quote(str(folder.out))} --resubmit")
    elif any(state.failed_rows for state in states) and launched.script:
        print("score the failed rows again with the command of the launch and --retry_failed")


def _note(state: TaskState) -> str:
    note = f"{state.failed_rows} rows failed" if state.failed_rows and state.state == FINISHED else state.note
    return note if len(note) <= _MAX_NOTE else note[: _MAX_NOTE - 4] + " ..."


def _show(line: str, end: str = "\n") -> None:
    """On a terminal in the place of the line before."""
    if sys.stdout.isatty():
        print(f"\r\x1b[K{line}", end="", flush=True)
    elif line:
        print(line, end=end, flush=True)
