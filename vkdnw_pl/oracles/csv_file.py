"""Accuracies from a CSV file with the columns ``arch,<data set>...``."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vkdnw_pl.errors import what_it_says
from vkdnw_pl.oracles.base import Oracle, num_archs
from vkdnw_pl.runs.csv_table import CsvTable, read_csv
from vkdnw_pl.runs.folder import RunFolder
from vkdnw_pl.spaces import Space

ACCURACIES = "accuracies.csv"
"""The table in a run folder of ``label``."""


def load_csv(path: Path, space: Space) -> Oracle:
    """Load a CSV file.

    A column ``arch``, perhaps ``coding`` (see `CsvTable.archs`); every other column is a data set with accuracies in
    percent, one for every architecture. Columns ``<data set>_std`` and ``<data set>_seed<N>`` beside their data set tell
    where its value comes from and are left out. Errors name the file, the line and the column.

    A run folder of ``label`` stands for its ``accuracies.csv``, and tells space, networks and split of the table.
    """
    if path.is_dir():
        path = path / ACCURACIES
        if not path.is_file():
            raise ValueError(
                f"oracle={str(path.parent)!r} is not allowed: the folder has no {ACCURACIES}, which label writes"
            )
    settings = _label_settings(path)
    if (made_for := settings.get("space", space.key)) != space.key:
        raise ValueError(f"oracle={str(path)!r} holds accuracies of {made_for}, which say nothing about {space.key}")
    tables = accuracies(read_csv(path, ("arch",)), space)
    known = "test accuracies" if settings.get("accuracy") == "test" else "validation accuracies" if settings else ""
    networks = dict.fromkeys(tables, settings["network"]) if isinstance(settings.get("network"), dict) else {}
    number = f"{num_archs(tables):,} architectures{', ' * bool(known)}{known}"
    description = f"table {path} ({number}): {', '.join(tables)}"
    splits = dict.fromkeys(tables, settings.get("accuracy", "unspecified"))
    return Oracle(str(path), description, splits, tables, space.key, networks)


def _label_settings(path: Path) -> Mapping[str, Any]:
    """What the record of ``label`` beside a table says of it; empty where there is none."""
    folder = RunFolder(path.parent)
    if path.name != ACCURACIES or not folder.meta.is_file():
        return {}
    meta = folder.read_meta()
    return meta.get("settings", {}) if meta.get("command") == "label" else {}


def accuracies(table: CsvTable, space: Space) -> dict[str, dict[str, float]]:
    """Data set -> canonical architecture string -> accuracy in percent, rows in the order of the table."""
    datasets = _datasets(table.names, table.where)
    if not len(table):
        raise ValueError(f"{table.where}: no architecture below the first line")
    row_of: dict[str, int] = {}
    for row, text in enumerate(table.archs()):
        try:
            arch = space.architecture(text)
        except ValueError as error:
            raise ValueError(f"{table.place(row, 'arch')}: {what_it_says(error)}") from error
        if arch in row_of:
            first = table.lines[row_of[arch]]
            raise ValueError(f"{table.place(row)}: architecture {arch!r} stands in line {first} already")
        row_of[arch] = row
    return {dataset: dict(zip(row_of, _percents(table, dataset))) for dataset in datasets}


def _percents(table: CsvTable, dataset: str) -> list[float]:
    values = table.required(dataset, table.numbers(dataset))
    for row, value in enumerate(values):
        if not 0 <= value <= 100:
            raise ValueError(f"{table.place(row, dataset)}: {value} is not an accuracy in percent (0..100)")
    if max(values) <= 1:
        raise ValueError(
            f"{table.place(0, dataset)}: no value is above 1, so these look like fractions; give percent (0..100)"
        )
    return values


def _datasets(names: list[str], where: str) -> list[str]:
    # Columns that say where a data set's values come from, such as digits_std and digits_seed1.
    base_names = {name: re.sub(r"_(?:std|seed\d+)$", "", name) for name in names if name not in ("arch", "coding")}
    datasets = [name for name, base in base_names.items() if base == name or base not in base_names]
    if not datasets:
        raise ValueError(f"{where}, line 1: no data set; the first line must be arch,<data set>,...")
    return datasets
