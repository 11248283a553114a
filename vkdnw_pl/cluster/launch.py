"""``COMMAND ... --launch slurm``: submits a command to SLURM; the same line again submits what is missing."""

from __future__ import annotations

import re
import shlex
import shutil
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

from vkdnw_pl.cluster.options import nearest_option, read_options, split_options
from vkdnw_pl.cluster.plan import LaunchPlan, plan_launch
from vkdnw_pl.cluster.record import Job, Launch, LaunchFolder
from vkdnw_pl.cluster.slurm import job_states, run_slurm
from vkdnw_pl.cluster.submission import Submitter, is_copy
from vkdnw_pl.cluster.tasks import State, TaskState, follow, task_states
from vkdnw_pl.errors import UsageError, program, user_input
from vkdnw_pl.runs.files import write_atomically
from vkdnw_pl.runs.folder import RunFolder, differences

_PATIENCE_S = 20.0


def launch(command: str, arguments: Sequence[str], prog: str, parse: Callable[[list[str]], Any]) -> int:
    """Submit a command.

    Args:
        command: its name.
        arguments: of the command and of ``--launch``.
        prog: how the user calls the command.
        parse: turns the command's own arguments into its options.

    Returns:
        0 if all is submitted or done already; with --wait as ``status``.
    """
    if any(argument in ("-h", "--help") for argument in arguments):
        read_options(["--help"], prog)
    launch_arguments, command_arguments = split_options(arguments)
    options = read_options(launch_arguments, prog)
    try:
        command_options = parse(command_arguments)
    except UsageError as error:
        raise _with_better_guess(error) from error
    plan = plan_launch(command, command_options, command_arguments, options)
    folder = LaunchFolder(plan.launch.out, command)
    if foreign := [path for path in sorted(folder.path.glob("*.sbatch")) if not is_copy(path)]:
        raise UsageError(f"out={str(folder.out)!r} is not allowed: {foreign[0]} is a script of your own")
    with nullcontext() if options.dry_run else RunFolder(folder.path).lock(_PATIENCE_S):
        before = _earlier_launch(folder, command)
        if not plan.overwrite:
            plan = plan if before is None else _continued(folder, plan, before)
        elif before is not None and (active := _active_jobs(before)):
            raise UsageError(f"jobs of {folder.out} are in the queue: first scancel {' '.join(active)}")
        elif not options.dry_run:
            _clear(folder, plan, before)
        _submit_missing(folder, plan, dry_run=options.dry_run)
    if options.dry_run:
        return 0
    if options.wait:
        return follow(folder, plan.launch)
    if plan.launch.jobs:
        print(f"follow it with: {program()} status {shlex.quote(plan.launch.out)} --wait")
    return 0


def resubmit(folder: LaunchFolder) -> Launch:
    """Submit again what failed or is missing in a launch, with the values of the cluster that it had."""
    with RunFolder(folder.path).lock(_PATIENCE_S):
        launched = folder.read()
        _submit_missing(folder, LaunchPlan(launched, depends=not _has_begun(folder, launched)), as_before=True)
    return launched


def _submit_missing(folder: LaunchFolder, plan: LaunchPlan, dry_run: bool = False, as_before: bool = False) -> None:
    """Submit the tasks that are neither done nor in the queue, and the job that joins the parts.

    Args:
        folder: of the launch.
        plan: new jobs are added to its launch.
        dry_run: only print.
        as_before: with the values of the cluster that the launch had.
    """
    launched = plan.launch
    states = task_states(folder, launched, job_states(job.id for job in launched.jobs))
    if plan.overwrite:
        states = [TaskState(state.task, State.MISSING) for state in states]
    parts = [state for state in states if state.task.name != "merge"]
    to_submit = [state for state in parts if state.state.is_broken or _is_to_repeat(state, plan)]
    tasks = [state.task for state in to_submit]
    merges = [state for state in states if state.task.name == "merge" and (tasks or state.state.is_broken)]
    if launched.jobs or len(tasks) < len(parts):
        finished = sum(state.state == State.FINISHED for state in parts)
        active = sum(state.state.is_active for state in parts)
        print(f"{len(parts)} tasks: {finished} finished, {active} in the queue or running, {len(tasks)} to submit")
    if not tasks and not merges:
        print("nothing to submit")
        return
    submitter = Submitter(folder, launched, as_before)
    extra = ["--retry_failed"] if plan.retry_failed else []
    if dry_run:
        jobs = [submitter.job_of_tasks(tasks, extra, plan.depends)] if tasks else []
        jobs += [submitter.merge_job(["JOB"] if tasks else []) for _ in merges]
        _print_dry_run(submitter, plan, jobs)
        return
    submitter.write_scripts()
    if plan.options is not None:
        write_atomically(folder.options, plan.options)
    folder.write(launched)
    after = [state.job.partition("_")[0] for state in parts if state.state.is_active and state.job]
    _cancel_waiting(to_submit, "which would never have begun")
    _cancel_waiting(merges, "which would have joined the parts too early")
    if tasks:
        job = submitter.submit(submitter.job_of_tasks(tasks, extra, plan.depends))
        after.append(job.id)
        what = f"array {job.array}" if job.array else f"task {job.tasks[0]}"
        log = f"{job.id}_<task>.log" if job.array else f"{job.id}.log"
        print(f"submitted job {job.id}: {what}, log {folder.logs / log}")
    if merges:
        job = submitter.submit(submitter.merge_job(list(dict.fromkeys(after))))
        print(f"submitted job {job.id}, which joins the parts in {folder.out} when they have ended")


def _is_to_repeat(state: TaskState, plan: LaunchPlan) -> bool:
    has_failed_rows = state.state == State.FINISHED and state.failed_rows > 0
    return (plan.retry_failed and has_failed_rows) or (plan.repeat and not state.state.is_active)


def _cancel_waiting(states: Sequence[TaskState], why: str) -> None:
    """Take the jobs of these tasks out of the queue, as far as they wait there."""
    for state in states:
        if state.in_queue and state.job is not None:
            run_slurm(["scancel", state.job])
            print(f"cancelled job {state.job}, {why}")


def _earlier_launch(folder: LaunchFolder, command: str) -> Launch | None:
    """What was launched into the folder before; a ``UsageError`` if it was another command."""
    if not folder.record.is_file():
        return None
    with user_input():
        before = folder.read()
    if not before.jobs:  # SLURM refused it
        return None
    if before.command != command:
        raise UsageError(f"{folder.out} is where {before.command!r} was launched; choose another folder with --out")
    return before


def _continued(folder: LaunchFolder, plan: LaunchPlan, before: Launch) -> LaunchPlan:
    """The plan, with the jobs that were submitted for it before; a ``UsageError`` if it is another plan."""
    now = plan.launch
    ways_out = "choose another folder with --out, or give --overwrite to delete what is there"
    if different := differences(before.settings or {}, now.settings or {}):
        raise UsageError(f"{folder.out} was launched with other settings: {'; '.join(different)}. So {ways_out}")
    if [task.name for task in before.tasks] != [task.name for task in now.tasks]:
        raise UsageError(f"{folder.out} was launched as {len(before.tasks)} tasks, now {len(now.tasks)}. So {ways_out}")
    if plan.repeat and before.arguments != now.arguments and (active := _active_jobs(before)):
        raise UsageError(
            f"{folder.out} was launched with other arguments, and job {' '.join(active)} is in the queue; choose another "
            "folder with --out, or wait"
        )
    now.jobs, now.group = before.jobs, before.group or now.group
    return replace(plan, depends=now.dependency != before.dependency or not _has_begun(folder, now))


def _has_begun(folder: LaunchFolder, launched: Launch) -> bool:
    return any(folder.read_marker(task.name) for task in launched.tasks)


def _active_jobs(launched: Launch) -> list[str]:
    """Jobs that are in the queue or running."""
    states = job_states(job.id for job in launched.jobs)
    return sorted({job for (job, _), state in states.items() if state.waits or state.runs})


def _clear(folder: LaunchFolder, plan: LaunchPlan, before: Launch | None) -> None:
    """Delete results and launch of this command; what others made beside them stays."""
    if plan.run_folder is not None:
        with user_input():
            plan.run_folder.clear()
    tasks = [*plan.launch.tasks, *(before.tasks if before is not None else [])]
    folders = [folder.out / task.folder for task in tasks if task.folder != "."]
    markers = [folder.markers / name for name in ("merge", *(task.name for task in tasks))]
    if plan.launch.command in ("score", "label"):  # cut into another number of parts
        folders.append(folder.out / "shards")
        markers += folder.markers.glob("*-of-*")
    logs = [log for job in (before.jobs if before else ()) for log in folder.logs.glob(f"{job.id}[._]*")]
    for path in folders:
        shutil.rmtree(path, ignore_errors=True)
    for path in (*markers, *logs, folder.record):
        path.unlink(missing_ok=True)


def _print_dry_run(submitter: Submitter, plan: LaunchPlan, jobs: Sequence[Job]) -> None:
    files = {submitter.folder.path / name: text for name, text in submitter.scripts().items()}
    if plan.options is not None:
        files[submitter.folder.options] = plan.options
    for path, text in files.items():
        print(f"##### {path}\n{text}")
    print("##### would be submitted:", *(shlex.join(job.command) for job in jobs), sep="\n")


def _with_better_guess(error: UsageError) -> UsageError:
    """For a mistyped option of ``--launch``, which the command's parser does not know."""
    unknown = re.match(r"option '(--[^'.]+)' is not known", str(error))
    hint = nearest_option(unknown[1]) if unknown else ""
    return UsageError(f"{unknown[0]}{hint}") if unknown and hint else error
