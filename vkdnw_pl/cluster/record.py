"""``OUT/slurm/``: what was launched, as ``launch.json``, and the scripts and logs of its jobs."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from vkdnw_pl.runs.files import write_atomically

FORMAT = 1
MAKERS = ("score", "search", "fit")
"""Commands that make a run folder; the others use one, beside the launch that made it."""


@dataclass
class Task:
    """A part of a launch that one job, or one task of an array, does.

    Args:
        name: of its marker; ``3-of-8`` for a shard.
        folder: its run folder, from OUT.
        index: number of the array's task; None for a job without array.
        rows: how many rows, or lines of the history, it is to make; None where nothing is counted.
        until: of a training, how far it is to go.
        meta: whether its run folder's ``meta.json`` tells that it is finished; else the exit code does.
    """

    name: str
    folder: str = "."
    index: int | None = None
    rows: int | None = None
    until: dict[str, Any] | None = None
    meta: bool = True


@dataclass
class Job:
    """What was submitted."""

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
    """A launch and all of its jobs.

    Args:
        command: name of the command.
        out: the run folder, from ``directory``.
        arguments: of the command, as the user typed them, without those of ``--launch``.
        directory: where it was launched, and where the jobs run.
        script: its batch script.
        script_arguments: for the script, without ``--out``.
        resources: options of sbatch for its tasks.
        place: options of sbatch for the job that joins.
        tasks: the parts.
        settings: what the results depend on, where that is known before.
        merge: arguments of the script that joins the parts, without ``--out``; None: nothing is joined.
        at_once: how many tasks may run at the same time.
        job_name: in the queue.
        dependency: condition that the user gave.
        group: name under which W&B shows the parts together.
        jobs: what was submitted, oldest first.
    """

    command: str
    out: str
    arguments: list[str]
    directory: str
    script: str
    script_arguments: list[str]
    resources: list[str]
    place: list[str]
    tasks: list[Task]
    job_name: str
    settings: dict[str, Any] | None = None
    merge: list[str] | None = None
    at_once: int | None = None
    dependency: str | None = None
    group: str | None = None
    jobs: list[Job] = field(default_factory=list)

    @property
    def is_array(self) -> bool:
        """Whether its tasks are those of an array."""
        return self.tasks[0].index is not None


class LaunchFolder:
    """``OUT/slurm``: a launch that makes the run folder, or one that uses it.

    Args:
        out: the run folder.
        command: of the launch.
    """

    def __init__(self, out: str | Path, command: str = MAKERS[0]) -> None:
        self.out = Path(out).expanduser()
        self.path = self.out / "slurm"
        self.record = self.path / ("launch.json" if command in MAKERS else f"launch-{command}.json")
        self.options = self.path / f"{command}.yaml"
        self.marks = self.path / "marks"
        self.logs = self.path / "logs"

    def read(self) -> Launch:
        """What was launched into OUT.

        Raises:
            ValueError: if nothing was, or the record is damaged.
        """
        if not self.record.is_file():
            raise ValueError(f"nothing was launched into {self.out}: there is no {self.record}")
        try:
            content = json.loads(self.record.read_text(encoding="utf-8"))
            if content.pop("format") != FORMAT:
                raise ValueError("its format is another")
            tasks = [Task(**one) for one in content.pop("tasks")]
            jobs = [Job(**one) for one in content.pop("jobs")]
            return Launch(**content, tasks=tasks, jobs=jobs)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise ValueError(f"{self.record} is damaged: {error}; delete it once its jobs have ended") from error

    def write(self, launch: Launch) -> None:
        """Replace the record."""
        self.path.mkdir(parents=True, exist_ok=True)
        content = {"format": FORMAT, **asdict(launch)}
        write_atomically(self.record, json.dumps(content, indent=2, ensure_ascii=False) + "\n")

    def read_mark(self, task: str) -> dict[str, str]:
        """What the batch script of a task noted; empty if it never began."""
        file = self.marks / task
        if not file.is_file():
            return {}
        lines = file.read_text(encoding="utf-8", errors="replace").splitlines()
        return {name: value for name, _, value in (line.partition("=") for line in lines)}
