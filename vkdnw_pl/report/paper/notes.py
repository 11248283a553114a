"""Known reasons why a number may differ from the paper's: those of the package (``notes.yaml``) and the user's own."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import yaml

from vkdnw_pl.errors import check_choice
from vkdnw_pl.report.paper.tables import PAPER_TABLES, VARIANTS

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
    """The notes that come with the package."""
    file = resources.files(__package__) / "notes.yaml"
    return parse_notes(file.read_text(encoding="utf-8"), file.name)


def read_notes(path: str | Path) -> tuple[Note, ...]:
    """Read a user's notes: a YAML list of ``{text, tables, rows, columns, variants}``, all but the first two optional.

    Raises:
        ValueError: if the file cannot be read, or names a table, row, column or variant that does not exist.
    """
    try:
        text = Path(path).expanduser().read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"notes={str(path)!r} cannot be read: {error}") from None
    return parse_notes(text, str(path))


def parse_notes(text: str, where: str) -> tuple[Note, ...]:
    """Read notes from their YAML text; ``where`` names it in errors.

    Raises:
        ValueError: as `read_notes`.
    """
    try:
        notes = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ValueError(f"{where} is not YAML: {' '.join(str(error).split())}") from None
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
    names = {key: tuple(_check_names(note[key], f"{at}: {key}")) for key in _KEYS if key in note}
    _check_known(f"{at}: table", names["tables"], PAPER_TABLES)
    tables = [PAPER_TABLES[name] for name in names["tables"]]
    _check_known(f"{at}: row", names.get("rows", ()), [row.key for table in tables for row in table.rows])
    _check_known(
        f"{at}: column", names.get("columns", ()), [column.key for table in tables for column in table.columns]
    )
    _check_known(f"{at}: variant", names.get("variants", ()), VARIANTS)
    return Note(" ".join(note["text"].split()), **names)


def _check_names(value: Any, at: str) -> list[str]:
    if not isinstance(value, list) or not value or not all(isinstance(name, str) for name in value):
        raise ValueError(f"{at} is {value!r}, give a list of names (numbers in quotes)")
    return value


def _check_known(what: str, names: Iterable[str], known: Iterable[str]) -> None:
    for name in names:
        check_choice(what, name, dict.fromkeys(known))
