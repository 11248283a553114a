"""Run folders as records: what was run, how it ended, and its results, read when they are asked for.

Nothing of a folder is executed, nothing is written to it. A run that is not finished is a run like the others: it has
the rows that are there, and `Run.notes` say what is missing.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from vkdnw_pl.callbacks.history_lines import read_history as read_training
from vkdnw_pl.report.run_files import (
    number_column,
    read_csv,
    read_json,
    read_text,
    read_text_lines,
    read_yaml,
)
from vkdnw_pl.runs.journal import read_journals
from vkdnw_pl.runs.table import FAILED as FAILED_ROW
from vkdnw_pl.runs.table import OK, ScoreTable, join_rows, parse_table
from vkdnw_pl.search.history import Candidate
from vkdnw_pl.search.history import read_history as read_search

COMMANDS = ("score", "evaluate", "search", "fit")
"""Commands whose run folders are read; what ``merge`` makes is the folder of a ``score``."""

FINISHED, STOPPED, RUNNING, FAILED, EXHAUSTED, NOT_MERGED = (
    *("finished", "stopped", "running", "failed", "exhausted", "not merged"),
)

Array = np.ndarray[Any, np.dtype[np.float64]]


@dataclass(frozen=True)
class Scores:
    """A score table as columns; all have one entry per (architecture, seed)."""

    archs: list[str]
    seeds: list[int]
    values: dict[str, Array]
    """Column -> values, higher is better, NaN where there is none."""
    failed: np.ndarray[Any, np.dtype[np.bool_]]
    reasons: dict[int, str]
    """Place of a row -> why it failed or lacks a value; only rows that have a reason."""
    seconds: Array


@dataclass(frozen=True)
class Ranking:
    """``ranking.csv``: one entry per architecture."""

    archs: list[str]
    ranks: dict[str, Array]
    """Ranking -> rank of each architecture, 1 = predicted to be best."""


@dataclass(frozen=True)
class Failure:
    """A row that failed."""

    arch: str
    seed: int | None
    """None for a candidate of a search."""
    reason: str


@dataclass(frozen=True)
class Run:
    """One run folder. What is not in ``meta.json`` and ``config.yaml`` is read at first use, and then kept.

    The readers raise ``ValueError``, naming the file and the fault, if a file is damaged; what is not there (yet) is
    empty, or None.
    """

    path: Path
    name: str
    """Unique among the runs that were read together."""
    command: str
    """``score``, ``evaluate``, ``search`` or ``fit``."""
    status: str
    """``finished``, ``stopped``, ``running`` (or killed), ``failed``, ``exhausted``, or ``not merged``."""
    config: Mapping[str, Any]
    """Content of ``config.yaml``; empty where there is none."""
    settings: Mapping[str, Any]
    """What decides the result, as ``meta.json`` records it."""
    meta: Mapping[str, Any]
    notes: tuple[str, ...] = ()
    """What is not finished, or unusual about the folder."""

    @property
    def environment(self) -> Mapping[str, Any]:
        """Versions, commit, host, device."""
        return _mapping(self.meta.get("environment") or {}, "environment", self.path / "meta.json")

    @property
    def attempts(self) -> list[Mapping[str, Any]]:
        """The times that the command was run here: ``started_at``, ``finished_at``, ``elapsed_s``, ``stopped_by``, ..."""
        return _attempts(self.meta, self.path / "meta.json")

    @property
    def seconds(self) -> float | None:
        """Wall time of all attempts together; None where no attempt says."""
        known = [one["elapsed_s"] for one in self.attempts if isinstance(one.get("elapsed_s"), int | float)]
        return float(sum(known)) if known else None

    @property
    def space(self) -> str:
        """Name of the search space; empty where the folder does not say."""
        model = self.config.get("model")
        own = model.get("space") if self.command == "fit" and isinstance(model, Mapping) else None
        return str(own or self.settings.get("space") or self.config.get("space") or "")

    @property
    def wandb_id(self) -> str | None:
        """Id of the run on Weights & Biases, where it was logged there."""
        file = self.path / ("wandb_id.evaluate" if self.command == "evaluate" else "wandb_id")
        return (read_text(file).strip() or None) if file.is_file() else None

    @functools.cached_property
    def scores(self) -> Scores | None:
        """All rows that are on the disk, those of unfinished runs included."""
        return _read_scores(self.path)

    @functools.cached_property
    def metrics(self) -> list[dict[str, str]]:
        """Rows of ``metrics.csv`` as text, see ``report.tables.Row``."""
        file = self.path / "metrics.csv"
        if not file.is_file():
            return []
        header, rows = read_csv(file)
        for column in ("ranking", "dataset", "split", "n", "kendall", "spearman", "ndcg"):
            if column not in header:
                raise ValueError(f"{file} is damaged: it has no column {column!r}")
        for column, *cells in zip(header, *rows):
            if column not in ("ranking", "dataset", "split"):
                number_column(cells, file, column)
        return [dict(zip(header, row)) for row in rows]

    @functools.cached_property
    def ranking(self) -> Ranking | None:
        """Content of ``ranking.csv``."""
        file = self.path / "ranking.csv"
        if not file.is_file():
            return None
        header, rows = read_csv(file)
        if header[0] != "arch":
            raise ValueError(f"{file} is damaged: its first column must be 'arch', not {header[0]!r}")
        archs, *columns = zip(*rows) if rows else [() for _ in header]
        ranks = {name: number_column(cells, file, name) for name, cells in zip(header[1:], columns)}
        return Ranking(list(archs), ranks)

    @functools.cached_property
    def failures(self) -> list[Failure]:
        """Rows of the score table, or candidates of the search, that failed."""
        if self.command == "search":
            return [Failure(one.arch, None, one.reason) for one in self.candidates if one.failed]
        scores = self.scores
        if scores is None:
            return []
        places = np.flatnonzero(scores.failed).tolist()
        return [Failure(scores.archs[i], scores.seeds[i], scores.reasons.get(i, "")) for i in places]

    @functools.cached_property
    def candidates(self) -> list[Candidate]:
        """History of the search so far."""
        file = self.path / "history.csv"
        if not file.is_file() or not file.stat().st_size:
            return []
        try:
            return read_search(file)
        except UnicodeDecodeError as error:
            raise ValueError(f"{file} is damaged: {error}") from None

    @functools.cached_property
    def found(self) -> dict[str, Any] | None:
        """Content of ``found.json``: the best network of the search, and the ``top`` ones."""
        file = self.path / "found.json"
        return read_json(file) if file.is_file() else None

    @functools.cached_property
    def history(self) -> list[dict[str, Any]]:
        """Lines of the training's ``history.jsonl`` so far: ``step``, ``epoch``, and the values of that step."""
        file = self.path / "history.jsonl"
        return read_training(file) if file.is_file() else []

    @functools.cached_property
    def results(self) -> dict[str, float]:
        """Last values of the training's metrics; those that are not numbers are left out."""
        file = self.path / "results.json"
        content = read_json(file) if file.is_file() else {}
        return {name: float(value) for name, value in content.items() if _is_number(value)}

    @functools.cached_property
    def initial_proxies(self) -> dict[str, float]:
        """Proxy values of the network before its training, where they were computed."""
        scores = self.scores if self.command == "fit" else None
        if scores is None or not scores.archs:
            return {}
        return {name: float(column[0]) for name, column in scores.values.items() if math.isfinite(column[0])}


def read_run(path: str | Path, name: str | None = None) -> Run:
    """Read the record of one run folder.

    Args:
        path: the folder.
        name: what to call it; default: the folder's own name.

    Raises:
        ValueError: if there is no folder, it is not a run folder, or its record is damaged; naming folder and file.
    """
    path = Path(path).expanduser()
    kind = _kind(path)
    if not kind:
        raise ValueError(f"{path} {_what_else(path)}")
    name = name or path.resolve().name
    config_file, meta_file = path / "config.yaml", path / "meta.json"
    config = read_yaml(config_file) if config_file.is_file() else {}
    if kind == "launched":
        return _launched(path, name, config)
    if kind == "evaluated":  # results of `evaluate` in a folder of their own, without a record
        return Run(path, name, "evaluate", FINISHED, config, {}, {})
    meta = read_json(meta_file)
    command = meta.get("command")
    if command not in COMMANDS:
        raise ValueError(
            f"{meta_file} is damaged: its command is {command!r}, it must be one of {', '.join(COMMANDS)}"
            if not isinstance(command, str)
            else f"{path} is a run folder of {command!r}; reports are made of those of {', '.join(COMMANDS)}"
        )
    settings = _mapping(meta.get("settings") or {}, "settings", meta_file)
    status = _status(meta, meta_file)
    notes = [*_notes(path, command, status, meta, settings, meta_file)]
    if not config:
        notes.append("config.yaml is missing")
    return Run(path, name, command, status, config, settings, meta, tuple(notes))


def read_runs(paths: Iterable[str | Path]) -> list[Run]:
    """Read run folders, with names that differ; one that is named twice is read once.

    Raises:
        ValueError: as `read_run`.
    """
    folders = list({Path(path).expanduser().resolve(): Path(path).expanduser() for path in paths}.values())
    return [read_run(folder, name) for folder, name in zip(folders, unique_names(folders))]


def run_folders(path: str | Path) -> list[Path]:
    """The folder itself where it is a run folder, otherwise the run folders directly below it, by name.

    Raises:
        ValueError: if there is neither.
    """
    path = Path(path).expanduser()
    if _kind(path):
        return [path]
    below = sorted(child for child in path.iterdir() if child.is_dir() and _kind(child)) if path.is_dir() else []
    if not below:
        raise ValueError(f"{path} {_what_else(path)}")
    return below


def unique_names(paths: Sequence[Path]) -> list[str]:
    """The last part of each path, and as many parts before it as are needed to tell the folders apart."""
    parts = [path.resolve().parts for path in paths]
    taken = [1] * len(parts)
    while True:
        names = ["/".join(some[-n:]) for some, n in zip(parts, taken)]
        twins = [i for i, name in enumerate(names) if names.count(name) > 1 and taken[i] < len(parts[i])]
        if not twins:
            return names
        for i in twins:
            taken[i] += 1


def _kind(path: Path) -> str:
    """``run``, ``launched``, ``evaluated``, or nothing where it is no run folder."""
    if (path / "meta.json").is_file():
        return "run"
    if (path / "slurm" / "launch.json").is_file() and not any(path.glob("rank-*/meta.json")):
        return "launched"
    return "evaluated" if (path / "ranking.csv").is_file() and (path / "metrics.csv").is_file() else ""


def _what_else(path: Path) -> str:
    """What a path is that is no run folder."""
    if not path.exists():
        return "does not exist"
    if not path.is_dir():
        return "is a file: give the run folder, in which meta.json is"
    if paper := next((one for one in path.glob("*.html") if one.with_suffix(".csv").is_file()), None):
        return f"holds what evaluate --paper wrote, which has a page of its own: {paper}"
    damaged = next((name for name in ("scores.csv", "history.csv", "checkpoints") if (path / name).exists()), None)
    if damaged:
        return f"is not a whole run folder: it has {damaged}, but no meta.json that says how it was made"
    return "is not a run folder: it has no meta.json, and no folder directly below it has one"


def _launched(path: Path, name: str, config: Mapping[str, Any]) -> Run:
    """A launched run whose shards were not merged yet."""
    file = path / "slurm" / "launch.json"
    launch = read_json(file)
    shards = sorted(one for one in (path / "shards").glob("*") if (one / "meta.json").is_file())
    states = [read_run(shard).status for shard in shards]
    done = states.count(FINISHED)
    tasks = launch.get("tasks")
    count = f" of {tasks}" if isinstance(tasks, int) else ""
    notes = [f"launched, not merged: {len(shards)}{count} shards have begun, {done} are finished"]
    if shards:
        notes.append(f"when all are finished: python -m vkdnw_pl merge {path}/shards/* --out {path}")
    return Run(path, name, str(launch.get("command") or "score"), NOT_MERGED, config, {}, launch, tuple(notes))


def _status(meta: Mapping[str, Any], file: Path) -> str:
    """The recorded status, or what the last attempt tells where there is none."""
    status = meta.get("status")
    if isinstance(status, str) and status:
        return status
    last = (_attempts(meta, file) or [{}])[-1]
    if last.get("stopped_by"):
        return STOPPED
    return FINISHED if last.get("finished_at") else RUNNING


def _notes(
    path: Path, command: str, status: str, meta: Mapping[str, Any], settings: Mapping[str, Any], file: Path
) -> Iterable[str]:
    last = (_attempts(meta, file) or [{}])[-1]
    merged = bool(meta.get("merged"))  # then the attempts are those of the shards
    if status == RUNNING:
        yield "it is running, or was killed: its record does not say how it ended"
    elif status == STOPPED and merged and not last.get("stopped_by"):
        yield "merged though rows are missing"
    elif status == STOPPED:
        yield f"stopped by {last.get('stopped_by') or 'request'} before the end"
    elif status == FAILED:
        yield "it ended with an error" + (f", see {path / 'traceback.txt'}" if _has(path, "traceback.txt") else "")
    if command == "score":
        expected, there = _expected_rows(settings), _rows(path) if merged else last.get("rows_in_table")
        if expected is not None and isinstance(there, int) and there < expected:
            yield f"{there:,} of {expected:,} rows are there"
        if settings.get("shard"):
            yield f"shard {settings['shard']} of a run, not merged with the others"
        elif status == FINISHED and not _has(path, "scores.csv"):
            yield "scores.csv is missing"
    elif command == "search":
        wanted, there = meta.get("evaluations"), last.get("evaluated_in_all")
        if isinstance(wanted, int) and isinstance(there, int) and there < wanted:
            yield f"{there:,} of {wanted:,} networks were evaluated"


def _has(path: Path, name: str) -> bool:
    return (path / name).is_file()


def _rows(path: Path) -> int | None:
    return len(read_csv(path / "scores.csv")[1]) if _has(path, "scores.csv") else None


def _expected_rows(settings: Mapping[str, Any]) -> int | None:
    """Rows of the whole run; None for a shard, and where the record does not say."""
    archs, seeds = settings.get("archs"), settings.get("seeds")
    if settings.get("shard") or not isinstance(archs, Mapping) or not isinstance(seeds, list):
        return None
    count = archs.get("count")
    return count * len(seeds) if isinstance(count, int) else None


def _attempts(meta: Mapping[str, Any], file: Path) -> list[Mapping[str, Any]]:
    attempts = meta.get("runs") or []
    if not isinstance(attempts, list):
        raise ValueError(f"{file} is damaged: 'runs' must be a list, it is {attempts!r}")
    return [_mapping(one, "runs", file) for one in attempts]


def _mapping(value: Any, what: str, file: Path) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise ValueError(f"{file} is damaged: {what!r} must hold 'name: value' pairs, it holds {value!r}")
    return value


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def parse_time(text: Any) -> datetime | None:
    """A time of ``meta.json``; None where it is none."""
    try:
        return datetime.fromisoformat(text)
    except (TypeError, ValueError):
        return None


def _read_scores(folder: Path) -> Scores | None:
    """``scores.csv``, joined with the journals of processes that did not end."""
    file, journals = folder / "scores.csv", folder / "rows"
    try:
        written = read_journals(journals) if journals.is_dir() else []
    except UnicodeDecodeError as error:
        raise ValueError(f"{journals} holds a damaged file: {error}") from None
    if not written:
        return _score_columns(file) if file.is_file() else None
    table = parse_table(read_text_lines(file), str(file)) if file.is_file() else ScoreTable(())
    columns = dict.fromkeys([*table.columns, *(name for row in written for name in row.values)])
    rows = list(join_rows([*table.rows, *written], str(folder)).values())
    return Scores(
        archs=[row.arch for row in rows],
        seeds=[row.seed for row in rows],
        values={name: np.array([_or_nan(row.values.get(name)) for row in rows]) for name in columns},
        failed=np.array([row.failed for row in rows], dtype=np.bool_),
        reasons={i: row.reason for i, row in enumerate(rows) if row.reason},
        seconds=np.array([row.seconds for row in rows]),
    )


def _score_columns(file: Path) -> Scores:
    """A score table, read as `scoring.table.read_table` reads it, but column by column, which is several times faster."""
    header, rows = read_csv(file)
    if "arch" not in header:
        raise ValueError(f"{file} is damaged: its first line has no column 'arch'")
    cells = dict(zip(header, zip(*rows) if rows else [() for _ in header]))
    archs = list(cells.pop("arch"))
    status = cells.pop("status", ())
    reasons = cells.pop("reason", ())
    if wrong := set(status) - {OK, FAILED_ROW}:
        raise ValueError(f"{file} is damaged: status is {wrong.pop()!r}, it must be {OK!r} or {FAILED_ROW!r}")
    seeds = number_column(cells.pop("seed", ("1",) * len(archs)), file, "seed")
    if not np.isfinite(seeds).all():
        raise ValueError(f"{file} is damaged: a row has no seed")
    seconds = number_column(cells.pop("seconds", ("",) * len(archs)), file, "seconds")
    values = {name: number_column(column, file, name) for name, column in cells.items()}
    return Scores(
        archs=archs,
        seeds=seeds.astype(int).tolist(),
        values={name: np.where(np.isfinite(column), column, np.nan) for name, column in values.items()},
        failed=np.array([one == FAILED_ROW for one in status] or [False] * len(archs), dtype=np.bool_),
        reasons={i: reason for i, reason in enumerate(reasons) if reason},
        seconds=np.nan_to_num(seconds),
    )


def _or_nan(value: float | None) -> float:
    return math.nan if value is None else value
