"""Reads the score tables that ``evaluate`` is given, with what is recorded about them, and joins them by columns."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from vkdnw_pl.runs.table import FAILED, OK, ScoreRow, ScoreTable, join_rows, read_table
from vkdnw_pl.scoring.folder import ScoreFolder
from vkdnw_pl.spaces import SPACES, Space


@dataclass(frozen=True)
class RecordedTable:
    """A score table and its record."""

    path: str
    table: ScoreTable
    settings: Mapping[str, Any] | None = None
    """``settings`` of its ``meta.json``; None where there is none beside it."""

    def describe(self) -> str:
        """What its scores saw: input, images and batch size, as far as recorded."""
        if self.settings is None:
            return f"{self.path}: what it saw is not recorded (there is no meta.json beside it)"
        settings = {name: self.settings.get(name) for name in ("input", "data", "batch_size")}
        texts = [f"{name} {_short(value)}" for name, value in settings.items() if value is not None]
        return f"{self.path}: {', '.join(texts) or 'what it saw is not recorded'}"


def read_score_tables(paths: Sequence[str], space: str) -> list[RecordedTable]:
    """Read score tables (``.csv``, ``.csv.gz``) and run folders of one space."""
    if not paths:
        raise ValueError("scores is empty: give a run folder or a score table")
    if len(set(paths)) < len(paths):
        raise ValueError(f"scores={list(paths)!r} is not allowed: a table repeats")
    return [_read(Path(path).expanduser(), path, space) for path in paths]


def join_columns(sources: Sequence[RecordedTable]) -> ScoreTable:
    """One table with the columns of all.

    A row is made of those of all tables with its (architecture, seed): failed if one of them is, its seconds their sum.
    A value may stand in several tables if it is the same in each; a row that a table lacks has empty cells and a reason.
    Tables may have other seeds: a ranking is then measured in the seeds that have all its columns.
    """
    if len(sources) == 1:
        return sources[0].table
    tables = {source.path: source.table for source in sources}
    rows_by_table = {name: join_rows(table.rows, name) for name, table in tables.items()}
    seeds_by_table = {name: set(table.seeds) for name, table in tables.items()}
    columns = tuple(dict.fromkeys(column for table in tables.values() for column in table.columns))
    joined = []
    for arch, seed in dict.fromkeys(key for rows in rows_by_table.values() for key in rows):
        values: dict[str, float | None] = dict.fromkeys(columns)
        origin: dict[str, str] = {}
        reasons: list[str] = []
        seconds, failed = 0.0, False
        for name, rows in rows_by_table.items():
            row = rows.get((arch, seed))
            if row is None:
                reasons += [f"{name} has no row of it"] if seed in seeds_by_table[name] else []
                continue
            for column, value in row.values.items():
                if column in origin and values[column] != value:
                    raise ValueError(
                        f"{origin[column]} and {name} contradict each other: {column} of {arch} with seed {seed} is "
                        f"{values[column]} in the first, {value} in the second; give one of the columns another name"
                    )
                values[column] = value
                origin[column] = name
            reasons.append(row.reason)
            seconds += row.seconds
            failed = failed or row.failed
        reason = "; ".join(dict.fromkeys(filter(None, reasons)))
        joined.append(ScoreRow(arch, seed, values, FAILED if failed else OK, reason, seconds))
    return ScoreTable(columns, joined)


def canonical(table: ScoreTable, space: Space, where: str) -> ScoreTable:
    """The table with every architecture in its space's canonical spelling."""
    try:
        return ScoreTable(table.columns, [replace(row, arch=space.architecture(row.arch)) for row in table.rows])
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None


def _read(path: Path, name: str, space: str) -> RecordedTable:
    """Read a score table; of a run folder also the rows of a run that is not finished."""
    is_run = path.is_dir()
    folder = ScoreFolder(path if is_run else path.parent)
    record = folder.read_meta() if is_run or folder.meta.is_file() else None
    settings = record.get("settings") if isinstance(record, Mapping) else None
    settings = settings if isinstance(settings, Mapping) else None
    scored_space = (settings or {}).get("space", space)
    if scored_space != space:
        raise ValueError(
            f"{path} holds scores of the space {scored_space}, but space={space!r}; give --space {scored_space}"
        )
    if is_run:
        rows = folder.read_rows()
        columns = tuple(next(iter(rows.values())).values) if rows else ()
        order = {arch: place for place, arch in enumerate(folder.read_archs())}
        table = ScoreTable(columns, sorted(rows.values(), key=lambda row: (order[row.arch], row.seed)))
    else:
        table = canonical(read_table(path), SPACES[space], str(path))
        table = ScoreTable(table.columns, list(join_rows(table.rows, str(path)).values()))
    if not table.rows:
        raise ValueError(f"{path} holds no scores")
    return RecordedTable(name, table, settings)


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= 80 else text[:77] + "..."
