"""Readers of a run folder's small files: they run nothing of what they read.

A file that cannot be read or is damaged is a ``ValueError`` that names the file and the fault.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml

MAX_VALUES = 200_000
"""Values that a configuration may have when its aliases are written out: a small file can stand for a huge one."""


def read_text(path: Path) -> str:
    """The text of a UTF-8 file."""
    try:
        return path.read_bytes().decode("utf-8")
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror or error}") from None
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is damaged: it is not UTF-8 text ({error.reason} at byte {error.start})") from None


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object."""
    return _read_object(path, json.loads, "JSON")


def read_yaml(path: Path) -> dict[str, Any]:
    """A YAML mapping of plain values, at most `MAX_VALUES`; tags that would make other objects are an error."""
    return _read_object(path, yaml.safe_load, "YAML")


def read_csv(path: Path) -> tuple[list[str], list[list[str]]]:
    """First line and the others of a CSV file; a last line that a kill, or a copy that was cut off, has torn is left out."""
    text = read_text(path)
    reader = csv.reader(io.StringIO(text[: text.rfind("\n") + 1]))
    try:
        lines = [(reader.line_num, cells) for cells in reader]
    except csv.Error as error:
        raise ValueError(f"{path}, line {reader.line_num} is damaged: {error}") from None
    header = lines[0][1] if lines else []
    if not header or len(set(header)) < len(header):
        raise ValueError(f"{path} is damaged: its first line must name every column once (it has {header})")
    for line, cells in lines:
        if len(cells) != len(header):
            raise ValueError(f"{path}, line {line} is damaged: it has {len(cells)} cells, the first line {len(header)}")
    return header, [cells for _, cells in lines[1:]]


def read_frame(path: Path, text_columns: Sequence[str] = ("arch", "status", "reason")) -> pd.DataFrame:
    """A CSV file with a line for each architecture, as `read_csv` reads it: text columns, and numbers, NaN where empty."""
    header, rows = read_csv(path)
    if "arch" not in header:
        raise ValueError(f"{path} is damaged: its first line has no column 'arch'")
    frame = pd.DataFrame(rows, columns=header, dtype="object")
    for name in header:
        if name not in text_columns:
            frame[name] = numbers(frame[name], path, name)
    return frame


def numbers(cells: Iterable[str], path: Path, column: str) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Numbers of a column of a CSV file; NaN where a cell is empty."""
    values = []
    for cell in cells:
        try:
            values.append(float(cell or "nan"))
        except ValueError:
            raise ValueError(f"{path} is damaged: column {column!r} holds {cell!r}, which is not a number") from None
    return np.array(values, dtype=np.float64)


def _read_object(path: Path, parse: Callable[[str], Any], language: str) -> dict[str, Any]:
    text = read_text(path)
    try:
        content = parse(text)
    except (ValueError, yaml.YAMLError) as error:
        raise ValueError(f"{path} is damaged: it is not {language} ({' '.join(str(error).split())})") from None
    except RecursionError:
        raise ValueError(f"{path} is damaged: it is nested too deeply") from None
    if not isinstance(content, dict):
        raise ValueError(f"{path} is damaged: it must hold 'name: value' pairs, it holds {type(content).__name__}")
    if language == "YAML" and _count(content) > MAX_VALUES:
        raise ValueError(f"{path} is damaged: it stands for more than {MAX_VALUES:,} values")
    return {str(key): value for key, value in content.items()}


def _count(content: Any) -> int:
    """How many values there are, aliases written out; stops counting above `MAX_VALUES`."""
    count, waiting = 0, [content]
    while waiting and count <= MAX_VALUES:
        value = waiting.pop()
        count += 1
        if isinstance(value, Mapping):
            waiting.extend(value.values())
        elif isinstance(value, list | tuple):
            waiting.extend(value)
    return count
