"""Submits the tasks of a launch, and the job that joins what they make, with copies of the scripts of ``slurm/``."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from vkdnw_pl.cluster.record import Job, Launch, LaunchFolder, Task
from vkdnw_pl.cluster.slurm import array_ranges, submit
from vkdnw_pl.errors import CommandFailed
from vkdnw_pl.runs.files import now
from vkdnw_pl.runs.shipped import shipped_file

_MERGE_SCRIPT = "merge.sbatch"
_PREFIXES = ("VKDNW_", "SBATCH_")
_CHOOSE_PYTHON = ("VKDNW_PYTHON", "VKDNW_VENV", "VKDNW_CONDA", "VKDNW_CONTAINER")
_OF_A_JOB = ("VKDNW_SLURM_DIR", "VKDNW_SITE_ENV")
_HEAD = "# From the launcher:"


class Submitter:
    """Makes scripts and calls of sbatch for a launch, whose record it keeps.

    Args:
        folder: of the launch.
        launch: its record, to which the jobs are added.
        as_before: take the ``site.env`` of the launch, in place of the one that counts here and now.
    """

    def __init__(self, folder: LaunchFolder, launch: Launch, as_before: bool = False) -> None:
        self.folder, self.launch = folder, launch
        site_copy = folder.path / "site.env"
        self._site_file = site_copy if as_before and site_copy.is_file() else _site_file()
        self._site = _site_values(self._site_file)
        site_options = self._site.get("VKDNW_SBATCH", "")
        try:
            self._site_options = shlex.split(site_options)
        except ValueError as error:
            raise CommandFailed(f"VKDNW_SBATCH={site_options!r} cannot be read: {error}") from error
        self._environment = {
            "VKDNW_SLURM_DIR": str(folder.path.resolve()),
            **_job_environment(self._site),
            **({"WANDB_RUN_GROUP": launch.group} if launch.group else {}),
        }

    def scripts(self) -> dict[str, str]:
        """Name -> text of the scripts as they are submitted."""
        names = [self.launch.script] if self.launch.merge is None else [self.launch.script, _MERGE_SCRIPT]
        return {name: _script_text(name, self._environment) for name in names}

    def write_scripts(self) -> None:
        """Put the scripts and the values of the cluster into the folder."""
        self.folder.logs.mkdir(parents=True, exist_ok=True)
        self.folder.markers.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(_scripts_folder() / "common.sh", self.folder.path / "common.sh")
        if self._site_file.is_file() and self._site_file.resolve() != (self.folder.path / "site.env").resolve():
            shutil.copyfile(self._site_file, self.folder.path / "site.env")
        for name, text in self.scripts().items():
            (self.folder.path / name).write_text(text, encoding="utf-8")

    def job_of_tasks(self, tasks: Sequence[Task], extra: Sequence[str] = (), depends: bool = True) -> Job:
        """The job of some of the tasks, not submitted yet; ``depends``: it waits for the condition of the launch."""
        launch = self.launch
        array = array_ranges(task.index for task in tasks if task.index is not None) or None
        if array is not None and launch.at_once is not None:
            array += f"%{launch.at_once}"
        options = [f"--array={array}", *launch.resources] if array else list(launch.resources)
        if launch.dependency and depends:
            options.append(f"--dependency={launch.dependency}")
        return self._job("array" if array else "single", array, tasks, options, [*launch.script_arguments, *extra])

    def merge_job(self, after: Sequence[str]) -> Job:
        """The job that joins the parts when those of ``after`` have ended, not submitted yet."""
        launch, task = self.launch, self.launch.merge_task
        options = [*launch.merge_resources, *([f"--dependency=afterany:{':'.join(after)}"] if after else [])]
        return self._job("merge", None, [task] if task else [], options, launch.merge or [])

    def submit(self, job: Job) -> Job:
        """Submit, and put it on record."""
        environment = {name: value for name, value in self._site.items() if value and name.startswith("SBATCH_")}
        job = replace(job, id=submit(job.command, environment), submitted_at=now())
        self.launch.jobs.append(job)
        self.folder.write(self.launch)
        return job

    def _job(
        self, kind: str, array: str | None, tasks: Iterable[Task], options: Sequence[str], arguments: Sequence[str]
    ) -> Job:
        script = _MERGE_SCRIPT if kind == "merge" else self.launch.script
        logs = str(self.folder.logs.resolve()).replace("%", "%%")
        command = [
            "sbatch",
            "--parsable",
            f"--job-name={self.launch.job_name}{'-merge' if kind == 'merge' else ''}",
            f"--output={logs}/{'%j' if array is None else '%A_%a'}.log",
            f"--chdir={self.launch.directory}",
            *self._site_options,
            *options,
            str(self.folder.path.resolve() / script),
            *arguments,
            "--out",
            self.launch.out,
        ]
        return Job("", kind, script, array, [task.name for task in tasks], command, "")


def is_copy(script: Path) -> bool:
    """Whether a script was put there by the launcher."""
    return _HEAD in script.read_text(encoding="utf-8", errors="replace")


def _scripts_folder() -> Path:
    """The folder ``slurm/`` that came with the package."""
    if common := shipped_file("slurm/common.sh"):
        return common.parent
    raise FileNotFoundError("the batch scripts are not installed: slurm/common.sh did not come with vkdnw_pl")


def _script_text(name: str, environment: Mapping[str, str]) -> str:
    """A script as it is submitted: that of ``slurm/``, with variables set after the options of sbatch at its head."""
    lines = (_scripts_folder() / name).read_text(encoding="utf-8").splitlines()
    end_of_head = next(i for i, line in enumerate(lines) if line and not line.startswith("#"))
    exports = [f"export {key}={shlex.quote(value)}" for key, value in environment.items()]
    return "\n".join([*lines[:end_of_head], _HEAD, *exports, "", *lines[end_of_head:], ""])


def _site_file() -> Path:
    """The ``site.env`` that counts: that of VKDNW_SITE_ENV, of ``slurm/`` here, or of the scripts."""
    name = os.environ.get("VKDNW_SITE_ENV")
    if name and not Path(name).is_file():
        raise CommandFailed(f"VKDNW_SITE_ENV={name!r}: there is no such file")
    local = Path(name or "slurm/site.env")
    return local if local.is_file() else _scripts_folder() / "site.env"


def _site_values(file: Path) -> dict[str, str]:
    """The values of a ``site.env``; those of the environment win."""
    if not file.is_file():
        return _for_us(os.environ)
    try:
        process = subprocess.run(
            ["bash", "-euc", 'set -a; . "$1" >&2; env -0', "bash", str(file.resolve())],
            capture_output=True,
            text=True,
            errors="surrogateescape",
        )
    except FileNotFoundError as error:
        raise CommandFailed(f"{file} cannot be read: there is no bash") from error
    if process.returncode != 0:
        raise CommandFailed(f"{file} cannot be read: {' '.join(process.stderr.split())}")
    variables = (variable.partition("=") for variable in process.stdout.split("\0"))
    return {**_for_us({name: value for name, _, value in variables}), **_for_us(os.environ)}


def _job_environment(site: Mapping[str, str]) -> dict[str, str]:
    """What a job must know of this environment besides ``site.env``."""
    names = [name for name in os.environ if name.startswith("VKDNW_") and name not in _OF_A_JOB]
    values = {name: os.environ[name] for name in names}
    if not any(site.get(name) for name in _CHOOSE_PYTHON):
        values["VKDNW_PYTHON"] = sys.executable
    return values


def _for_us(environment: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in environment.items() if name.startswith(_PREFIXES)}
