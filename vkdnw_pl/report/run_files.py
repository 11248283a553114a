"""Readers of a run folder's small files: they run nothing of what they read, and their errors name the file."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml

MAX_VALUES = 200_000
"""Values that a configuration may have when its aliases are written out: a small file can stand for a huge one."""


def read_text(path: Path) -> str:
    """The text of a file."""
    try:
        return path.read_bytes().decode("utf-8")
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror or error}") from None
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is damaged: it is not UTF-8 text ({error.reason} at byte {error.start})") from None


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object."""
    try:
        content = json.loads(read_text(path))
    except json.JSONDecodeError as error:
        raise ValueError(f"{path} is damaged: it is not JSON ({error})") from None
    except RecursionError:
        raise ValueError(f"{path} is damaged: it is nested too deeply") from None
    return _object(content, path)


def read_yaml(path: Path) -> dict[str, Any]:
    """A YAML mapping of plain values; tags that would make other objects are an error."""
    try:
        content = _object(yaml.safe_load(read_text(path)), path)
        if _count(content, MAX_VALUES) > MAX_VALUES:
            raise ValueError(f"{path} is damaged: it stands for more than {MAX_VALUES:,} values")
    except yaml.YAMLError as error:
        raise ValueError(f"{path} is damaged: it is not YAML ({' '.join(str(error).split())})") from None
    except RecursionError:
        raise ValueError(f"{path} is damaged: it is nested too deeply") from None
    return content


def read_csv(path: Path) -> tuple[list[str], list[list[str]]]:
    """First line and the others of a CSV file; a last line that a kill, or a copy that was cut off, has torn is left out."""
    text = read_text(path)
    reader = csv.reader(io.StringIO(text[: text.rfind("\n") + 1]))
    try:
        header = next(reader, [])
        if not header or len(set(header)) < len(header):
            raise ValueError(f"{path} is damaged: its first line must name every column once (it has {header})")
        rows = []
        for cells in reader:
            if len(cells) != len(header):
                raise ValueError(
                    f"{path}, line {reader.line_num} is damaged: it has {len(cells)} cells, the first line {len(header)}"
                )
            rows.append(cells)
    except csv.Error as error:
        raise ValueError(f"{path}, line {reader.line_num} is damaged: {error}") from None
    return header, rows


def read_frame(path: Path, text_columns: Sequence[str] = ("arch", "status", "reason")) -> pd.DataFrame:
    """A CSV file with a line for each architecture, as `read_csv` reads it: text columns, and numbers, NaN where empty.

    pandas reads a large file several times faster, but says nothing of short lines, and little of what is no number:
    where something looks wrong, the file is read again, cell by cell.
    """
    text = read_text(path)
    whole = text[: text.rfind("\n") + 1]
    header = next(csv.reader([whole.partition("\n")[0]]), [])
    if "arch" not in header:
        raise ValueError(f"{path} is damaged: its first line has no column 'arch'")
    types = {name: "object" if name in text_columns else "float64" for name in header}
    empty = {name: [""] for name in header if name not in text_columns}
    if len(header) == len(types):
        with contextlib.suppress(ValueError), warnings.catch_warnings():
            warnings.simplefilter("error", pd.errors.ParserWarning)
            warnings.filterwarnings(
                "ignore", "The 'float_precision' argument is deprecated"
            )  # it is pandas 3's default
            frame = pd.read_csv(
                io.StringIO(whole),
                dtype=types,
                keep_default_na=False,
                na_values=empty,
                index_col=False,
                float_precision="round_trip",
            )
            if not frame[header[-1]].isna().any():
                return frame
    header, rows = read_csv(path)
    columns = dict(zip(header, zip(*rows) if rows else [() for _ in header]))
    return pd.DataFrame(
        {
            name: pd.Series(cells, dtype="object") if name in text_columns else numbers(cells, path, name)
            for name, cells in columns.items()
        }
    )


def numbers(cells: Sequence[str], path: Path, column: str) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Numbers of a column of a CSV file; NaN where a cell is empty."""
    values = []
    for cell in cells:
        try:
            values.append(float(cell or "nan"))
        except ValueError:
            raise ValueError(f"{path} is damaged: column {column!r} holds {cell!r}, which is not a number") from None
    return np.array(values, dtype=np.float64)


def _object(content: Any, path: Path) -> dict[str, Any]:
    if not isinstance(content, dict):
        raise ValueError(f"{path} is damaged: it must hold 'name: value' pairs, it holds {type(content).__name__}")
    return {str(key): value for key, value in content.items()}


def _count(content: Any, most: int) -> int:
    """How many values there are, aliases written out; stops counting above ``most``."""
    count, waiting = 0, [content]
    while waiting and count <= most:
        value = waiting.pop()
        count += 1
        if isinstance(value, Mapping):
            waiting.extend(value.values())
        elif isinstance(value, list | tuple):
            waiting.extend(value)
    return count
