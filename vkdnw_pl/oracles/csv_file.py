"""Accuracies from a CSV file with the columns ``arch,<data set>...``."""

from __future__ import annotations

import csv
import io
import re
from pathlib import Path

from vkdnw_pl.oracles.base import Oracle, num_archs
from vkdnw_pl.spaces import Space, coded


def load_csv(path: Path, space: Space) -> Oracle:
    """Load a CSV file; see ``parse_table`` for what it must contain."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"oracle={str(path)!r} cannot be read: {error}") from error
    tables = parse_table(text, str(path), space)
    description = f"table {path} ({num_archs(tables):,} architectures): {', '.join(tables)}"
    return Oracle(str(path), description, dict.fromkeys(tables, "unspecified"), tables, space.key)


def parse_table(text: str, where: str, space: Space) -> dict[str, dict[str, float]]:
    """Parse a table of accuracies.

    The first column is ``arch``; every other column is a data set with accuracies in percent, one for every
    architecture. A column ``coding`` (such as naslib) says how the integers of ``arch`` are meant. Columns ``<data set>_std`` and ``<data set>_seed<N>`` beside their data set tell where its value
    comes from and are left out. Errors name the file as ``where``, the line and the column.

    Returns:
        Data set -> canonical architecture string -> accuracy in percent, rows in the order of the file.
    """
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        header = [cell.strip() for cell in next(reader, [])]
        datasets = _datasets(header, where)
        tables: dict[str, dict[str, float]] = {dataset: {} for dataset in datasets}
        line_of: dict[str, int] = {}
        for row in reader:
            if not row:
                continue
            at = f"{where}, line {reader.line_num}"
            if len(row) != len(header):
                raise ValueError(f"{at}: {len(row)} cells where the header has {len(header)}")
            cells = dict(zip(header, row, strict=True))
            try:
                arch = space.architecture(coded(cells["arch"], cells.get("coding")))
            except ValueError as error:
                raise ValueError(f"{at}: {error}") from error
            if arch in line_of:
                raise ValueError(f"{at}: architecture {arch!r} stands in line {line_of[arch]} already")
            line_of[arch] = reader.line_num
            for dataset in datasets:
                tables[dataset][arch] = _percent(cells[dataset], f"{at}, column {dataset!r}")
    except csv.Error as error:
        raise ValueError(f"{where}, line {reader.line_num}: not a CSV file: {error}") from error

    if not line_of:
        raise ValueError(f"{where}: no architecture below the header")
    for dataset, table in tables.items():
        if max(table.values()) <= 1:
            raise ValueError(
                f"{where}, column {dataset!r}: no value is above 1, so these look like fractions; give percent (0..100)"
            )
    return tables


def _datasets(header: list[str], where: str) -> list[str]:
    expected = "the header must be arch,<data set>,... with one column of accuracies per data set"
    if not header or header[0] != "arch":
        first = header[0] if header else ""
        raise ValueError(f"{where}, line 1: the first column is {first!r}, not 'arch'; {expected}")
    for number, name in enumerate(header, start=1):
        if not name:
            raise ValueError(f"{where}, line 1: column {number} has no name; {expected}")
        if name in header[: number - 1]:
            raise ValueError(f"{where}, line 1: column {name!r} occurs twice")
    # Columns that say where a data set's values come from, such as digits_std and digits_seed1.
    base_names = {name: re.sub(r"_(?:std|seed\d+)$", "", name) for name in header[1:] if name != "coding"}
    datasets = [name for name, base in base_names.items() if base == name or base not in base_names]
    if not datasets:
        raise ValueError(f"{where}, line 1: no data set; {expected}")
    return datasets


def _percent(cell: str, at: str) -> float:
    try:
        value = float(cell)
    except ValueError:
        raise ValueError(f"{at}: {cell!r} is not a number; give an accuracy in percent") from None
    if not 0 <= value <= 100:
        raise ValueError(f"{at}: {cell!r} is not an accuracy in percent (0..100)")
    return value
