"""What the processes of a run know of each other: numbers in shared memory."""

from __future__ import annotations

from collections.abc import Sequence
from multiprocessing import get_context

from vkdnw_pl.runs.table import Key


class SharedState:
    """How many rows are done, and which one each process works on.

    Args:
        keys: the rows of this run.
        processes: how many processes share them.
        start_method: how those are started (``fork`` or ``spawn``).
    """

    def __init__(self, keys: Sequence[Key], processes: int, start_method: str) -> None:
        context = get_context(start_method)
        self._keys = list(keys)
        self._place = {key: place for place, key in enumerate(keys)}
        # Each process writes only its own places, so no locks: a killed process could not release one.
        self._working_on = context.Array("q", [-1] * processes, lock=False)
        self._done = context.Array("q", processes, lock=False)
        self._failed = context.Array("q", processes, lock=False)

    def begin(self, process: int, key: Key) -> None:
        """Note that ``process`` starts with a row."""
        self._working_on[process] = self._place[key]

    def end(self, process: int, failed: bool) -> None:
        """Note that ``process`` has finished its row."""
        self._working_on[process] = -1
        self._done[process] += 1
        self._failed[process] += failed

    def working_on(self, process: int) -> Key | None:
        """The row that ``process`` has begun and not finished."""
        place = self._working_on[process]
        return None if place < 0 else self._keys[place]

    @property
    def total(self) -> int:
        """Rows of this run."""
        return len(self._keys)

    @property
    def done(self) -> int:
        """Rows that are finished, failed ones included."""
        return sum(self._done)

    @property
    def failed(self) -> int:
        """Rows that are finished and failed."""
        return sum(self._failed)
