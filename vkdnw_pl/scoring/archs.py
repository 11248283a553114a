"""Which architectures to score: a keyword, a sample, a file or a list, resolved into canonical strings."""

from __future__ import annotations

import csv
import random
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from vkdnw_pl.spaces import Space

KEYWORDS = ("all", "unique", "digits", "oracle", "sample:N")


def resolve_archs(
    archs: str | Sequence[str],
    space: Space,
    oracle_archs: Callable[[str], list[str]],
    archs_seed: int = 0,
) -> list[str]:
    """Turn the option ``archs`` into canonical architecture strings, each once, in a fixed order.

    Args:
        archs: ``all``, ``unique``, ``digits`` (architectures of the embedded accuracy table), ``oracle``
            (architectures of the chosen accuracy table), ``sample:N`` (N of the unique ones, without replacement),
            the path of a file (one architecture per line, or a CSV file with a column ``arch``), or a list.
        space: the space that the architectures belong to.
        oracle_archs: called with ``"digits"`` or ``"oracle"``; returns the architectures of that table.
        archs_seed: decides the sample.

    Raises:
        ValueError: naming the option or the file and line, what came, and what is allowed.
    """
    if not isinstance(archs, str):
        return _validated(((f"archs[{i}]", arch) for i, arch in enumerate(archs)), space, "archs is an empty list")
    if archs in ("all", "unique"):
        return list(space.enumerate(unique=archs == "unique"))
    if archs in ("digits", "oracle"):
        return oracle_archs(archs)
    if archs.startswith("sample:"):
        return _sample(archs, space, archs_seed)
    path = Path(archs).expanduser()
    if not path.is_file():
        raise ValueError(f"archs={archs!r} is not allowed: give {', '.join(KEYWORDS)}, or a file that exists")
    return _validated(_read_file(path), space, f"archs={archs!r}: the file holds no architecture")


def _sample(archs: str, space: Space, archs_seed: int) -> list[str]:
    unique = list(space.enumerate(unique=True))
    count = archs.removeprefix("sample:")
    if not count.isdecimal() or not 1 <= int(count) <= len(unique):
        raise ValueError(
            f"archs={archs!r} is not allowed: give sample:N with N from 1 to {len(unique)}, the number of unique "
            f"architectures of {space.name}"
        )
    return random.Random(archs_seed).sample(unique, int(count))


def _read_file(path: Path) -> Iterable[tuple[str, str]]:
    """Yield (place, text) of every architecture in a file; empty lines and lines that begin with # are left out."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError:
        raise ValueError(f"archs={str(path)!r} is not a text file") from None
    header = next(csv.reader(lines[:1]), [])
    if "arch" not in header:
        for number, line in enumerate(lines, start=1):
            if line.strip() and not line.lstrip().startswith("#"):
                yield f"{path}, line {number}", line.strip()
        return
    column = header.index("arch")
    reader = csv.reader(lines)
    next(reader)
    for cells in reader:
        if not cells:
            continue
        if len(cells) <= column:
            raise ValueError(f"{path}, line {reader.line_num}: the column 'arch' is missing")
        yield f"{path}, line {reader.line_num}", cells[column]


def _validated(archs: Iterable[tuple[str, str]], space: Space, empty: str) -> list[str]:
    known: dict[str, None] = {}
    for place, arch in archs:
        try:
            known[space.validate(arch)] = None
        except ValueError as error:
            raise ValueError(f"{place}: {error}") from None
    if not known:
        raise ValueError(empty)
    return list(known)
