"""Finds the launches of a run folder, and tasks of scripts that were submitted by hand."""

from __future__ import annotations

import json
import re
from pathlib import Path

from vkdnw_pl.cluster.record import MAKERS, Job, Launch, LaunchFolder, Task


def launches_of(out: str) -> dict[str, Launch]:
    """Command -> what was launched for a run folder.

    Raises:
        ValueError: if nothing was, or a record is damaged.
    """
    folder = LaunchFolder(out)
    others = [path.stem.partition("-")[2] for path in sorted(folder.path.glob("launch-*.json"))]
    found = {}
    if folder.record.is_file():
        main = folder.read()
        found[main.command] = main
    found |= {command: LaunchFolder(out, command).read() for command in others}
    if not found:
        by_hand = _by_hand(folder)
        found[by_hand.command] = by_hand
    return found


def _by_hand(folder: LaunchFolder) -> Launch:
    """A launch as far as the markers of its tasks tell it; without a script, so that it cannot be submitted again."""
    names = sorted(path.name for path in folder.marks.glob("*") if not path.name.startswith("."))
    parts = sorted({int(match[1]) for name in names if (match := re.fullmatch(r"\d+-of-(\d+)", name))})
    if parts:
        names = [f"{i}-of-{count}" for count in parts for i in range(count)]
    tasks = [_task(folder, name) for name in names if name != "merge"]
    if not tasks:
        raise ValueError(
            f"nothing was launched into {folder.out}: there is neither {folder.record} nor a marker of a job"
        )
    jobs, array = [], ""
    for name in [*names, *(["merge"] if (folder.marks / "merge").is_file() else [])]:
        job, _, place = folder.read_mark(name).get("job", "").partition("_")
        if job.isdecimal():
            jobs.append(Job(job, "single", "", place or None, [name], [], ""))
            if place and int(job) > int(array or 0):
                array = job
    begun = {task for job in jobs for task in job.tasks}
    if array and len(begun) < len(names):  # tasks without a marker have not begun
        jobs.append(Job(array, "array", "", array, [name for name in names if name not in begun], [], ""))
    return Launch(
        command=_command(folder.out / tasks[0].folder) or MAKERS[0],
        out=str(folder.out),
        arguments=[],
        directory="",
        script="",
        script_arguments=[],
        resources=[],
        place=[],
        tasks=tasks,
        job_name="",
        merge=[] if (folder.marks / "merge").is_file() else None,
        jobs=jobs,
    )


def _task(folder: LaunchFolder, name: str) -> Task:
    part = re.fullmatch(r"(\d+)-of-(\d+)", name)
    if part is None:
        return Task(name, meta=name in MAKERS)
    path = f"shards/{name}"
    return Task(name, path, int(part[1]), _rows(folder.out, path, int(part[1]), int(part[2])))


def _rows(out: Path, folder: str, index: int, count: int) -> int | None:
    """How many rows a part is to have, by the settings of any part that has begun."""
    for meta in [out / folder / "meta.json", *sorted(out.glob(f"shards/*-of-{count}/meta.json"))]:
        try:
            settings = json.loads(meta.read_text(encoding="utf-8"))["settings"]
            return len(range(index, settings["archs"]["count"], count)) * len(settings["seeds"])
        except (OSError, ValueError, KeyError, TypeError):
            continue
    return None


def _command(folder: Path) -> str | None:
    try:
        return json.loads((folder / "meta.json").read_text(encoding="utf-8"))["command"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
