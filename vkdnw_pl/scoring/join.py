"""Joins score tables of the same architectures, made at different times, column by column."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from vkdnw_pl.scoring.table import FAILED, OK, Key, ScoreRow, ScoreTable, join_rows


def join_columns(tables: Mapping[str, ScoreTable]) -> ScoreTable:
    """One table with the columns of all.

    A row is made of those of all tables with its (architecture, seed): failed if one of them is, its seconds their sum.
    A value may stand in several tables if it is the same in each; a column that a table has no row for is empty there,
    with the reason. A table without a row for any seed of the others (one seed where they have five) cannot be told
    from a mistake and is refused.

    Args:
        tables: by the name that errors give them.

    Raises:
        ValueError: if two tables contradict each other, or have different seeds.
    """
    if len(tables) == 1:
        return next(iter(tables.values()))
    columns = tuple(dict.fromkeys(column for table in tables.values() for column in table.columns))
    rows = {name: join_rows(table.rows, name) for name, table in tables.items()}
    _check_seeds(tables)
    keys = dict.fromkeys(key for some in rows.values() for key in some)
    return ScoreTable(columns, [_joined(key, columns, tables, rows) for key in keys])


def _joined(
    key: Key, columns: Sequence[str], tables: Mapping[str, ScoreTable], rows: Mapping[str, Mapping[Key, ScoreRow]]
) -> ScoreRow:
    arch, seed = key
    values: dict[str, float | None] = dict.fromkeys(columns)
    origin: dict[str, str] = {}
    reasons, seconds, failed = [], 0.0, False
    for name, table in tables.items():
        row = rows[name].get(key)
        if row is None:
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


def _check_seeds(tables: Mapping[str, ScoreTable]) -> None:
    (first, seeds), *others = ((name, table.seeds) for name, table in tables.items())
    for name, other in others:
        if other != seeds:
            raise ValueError(f"{first} has the seeds {seeds} and {name} {other}; tables that are joined need the same")
