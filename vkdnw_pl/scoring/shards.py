"""Joins the shards of a scoring into one table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from vkdnw_pl.runs.settings import Record, differences
from vkdnw_pl.runs.table import Key, ScoreTable, join_rows
from vkdnw_pl.scoring.folder import ScoreFolder


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
    """Join run folders of one scoring; a row that several have must be the same in each.

    Args:
        folders: of the shards.
        allow_missing: rows may be missing.

    Raises:
        ValueError: if a folder is no run folder, settings differ, rows contradict each other or are missing.
    """
    metas = [folder.read_meta() for folder in folders]
    settings = _common_settings(folders, metas)
    archs = folders[0].read_archs()
    keys = [(arch, seed) for arch in archs for seed in settings["seeds"]]
    rows = join_rows((row for folder in folders for row in folder.read_rows().values()), "the shards")
    missing = [key for key in keys if key not in rows]
    if missing and not allow_missing:
        raise ValueError(_describe_missing(missing, keys, [meta["settings"]["shard"] for meta in metas]))
    if not rows:
        raise ValueError("the shards hold no rows")
    return JoinedShards(
        settings=settings,
        config=yaml.safe_load(folders[0].config.read_text(encoding="utf-8")),
        digest=metas[0]["digest"],
        archs=archs,
        table=ScoreTable(tuple(next(iter(rows.values())).values), [rows[key] for key in keys if key in rows]),
        missing=len(missing),
        facts={
            "environment": metas[0]["environment"],
            "runs": [run for meta in metas for run in meta["runs"]],
            "merged": [
                {"folder": str(folder.path), "shard": meta["settings"]["shard"], "environment": meta["environment"]}
                for folder, meta in zip(folders, metas, strict=True)
            ],
        },
    )


def _common_settings(folders: Sequence[ScoreFolder], metas: Sequence[Mapping[str, Any]]) -> Record:
    first, *others = ({**meta["settings"], "shard": None} for meta in metas)
    for folder, other in zip(folders[1:], others, strict=True):
        if different := differences(first, other):
            raise ValueError(
                f"{folder.path} was made with other settings than {folders[0].path}: "
                f"{'; '.join(different).replace('there:', 'first:').replace('now:', 'this:')}"
            )
    return first


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
    not_given = [f"{i}/{count}" for i in range(count) if f"{i}/{count}" not in shards]
    not_finished = [f"{i}/{count}" for i in lacking if f"{i}/{count}" in shards]
    parts = [
        f"{what}: shard {', '.join(names)}"
        for what, names in (("not given", not_given), ("not finished", not_finished))
        if names
    ]
    return "; ".join(parts)
