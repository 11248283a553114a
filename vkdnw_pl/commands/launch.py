"""``COMMAND ... --launch slurm``: submits a command to SLURM; the same line again submits what is missing."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

from vkdnw_pl.cluster.commands import SlurmError
from vkdnw_pl.cluster.options import launch_help, launch_option, nearest_option, read_options, split_options
from vkdnw_pl.cluster.queue import job_states
from vkdnw_pl.cluster.record import Job, Launch, LaunchFolder
from vkdnw_pl.cluster.scripts import SiteError, is_copy
from vkdnw_pl.cluster.submission import Submitter, cancel_waiting, in_words
from vkdnw_pl.cluster.tasks import ACTIVE, BROKEN, FINISHED, TaskState, judge
from vkdnw_pl.commands.follow import follow
from vkdnw_pl.commands.launch_plan import LAUNCHED, Planned, plan_launch
from vkdnw_pl.errors import CommandFailed, UsageError, user_input
from vkdnw_pl.runs.files import write_atomically
from vkdnw_pl.runs.folder import FolderBusy, RunFolder
from vkdnw_pl.runs.settings import differences

_PATIENCE_S = 20.0


def is_launch(command: str, arguments: Sequence[str], own: Sequence[str] = ()) -> bool:
    """Whether these arguments of a command are for `launch`.

    Args:
        command: name of the command.
        arguments: of the command.
        own: options of the command that are named like one of ``--launch``.

    Raises:
        UsageError: if ``--launch`` is not for this command, or an option needs it.
    """
    names = [name for name in map(launch_option, arguments) if name is not None]
    if "launch" in names:
        if command not in LAUNCHED:
            raise UsageError(f"--launch is not for {command}; it is for {', '.join(LAUNCHED)}")
        return True
    lonely = [name for name in names if name not in own]
    if lonely and command in LAUNCHED:
        raise UsageError(f"--{lonely[0]} is an option of --launch; add --launch slurm, or leave it out")
    return False


def launch(command: str, arguments: Sequence[str], prog: str) -> int:
    """Submit a command.

    Returns:
        0 if all is submitted or done already; with --wait as ``status``.

    Raises:
        UsageError: if an option is not allowed, or the folder holds a launch or results of other settings.
        CommandFailed: if SLURM refuses.
    """
    if any(argument in ("-h", "--help") for argument in arguments):
        print(launch_help(prog))
        return 0
    with user_input():
        given, rest = split_options(arguments)
        chosen = read_options(given)
    try:
        planned = plan_launch(command, rest, chosen, prog)
    except UsageError as error:
        raise _with_better_guess(error) from error
    folder = LaunchFolder(planned.launch.out, command)
    _check_scripts(folder)
    with _known_failures():
        if chosen.dry_run:
            if planned.overwrite:
                _check_idle(folder)
            submit_missing(folder, _continued(folder, planned), dry_run=True)
            return 0
        with RunFolder(folder.path).lock(_PATIENCE_S):
            if planned.overwrite:
                _clear(folder, planned, _check_idle(folder))
            planned = _continued(folder, planned)
            submit_missing(folder, planned)
    launched = planned.launch
    if chosen.wait:
        return follow(folder, launched)
    if launched.jobs:
        print(f"follow it with: python -m vkdnw_pl status {in_words([planned.launch.out])} --wait")
    return 0


def resubmit(folder: LaunchFolder) -> Launch:
    """Submit again what failed or is missing in a launch.

    Raises:
        CommandFailed: if SLURM refuses.
    """
    with _known_failures(), RunFolder(folder.path).lock(_PATIENCE_S):
        launched = folder.read()
        submit_missing(folder, Planned(launched, depends=not _has_begun(folder, launched)), as_before=True)
    return launched


def submit_missing(folder: LaunchFolder, planned: Planned, dry_run: bool = False, as_before: bool = False) -> None:
    """Submit the tasks that are neither done nor in the queue, and the job that joins the parts.

    Args:
        folder: of the launch.
        planned: what the user asks for now; new jobs are added to its launch.
        dry_run: only print.
        as_before: with the values of the cluster that the launch had.

    Raises:
        SlurmError: if SLURM refuses or does not answer.
    """
    launched = planned.launch
    known = job_states(job.id for job in launched.jobs) if launched.jobs else {}
    states = judge(folder, launched, known)
    if planned.overwrite:
        states = [TaskState(state.task, "missing", None, 0, None, None, None, "") for state in states]
    parts = [state for state in states if state.task.name != "merge"]
    todo = [
        state
        for state in parts
        if state.state in BROKEN
        or (planned.retry_failed and _rows_failed(state))
        or (planned.repeat and state.state not in ACTIVE)
    ]
    merge = next((state for state in states if state.task.name == "merge"), None)
    again = merge is not None and (bool(todo) or merge.state in BROKEN)
    if launched.jobs or len(todo) < len(parts):
        print(_counts(parts, len(todo)))
    if not todo and not again:
        print("nothing to submit")
        return
    submitter = Submitter(folder, launched, as_before)
    extra = ["--retry_failed"] if planned.retry_failed else []
    if dry_run:
        _print_dry_run(submitter, planned, todo, again, extra)
        return
    submitter.write_scripts()
    if planned.options is not None:
        write_atomically(folder.options, planned.options)
    folder.write(launched)
    after = list(dict.fromkeys(state.job.partition("_")[0] for state in parts if state.state in ACTIVE and state.job))
    for number in cancel_waiting(todo):
        print(f"cancelled job {number}, which would never have begun")
    if merge is not None and again:
        for number in cancel_waiting([merge]):
            print(f"cancelled job {number}, which would have joined the parts too early")
    if todo:
        job = submitter.submit(submitter.for_tasks([state.task for state in todo], extra, planned.depends))
        after.append(job.id)
        _say_submitted(folder, job)
    if again:
        job = submitter.submit(submitter.for_merge(after))
        print(f"submitted job {job.id}, which joins the parts in {folder.out} when they have ended")


def _continued(folder: LaunchFolder, planned: Planned) -> Planned:
    """What was planned, with the jobs that were submitted for it before.

    Raises:
        UsageError: if what was launched into the folder is something else.
    """
    if planned.overwrite or not folder.record.is_file():
        return planned
    with user_input():
        before = folder.read()
    now = planned.launch
    if not before.jobs:  # SLURM refused it
        return planned
    ways_out = "choose another folder with --out, or give --overwrite to delete what is there"
    if before.command != now.command:
        raise UsageError(f"{folder.out} is where {before.command!r} was launched; choose another folder with --out")
    if different := differences(before.settings or {}, now.settings or {}):
        raise UsageError(f"{folder.out} was launched with other settings: {'; '.join(different)}. So {ways_out}")
    if [task.name for task in before.tasks] != [task.name for task in now.tasks]:
        raise UsageError(f"{folder.out} was launched as {len(before.tasks)} tasks, now {len(now.tasks)}. So {ways_out}")
    if planned.repeat and before.arguments != now.arguments and (active := _active(before)):
        raise UsageError(
            f"{folder.out} was launched with other arguments, and job {' '.join(active)} is in the queue; choose another "
            "folder with --out, or wait"
        )
    now.jobs, now.group = before.jobs, before.group or now.group
    return replace(planned, depends=now.dependency != before.dependency or not _has_begun(folder, now))


def _has_begun(folder: LaunchFolder, launched: Launch) -> bool:
    return any(folder.read_mark(task.name) for task in launched.tasks)


def _active(launched: Launch) -> list[str]:
    """Jobs that are in the queue or running."""
    states = job_states(job.id for job in launched.jobs) if launched.jobs else {}
    return sorted({job for (job, _), state in states.items() if state.waits or state.runs})


def _check_scripts(folder: LaunchFolder) -> None:
    """Refuse an OUT whose ``slurm`` is a folder of scripts that are not the launcher's copies.

    Raises:
        UsageError: naming one.
    """
    own = next((path for path in sorted(folder.path.glob("*.sbatch")) if not is_copy(path)), None)
    if own is not None:
        raise UsageError(
            f"out={str(folder.out)!r} is not allowed: {own} is a script of your own, which the launch would overwrite"
        )


def _check_idle(folder: LaunchFolder) -> Launch | None:
    """What was launched before, of which nothing may be in the queue.

    Raises:
        UsageError: naming the jobs that are.
    """
    if not folder.record.is_file():
        return None
    with user_input():
        before = folder.read()
    if active := _active(before):
        raise UsageError(f"jobs of {folder.out} are in the queue: first scancel {' '.join(active)}")
    return before


def _clear(folder: LaunchFolder, planned: Planned, before: Launch | None) -> None:
    """Delete results and launch."""
    if planned.clear is not None:
        with user_input():
            planned.clear()
    for task in [*planned.launch.tasks, *(before.tasks if before is not None else [])]:
        if task.folder != ".":
            shutil.rmtree(folder.out / task.folder, ignore_errors=True)
    for path in (folder.out / "shards", folder.logs, folder.marks):
        shutil.rmtree(path, ignore_errors=True)
    folder.record.unlink(missing_ok=True)


def _rows_failed(state: TaskState) -> bool:
    return state.state == FINISHED and state.failed_rows > 0


def _counts(parts: Sequence[TaskState], todo: int) -> str:
    finished = sum(state.state == FINISHED for state in parts)
    active = sum(state.state in ACTIVE for state in parts)
    return f"{len(parts)} tasks: {finished} finished, {active} in the queue or running, {todo} to submit"


def _say_submitted(folder: LaunchFolder, job: Job) -> None:
    what = f"array {job.array}" if job.array else f"task {job.tasks[0]}"
    log = folder.logs / (f"{job.id}_<task>.log" if job.array else f"{job.id}.log")
    print(f"submitted job {job.id}: {what}, log {log}")


def _print_dry_run(
    submitter: Submitter, planned: Planned, todo: Sequence[TaskState], again: bool, extra: Sequence[str]
) -> None:
    folder = submitter.folder
    for name, text in submitter.scripts().items():
        print(f"##### {folder.path / name}\n{text}")
    if planned.options is not None:
        print(f"##### {folder.options}\n{planned.options}")
    print("##### would be submitted:")
    after = []
    if todo:
        print(in_words(submitter.for_tasks([state.task for state in todo], extra, planned.depends).command))
        after.append("JOB")
    if again:
        print(in_words(submitter.for_merge(after).command))


def _with_better_guess(error: UsageError) -> UsageError:
    """For a mistyped option of ``--launch``, which the command's parser does not know."""
    found = re.match(r"option '(--[^'.]+)' is not known", str(error))
    near = nearest_option(found[1]) if found else None
    return UsageError(f"option {found[1]!r} is not known; did you mean '--{near}'?") if found and near else error


@contextmanager
def _known_failures() -> Iterator[None]:
    """Turn what goes wrong around SLURM into `CommandFailed`."""
    try:
        yield
    except (SlurmError, SiteError, FolderBusy, FileNotFoundError) as error:
        raise CommandFailed(str(error)) from error
