"""Reads CSV files: score tables, accuracies, lists of architectures, histories, and what stands in run folders.

What has one reading is read: a byte order mark, line ends of any system, blanks around names and cells, semicolons or tabs
in place of commas where the first line can only be those, and a first column without a name that numbers the rows. All
else is a ``ValueError`` of one line that names the file, the line, the column, and what is allowed.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import TypeVar

from vkdnw_pl.errors import one_line, shown
from vkdnw_pl.runs.files import MAX_BYTES, read_text

Value = TypeVar("Value")

_SEPARATORS = ",;\t"
_NUMBERS_ROWS = ("", "Unnamed: 0")
"""How pandas calls the column of its index."""
_LARGEST = 2**63 - 1


class CsvTable:
    """Rows of cells under names, without blank lines.

    Args:
        text: of the file.
        where: the file, as errors call it.
        needs: columns that must be there.

    Attributes:
        names: of the columns.
        where: as given.
        lines: number of each row's line.
    """

    def __init__(self, text: str, where: str, needs: Sequence[str] = ()) -> None:
        self.where = where
        self.lines: list[int] = []
        self._rows: list[list[str]] = []
        # A process-wide limit of the csv module; reasons of failures were once written at any length.
        limit = csv.field_size_limit(MAX_BYTES)
        try:
            self.names = self._read(text, needs)
        finally:
            csv.field_size_limit(limit)
        self._drop_row_numbers()
        for number, name in enumerate(self.names, 1):
            if not name:
                raise ValueError(f"{where}, line 1: column {number} has no name; every column must have one")
            if name in self.names[: number - 1]:
                raise ValueError(f"{where}, line 1: a column repeats: {shown(name)}")

    def _read(self, text: str, needs: Sequence[str]) -> list[str]:
        separator = next((sign for sign in _SEPARATORS if set(needs) <= set(_first(text, sign))), ",")
        reader = csv.reader(io.StringIO(text), delimiter=separator, skipinitialspace=True, strict=True)
        line = 0
        names: list[str] = []
        try:
            for cells in reader:
                if names and len(cells) == len(names):
                    self.lines.append(line + 1)
                    self._rows.append(cells)
                elif not cells or (len(cells) == 1 and not cells[0].strip()):
                    pass
                elif names:
                    raise ValueError(
                        f"{self.where}, line {line + 1} has {len(cells)} cells, the first line has {len(names)}"
                    )
                else:
                    names = [cell.strip() for cell in cells]
                    if missing := [name for name in needs if name not in names]:
                        raise ValueError(
                            f"{self.where}, line {line + 1}: there is no column {missing[0]!r}; the first line must name "
                            f"the columns (it is {shown(','.join(names))})"
                        )
                line = reader.line_num
        except csv.Error as error:
            fault = "a quotation mark is not closed" if "end of data" in str(error) else one_line(str(error))
            raise ValueError(f"{self.where}, line {line + 1} is damaged: {fault}") from None
        if not names:
            raise ValueError(f"{self.where} is empty: its first line must name the columns")
        return names

    def _drop_row_numbers(self) -> None:
        if self.names[0] in _NUMBERS_ROWS and all(row[0].strip().isdecimal() for row in self._rows):
            del self.names[0]
            for row in self._rows:
                del row[0]

    def __len__(self) -> int:
        return len(self._rows)

    def place(self, row: int, column: str = "") -> str:
        """Where a row, or a cell of it, stands: file, line and column."""
        return f"{self.where}, line {self.lines[row]}" + (f", column {shown(column)}" if column else "")

    @cached_property
    def _columns(self) -> dict[str, Sequence[str]]:
        if not self._rows:
            return {name: () for name in self.names}
        return dict(zip(self.names, zip(*self._rows)))

    def texts(self, column: str) -> list[str]:
        """Cells of a column."""
        return [cell.strip() for cell in self._columns[column]]

    def archs(self) -> list[str]:
        """The column ``arch``; where there is a column ``coding``, such as naslib, behind what it says about the cell."""
        archs = self.texts("arch")
        if "" in archs:
            raise ValueError(f"{self.place(archs.index(''), 'arch')} is empty: give an architecture")
        if "coding" not in self.names:
            return archs
        return [f"{coding}:{arch}" if coding else arch for coding, arch in zip(self.texts("coding"), archs)]

    def numbers(self, column: str) -> list[float | None]:
        """Numbers of a column; None where a cell is empty or not finite."""
        values = self._convert(column, float, "a number, such as 0.5")
        return [value if value is not None and math.isfinite(value) else None for value in values]

    def wholes(self, column: str) -> list[int | None]:
        """Whole numbers from 0 on of a column; None where a cell is empty."""
        return self._convert(column, _whole, "a whole number of at least 0")

    def choices(self, column: str, allowed: Sequence[str]) -> list[str]:
        """Cells of a column that must hold one of a few words."""
        texts = self.texts(column)
        if not set(texts) <= set(allowed):
            row = next(i for i, text in enumerate(texts) if text not in allowed)
            raise ValueError(
                f"{self.place(row, column)}: {shown(texts[row])} is not allowed: give {' or '.join(map(repr, allowed))}"
            )
        return texts

    def required(self, column: str, values: list[Value | None]) -> list[Value]:
        """The values of a column, none of which may be missing."""
        for row, value in enumerate(values):
            if value is None:
                raise ValueError(f"{self.place(row, column)}: {shown(self.texts(column)[row])} is not a finite number")
        return values  # type: ignore[return-value]

    def _convert(self, column: str, kind: Callable[[str], Value], allowed: str) -> list[Value | None]:
        texts = self.texts(column)
        all_texts = "".join(texts)
        try:
            if "_" in all_texts or not all_texts.isascii():  # 1_0 and other scripts' digits are numbers to Python
                raise ValueError
            return [kind(text) if text else None for text in texts]
        except ValueError:
            row = next(i for i, text in enumerate(texts) if not _is(kind, text))
        raise ValueError(f"{self.place(row, column)}: {shown(texts[row])} is not {allowed}")


def read_csv(path: Path, needs: Sequence[str] = (), torn: bool = False) -> CsvTable:
    """Read a CSV file, also one that is compressed; see `CsvTable`.

    ``torn``: leave out a last line without line end, which a kill, or a copy that was cut off, has torn.
    """
    text = read_text(path)
    return CsvTable(text[: text.rfind("\n") + 1] if torn else text, str(path), needs)


def read_grown(path: Path, header: str) -> CsvTable:
    """Read a CSV file that grows line by line, but for a last line that a kill has torn; ``header`` if no line is whole."""
    text = read_text(path)
    return CsvTable(text[: text.rfind("\n") + 1] or header, str(path), next(csv.reader([header])))


def first_names(text: str) -> list[str]:
    """Names of the columns, if a text is a CSV file: its first line with the separator that makes most of them."""
    return max((_first(text, sign) for sign in _SEPARATORS), key=len)


def _first(text: str, separator: str) -> list[str]:
    line = text.lstrip("\n").partition("\n")[0]
    try:
        cells = next(csv.reader([line], delimiter=separator, skipinitialspace=True), [])
    except csv.Error:
        return []
    return [cell.strip() for cell in cells]


def _whole(text: str) -> int:
    if not text.isdecimal() or len(text) > 19 or int(text) > _LARGEST:
        raise ValueError
    return int(text)


def _is(kind: Callable[[str], object], text: str) -> bool:
    try:
        return not text or ("_" not in text and text.isascii() and kind(text) is not None)
    except ValueError:
        return False
