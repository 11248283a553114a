"""The paper's tables: rows and columns (``tables.yaml``), printed numbers (``*.csv``), and notes (``notes.yaml``).

The set of networks (``variant``) is ``unique`` for the 9,445 structures of the paper's tables, and ``all`` for the 15,625
networks of its supplement.
"""

from __future__ import annotations

import csv
import functools
import io
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from vkdnw_pl.errors import check_choice
from vkdnw_pl.runs.documents import parse_yaml
from vkdnw_pl.runs.files import read_text

PAPER_SPACE = "nb201"
ACCURACY = "accuracy"
ALL_METRICS = ("kendall", "spearman", "ndcg")
VARIANTS = {"unique": "9445", "all": "15625"}
"""Variant -> how the files write it: the number of networks that it ranks."""

Key = tuple[str, str, str]  # row, column, metric


@dataclass(frozen=True)
class PaperRow:
    """A row of a table."""

    key: str
    label: str
    ranking: str | Mapping[str, str]
    """As `parse_ranking` takes it, for every column or one for each; of a learned row a model-driven ranking."""
    kind: str = ""
    """S (single) or A (aggregated), as the paper marks its rows."""
    learned: bool = False
    real_images: bool = False
    """Whether the paper's scores saw real images of the data set."""
    ours: bool = False
    """Not in the paper."""

    def ranking_for(self, column: str) -> str:
        return self.ranking if isinstance(self.ranking, str) else self.ranking[column]


@dataclass(frozen=True)
class PaperColumn:
    """A column of a table (with several metrics below it)."""

    key: str
    label: str
    dataset: str
    target: str = ACCURACY
    """What a ranking is compared with: accuracies on the data set, or a column of the score table."""

    @property
    def compared_with(self) -> str:
        """The ``dataset`` of the metric rows that belong here."""
        return self.dataset if self.target == ACCURACY else self.target


@dataclass(frozen=True)
class PaperTable:
    """A table or figure."""

    name: str
    title: str
    rows: tuple[PaperRow, ...]
    columns: tuple[PaperColumn, ...]
    metrics: tuple[str, ...] = ALL_METRICS
    decimals: int = 3
    """Digits that the paper prints."""

    def rankings(self) -> dict[str, bool]:
        """Every ranking that the table needs, in order -> whether it is model-driven."""
        return {row.ranking_for(column.key): row.learned for row in self.rows for column in self.columns}


class PaperValue(NamedTuple):
    """A printed number and where it stands."""

    value: float | None
    source: str


def _read_tables() -> dict[str, PaperTable]:
    text = (resources.files(__package__) / "tables.yaml").read_text(encoding="utf-8")
    tables = {}
    for name, fields in yaml.safe_load(text).items():
        rows = tuple(PaperRow(**row) for row in fields.pop("rows"))
        columns = tuple(PaperColumn(**{"dataset": column["key"], **column}) for column in fields.pop("columns"))
        metrics = tuple(fields.pop("metrics", ALL_METRICS))
        tables[name] = PaperTable(name, rows=rows, columns=columns, metrics=metrics, **fields)
    return tables


PAPER_TABLES: dict[str, PaperTable] = _read_tables()
"""Every table and figure that can be compared, by the name that its numbers have."""

PAPER_CHOICES: dict[str, tuple[str, ...]] = {
    **{name: (name,) for name in PAPER_TABLES if not name.startswith("robustness")},
    "robustness": tuple(name for name in PAPER_TABLES if name.startswith("robustness")),
}
"""What ``evaluate --paper`` takes -> the tables that it makes."""


def paper_values(table: str, variant: str = "unique") -> Mapping[Key, PaperValue]:
    """All numbers of a table: (row, column, metric) -> value, in the order of the paper.

    ``table2`` has numbers alone; tables without a variant (``table2``, ``fig2``) are the same for both.
    """
    check_choice("variant", variant, VARIANTS)
    check_choice("table", table, dict.fromkeys(name for name, _ in _numbers()))
    by_variant = {written: values for (name, written), values in _numbers().items() if name == table}
    if not set(by_variant) & set(VARIANTS.values()):
        return next(iter(by_variant.values()))
    if VARIANTS[variant] not in by_variant:
        printed = ", ".join(name for name, written in VARIANTS.items() if written in by_variant)
        raise ValueError(f"the paper has no {table} for variant={variant!r} (it has: {printed})")
    return by_variant[VARIANTS[variant]]


@functools.cache
def _numbers() -> dict[tuple[str, str], dict[Key, PaperValue]]:
    """(table, variant as written) -> its numbers."""
    numbers: dict[tuple[str, str], dict[Key, PaperValue]] = {}
    for file in sorted(resources.files(__package__).iterdir(), key=lambda file: file.name):
        if file.name.endswith(".csv"):
            for line in csv.DictReader(io.StringIO(file.read_text(encoding="utf-8"))):
                values = numbers.setdefault((line["table"], line["variant"]), {})
                key = (line["row"], line["column"], line["metric"])
                values[key] = PaperValue(float(line["value"]), line["source"])
    return numbers


_KEYS = ("tables", "rows", "columns", "variants")


@dataclass(frozen=True)
class Note:
    """A text about tables or, with ``rows`` or ``columns``, about some of their cells; None is all of them."""

    text: str
    tables: tuple[str, ...]
    rows: tuple[str, ...] | None = None
    columns: tuple[str, ...] | None = None
    variants: tuple[str, ...] | None = None

    def about(self, table: str, variant: str) -> bool:
        """Whether it belongs to a table."""
        return table in self.tables and (self.variants is None or variant in self.variants)


@functools.cache
def known_reasons() -> tuple[Note, ...]:
    """The package's notes on why a number may differ from the paper's."""
    return parse_notes((resources.files(__package__) / "notes.yaml").read_text(encoding="utf-8"), "notes.yaml")


def read_notes(path: str | Path) -> tuple[Note, ...]:
    """Read a user's notes: a YAML list of ``{text, tables, rows, columns, variants}``, all but the first two optional."""
    return parse_notes(read_text(Path(path).expanduser()), str(path))


def parse_notes(text: str, where: str) -> tuple[Note, ...]:
    """Read notes from their YAML text; ``where`` names it in errors."""
    notes = parse_yaml(text, where)
    if not isinstance(notes, list):
        raise ValueError(f"{where} must hold a list of notes, each with text and tables")
    return tuple(_parse_note(note, f"{where}, note {number}") for number, note in enumerate(notes, 1))


def _parse_note(note: Any, at: str) -> Note:
    if not isinstance(note, Mapping) or not {"text", "tables"} <= set(note):
        raise ValueError(f"{at}: it must have text and tables (it is {note!r})")
    for key in note:
        check_choice(f"{at}: key", key, ("text", *_KEYS))
    if not isinstance(note["text"], str) or not note["text"].strip():
        raise ValueError(f"{at}: text is {note['text']!r}, give a sentence")
    _check_names(note, "tables", PAPER_TABLES, at)
    tables = [PAPER_TABLES[name] for name in note["tables"]]
    _check_names(note, "rows", [row.key for table in tables for row in table.rows], at)
    _check_names(note, "columns", [column.key for table in tables for column in table.columns], at)
    _check_names(note, "variants", VARIANTS, at)
    return Note(" ".join(note["text"].split()), **{key: tuple(note[key]) for key in _KEYS if key in note})


def _check_names(note: Mapping[str, Any], key: str, known: Iterable[str], at: str) -> None:
    names = note.get(key, [])
    if not isinstance(names, list) or (key in note and not names) or not all(isinstance(name, str) for name in names):
        raise ValueError(f"{at}: {key} is {names!r}, give a list of names (numbers in quotes)")
    for name in names:
        check_choice(f"{at}: {key.removesuffix('s')}", name, dict.fromkeys(known))
