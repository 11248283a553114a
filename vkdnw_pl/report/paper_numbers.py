"""The numbers that the paper and its authors' notebooks print, as package data (``paper/*.csv``).

Variants: ``unique`` are the 9,445 structures of the paper's tables, ``all`` the 15,625 networks of its supplement.
"""

from __future__ import annotations

import csv
import difflib
import functools
import io
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib import resources

VARIANTS = {"unique": "9445", "all": "15625"}
"""Variant -> how the files write it: the number of networks that it ranks."""

COLUMNS = ("table", "variant", "row", "column", "metric", "value", "source")
"""Header of the files."""

Key = tuple[str, str, str]
"""(row, column, metric)."""


@dataclass(frozen=True)
class PaperValue:
    """A printed number and where it stands."""

    value: float
    source: str


def paper_tables() -> tuple[str, ...]:
    """Names of the tables that have numbers."""
    return tuple(dict.fromkeys(table for table, _ in _all()))


def paper_values(table: str, variant: str = "unique") -> Mapping[Key, PaperValue]:
    """All numbers of a table: (row, column, metric) -> value, in the order of the paper.

    Args:
        table: ``table1``, ..., ``fig1``, ... (see `paper_tables`).
        variant: ``unique`` or ``all``; a table that exists only for one set of networks (``table2``, ``fig2``) is the
            same for both.

    Raises:
        ValueError: if the table is not known, the variant is not, or the table has no numbers for it.
    """
    if variant not in VARIANTS:
        raise ValueError(f"variant={variant!r} is not known{_nearest(variant, VARIANTS)} (known: {_list(VARIANTS)})")
    if table not in paper_tables():
        raise ValueError(
            f"table={table!r} is not known{_nearest(table, paper_tables())} (known: {_list(paper_tables())})"
        )
    there = {own: values for (name, own), values in _all().items() if name == table}
    if not set(there) & set(VARIANTS.values()):
        return next(iter(there.values()))
    if VARIANTS[variant] not in there:
        known = [name for name, written in VARIANTS.items() if written in there]
        raise ValueError(f"the paper has no {table} for variant={variant!r} (it has: {_list(known)})")
    return there[VARIANTS[variant]]


def paper_value(table: str, row: str, column: str, metric: str, variant: str = "unique") -> PaperValue | None:
    """One number, or None where the paper leaves the cell empty.

    Raises:
        ValueError: as `paper_values`, and if the table has no such row or column.
    """
    values = paper_values(table, variant)
    rows, columns = (tuple(dict.fromkeys(key[i] for key in values)) for i in range(2))
    for what, name, known in (("row", row, rows), ("column", column, columns)):
        if name not in known:
            raise ValueError(f"{table} has no {what} {name!r}{_nearest(name, known)} (it has: {_list(known)})")
    return values.get((row, column, metric))


def parse_numbers(text: str, where: str) -> dict[tuple[str, str], dict[Key, PaperValue]]:
    """Read one file of numbers: (table, variant as written) -> its numbers.

    Raises:
        ValueError: naming the line and the fault.
    """
    reader = csv.DictReader(io.StringIO(text))
    if tuple(reader.fieldnames or ()) != COLUMNS:
        raise ValueError(f"{where}: the first line must be {','.join(COLUMNS)}")
    tables: dict[tuple[str, str], dict[Key, PaperValue]] = {}
    for line in reader:
        at = f"{where}, line {reader.line_num}"
        if None in line.values() or None in line or not all(line.values()):
            raise ValueError(f"{at}: every cell must be filled, {len(COLUMNS)} of them")
        try:
            value = float(line["value"])
        except ValueError:
            raise ValueError(f"{at}: value is {line['value']!r}, not a number") from None
        if not math.isfinite(value):
            raise ValueError(f"{at}: value is {line['value']!r}, not a finite number")
        values = tables.setdefault((line["table"], line["variant"]), {})
        key = (line["row"], line["column"], line["metric"])
        if key in values:
            raise ValueError(f"{at}: {' '.join(key)} comes twice")
        values[key] = PaperValue(value, line["source"])
    return tables


@functools.cache
def _all() -> dict[tuple[str, str], dict[Key, PaperValue]]:
    tables: dict[tuple[str, str], dict[Key, PaperValue]] = {}
    folder = resources.files("vkdnw_pl.report") / "paper"
    for file in sorted(folder.iterdir(), key=lambda one: one.name):
        if file.name.endswith(".csv"):
            tables.update(parse_numbers(file.read_text(encoding="utf-8"), file.name))
    return tables


def _nearest(name: str, known: Iterable[str]) -> str:
    match = difflib.get_close_matches(name, list(known), 1)
    return f"; did you mean {match[0]!r}?" if match else ""


def _list(names: Iterable[str]) -> str:
    return ", ".join(names)
