"""Submits the tasks of a launch, and the job that joins what they make."""

from __future__ import annotations

import shlex
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from vkdnw_pl.cluster.commands import cancel, submit
from vkdnw_pl.cluster.record import Job, Launch, LaunchFolder, Task
from vkdnw_pl.cluster.scripts import (
    job_environment,
    more_options,
    script_text,
    scripts_folder,
    site_file,
    site_values,
)
from vkdnw_pl.cluster.tasks import TaskState, merge_task
from vkdnw_pl.runs.files import now

_MERGE = "merge.sbatch"


@dataclass(frozen=True)
class Submission:
    """One call of sbatch."""

    kind: str
    script: str
    array: str | None
    tasks: tuple[Task, ...]
    command: tuple[str, ...]


class Submitter:
    """Makes scripts and calls of sbatch for a launch.

    Args:
        folder: of the launch.
        launch: its record, to which the jobs are added.
        as_before: with the ``site.env`` of the launch, in place of the one that counts here and now.

    Raises:
        SiteError: if ``site.env`` cannot be read.
        FileNotFoundError: if the scripts are not installed.
    """

    def __init__(self, folder: LaunchFolder, launch: Launch, as_before: bool = False) -> None:
        self.folder, self.launch = folder, launch
        kept = folder.path / "site.env"
        self._site_file = kept if as_before and kept.is_file() else site_file()
        self._site = site_values(self._site_file)
        self._more = more_options(self._site)
        self._environment = {
            "VKDNW_SLURM_DIR": str(folder.path.resolve()),
            **job_environment(self._site),
            **({"WANDB_RUN_GROUP": launch.group} if launch.group else {}),
        }

    def scripts(self) -> dict[str, str]:
        """Name -> text of the scripts as they are submitted."""
        names = [self.launch.script, *([_MERGE] if self.launch.merge is not None else [])]
        return {name: script_text(name, self._environment) for name in names}

    def for_tasks(self, tasks: Sequence[Task], extra: Sequence[str] = (), depends: bool = True) -> Submission:
        """The call of sbatch for some of the tasks.

        Args:
            tasks: of the launch.
            extra: more arguments of the script.
            depends: whether the condition of the launch is still to be waited for.
        """
        launch = self.launch
        array = _ranges([task.index for task in tasks if task.index is not None]) if launch.is_array else None
        if array is not None and launch.at_once is not None:
            array += f"%{launch.at_once}"
        kind = "single" if array is None else "array"
        when = [f"--dependency={launch.dependency}"] if launch.dependency and depends else []
        options = [*([f"--array={array}"] if array else []), *launch.resources, *when]
        return self._submission(kind, launch.script, array, tasks, options, [*launch.script_arguments, *extra])

    def for_merge(self, after: Sequence[str]) -> Submission:
        """The call of sbatch for the job that joins the parts.

        Args:
            after: jobs that must have ended.
        """
        options = [*self.launch.place, *([f"--dependency=afterany:{':'.join(after)}"] if after else [])]
        return self._submission("merge", _MERGE, None, [merge_task(self.launch)], options, self.launch.merge or [])

    def write_scripts(self) -> None:
        """Put the scripts and the values of the cluster into the folder."""
        self.folder.logs.mkdir(parents=True, exist_ok=True)
        self.folder.marks.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(scripts_folder() / "common.sh", self.folder.path / "common.sh")
        if self._site_file.is_file() and self._site_file.resolve() != (self.folder.path / "site.env").resolve():
            shutil.copyfile(self._site_file, self.folder.path / "site.env")
        for name, text in self.scripts().items():
            (self.folder.path / name).write_text(text, encoding="utf-8")

    def submit(self, submission: Submission) -> Job:
        """Submit, and put it on record.

        Raises:
            SlurmError: if the job is refused.
        """
        environment = {name: value for name, value in self._site.items() if value and name.startswith("SBATCH_")}
        job = Job(
            id=submit(submission.command, environment),
            kind=submission.kind,
            script=submission.script,
            array=submission.array,
            tasks=[task.name for task in submission.tasks],
            command=list(submission.command),
            submitted_at=now(),
        )
        self.launch.jobs.append(job)
        self.folder.write(self.launch)
        return job

    def _submission(
        self,
        kind: str,
        script: str,
        array: str | None,
        tasks: Sequence[Task],
        options: Sequence[str],
        arguments: Sequence[str],
    ) -> Submission:
        logs = str(self.folder.logs.resolve()).replace("%", "%%")
        name = self.launch.job_name + ("-merge" if kind == "merge" else "")
        command = [
            "sbatch",
            "--parsable",
            f"--job-name={name}",
            f"--output={logs}/{'%j' if array is None else '%A_%a'}.log",
            f"--chdir={self.launch.directory}",
            *self._more,
            *options,
            str(self.folder.path.resolve() / script),
            *arguments,
            "--out",
            self.launch.out,
        ]
        return Submission(kind, script, array, tuple(tasks), tuple(command))


def cancel_waiting(states: Sequence[TaskState]) -> Iterator[str]:
    """Take the jobs of these tasks out of the queue, as far as they wait there, and yield their numbers."""
    for state in states:
        if state.in_queue and state.job is not None:
            cancel(state.job)
            yield state.job


def in_words(command: Sequence[str]) -> str:
    """A command as it is typed."""
    return shlex.join(command)


def _ranges(numbers: Sequence[int]) -> str:
    """Numbers as sbatch writes them: ``0-2,5``."""
    parts: list[list[int]] = []
    for number in sorted(numbers):
        if parts and parts[-1][-1] == number - 1:
            parts[-1][1:] = [number]
        else:
            parts.append([number])
    return ",".join("-".join(map(str, part)) for part in parts)
