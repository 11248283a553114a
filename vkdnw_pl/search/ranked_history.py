"""How the candidates of a search rank: log-rank aggregation of a growing table, and what the search knows by it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from vkdnw_pl.ranking import RankSum, Term, rank_values
from vkdnw_pl.search.history import Candidate

Array = np.ndarray[Any, np.dtype[np.float64]]
Places = np.ndarray[Any, np.dtype[np.int64]]

_MANY = 256
"""More new rows than this are sorted together with the old ones; fewer are inserted one by one."""


class GrowingRanks:
    """Ranks every row of a table to which rows are added.

    For each term the values are kept in ascending order. Adding m rows to n takes m binary searches and a few passes of
    numpy over n numbers for each term, and so do the scores; a term of `RankSum` is sorted anew by numpy.

    Args:
        terms: what to rank by, see `ranking.aggregate`; higher is better in every column.
    """

    def __init__(self, terms: Sequence[Term]) -> None:
        self._terms = [_Summed(term) if isinstance(term, RankSum) else _Sorted(_names(term)) for term in terms]
        self._size = 0
        self._scores: Array | None = None
        self._scratch = _Scratch(0)
        self.columns = tuple(dict.fromkeys(name for term in terms for name in _names(term)))
        """Columns that `add` takes."""

    def __len__(self) -> int:
        return self._size

    def add(self, rows: Mapping[str, Sequence[float | None]]) -> None:
        """Add rows behind those that are there.

        Args:
            rows: the values of each column, of equal length; None and what is not finite ranks last, all tied.
        """
        new = {name: np.array(rows[name], dtype=np.float64) for name in self.columns}
        for term in self._terms:
            term.add(new, self._size)
        self._size += len(new[self.columns[0]])
        self._scores = None

    def scores(self) -> Array:
        """Score of every row, at most 0, higher is better: to the last bit what `ranking.aggregate` gives."""
        if self._scores is None:
            if self._scratch.capacity < self._size:
                self._scratch = _Scratch(2 * self._size)
            total = np.zeros(self._size)
            for term in self._terms:
                total += term.log_ranks(self._scratch)
            self._scores = total
        return self._scores


class _Scratch:
    """Memory for passes over all rows; to ask the system for new pages costs more than the passes themselves."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.places = np.arange(1, capacity + 1, dtype=np.float64)
        self.ranks = np.empty(capacity)
        self.by_row = np.empty(capacity)
        self.tied = np.empty(capacity, dtype=bool)
        self.equal = np.empty(capacity, dtype=bool)


class _Ordered:
    """An array into which values are inserted; two buffers take turns, so that no memory is asked for."""

    def __init__(self, dtype: type) -> None:
        self._buffer: Any = np.empty(0, dtype=dtype)
        self._spare: Any = np.empty(0, dtype=dtype)
        self.values: Any = self._buffer[:0]

    def insert(self, places: Sequence[int], new: Any) -> None:
        """Insert ``new[i]`` before the present value at ``places[i]``; the places ascend."""
        old = self.values
        size = len(old) + len(new)
        if len(self._spare) < size:
            self._spare = np.empty(2 * size, dtype=old.dtype)
        values = self._spare[:size]
        begin = 0
        for i, end in enumerate([*places, len(old)]):
            values[begin + i : end + i] = old[begin:end]
            begin = end
        values[np.asarray(places) + np.arange(len(places))] = new
        self._buffer, self._spare, self.values = self._spare, self._buffer, values

    def replace(self, values: Any) -> None:
        """Have other values."""
        self._buffer = self.values = values


class _Sorted:
    """Rows in the ascending order of one column, or of several of which each decides where all before it are equal."""

    def __init__(self, names: Sequence[str]) -> None:
        self._names = names
        self._keys = [_Ordered(np.float64) for _ in names]
        self._order = _Ordered(np.int64)

    def add(self, new: Mapping[str, Array], size: int) -> None:
        columns = np.stack([new[name] for name in self._names])
        # Minus zero equals zero; a row with a value that does not exist is below all others, whatever else it has.
        columns = np.where(np.isfinite(columns).all(axis=0), columns + 0.0, -np.inf)
        if columns.shape[1] > _MANY:
            self._sort_anew(columns)
            return
        by_key = np.lexsort(columns[::-1])
        columns = columns[:, by_key]
        places = [self._place(values) for values in columns.T.tolist()]
        for key, column in zip(self._keys, columns, strict=True):
            key.insert(places, column)
        self._order.insert(places, by_key + size)

    def _sort_anew(self, new: Array) -> None:
        rows = np.empty((len(self._keys), len(self._order.values)))
        rows[:, self._order.values] = [key.values for key in self._keys]
        rows = np.concatenate([rows, new], axis=1)
        order = np.lexsort(rows[::-1])
        self._order.replace(order)
        for key, row in zip(self._keys, rows, strict=True):
            key.replace(row[order])

    def log_ranks(self, scratch: _Scratch) -> Array:
        """log(rank / n) by row, in memory of ``scratch``; equal rows share the average of their ranks."""
        size = len(self._order.values)
        ranks, by_row = scratch.ranks[:size], scratch.by_row[:size]
        ranks[:] = scratch.places[:size]
        seconds = self._tied(scratch)
        if len(seconds):
            # Runs of equal rows: those behind the first of each run are consecutive in `seconds`.
            heads = np.flatnonzero(np.diff(seconds, prepend=-1) != 1)
            lengths = np.diff(heads, append=len(seconds))
            first = seconds[heads] - 1
            mean = first + 1 + lengths / 2
            ranks[seconds] = np.repeat(mean, lengths)
            ranks[first] = mean
        np.divide(ranks, max(size, 1), out=ranks)
        np.log(ranks, out=ranks)
        by_row[self._order.values] = ranks
        return by_row

    def _tied(self, scratch: _Scratch) -> Places:
        """Places in the order whose row equals the one before."""
        size = max(len(self._order.values) - 1, 0)
        tied, equal = scratch.tied[:size], scratch.equal[:size]
        tied[:] = True
        for key in self._keys:
            np.equal(key.values[1:], key.values[:-1], out=equal)
            np.logical_and(tied, equal, out=tied)
        return np.flatnonzero(tied) + 1

    def _place(self, values: Sequence[float]) -> int:
        """Where a row belongs: behind those that are smaller or equal."""
        begin, end = 0, len(self._order.values)
        for key, value in zip(self._keys, values, strict=True):
            run = key.values[begin:end]
            begin, end = begin + int(run.searchsorted(value, "left")), begin + int(run.searchsorted(value, "right"))
        return end


class _Summed:
    """Columns whose ranks are added and ranked again."""

    def __init__(self, names: Sequence[str]) -> None:
        self._columns: dict[str, Array] = {name: np.zeros(0) for name in names}

    def add(self, new: Mapping[str, Array], size: int) -> None:
        self._columns = {name: np.concatenate([column, new[name]]) for name, column in self._columns.items()}

    def log_ranks(self, scratch: _Scratch) -> Array:
        ranks = [rank_values(column) for column in self._columns.values()]
        return np.log(rank_values(np.sum(ranks, axis=0)) / max(len(ranks[0]), 1))


def _names(term: Term) -> tuple[str, ...]:
    return (term,) if isinstance(term, str) else tuple(term)


class RankedHistory:
    """Candidates in the order of the search.

    Args:
        terms: what they are ranked by, see `ranking.aggregate`.
    """

    def __init__(self, terms: Sequence[Term]) -> None:
        self._candidates: list[Candidate] = []
        self._archs: set[str] = set()
        self._failed: list[int] = []
        self._ranks = GrowingRanks(terms)
        self._scores: Array | None = None

    def __len__(self) -> int:
        return len(self._candidates)

    def __getitem__(self, index: int) -> Candidate:
        return self._candidates[index]

    def __iter__(self) -> Iterator[Candidate]:
        return iter(self._candidates)

    def __contains__(self, arch: str) -> bool:
        return arch in self._archs

    def add(self, candidates: Iterable[Candidate]) -> None:
        """Add candidates behind those that are there."""
        new = list(candidates)
        if not new:
            return
        self._candidates.extend(new)
        self._archs.update(candidate.arch for candidate in new)
        self._failed.extend(candidate.index for candidate in new if candidate.failed)
        self._ranks.add(
            {
                column: [None if candidate.failed else candidate.value(column) for candidate in new]
                for column in self._ranks.columns
            }
        )
        self._scores = None

    def scores(self) -> Array:
        """Aggregated score of each candidate, higher is better; minus infinity for those that failed."""
        if self._scores is None:
            self._scores = self._ranks.scores().copy()
            self._scores[self._failed] = -np.inf
        return self._scores

    def best(self, count: int) -> Places:
        """Indices of the best candidates that did not fail, best first; of equal ones the earlier is the better."""
        chosen = self.top(count)
        return chosen[np.argsort(-self.scores()[chosen], kind="stable")]

    def top(self, count: int) -> Places:
        """The same candidates as `best`, in the order of the history."""
        scores = self.scores()
        if count >= len(scores):
            return self.usable()
        worst = np.partition(scores, len(scores) - count)[len(scores) - count]
        above = np.flatnonzero(scores > worst)
        if worst == -np.inf:
            return above
        equal = np.flatnonzero(scores == worst)[: count - len(above)]
        return np.sort(np.concatenate([above, equal]))

    def usable(self) -> Places:
        """Indices of the candidates that did not fail."""
        if not self._failed:
            return np.arange(len(self))
        return np.flatnonzero(np.isin(np.arange(len(self)), self._failed, invert=True))
