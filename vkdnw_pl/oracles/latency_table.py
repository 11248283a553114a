"""Latencies that are known from a CSV file, in place of measuring them on this machine."""

from __future__ import annotations

from pathlib import Path

from vkdnw_pl.errors import nearest
from vkdnw_pl.oracles.base import Measure, of_networks
from vkdnw_pl.oracles.csv_file import declared, values_of
from vkdnw_pl.runs.csv_table import read_csv
from vkdnw_pl.spaces import Space

UNIT = "ms"


def split_source(source: str) -> tuple[str, str]:
    """File and column of ``FILE.csv`` (no column) or ``FILE.csv#COLUMN``."""
    file, _, column = source.partition("#")
    return file, column


def read_latencies(source: str, space: Space) -> dict[str, float]:
    """Network -> latency in ms, lower is better; those with an empty cell are left out, see `of_networks`.

    Args:
        source: ``FILE.csv`` or ``FILE.csv#COLUMN``. Without a column the file must have one data set, or one that is
            declared in ms (``edge[ms lower]``); a column that is named may leave the declaration out.
        space: the architectures' space.

    Raises:
        ValueError: if there is no such file or column, the column is declared as something else, or a value is not above 0.
    """
    file, name = split_source(source)
    path = Path(file).expanduser()
    if not path.is_file():
        raise ValueError(
            f"latency_table={source!r} is not allowed: there is no such file; give FILE.csv or FILE.csv#COLUMN"
        )
    table = read_csv(path, ("arch",))
    columns = declared(table, {})
    names = {kind.dataset: column for column, kind in columns.items()}
    plain = {name for name, column in names.items() if name == column}
    in_ms = {name for name, column in names.items() if columns[column].unit == UNIT}
    known = ", ".join(names)
    if name and name not in names:
        raise ValueError(f"latency_table={source!r} has no column {name!r}{nearest(name, names)} (it has: {known})")
    if not name:
        of_latency = in_ms or plain
        if len(of_latency) != 1:
            raise ValueError(
                f"latency_table={source!r} does not say which column is the latency (it has: {known}); give FILE.csv#COLUMN"
            )
        (name,) = of_latency
    kind = columns[names[name]]
    if name not in plain and (kind.unit != UNIT or kind.higher_is_better):
        raise ValueError(f"latency_table={source!r}: {name!r} is declared as {kind.kind or '%'}, not as {UNIT} lower")
    latencies = values_of(table, {names[name]: Measure(name, kind.split, UNIT, higher_is_better=False)}, space)[name]
    if wrong := next((arch for arch, value in latencies.items() if value <= 0), None):
        raise ValueError(f"latency_table={source!r}: {latencies[wrong]:g} ms of {wrong} is not above 0")
    return of_networks(latencies, space.canonicalise)
