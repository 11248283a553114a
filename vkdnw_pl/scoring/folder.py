"""The run folder of a scoring, and how its shards are joined."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vkdnw_pl.errors import is_whole
from vkdnw_pl.runs.documents import read_yaml
from vkdnw_pl.runs.files import read_text, write_atomically
from vkdnw_pl.runs.folder import Record, RunFolder, differences
from vkdnw_pl.runs.table import Key, ScoreRow, ScoreTable, join_rows, read_journals, read_table, write_table

FIGURES = ("figures/ndcg.png", "figures/ranks_*.png")


class ScoreFolder(RunFolder):
    """A run folder with ``archs.txt`` the architectures of the whole run in order, ``rows/`` journals of unfinished runs,
    ``scores.csv``, ``ranking.csv``, ``metrics.csv`` and figures."""

    command = "score"
    files = ("archs.txt", "rows", "scores.csv", "ranking.csv", "metrics.csv", *FIGURES)
    evidence = ("scores.csv", "rows")

    def __init__(self, path: str | Path) -> None:
        super().__init__(path)
        self.archs = self.path / "archs.txt"
        self.journals = self.path / "rows"

    def read_archs(self) -> list[str]:
        """Architectures of the whole run in order."""
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
    table: ScoreTable
    missing: int
    """Rows that no shard has."""
    facts: dict[str, Any]
    """For the record of the run: where and when the shards were made."""


def join_shards(folders: Sequence[ScoreFolder], allow_missing: bool) -> JoinedShards:
    """Join run folders of one scoring; a row that several have must be the same in each, and none may be missing."""
    metas = [folder.read_meta() for folder in folders]
    settings = _common_settings(folders, metas)
    archs = folders[0].read_archs()
    keys = [(arch, seed) for arch in archs for seed in settings["seeds"]]
    rows = join_rows((row for folder in folders for row in folder.read_rows().values()), "the shards")
    missing = [key for key in keys if key not in rows]
    if missing and not allow_missing:
        raise ValueError(_describe_missing(missing, keys, [meta["settings"].get("shard") for meta in metas]))
    if not rows:
        raise ValueError("the shards hold no rows")
    return JoinedShards(
        settings=settings,
        config=read_yaml(folders[0].config),
        digest=metas[0]["digest"],
        archs=archs,
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
        if {"digest", "environment", "runs"} - set(meta) or not _are_seeds(settings.get("seeds")):
            raise ValueError(f"{folder.meta} is not the record of a scoring, or is damaged")
    first, *others = ({**meta["settings"], "shard": None} for meta in metas)
    for folder, other in zip(folders[1:], others, strict=True):
        if different := differences(first, other):
            raise ValueError(
                f"{folder.path} was made with other settings than {folders[0].path}: "
                f"{'; '.join(different).replace('there:', 'first:').replace('now:', 'this:')}"
            )
    return first


def _are_seeds(seeds: Any) -> bool:
    return isinstance(seeds, list) and all(is_whole(seed, 0) for seed in seeds)


def _describe_missing(missing: Sequence[Key], keys: Sequence[Key], shards: Sequence[str | None]) -> str:
    arch, seed = missing[0]
    counts = {shard.partition("/")[2] for shard in shards if shard}
    absent = f" ({_absent_shards(missing, keys, shards, int(counts.pop()))})" if len(counts) == 1 else ""
    return (
        f"{len(missing)} of {len(keys)} rows are missing{absent}, the first is {arch} with seed {seed}; give all shards, "
        "finish them, or merge what there is with --allow_missing"
    )


def _absent_shards(missing: Sequence[Key], keys: Sequence[Key], shards: Sequence[str | None], count: int) -> str:
    """The shards that were not given, and those that are not finished."""
    places = {arch: place for place, arch in enumerate(dict.fromkeys(arch for arch, _ in keys))}
    lacking = sorted({places[arch] % count for arch, _ in missing})
    absent = {
        "not given": [f"{i}/{count}" for i in range(count) if f"{i}/{count}" not in shards],
        "not finished": [f"{i}/{count}" for i in lacking if f"{i}/{count}" in shards],
    }
    return "; ".join(f"{state}: shard {', '.join(names)}" for state, names in absent.items() if names)
