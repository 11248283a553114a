"""Joins score tables of the same architectures, made at different times, column by column."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from vkdnw_pl.runs.table import FAILED, OK, Key, ScoreRow, ScoreTable, join_rows
from vkdnw_pl.spaces import Space


def join_columns(tables: Mapping[str, ScoreTable]) -> ScoreTable:
    """One table with the columns of all.

    A row is made of those of all tables with its (architecture, seed): failed if one of them is, its seconds their sum.
    A value may stand in several tables if it is the same in each; a column that a table has no row for is empty there,
    with the reason. Tables may have other seeds: a ranking is then measured in the seeds that have all its columns.

    Args:
        tables: by the name that errors give them.

    Raises:
        ValueError: if two tables contradict each other.
    """
    if len(tables) == 1:
        return next(iter(tables.values()))
    columns = tuple(dict.fromkeys(column for table in tables.values() for column in table.columns))
    rows = {name: join_rows(table.rows, name) for name, table in tables.items()}
    keys = dict.fromkeys(key for some in rows.values() for key in some)
    seeds = {name: set(table.seeds) for name, table in tables.items()}
    return ScoreTable(columns, [_joined(key, columns, tables, rows, seeds) for key in keys])


def _joined(
    key: Key,
    columns: Sequence[str],
    tables: Mapping[str, ScoreTable],
    rows: Mapping[str, Mapping[Key, ScoreRow]],
    seeds: Mapping[str, set[int]],
) -> ScoreRow:
    arch, seed = key
    values: dict[str, float | None] = dict.fromkeys(columns)
    origin: dict[str, str] = {}
    reasons, seconds, failed = [], 0.0, False
    for name, table in tables.items():
        row = rows[name].get(key)
        if row is None:
            if seed in seeds[name]:
                reasons.append(f"{name} has no row of it")
            continue
        for column in table.columns:
            value = row.values[column]
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
    reason = "; ".join(dict.fromkeys(reason for reason in reasons if reason))
    return ScoreRow(arch, seed, values, FAILED if failed else OK, reason, seconds)


def canonical(table: ScoreTable, space: Space, where: str) -> ScoreTable:
    """The table with every architecture in its space's canonical spelling.

    Raises:
        ValueError: if an architecture is not of the space.
    """
    rows = []
    for row in table.rows:
        try:
            rows.append(replace(row, arch=space.architecture(row.arch)))
        except ValueError as error:
            raise ValueError(f"{where}: {error}") from None
    return ScoreTable(table.columns, rows)
