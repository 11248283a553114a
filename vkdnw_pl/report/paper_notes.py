"""Known reasons why a number may differ from the paper's: package data (``paper/reasons.yaml``) and the user's own."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import yaml

from vkdnw_pl.report.paper_numbers import VARIANTS
from vkdnw_pl.report.paper_tables import PAPER_TABLES, PaperTable

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


def known_reasons() -> tuple[Note, ...]:
    """The notes that come with the package."""
    return _packaged()


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
        content = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ValueError(f"{where} is not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(content, list):
        raise ValueError(f"{where} must hold a list of notes, each with text and tables")
    return tuple(_note(entry, f"{where}, note {number}") for number, entry in enumerate(content, 1))


@functools.cache
def _packaged() -> tuple[Note, ...]:
    file = resources.files("vkdnw_pl.report") / "paper" / "reasons.yaml"
    return parse_notes(file.read_text(encoding="utf-8"), file.name)


def _note(entry: Any, at: str) -> Note:
    if not isinstance(entry, Mapping) or not {"text", "tables"} <= set(entry):
        raise ValueError(f"{at}: it must have text and tables (it is {entry!r})")
    if extra := sorted(set(entry) - {"text", *_KEYS}):
        raise ValueError(f"{at}: {extra[0]!r} is not known (known: text, {', '.join(_KEYS)})")
    if not isinstance(entry["text"], str) or not entry["text"].strip():
        raise ValueError(f"{at}: text is {entry['text']!r}, give a sentence")
    given = {key: _names(entry[key], f"{at}: {key}") for key in _KEYS if key in entry}
    tables = [PAPER_TABLES[name] for name in _known(given["tables"], PAPER_TABLES, f"{at}: table")]
    _known(given.get("rows", ()), _keys(tables, "rows"), f"{at}: row")
    _known(given.get("columns", ()), _keys(tables, "columns"), f"{at}: column")
    _known(given.get("variants", ()), VARIANTS, f"{at}: variant")
    return Note(
        text=" ".join(entry["text"].split()),
        tables=given["tables"],
        rows=given.get("rows"),
        columns=given.get("columns"),
        variants=given.get("variants"),
    )


def _names(value: Any, at: str) -> tuple[str, ...]:
    if not isinstance(value, list) or not value or not all(isinstance(one, str) for one in value):
        raise ValueError(f"{at} is {value!r}, give a list of names (numbers in quotes)")
    return tuple(value)


def _keys(tables: Iterable[PaperTable], part: str) -> list[str]:
    return list(dict.fromkeys(one.key for table in tables for one in getattr(table, part)))


def _known(names: tuple[str, ...], known: Iterable[str], at: str) -> tuple[str, ...]:
    known = list(known)
    for name in names:
        if name not in known:
            raise ValueError(f"{at} {name!r} does not exist (there: {', '.join(known)})")
    return names
