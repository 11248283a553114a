"""Which architectures to score: a keyword, a sample, a pattern, a file or a list, resolved into canonical strings."""

from __future__ import annotations

import contextlib
import fnmatch
import hashlib
import itertools
import json
import os
import random
import re
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

from vkdnw_pl.networks.arch_file import is_arch_file, read_arch_file
from vkdnw_pl.options import check_rows
from vkdnw_pl.oracles import cache_dir
from vkdnw_pl.runs.csv_table import CsvTable, first_names
from vkdnw_pl.runs.documents import read_json
from vkdnw_pl.runs.files import read_text, write_atomically
from vkdnw_pl.spaces import Space

_KEEP_AFTER_S = 2.0
_REPORT_EVERY_S = 5.0


class MacsLimit:
    """Says whether an architecture has at most so many multiply-adds per image.

    They are counted at the space's own size of images (224 pixels in ``mbv2`` and ``timm_zoo``, 32 in ``nb201``), where
    budgets are stated, whatever size the architectures are scored at. An architecture that cannot be built there is not
    within the limit. Where counting takes long, because networks must be built for it, the counts are kept in the cache
    folder.
    """

    def __init__(self, max_macs: float, space: Space, network: Mapping[str, Any], quiet: bool = False) -> None:
        self.max_macs = max_macs
        self.space = space
        self.network = {name: value for name, value in network.items() if name != "image_size"}
        self.quiet = quiet
        self.uncounted: dict[str, str] = {}
        """Architectures that could not be counted, and why."""
        key = json.dumps([space.key, self.network, version("timm"), version("torch")], sort_keys=True)
        self._file = cache_dir() / "macs" / f"{space.key}-{hashlib.sha256(key.encode()).hexdigest()[:12]}.json"
        self._counts = _read(self._file)
        self._counted = 0
        self._seconds = 0.0
        self._reported_at = time.monotonic()

    def __call__(self, arch: str) -> bool:
        if arch not in self._counts:
            began_at = time.monotonic()
            try:
                self._counts[arch] = self.space.cost(arch, **self.network).macs
            except ValueError as error:
                self._counts[arch] = str(error)
            self._seconds += time.monotonic() - began_at
            self._counted += 1
            self._report()
        macs = self._counts[arch]
        if isinstance(macs, str):
            self.uncounted[arch] = macs
            return False
        return macs <= self.max_macs

    def keep(self) -> None:
        """Keep the counts for the next run, if they took long."""
        if self._seconds > _KEEP_AFTER_S:
            with contextlib.suppress(OSError):  # only the next start is slower for it
                self._file.parent.mkdir(parents=True, exist_ok=True)
                write_atomically(self._file, json.dumps(self._counts, indent=0) + "\n")

    def _report(self) -> None:
        now = time.monotonic()
        if not self.quiet and self._seconds > _KEEP_AFTER_S and now - self._reported_at > _REPORT_EVERY_S:
            print(f"counting MACs: {self._counted} architectures so far", file=sys.stderr, flush=True)
            self._reported_at = now


def _read(path: Path) -> dict[str, int | str]:
    try:
        return read_json(path)
    except ValueError:
        return {}


KEYWORDS = ("auto", "all", "unique", "digits", "oracle", "sample:N")
_DRAWS_IN_VAIN = 1000
"""Consecutive draws from an unbounded space that bring nothing new."""


@dataclass(frozen=True)
class ChosenArchs:
    """Architectures to score."""

    archs: list[str]
    """Canonical strings, each once."""
    network: Mapping[str, Any] = field(default_factory=dict)
    """Options that a found network's file carries."""


def resolve_archs(
    archs: str | Sequence[str],
    space: Space,
    oracle_archs: Callable[[str], list[str]],
    archs_seed: int = 0,
    allowed: Callable[[str], bool] | None = None,
) -> ChosenArchs:
    """Turn the option ``archs`` into canonical architecture strings, each once, in a fixed order.

    Args:
        archs: ``auto`` (`Space.default_archs`), ``all``, ``unique``, ``digits`` (architectures of the embedded accuracy
            table), ``oracle`` (architectures of the chosen accuracy table), ``sample:N`` (N of the unique ones, without replacement; where
            the space is unbounded, N different ones), the path of a file (one architecture per line, a CSV file with a
            column ``arch``, or the ``found.json`` of a search: its best ones, or ``found.json#2`` for the second of
            them), architectures separated by commas, or a list. Where one is expected, a pattern such as ``mobilenet*``
            stands for all that match it.
        space: the space that the architectures belong to.
        oracle_archs: called with ``"digits"`` or ``"oracle"``; returns the architectures of that table.
        archs_seed: decides the sample.
        allowed: says which architectures may stay; a sample is drawn from those, the others are left out. None: all.
    """
    chosen = _choose(archs, space, oracle_archs, archs_seed, allowed)
    if allowed is None:
        return chosen
    kept = [arch for arch in chosen.archs if allowed(arch)]
    if not kept:
        raise ValueError(f"archs={archs!r}: none of its {len(chosen.archs)} architectures is within max_macs")
    return ChosenArchs(kept, chosen.network)


def _choose(
    archs: str | Sequence[str],
    space: Space,
    oracle_archs: Callable[[str], list[str]],
    archs_seed: int,
    allowed: Callable[[str], bool] | None,
) -> ChosenArchs:
    if not isinstance(archs, str):
        return ChosenArchs(
            _validated(((f"archs[{i}]", arch) for i, arch in enumerate(archs)), space, "archs is an empty list")
        )
    if archs == "auto":
        if space.default_archs is None:
            raise ValueError(
                f"archs='auto', the default, names no architectures of space={space.name!r}; give --archs {space.examples}"
            )
        archs = space.default_archs
    if archs in ("all", "unique"):
        return ChosenArchs(list(space.enumerate(unique=archs == "unique")))
    if archs in ("digits", "oracle"):
        return ChosenArchs(oracle_archs(archs))
    if archs.startswith("sample:"):
        return ChosenArchs(_sample(archs, space, archs_seed, allowed))
    path = Path(os.path.expanduser(archs))  # which leaves the home of nobody as it is
    if is_arch_file(archs):
        return _found(path, space)
    if "(" not in archs and os.path.isfile(path):
        return ChosenArchs(_validated(_read_file(path), space, f"archs={archs!r}: the file holds no architecture"))
    return ChosenArchs(_written_out(archs, space))


def _sample(archs: str, space: Space, archs_seed: int, allowed: Callable[[str], bool] | None) -> list[str]:
    text = archs.removeprefix("sample:")
    count = int(text) if re.fullmatch("[0-9]{1,18}", text) else 0
    rng = random.Random(archs_seed)
    try:
        unique = list(space.enumerate(unique=True))
    except ValueError:  # unbounded
        check_rows("archs", archs, count)
        if count < 1:
            raise ValueError(f"archs={archs!r} is not allowed: give sample:N with N a whole number from 1 on") from None
        return _distinct(archs, space, count, rng, allowed)
    if not 1 <= count <= len(unique):
        raise ValueError(
            f"archs={archs!r} is not allowed: give sample:N with N from 1 to {len(unique)}, the number of unique "
            f"architectures of {space.name}"
        )
    if allowed is None:
        return rng.sample(unique, count)
    drawn = list(itertools.islice(filter(allowed, rng.sample(unique, len(unique))), count))
    if len(drawn) < count:
        raise ValueError(f"archs={archs!r}: only {len(drawn)} architectures of {space.name} are within max_macs")
    return drawn


def _distinct(
    archs: str, space: Space, count: int, rng: random.Random, allowed: Callable[[str], bool] | None
) -> list[str]:
    drawn: dict[str, None] = {}
    in_vain = 0
    while len(drawn) < count:
        arch = space.sample(rng)
        if arch not in drawn and (allowed is None or allowed(arch)):
            drawn[arch] = None
            in_vain = 0
        else:
            in_vain += 1
        if in_vain == _DRAWS_IN_VAIN:
            raise ValueError(
                f"archs={archs!r}: {_DRAWS_IN_VAIN} draws from {space.name} brought nothing new after {len(drawn)} "
                "architectures; give a smaller N, or a larger max_macs"
            )
    return list(drawn)


def _found(path: Path, space: Space) -> ChosenArchs:
    """The architectures of a ``found.json``, the best first."""
    file = read_arch_file(path)
    if file.space not in (None, space.key):
        raise ValueError(f"archs={str(path)!r} holds architectures of {file.space}; give --space {file.space}")
    archs = _validated(((f"{path}, place {i}", arch) for i, arch in enumerate(file.archs, start=1)), space, "")
    return ChosenArchs(archs, {**file.network, **file.task})


def _written_out(archs: str, space: Space) -> list[str]:
    """Architectures or patterns with commas between them; a comma may also belong to an architecture."""
    parts = [part.strip() for part in split_archs(archs) if part.strip()]
    if not _is_pattern(archs):
        try:
            return [space.architecture(archs)]
        except ValueError as error:
            numbers = all(part.removeprefix("-").isdigit() for part in parts)  # perhaps those of one architecture
            if len(parts) < 2 or (numbers and not any(_is_arch(part, space) for part in parts)):
                raise ValueError(
                    f"archs={archs!r} is not allowed: give {', '.join(KEYWORDS)}, a file that exists, or architectures: "
                    f"{error}"
                ) from None
    return _validated(((f"archs={archs!r}", part) for part in parts), space, f"archs={archs!r} names no architecture")


def _is_arch(text: str, space: Space) -> bool:
    try:
        space.validate(text)
    except ValueError:
        return False
    return True


def _is_pattern(arch: str) -> bool:
    return "*" in arch or "?" in arch


def split_archs(archs: str) -> Iterator[str]:
    """Split at the commas that stand in no parentheses or brackets."""
    start = depth = 0
    for place, character in enumerate(archs):
        depth += (character in "([") - (character in ")]")
        if character == "," and depth == 0:
            yield archs[start:place]
            start = place + 1
    yield archs[start:]


def _read_file(path: Path) -> Iterable[tuple[str, str]]:
    """Yield (place, text) of every architecture in a file; empty lines and lines that begin with # are left out."""
    text = read_text(path)
    if "arch" in first_names(text):
        table = CsvTable(text, str(path), ("arch",))
        for row, arch in enumerate(table.archs()):
            yield table.place(row, "arch"), arch
        return
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip() and not line.lstrip().startswith("#"):
            yield f"{path}, line {number}", line.strip()


def _validated(archs: Iterable[tuple[str, str]], space: Space, empty: str) -> list[str]:
    unique: dict[str, None] = {}
    for place, arch in archs:
        try:
            matches = fnmatch.filter(space.enumerate(), arch) if _is_pattern(arch) else [space.architecture(arch)]
            if not matches:
                raise ValueError(f"the pattern {arch!r} matches no architecture of {space.name}")
            unique |= dict.fromkeys(matches)
        except ValueError as error:
            raise ValueError(f"{place}: {error}") from None
    if not unique:
        raise ValueError(empty)
    return list(unique)
