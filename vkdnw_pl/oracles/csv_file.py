"""Accuracies and other measured properties from a CSV file with the columns ``arch,<data set>...``.

A column says what it holds behind its name, ``NAME[UNIT DIRECTION SPLIT]``: ``latency[ms lower]``, ``cifar10[% test]``,
``loss[nat lower val]``. See `parse_measure`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

from vkdnw_pl.errors import nearest, shown, what_it_says
from vkdnw_pl.oracles.base import PERCENT, Measure, Oracle, num_archs
from vkdnw_pl.runs.csv_table import CsvTable, read_csv
from vkdnw_pl.runs.folder import RunFolder
from vkdnw_pl.spaces import Space

ACCURACIES = "accuracies.csv"
"""The table in a run folder of ``label``."""


_NAME_AND_REST = re.compile(r"([^\[\]]+?)\s*\[([^\[\]]*)\]")
_DIRECTIONS = ("higher", "lower")
_SPLITS = ("train", "val", "test")
_UNSPECIFIED = "unspecified"
_ALLOWED = "UNIT DIRECTION SPLIT, as in ms lower, % test or nat lower val: the unit, then higher or lower, then train, val or test"


def parse_measure(dataset: str, text: str, where: str) -> Measure:
    """Read ``UNIT``, ``UNIT DIRECTION``, ``UNIT SPLIT`` or ``UNIT DIRECTION SPLIT``, with blanks or commas between them.

    The unit is one word of any letters and signs; the direction, ``higher`` or ``lower`` (is better), may be left out for
    ``%`` alone, where it is ``higher``; the split is ``train``, ``val`` or ``test``. ``where`` begins the error.
    """
    unit, *rest = re.split(r"[\s,]+", text.strip())
    direction = rest.pop(0) if rest and rest[0] in _DIRECTIONS else None
    split = rest.pop(0) if rest and rest[0] in _SPLITS else _UNSPECIFIED
    if rest or not unit or unit in (*_DIRECTIONS, *_SPLITS):
        what = f"{rest[0]!r} is not known{nearest(rest[0], (*_DIRECTIONS, *_SPLITS))}" if rest else "there is no unit"
        raise ValueError(f"{where}: {what} in {shown(text)}; allowed is {_ALLOWED}")
    if direction is None and unit != PERCENT:
        raise ValueError(
            f"{where}: {shown(text)} does not say whether higher or lower is better; allowed is {_ALLOWED}"
        )
    return Measure(dataset, split, unit, direction != "lower")


def load_csv(path: Path, space: Space, measures: Mapping[str, str] | None = None) -> Oracle:
    """Load a CSV file.

    A column ``arch``, perhaps ``coding`` (see `CsvTable.archs`); every other column is a data set, by default with
    accuracies in percent. Its name, or ``measures``, says what else it is; an empty cell is a value that is not known.
    Columns ``<data set>_std`` and ``<data set>_seed<N>`` beside their data set tell where its value comes from and are left
    out. Errors name the file, the line and the column.

    A run folder of ``label`` stands for its ``accuracies.csv``, and tells space, networks and split of the table.

    Args:
        path: the file or folder.
        space: the architectures' space.
        measures: column -> what stands in brackets in a table that says it itself, see `parse_measure`.
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
    table = read_csv(path, ("arch",))
    columns = declared(table, measures or {}, settings.get("accuracy", _UNSPECIFIED))
    tables = values_of(table, columns, space)
    known = "test accuracies" if settings.get("accuracy") == "test" else "validation accuracies" if settings else ""
    networks = dict.fromkeys(tables, settings["network"]) if isinstance(settings.get("network"), dict) else {}
    number = f"{num_archs(tables):,} architectures{', ' * bool(known)}{known}"
    kinds = columns.values()
    return Oracle(
        str(path),
        f"table {path} ({number}): {', '.join(kind.dataset if kind.is_accuracy else kind.axis for kind in kinds)}",
        {kind.dataset: kind.split for kind in kinds},
        tables,
        space.key,
        networks,
        units={kind.dataset: kind.unit for kind in kinds},
        lower_is_better=[kind.dataset for kind in kinds if not kind.higher_is_better],
    )


def _label_settings(path: Path) -> Mapping[str, Any]:
    """What the record of ``label`` beside a table says of it; empty where there is none."""
    folder = RunFolder(path.parent)
    if path.name != ACCURACIES or not folder.meta.is_file():
        return {}
    meta = folder.read_meta()
    return meta.get("settings", {}) if meta.get("command") == "label" else {}


def declared(table: CsvTable, measures: Mapping[str, str], split: str = _UNSPECIFIED) -> dict[str, Measure]:
    """Column -> what it holds, for each data set of a table; ``split`` is that of columns that say nothing."""
    found: dict[str, Measure] = {}
    for column in table.names:
        where = f"{table.where}, line 1, column {shown(column)}"
        match = _NAME_AND_REST.fullmatch(column)
        if match is None and ("[" in column or "]" in column):
            raise ValueError(
                f"{where}: a column that says what it holds is written NAME[{_ALLOWED}]; between the words stand blanks, "
                "or commas in quotation marks around the whole"
            )
        name = column if match is None else match[1].strip()
        if name in ("arch", "coding"):
            if match is not None:
                raise ValueError(f"{where}: architectures have no unit; write {name}")
            continue
        if name in measures:
            if match is not None:
                raise ValueError(f"oracle_measures: {name!r} is not allowed: {where} says itself what it holds")
            found[column] = parse_measure(name, measures[name], f"oracle_measures: {name!r}")
        else:
            found[column] = Measure(name, split) if match is None else parse_measure(name, match[2], where)
    names = [kind.dataset for kind in found.values()]
    if twice := [name for name in names if names.count(name) > 1]:
        raise ValueError(f"{table.where}, line 1: a column repeats: {shown(twice[0])}")
    if unknown := [name for name in measures if name not in names]:
        raise ValueError(
            f"oracle_measures: {unknown[0]!r} is not known{nearest(unknown[0], names)} ({table.where} has: {', '.join(names)})"
        )
    # Columns that say where a data set's values come from, such as digits_std and digits_seed1.
    bases = {column: re.sub(r"_(?:std|seed\d+)$", "", kind.dataset) for column, kind in found.items()}
    found = {
        column: kind
        for column, kind in found.items()
        if bases[column] == kind.dataset or bases[column] not in names or kind.dataset in measures
    }
    if not found:
        raise ValueError(f"{table.where}, line 1: no data set; the first line must be arch,<data set>,...")
    return found


def embedded_accuracies(oracle: str, path: Traversable, space: Space) -> dict[str, dict[str, float]]:
    """The `accuracies` of a table that comes with the package."""
    if not path.is_file():
        raise ValueError(f"oracle={oracle!r}: the installation is incomplete, {path} is missing; install it again")
    return accuracies(CsvTable(path.read_text(encoding="utf-8"), str(path)), space)


def accuracies(table: CsvTable, space: Space) -> dict[str, dict[str, float]]:
    """Data set -> canonical architecture string -> accuracy in percent, rows in the order of the table."""
    return values_of(table, declared(table, {}), space)


def values_of(table: CsvTable, columns: Mapping[str, Measure], space: Space) -> dict[str, dict[str, float]]:
    """Data set -> canonical architecture string -> value, rows in the order of the table, without empty cells."""
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
    return {
        kind.dataset: {arch: value for arch, value in zip(row_of, _numbers(table, column, kind)) if value is not None}
        for column, kind in columns.items()
    }


def _numbers(table: CsvTable, column: str, kind: Measure) -> list[float | None]:
    values = table.numbers(column)
    texts = table.texts(column)
    for row, value in enumerate(values):
        if value is None and texts[row]:
            raise ValueError(f"{table.place(row, column)}: {shown(texts[row])} is not a finite number")
        if value is not None and kind.is_accuracy and not 0 <= value <= 100:
            raise ValueError(
                f"{table.place(row, column)}: {value} is not an accuracy in percent (0..100); a column of something else "
                f"says what it is, {kind.dataset}[UNIT lower] or {kind.dataset}[UNIT higher]"
            )
    known = [value for value in values if value is not None]
    if not known:
        raise ValueError(f"{table.where}, column {shown(column)}: every cell is empty")
    if kind.is_accuracy and max(known) <= 1:
        raise ValueError(
            f"{table.place(0, column)}: no value is above 1, so these look like fractions; give percent (0..100)"
        )
    return values
