"""Readers of the short forms that the command line allows: seeds such as ``1..5``, shards such as ``0/4``, workers."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass


def parse_seeds(seeds: int | str | Sequence[int]) -> tuple[int, ...]:
    """Turn ``1``, ``[1, 2, 3]`` or ``"1..5"`` (both ends included) into seeds.

    Raises:
        ValueError: if there is none, one is negative, or one repeats.
    """
    how = "give a whole number of at least 0, a list such as [1, 2, 3], or a range such as 1..5"
    if isinstance(seeds, str):
        match = re.fullmatch(r"\s*(\d+)(?:\s*\.\.\s*(\d+))?\s*", seeds)
        if not match:
            raise ValueError(f"seeds={seeds!r} is not allowed: {how}")
        first = int(match[1])
        values = list(range(first, int(match[2] or first) + 1))
    else:
        values = [seeds] if isinstance(seeds, int) else list(seeds)
    if not values or any(isinstance(seed, bool) or seed < 0 for seed in values):
        raise ValueError(f"seeds={seeds!r} is not allowed: {how}")
    if len(set(values)) < len(values):
        raise ValueError(f"seeds={seeds!r} is not allowed: a seed repeats")
    return tuple(values)


def check_workers(workers: int | str) -> None:
    """Check the option ``workers``.

    Raises:
        ValueError: if it is neither ``auto`` nor a whole number of at least 1.
    """
    if workers != "auto" and (isinstance(workers, bool) or not isinstance(workers, int) or workers < 1):
        raise ValueError(f"workers={workers!r} is not allowed: give auto or a whole number of at least 1")


@dataclass(frozen=True)
class Shard:
    """One of ``count`` equal parts of a list: the items whose place, modulo ``count``, is ``index``."""

    index: int
    count: int

    @classmethod
    def parse(cls, shard: str) -> Shard:
        """Read ``"i/n"`` with i from 0 to n - 1.

        Raises:
            ValueError: if it is written differently or i is out of range.
        """
        match = re.fullmatch(r"\s*(\d+)\s*/\s*(\d+)\s*", shard)
        if not match or int(match[1]) >= int(match[2]):
            raise ValueError(f"shard={shard!r} is not allowed: give i/n with i from 0 to n - 1, such as 0/4")
        return cls(int(match[1]), int(match[2]))

    def of(self, items: Sequence[str]) -> list[str]:
        """Return this part of ``items``."""
        return list(items[self.index :: self.count])

    def __str__(self) -> str:
        return f"{self.index}/{self.count}"
