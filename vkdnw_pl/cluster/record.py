"""``OUT/slurm/``: what was launched, as ``launch.json``, the scripts and logs of its jobs, and the markers of its tasks."""

from __future__ import annotations

import re
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from vkdnw_pl.errors import what_it_says
from vkdnw_pl.runs.documents import read_json
from vkdnw_pl.runs.files import write_json
from vkdnw_pl.runs.folder import RunFolder

FORMAT = 1
RUN_MAKERS = ("score", "search", "label", "fit")
"""Commands that make a run folder; the others use one, beside the launch that made it."""
_MERGE_RESOURCES = "place"  # its name in format 1


@dataclass
class Task:
    """A part of a launch that one job, or one task of an array, does."""

    name: str
    """Of its marker; ``3-of-8`` for a shard."""
    folder: str = "."
    """Its run folder, from OUT."""
    index: int | None = None
    """Number of the array's task; None for a job without array."""
    rows: int | None = None
    """How many rows, or lines of the history, it is to make; None where nothing is counted."""
    until: dict[str, Any] | None = None
    """Of a training, how far it is to go."""
    meta: bool = True
    """Whether its run folder's ``meta.json`` tells that it is finished; else the exit code does."""


@dataclass
class Job:
    """One call of sbatch; ``id`` and ``submitted_at`` are empty before it."""

    id: str
    kind: str
    """``array``, ``merge`` or ``single``."""
    script: str
    array: str | None
    tasks: list[str]
    command: list[str]
    submitted_at: str


@dataclass
class Launch:
    """A launch and all of its jobs."""

    command: str
    out: str
    """The run folder, from ``directory``."""
    tasks: list[Task]
    arguments: list[str] = field(default_factory=list)
    """Of the command, as the user typed them, without those of ``--launch``."""
    directory: str = ""
    """Where it was launched, and where the jobs run."""
    script: str = ""
    """Its batch script; empty for scripts that were called by hand."""
    script_arguments: list[str] = field(default_factory=list)
    """Without ``--out``."""
    resources: list[str] = field(default_factory=list)
    """Options of sbatch."""
    merge_resources: list[str] = field(default_factory=list)
    """Options of sbatch of the job that joins the parts."""
    job_name: str = ""
    settings: dict[str, Any] | None = None
    """What the results depend on, where that is known before."""
    merge: list[str] | None = None
    """Arguments of the script that joins the parts, without ``--out``; None: nothing is joined."""
    at_once: int | None = None
    """How many tasks may run at the same time."""
    dependency: str | None = None
    group: str | None = None
    """Name under which W&B shows the parts together."""
    jobs: list[Job] = field(default_factory=list)
    """What was submitted, oldest first."""

    @property
    def merge_task(self) -> Task | None:
        """The job that joins the parts; None where nothing is joined."""
        if self.merge is None:
            return None
        rows = [task.rows for task in self.tasks if task.rows is not None]
        return Task("merge", rows=sum(rows) if len(rows) == len(self.tasks) else None)

    def latest_job(self, task: Task) -> Job | None:
        """The job that was submitted last for a task."""
        return next((job for job in reversed(self.jobs) if task.name in job.tasks), None)


class LaunchFolder:
    """``OUT/slurm``: the launch of ``command``, which makes the run folder or uses it."""

    def __init__(self, out: str | Path, command: str = RUN_MAKERS[0]) -> None:
        self.out = Path(out).expanduser()
        self.path = self.out / "slurm"
        self.record = self.path / ("launch.json" if command in RUN_MAKERS else f"launch-{command}.json")
        self.options = self.path / f"{command}.yaml"
        self.markers = self.path / "marks"
        self.logs = self.path / "logs"

    def read(self) -> Launch:
        """What was launched into OUT; a ``ValueError`` if nothing was, or the record is damaged."""
        if not self.record.is_file():
            raise ValueError(f"nothing was launched into {self.out}: there is no {self.record}")
        content = read_json(self.record)
        try:
            if content.pop("format") != FORMAT:
                raise ValueError("its format is another")
            tasks = [Task(**task) for task in content.pop("tasks")]
            jobs = [Job(**job) for job in content.pop("jobs")]
            return Launch(merge_resources=content.pop(_MERGE_RESOURCES), **content, tasks=tasks, jobs=jobs)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise ValueError(
                f"{self.record} is damaged: {what_it_says(error)}; delete it once its jobs have ended"
            ) from error

    def write(self, launch: Launch) -> None:
        """Replace the record."""
        self.path.mkdir(parents=True, exist_ok=True)
        content = {"format": FORMAT, **asdict(launch)}
        content[_MERGE_RESOURCES] = content.pop("merge_resources")
        write_json(self.record, content)

    def read_marker(self, task: str) -> dict[str, str]:
        """What the batch script of a task noted; empty if it never began."""
        file = self.markers / task
        text = file.read_text(encoding="utf-8", errors="replace") if file.is_file() else ""
        return {name: value for name, _, value in (line.partition("=") for line in text.splitlines())}


def launches_of(out: str | Path) -> dict[str, Launch]:
    """Command -> what was launched for a run folder, by ``--launch`` or by scripts that were submitted by hand."""
    folder = LaunchFolder(out)
    folders = [folder] if folder.record.is_file() else []
    folders += [LaunchFolder(out, path.stem[len("launch-") :]) for path in sorted(folder.path.glob("launch-*.json"))]
    launches = [folder.read() for folder in folders] or [_launch_by_hand(folder)]
    return {launch.command: launch for launch in launches}


def read_run_meta(folder: Path) -> dict[str, Any]:
    """``meta.json`` of a run folder; empty where there is none that can be read, for a task may be writing it."""
    try:
        meta = RunFolder(folder).read_meta()
    except (OSError, ValueError):
        return {}
    return meta if isinstance(meta, dict) else {}


def _launch_by_hand(folder: LaunchFolder) -> Launch:
    """A launch as far as the markers of its tasks tell it; without a script, so that it cannot be submitted again."""
    marked = sorted(path.name for path in folder.markers.glob("[!.]*"))
    names = [name for name in marked if name != "merge"]
    if counts := sorted({int(match[1]) for name in names if (match := re.fullmatch(r"\d+-of-(\d+)", name))}):
        names = [f"{i}-of-{count}" for count in counts for i in range(count)]
    if not names:
        raise ValueError(
            f"nothing was launched into {folder.out}: there is neither {folder.record} nor a marker of a job"
        )
    jobs = []
    for name in marked:
        job, _, index = folder.read_marker(name).get("job", "").partition("_")
        if job.isdecimal():
            jobs.append(Job(job, "single", "", index or None, [name], [], ""))
    arrays = [job.id for job in jobs if job.array]
    if arrays and (waiting := [name for name in names if name not in marked]):
        array = max(arrays, key=int)
        jobs.append(Job(array, "array", "", array, waiting, [], ""))
    tasks = [_task_by_hand(folder, name) for name in names]
    command = read_run_meta(folder.out / tasks[0].folder).get("command", RUN_MAKERS[0])
    return Launch(command, str(folder.out), tasks, merge=[] if "merge" in marked else None, jobs=jobs)


def _task_by_hand(folder: LaunchFolder, name: str) -> Task:
    """The task of a marker; how many rows a shard is to have is told by the settings of any shard that has begun."""
    shard = re.fullmatch(r"(\d+)-of-(\d+)", name)
    if shard is None:
        return Task(name, meta=name in RUN_MAKERS)
    path, index, count = f"shards/{name}", int(shard[1]), int(shard[2])
    for run in [folder.out / path, *sorted(folder.out.glob(f"shards/*-of-{count}"))]:
        with suppress(KeyError, TypeError):
            settings = read_run_meta(run)["settings"]
            rows = len(range(index, settings["archs"]["count"], count)) * len(settings["seeds"])
            return Task(name, path, index, rows)
    return Task(name, path, index)
