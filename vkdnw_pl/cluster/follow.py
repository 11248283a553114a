"""Shows what became of launched tasks, and follows them until all have ended."""

from __future__ import annotations

import shlex
import shutil
import sys
from collections import Counter
from collections.abc import Sequence
from time import sleep

from tabulate import tabulate

from vkdnw_pl.cluster.record import Launch, LaunchFolder, launches_of
from vkdnw_pl.cluster.slurm import SlurmError, job_states
from vkdnw_pl.cluster.tasks import State, TaskState, task_states

INTERRUPTED = 130

_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 1.0, 15.0
_MAX_NOTE = 120


def current_states(folder: LaunchFolder, launch: Launch) -> tuple[list[TaskState], str]:
    """What became of the tasks, and what is wrong with SLURM if it does not answer."""
    if not launch.script:
        launch = launches_of(folder.out)[launch.command]  # known by markers alone, which become more
    try:
        return task_states(folder, launch, job_states(job.id for job in launch.jobs)), ""
    except SlurmError as error:
        return task_states(folder, launch, None), str(error)


def follow(folder: LaunchFolder, launch: Launch, quiet: bool = False) -> int:
    """Show how far the tasks are until none is in the queue or running, and then the table.

    Ctrl-C ends the waiting; the jobs go on.

    Returns:
        See `exit_code`; 130 after Ctrl-C.
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
            f"\nthe jobs go on; follow them again with: python -m vkdnw_pl status {shlex.quote(str(folder.out))} --wait",
            file=sys.stderr,
        )
        return INTERRUPTED
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
        print(f"submit what failed again with: python -m vkdnw_pl status {shlex.quote(str(folder.out))} --resubmit")
    elif any(state.failed_rows for state in states) and launch.script:
        print("score the failed rows again with the command of the launch and --retry_failed")


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
