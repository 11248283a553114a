"""Reads the score tables that ``evaluate`` is given, and what is recorded about how they were made."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vkdnw_pl.runs.table import ScoreTable, join_rows, read_table
from vkdnw_pl.scoring.folder import ScoreFolder
from vkdnw_pl.scoring.join import canonical, join_columns
from vkdnw_pl.spaces import SPACES


@dataclass(frozen=True)
class Source:
    """A score table and its record."""

    path: str
    table: ScoreTable
    settings: Mapping[str, Any] | None
    """``settings`` of its ``meta.json``; None where there is none beside it."""

    def describe(self) -> str:
        """What its scores saw: input, images and batch size, as far as recorded."""
        if self.settings is None:
            return f"{self.path}: what it saw is not recorded (there is no meta.json beside it)"
        there = {name: self.settings.get(name) for name in ("input", "data", "batch_size")}
        shown = [f"{name} {_short(value)}" for name, value in there.items() if value is not None]
        return f"{self.path}: {', '.join(shown) or 'what it saw is not recorded'}"


def read_sources(paths: Sequence[str], space: str) -> list[Source]:
    """Read score tables (``.csv``, ``.csv.gz``) and run folders.

    Raises:
        ValueError: if there is none, one repeats or cannot be read, one holds no scores, or those of another space.
    """
    if not paths:
        raise ValueError("scores is empty: give a run folder or a score table")
    if len(set(paths)) < len(paths):
        raise ValueError(f"scores={list(paths)!r} is not allowed: a table repeats")
    return [_read(Path(path).expanduser(), path, space) for path in paths]


def joined(sources: Sequence[Source]) -> ScoreTable:
    """One table with the columns of all.

    Raises:
        ValueError: if two contradict each other.
    """
    return join_columns({source.path: source.table for source in sources})


def _read(path: Path, name: str, space: str) -> Source:
    """Read a score table; of a run folder also the rows of a run that is not finished."""
    settings = ScoreFolder(path).read_meta().get("settings") if path.is_dir() else _settings(path.parent / "meta.json")
    made_of = (settings or {}).get("space", space)
    if made_of != space:
        raise ValueError(f"{path} holds scores of the space {made_of}, but space={space!r}; give --space {made_of}")
    if not path.is_dir():
        table = canonical(read_table(path), SPACES[space], str(path))
        table = ScoreTable(table.columns, list(join_rows(table.rows, str(path)).values()))
    else:
        folder = ScoreFolder(path)
        rows = folder.read_rows()
        columns = tuple(next(iter(rows.values())).values) if rows else ()
        order = {arch: place for place, arch in enumerate(folder.read_archs())}
        table = ScoreTable(columns, sorted(rows.values(), key=lambda row: (order[row.arch], row.seed)))
    if not table.rows:
        raise ValueError(f"{path} holds no scores")
    return Source(name, table, settings)


def _settings(meta: Path) -> Mapping[str, Any] | None:
    if not meta.is_file():
        return None
    try:
        content = json.loads(meta.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{meta} is not JSON: {error}") from None
    settings = content.get("settings") if isinstance(content, Mapping) else None
    return settings if isinstance(settings, Mapping) else None


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= 80 else text[:77] + "..."
