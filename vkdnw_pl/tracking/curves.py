"""Live curves of a scoring and of a search."""

from __future__ import annotations

import math
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping
from typing import Any

from vkdnw_pl.search.history import Candidate
from vkdnw_pl.search.proposals import DrawCounts
from vkdnw_pl.search.ranked_history import RankedHistory
from vkdnw_pl.tracking.contents import is_main

Log = Callable[[Mapping[str, float | None]], None]
"""Adds a point to curves."""

_SCORE_EVERY_S, _SEARCH_EVERY_S = 10.0, 2.0
_PARENTS = 256
"""So many of the latest candidates are asked for their parents."""


class ScoreCurve:
    """Logs now and then how many rows there are.

    Args:
        log: takes a point.
        before: rows that were there when the run began.
        every_s: least time between two points.
    """

    def __init__(self, log: Log, before: int, every_s: float = _SCORE_EVERY_S) -> None:
        self._log, self._before, self._every_s = log, before, every_s
        self._made = 0
        self._started_at = self._logged_at = time.monotonic()

    def add(self) -> None:
        """A row was made."""
        self._made += 1
        if time.monotonic() - self._logged_at >= self._every_s:
            self.close()

    def close(self) -> None:
        """Log the present point."""
        self._logged_at = time.monotonic()
        rate = self._made / max(self._logged_at - self._started_at, 1e-9)
        self._log({"score/rows": self._before + self._made, "score/rows_per_s": rate})


class SearchCurve:
    """A `search.loop.SearchObserver` that logs now and then how far the search is.

    Args:
        log: takes a point.
        every_s: least time between two points.
    """

    def __init__(self, log: Log, every_s: float = _SEARCH_EVERY_S) -> None:
        self._log, self._every_s = log, every_s
        self._counts = DrawCounts()
        self._made = self._failed = 0
        self._started_at, self._logged_at = time.monotonic(), -math.inf
        self._parents: deque[int] = deque(maxlen=_PARENTS)
        self._history: RankedHistory | None = None

    def candidate(self, candidate: Candidate, counts: DrawCounts) -> None:
        """Count one."""
        self._made += 1
        self._failed += candidate.failed
        self._counts = counts
        if candidate.parent is not None:
            self._parents.append(candidate.parent)

    def batch(self, history: RankedHistory) -> None:
        """Log a point, if it is time."""
        self._history = history
        if time.monotonic() - self._logged_at >= self._every_s:
            self.close()

    def close(self) -> None:
        """Log the present point, if there is one."""
        if self._history is None:
            return
        self._logged_at = time.monotonic()
        point: dict[str, float | None] = {
            "search/evaluated": len(self._history),
            "search/evaluations_per_s": self._made / max(self._logged_at - self._started_at, 1e-9),
            "search/acceptance": self._counts.acceptance,
            "search/failed": self._failed,
            **_best(self._history),
        }
        if self._parents:
            point["search/effective_parents"] = effective_number(Counter(self._parents))
        self._log(point)


def effective_number(counts: Mapping[Any, int]) -> float:
    """Exponential of the entropy of shares: 1 where all are one, n where n are equally frequent."""
    total = sum(counts.values())
    return math.exp(-sum(count / total * math.log(count / total) for count in counts.values()))


def _best(history: RankedHistory) -> dict[str, float]:
    """Score, cost and proxies of the best candidate so far."""
    places = history.best(1).tolist()
    if not places:
        return {}
    best = history[places[0]]
    known = {"score": float(history.scores()[places[0]]), "macs": best.macs, "num_params": best.num_params}
    known |= {name: value for name, value in best.values.items() if value is not None and is_main(name)}
    return {f"search/best/{name}": value for name, value in known.items()}
