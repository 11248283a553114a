"""Run folders as records: what was run, how it ended, and its results, read when they are asked for.

Nothing of a folder is executed, nothing is written to it. A run that is not finished has the rows that are there, and
`Run.notes` say what is missing. What is no run folder or is damaged is a ``ValueError`` that names folder or file.
"""

from __future__ import annotations

import functools
import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple, TypeGuard

import numpy as np
import pandas as pd

from vkdnw_pl.callbacks import read_history as read_training
from vkdnw_pl.report.labels import TrainedNetwork, read_labels
from vkdnw_pl.report.text import counted
from vkdnw_pl.runs.csv_table import CsvTable, read_csv
from vkdnw_pl.runs.documents import read_json, read_yaml
from vkdnw_pl.runs.files import read_text
from vkdnw_pl.runs.table import FAILED as FAILED_ROW
from vkdnw_pl.runs.table import join_rows, read_journals, read_table, score_frame
from vkdnw_pl.scoring.spaces_evaluation import SpacesEvaluation
from vkdnw_pl.scoring.spaces_folder import SPACES, read_spaces
from vkdnw_pl.search.history import Candidate
from vkdnw_pl.search.history import read_history as read_search

COMMANDS = ("score", "evaluate", "search", "label", "fit")
"""Commands whose run folders are read; what ``merge`` makes is the folder of a ``score``."""
FINISHED, STOPPED, RUNNING, FAILED, NOT_MERGED = "finished", "stopped", "running", "failed", "not merged"
_METRIC_COLUMNS = ("ranking", "dataset", "split", "n", "kendall", "spearman", "ndcg")


class Failure(NamedTuple):
    """A row that failed; without seed, a candidate of a search."""

    arch: str
    seed: int | None
    reason: str


@dataclass(frozen=True)
class Run:
    """One run folder; results are read at first use, and then kept. What is not there (yet) is empty, or None."""

    path: Path
    name: str
    """Unique among the runs that were read together."""
    command: str
    """One of `COMMANDS`."""
    status: str
    """``finished``, ``stopped``, ``running`` (or killed), ``failed``, ``exhausted`` (a search), or ``not merged``."""
    config: Mapping[str, Any]
    """Content of ``config.yaml``."""
    settings: Mapping[str, Any]
    """What decides the result, as ``meta.json`` records it."""
    meta: Mapping[str, Any]
    notes: tuple[str, ...] = ()
    """What is not finished, or unusual about the folder."""

    @property
    def environment(self) -> Mapping[str, Any]:
        return _mapping(self.meta, "environment", self.path)

    @property
    def attempts(self) -> list[Mapping[str, Any]]:
        """The times that the command was run here: ``started_at``, ``finished_at``, ``elapsed_s``, ``stopped_by``, ..."""
        return _attempts(self.meta, self.path)

    @property
    def seconds(self) -> float | None:
        """Wall time of all attempts together; None where no attempt says."""
        times = [attempt["elapsed_s"] for attempt in self.attempts if is_number(attempt.get("elapsed_s"))]
        return float(sum(times)) if times else None

    @property
    def space(self) -> str:
        """Name of the search space; empty where the folder does not say."""
        trained = mapping_or_empty(self.config.get("model")).get("space") if self.command == "fit" else None
        return str(trained or self.settings.get("space") or self.config.get("space") or "")

    @property
    def wandb_id(self) -> str | None:
        name = "wandb_id.evaluate" if self.command == "evaluate" else "wandb_id"
        return self._read(name, read_text, "").strip() or None

    @functools.cached_property
    def scores(self) -> pd.DataFrame | None:
        """All rows that are on the disk, those of unfinished runs included.

        Columns: ``arch``, ``seed``, the values (higher is better, NaN where there is none), ``status``, ``reason`` and
        ``seconds``.
        """
        file, journals = self.path / "scores.csv", self.path / "rows"
        rows = read_journals(journals)
        if not rows and not file.is_file():
            return None
        table = read_table(file, torn=True).rows if file.is_file() else []
        rows = list(join_rows([*table, *rows], str(self.path)).values()) if rows else table
        return score_frame(rows)

    @functools.cached_property
    def metrics(self) -> list[dict[str, str]]:
        """Rows of ``metrics.csv`` as text, see `report.tables.Row`."""
        file = self.path / "metrics.csv"
        table = self._read(file.name, lambda path: read_csv(path, _METRIC_COLUMNS, torn=True), None)
        if table is None:
            return []
        for column in table.names:
            if column == "better":
                table.choices(column, ("higher", "lower"))
            elif column not in ("ranking", "dataset", "split", "unit"):
                table.numbers(column)
        columns = [table.texts(name) for name in table.names]
        metrics = [dict(zip(table.names, row)) for row in zip(*columns)]
        counts = Counter((row["ranking"], row["dataset"], row["split"]) for row in metrics)
        if twice := next((key for key, count in counts.items() if count > 1), None):
            raise ValueError(f"{file} is damaged: ranking {twice[0]!r} on {twice[1]!r} comes twice")
        return metrics

    @functools.cached_property
    def spaces(self) -> SpacesEvaluation | None:
        """What ``evaluate`` with ``spaces`` found."""
        return read_spaces(self.path) if (self.path / SPACES).is_file() else None

    @functools.cached_property
    def ranking(self) -> pd.DataFrame | None:
        """Content of ``ranking.csv``: by architecture, its rank in each ranking, 1 = predicted to be best."""
        return self._read("ranking.csv", _read_ranking, None)

    @functools.cached_property
    def failures(self) -> list[Failure]:
        if self.command == "search":
            return [Failure(row.arch, None, row.reason) for row in self.candidates if row.failed]
        if self.command == "label":
            return [Failure(network.arch, *failure) for network in self.trained for failure in network.failures.items()]
        table = self.scores if self.scores is not None else pd.DataFrame(columns=["arch", "seed", "reason", "status"])
        failed = table[table["status"] == FAILED_ROW]
        return [Failure(*row) for row in zip(failed["arch"], failed["seed"].tolist(), failed["reason"])]

    @functools.cached_property
    def candidates(self) -> list[Candidate]:
        file = self.path / "history.csv"
        if not file.is_file() or not file.stat().st_size:
            return []
        return read_search(file)

    @functools.cached_property
    def trained(self) -> list[TrainedNetwork]:
        """Networks of an accuracy table."""
        return self._read("labels.csv", functools.partial(read_labels, torn=True), [])

    @functools.cached_property
    def found(self) -> dict[str, Any] | None:
        """Content of ``found.json``: the best network of the search, and the ``top`` ones."""
        return self._read("found.json", read_json, None)

    @functools.cached_property
    def history(self) -> list[dict[str, Any]]:
        """Lines of the training's ``history.jsonl`` so far: ``step``, ``epoch``, and the values of that step."""
        return self._read("history.jsonl", read_training, [])

    @functools.cached_property
    def proxy_drift(self) -> pd.DataFrame | None:
        """Proxies on the weights of a training as they were, by ``epoch`` and ``step``."""
        return self._read(
            "proxy_drift.csv", lambda file: _read_numbers(read_csv(file, ("epoch", "step"), torn=True)), None
        )

    @functools.cached_property
    def results(self) -> dict[str, float]:
        """Last values of the training's metrics; those that are not numbers are left out."""
        content = self._read("results.json", read_json, {})
        return {name: float(value) for name, value in content.items() if is_number(value)}

    @functools.cached_property
    def initial_proxies(self) -> dict[str, float]:
        """Proxy values of the network before its training, where they were computed."""
        if self.command != "fit" or self.scores is None or self.scores.empty:
            return {}
        first = self.scores.drop(columns=["arch", "seed", "status", "reason", "seconds"]).iloc[0]
        return {str(name): float(value) for name, value in first.items() if math.isfinite(value)}

    def _read(self, name: str, read: Callable[[Path], Any], missing: Any) -> Any:
        file = self.path / name
        return read(file) if file.is_file() else missing


def read_run(path: str | Path, name: str | None = None) -> Run:
    """Read the record of one run folder; ``name`` is what to call it, by default the folder's own name."""
    path = Path(path).expanduser()
    kind = _kind(path)
    if not kind:
        raise ValueError(f"{path} {_why_no_run(path)}")
    name = name or path.resolve().name
    config_file, meta_file = path / "config.yaml", path / "meta.json"
    config = read_yaml(config_file) if config_file.is_file() else {}
    if kind == "launched":
        return _launched(path, name, config)
    if kind == "evaluated":  # results of `evaluate` in a folder of their own, without a record
        return Run(path, name, "evaluate", FINISHED, config, {}, {})
    meta = read_json(meta_file)
    command = meta.get("command")
    if not isinstance(command, str):
        raise ValueError(f"{meta_file} is damaged: its command is {command!r}")
    if command not in COMMANDS:
        known = ", ".join(COMMANDS)
        raise ValueError(f"{path} is a run folder of {command!r}; reports are made of those of {known}")
    settings = _mapping(meta, "settings", path)
    last = (_attempts(meta, path) or [{}])[-1]
    status = meta.get("status")
    if not isinstance(status, str) or not status:  # what the last attempt tells
        status = STOPPED if last.get("stopped_by") else FINISHED if last.get("finished_at") else RUNNING
    notes = list(_notes(path, status, meta, settings, last))
    if not config:
        notes.append("config.yaml is missing")
    return Run(path, name, command, status, config, settings, meta, tuple(notes))


def read_runs(paths: Iterable[str | Path]) -> list[Run]:
    """Read run folders, with names that differ; one that is named twice is read once."""
    folders = list({Path(path).expanduser().resolve(): Path(path).expanduser() for path in paths}.values())
    return list(map(read_run, folders, unique_names(folders)))


def read_run_folders(paths: Iterable[str]) -> tuple[list[Run], list[str]]:
    """Read run folders, and folders of run folders, with what a user should hear of it."""
    folders, remarks = [], []
    for path in paths:
        below = run_folders(path)
        if below != [Path(path).expanduser()]:
            remarks.append(f"{counted(len(below), 'run folder')} in {path}")
        folders += below
    runs = read_runs(folders)
    if more := len(folders) - len(runs):
        remarks.append(f"{counted(more, 'folder')} named more than once, shown once")
    return runs, remarks


def run_folders(path: str | Path) -> list[Path]:
    """The folder itself where it is a run folder, otherwise the run folders directly below it, by name."""
    path = Path(path).expanduser()
    if _kind(path):
        return [path]
    below = sorted(child for child in path.iterdir() if child.is_dir() and _kind(child)) if path.is_dir() else []
    if not below:
        raise ValueError(f"{path} {_why_no_run(path)}")
    return below


def unique_names(paths: Sequence[Path]) -> list[str]:
    """The last part of each path, and as many parts before it as are needed to tell the folders apart."""
    parts = [path.resolve().parts for path in paths]
    lengths = [1] * len(parts)
    while True:
        names = ["/".join(path[-length:]) for path, length in zip(parts, lengths)]
        twins = [i for i, name in enumerate(names) if names.count(name) > 1 and lengths[i] < len(parts[i])]
        if not twins:
            return names
        for i in twins:
            lengths[i] += 1


def _kind(path: Path) -> str:
    """``run``, ``launched``, ``evaluated``, or nothing where it is no run folder."""
    if (path / "meta.json").is_file():
        return "run"
    if (path / "slurm" / "launch.json").is_file() and not any(path.glob("rank-*/meta.json")):
        return "launched"
    is_evaluated = (path / "ranking.csv").is_file() and (path / "metrics.csv").is_file()
    return "evaluated" if is_evaluated or (path / SPACES).is_file() else ""


def _why_no_run(path: Path) -> str:
    if not path.exists():
        return "does not exist"
    if not path.is_dir():
        return "is a file: give the run folder, in which meta.json is"
    if page := next((page for page in path.glob("*.html") if page.with_suffix(".csv").is_file()), None):
        return f"holds what evaluate --paper wrote, which has a page of its own: {page}"
    if result := next((name for name in ("scores.csv", "history.csv", "checkpoints") if (path / name).exists()), None):
        return f"is not a whole run folder: it has {result}, but no meta.json that says how it was made"
    return "is not a run folder: it has no meta.json, and no folder directly below it has one"


def _launched(path: Path, name: str, config: Mapping[str, Any]) -> Run:
    launch = read_json(path / "slurm" / "launch.json")
    shards = sorted(shard for shard in (path / "shards").glob("*") if (shard / "meta.json").is_file())
    finished = [read_run(shard).status for shard in shards].count(FINISHED)
    tasks = launch.get("tasks")
    count = f" of {tasks}" if isinstance(tasks, int) else ""
    notes = [f"launched, not merged: {len(shards)}{count} shards have begun, {finished} are finished"]
    if shards:
        notes.append(f"when all are finished: python -m vkdnw_pl merge {path}/shards/* --out {path}")
    return Run(path, name, str(launch.get("command") or "score"), NOT_MERGED, config, {}, launch, tuple(notes))


def _notes(
    path: Path, status: str, meta: Mapping[str, Any], settings: Mapping[str, Any], last: Mapping[str, Any]
) -> Iterable[str]:
    """What is not finished or unusual; ``last`` is the last attempt."""
    table = path / "scores.csv"
    merged = bool(meta.get("merged"))  # then the attempts are those of the shards
    if status == RUNNING:
        yield "it is running, or was killed: its record does not say how it ended"
    elif status == STOPPED and merged and not last.get("stopped_by"):
        yield "merged though rows are missing"
    elif status == STOPPED:
        yield f"stopped by {last.get('stopped_by') or 'request'} before the end"
    elif status == FAILED:
        trace = path / "traceback.txt"
        yield "it ended with an error" + (f", see {trace}" if trace.is_file() else "")
    if meta["command"] == "score":
        expected, rows = _expected_rows(settings), last.get("rows_in_table")
        if merged:
            rows = len(read_csv(table)) if table.is_file() else None
        if expected is not None and isinstance(rows, int) and rows < expected:
            yield f"{rows:,} of {expected:,} rows are there"
        if settings.get("shard"):
            yield f"shard {settings['shard']} of a run, not merged with the others"
        elif status == FINISHED and not table.is_file():
            yield "scores.csv is missing"
    if isinstance(cautions := meta.get("cautions"), list):
        yield from map(str, cautions)
    if meta["command"] == "search":
        planned, evaluated = meta.get("evaluations"), last.get("evaluated_in_all")
        if isinstance(planned, int) and isinstance(evaluated, int) and evaluated < planned:
            yield f"{evaluated:,} of {planned:,} networks were evaluated"


def _expected_rows(settings: Mapping[str, Any]) -> int | None:
    """Rows of the whole run; None for a shard, and where the record does not say."""
    count, seeds = mapping_or_empty(settings.get("archs")).get("count"), settings.get("seeds")
    if settings.get("shard") or not isinstance(count, int) or not isinstance(seeds, list):
        return None
    return count * len(seeds)


def _attempts(meta: Mapping[str, Any], folder: Path) -> list[Mapping[str, Any]]:
    attempts = meta.get("runs") or []
    if not isinstance(attempts, list):
        raise ValueError(f"{folder / 'meta.json'} is damaged: 'runs' must be a list, it is {attempts!r}")
    return [_mapping({"runs": attempt}, "runs", folder) for attempt in attempts]


def _mapping(meta: Mapping[str, Any], key: str, folder: Path) -> Mapping[str, Any]:
    value = meta.get(key) or {}
    if not isinstance(value, Mapping):
        file = folder / "meta.json"
        raise ValueError(f"{file} is damaged: {key!r} must hold 'name: value' pairs, it holds {value!r}")
    return value


def mapping_or_empty(value: Any) -> Mapping[str, Any]:
    """The value, or nothing where it holds no ``name: value`` pairs."""
    return value if isinstance(value, Mapping) else {}


def is_number(value: Any) -> TypeGuard[int | float]:
    """Whether a value of a JSON file is a number; true and false are none."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def parse_time(text: Any) -> datetime | None:
    """A time of ``meta.json``; None where it is none."""
    try:
        return datetime.fromisoformat(text)
    except (TypeError, ValueError):
        return None


def _read_ranking(file: Path) -> pd.DataFrame:
    table = read_csv(file, ("arch",), torn=True)
    return _read_numbers(table).set_axis(pd.Index(table.texts("arch"), name="arch"))


def _read_numbers(table: CsvTable) -> pd.DataFrame:
    names = [name for name in table.names if name != "arch"]
    return pd.DataFrame({name: np.array(table.numbers(name), dtype=np.float64) for name in names})
