"""The run folder of a scoring, and how its shards are joined."""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from vkdnw_pl.errors import is_whole
from vkdnw_pl.runs.documents import read_yaml
from vkdnw_pl.runs.files import read_text, write_atomically
from vkdnw_pl.runs.folder import Record, RunFolder, differences
from vkdnw_pl.runs.table import Key, ScoreRow, ScoreTable, join_rows, read_journals, read_table, write_table

FIGURES = ("figures/ndcg.png", "figures/ranks_*.png")


class ScoreFolder(RunFolder):
    """A run folder with ``archs.txt`` the architectures in order (of a shard its own: a million structure strings are
    180 MB, and an array has a thousand such folders), ``rows/`` journals of unfinished runs, ``scores.csv``,
    ``ranking.csv``, ``metrics.csv`` and figures."""

    command = "score"
    files: ClassVar[tuple[str, ...]] = ("archs.txt", "rows", "scores.csv", "ranking.csv", "metrics.csv", *FIGURES)
    evidence = ("scores.csv", "rows")

    def __init__(self, path: str | Path) -> None:
        super().__init__(path)
        self.archs = self.path / "archs.txt"
        self.journals = self.path / "rows"

    def read_archs(self) -> list[str]:
        """Architectures of the run, or of its shard, in order."""
        return [arch for arch in read_text(self.archs).split("\n") if arch]

    def write_archs(self, archs: Sequence[str]) -> None:
        """Replace the list of architectures."""
        self.path.mkdir(parents=True, exist_ok=True)
        write_atomically(self.archs, "".join(f"{arch}\n" for arch in archs))

    def read_rows(self) -> dict[Key, ScoreRow]:
        """Rows that are on the disk, finished table and journals joined; damage and contradictions are a ``ValueError``."""
        rows = read_table(self.scores).rows if self.scores.is_file() else []
        return join_rows([*rows, *read_journals(self.journals)], str(self.path))

    def write_scores(self, table: ScoreTable) -> None:
        """Write the table, then drop the journals whose rows it holds."""
        write_table(self.scores, table)
        self.remove_journals()

    def remove_journals(self) -> None:
        """Drop the journals, whose rows the table holds."""
        if self.journals.exists():
            shutil.rmtree(self.journals)

    def remove_figures(self) -> None:
        """Delete figures of an earlier evaluation, and no others."""
        for pattern in FIGURES:
            for figure in self.path.glob(pattern):
                figure.unlink(missing_ok=True)


@dataclass(frozen=True, kw_only=True)
class JoinedShards:
    """What the shards of a scoring make together."""

    settings: Record
    """Of the whole scoring."""
    config: dict[str, Any]
    """Options of the first shard."""
    digest: str
    archs: list[str]
    """Without those of shards that were not given."""
    table: ScoreTable
    missing: int
    """Rows that no shard has."""
    facts: dict[str, Any]
    """For the record of the run: where and when the shards were made."""


def join_shards(folders: Sequence[ScoreFolder], allow_missing: bool) -> JoinedShards:
    """Join run folders of one scoring; a row that several have must be the same in each, and none may be missing."""
    metas = [folder.read_meta() for folder in folders]
    settings = _common_settings(folders, metas)
    archs = _joined_archs(folders, metas)
    keys = [(arch, seed) for arch in archs for seed in settings["seeds"]]
    rows = join_rows((row for folder in folders for row in folder.read_rows().values()), "the shards")
    missing = [place for place, key in enumerate(keys) if key not in rows]
    if missing and not allow_missing:
        lacking = [place // len(settings["seeds"]) for place in missing]
        shards = _absent_shards(lacking, [meta["settings"].get("shard") for meta in metas])
        first = next(
            (f", the first is {arch} with seed {seed}" for arch, seed in map(keys.__getitem__, missing) if arch), ""
        )
        raise ValueError(
            f"{len(missing)} of {len(keys)} rows are missing{shards}{first}; give all shards, finish them, or merge what "
            "there is with --allow_missing"
        )
    if not rows:
        raise ValueError("the shards hold no rows")
    return JoinedShards(
        settings=settings,
        config=read_yaml(folders[0].config),
        digest=metas[0]["digest"],
        archs=[arch for arch in archs if arch],
        table=ScoreTable(tuple(next(iter(rows.values())).values), [rows[key] for key in keys if key in rows]),
        missing=len(missing),
        facts={
            "environment": metas[0]["environment"],
            "runs": [run for meta in metas for run in meta["runs"]],
            "merged": [
                {"folder": str(folder.path), "shard": meta["settings"].get("shard"), "environment": meta["environment"]}
                for folder, meta in zip(folders, metas, strict=True)
            ],
        },
    )


def _common_settings(folders: Sequence[ScoreFolder], metas: Sequence[Mapping[str, Any]]) -> Record:
    for folder, meta in zip(folders, metas, strict=True):
        settings = meta.get("settings", {})
        if {"digest", "environment", "runs"} - set(meta) or not _are_whole(settings):
            raise ValueError(f"{folder.meta} is not the record of a scoring, or is damaged")
    first, *others = ({**meta["settings"], "shard": None} for meta in metas)
    for folder, other in zip(folders[1:], others, strict=True):
        if different := differences(first, other):
            raise ValueError(
                f"{folder.path} was made with other settings than {folders[0].path}: "
                f"{'; '.join(different).replace('there:', 'first:').replace('now:', 'this:')}"
            )
    return first


def _are_whole(settings: Record) -> bool:
    """Whether what a merge relies on is there."""
    seeds, archs = settings.get("seeds"), settings.get("archs")
    return (
        isinstance(seeds, list)
        and all(is_whole(seed, 0) for seed in seeds)
        and isinstance(archs, dict)
        and is_whole(archs.get("count"), 1)
    )


def _joined_archs(folders: Sequence[ScoreFolder], metas: Sequence[Mapping[str, Any]]) -> list[str]:
    """Architectures of the whole run in order; empty texts for those of shards that were not given."""
    count = metas[0]["settings"]["archs"]["count"]
    parts = []
    for folder, meta in zip(folders, metas, strict=True):
        own, shard = folder.read_archs(), meta["settings"].get("shard")
        if len(own) == count:  # a whole run, or a shard of an earlier version
            return own
        match = re.fullmatch("([0-9]{1,9})/([1-9][0-9]{0,8})", str(shard))
        if not match or len(own) != len(range(int(match[1]), count, int(match[2]))):
            whose = "the run" if shard is None else f"shard {shard}"
            raise ValueError(f"{folder.archs} is damaged: it holds {len(own)} architectures, not all those of {whose}")
        parts.append((slice(int(match[1]), None, int(match[2])), own))
    archs = [""] * count
    for places, own in parts:
        archs[places] = own
    return archs


def _absent_shards(lacking: Sequence[int], shards: Sequence[str | None]) -> str:
    """The shards that were not given, and those that are not finished; ``lacking`` are places of architectures."""
    counts = {shard.partition("/")[2] for shard in shards if shard}
    if len(counts) != 1:
        return ""
    count = int(counts.pop())
    unfinished = sorted({place % count for place in lacking})
    absent = {
        "not given": [f"{i}/{count}" for i in range(count) if f"{i}/{count}" not in shards],
        "not finished": [f"{i}/{count}" for i in unfinished if f"{i}/{count}" in shards],
    }
    texts = [f"{state}: shard {', '.join(names)}" for state, names in absent.items() if names]
    return f" ({'; '.join(texts)})"
