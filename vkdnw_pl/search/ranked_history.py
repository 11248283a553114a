"""What a search knows so far: its candidates, which networks they are, and how they rank."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from vkdnw_pl.ranking import Term
from vkdnw_pl.search.history import Candidate
from vkdnw_pl.search.ranks import GrowingRanks

Places = np.ndarray[Any, np.dtype[np.int64]]
Array = np.ndarray[Any, np.dtype[np.float64]]


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
