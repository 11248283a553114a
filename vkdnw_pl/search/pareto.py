"""Several objectives at once: non-dominated fronts, the room around their members, and NSGA-II's choice of parents.

``values`` is, here, a mapping from the name of an objective to a number for each candidate, shape (n,). Objectives in
`MINIMISED` are minimised, all others maximised. A candidate with a number that is not finite is on no front.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from vkdnw_pl.errors import check_choice
from vkdnw_pl.search.history import RankedHistory
from vkdnw_pl.search.strategies import INITIAL, REPLACED, Draw, DrawFrom, StartedSearch
from vkdnw_pl.spaces import Space

Floats = np.ndarray[Any, np.dtype[np.float64]]
Indices = np.ndarray[Any, np.dtype[np.intp]]

SCORE = "score"
"""The objective that is the aggregated rank."""
MINIMISED = ("macs", "num_params", "layers", "latency_ms", "peak_mb")
"""Objectives of which less is better."""


@dataclass(frozen=True, eq=False)
class ParentPool:
    """The candidates that may become parents, the best first."""

    indices: Indices
    ranks: Indices
    """Non-dominated ranks, 0 for the front."""
    room: Floats
    """Crowding distances, each within its front."""

    def __len__(self) -> int:
        return len(self.indices)

    def draw(self, rng: random.Random) -> int:
        """The better of two members that are drawn with replacement; of equals the one drawn first."""
        first, second = rng.randrange(len(self)), rng.randrange(len(self))
        better = (-self.ranks[first], self.room[first]) >= (-self.ranks[second], self.room[second])
        return int(self.indices[first if better else second])


def fittest(values: Mapping[str, Any], size: int) -> ParentPool:
    """The ``size`` best candidates: by front, and of the front that does not fit as a whole those with most room."""
    costs = _costs(values)
    complete = np.flatnonzero(np.isfinite(costs).all(axis=1))
    if not len(complete):
        return ParentPool(complete, complete, np.empty(0))
    every = np.asarray(_moocore().pareto_rank(costs[complete], maximise=False), dtype=np.intp)
    indices: list[Indices] = []
    rooms: list[Floats] = []
    left = size
    for rank in range(int(every.max()) + 1):
        members = complete[every == rank]
        room = crowding_distance(costs[members])
        order = np.argsort(-room, kind="stable")[:left]  # of equals the one that was found first
        indices.append(members[order])
        rooms.append(room[order])
        left -= len(order)
        if not left:
            break
    ranks = np.repeat(np.arange(len(indices)), [len(members) for members in indices])
    return ParentPool(np.concatenate(indices), ranks, np.concatenate(rooms))


def crowding_distance(costs: Floats) -> Floats:
    """Room (n,) around each member of one front (n, m): the sum over objectives of the gap between its neighbours.

    A gap is a share of the front's extent; an objective in which all are equal adds nothing. ``inf`` for the first and
    the last in an objective. Deb et al., section III-B.
    """
    room = np.zeros(len(costs))
    for column in costs.T:
        order = np.argsort(column, kind="stable")
        ordered = column[order]
        extent = ordered[-1] - ordered[0]
        if extent > 0:
            room[order[1:-1]] += (ordered[2:] - ordered[:-2]) / extent
            room[order[[0, -1]]] = np.inf
    return room


class ParetoSearch(StartedSearch):
    """NSGA-II (Deb et al., IEEE Trans. Evol. Comput. 6(2), 2002) over the whole history, with mutation alone.

    While the history has up to 10 candidates, the start is mutated once; without a start, the first ``population``
    candidates are samples. Then the population is the best ``population`` of all candidates (see `fittest`), and the
    better of two that are drawn from it is mutated twice. As the scores of all candidates change with every new one, and
    the population is chosen anew for each batch, a candidate that had to go may come back.

    Needs the package ``moocore``. ``objectives`` are two or more of ``score`` (what the history is ranked by), ``macs``,
    ``num_params``, ``layers``, ``latency_ms``, ``peak_mb`` and the columns of the proxies.
    """

    name: ClassVar[str] = "pareto"
    options = ("population", "objectives", "start")

    def __init__(
        self, space: Space, population: int, objectives: Sequence[str] = (SCORE, "macs"), start: str | None = None
    ) -> None:
        super().__init__(space, start)
        self.population = population
        if isinstance(objectives, str) or len(objectives) < 2 or len(set(objectives)) < len(objectives):
            raise ValueError(
                f"objectives={objectives!r} is not allowed: give two or more different ones, such as [score, macs]"
            )
        _moocore()
        self.objectives = tuple(objectives)

    def drawing(self, history: RankedHistory) -> DrawFrom:
        begins = len(history) < self.population if self.start is None else len(history) <= INITIAL
        if begins or not len(history.usable()):
            return self._initial
        parents = fittest(self.values(history), self.population)
        if not len(parents):
            raise ValueError(
                f"objectives={list(self.objectives)} cannot be compared: no candidate has a number for each of them"
            )

        def child(rng: random.Random) -> Draw:
            parent = parents.draw(rng)
            return Draw(self.space.mutate(history[parent].arch, rng, REPLACED), parent, "mutation")

        return child

    def values(self, history: RankedHistory) -> dict[str, Floats]:
        """Each objective of all candidates; minus infinity or NaN where a candidate has none."""
        if len(history):
            check_objectives(self.objectives, list(history[0].values))
        scores = history.scores()
        return {name: scores if name == SCORE else _column(history, name) for name in self.objectives}


def check_objectives(objectives: Sequence[str], columns: Sequence[str]) -> None:
    """Raise ValueError for an objective that a history with these value columns will not have, naming the nearest."""
    for name in objectives:
        check_choice("objective", name, dict.fromkeys([SCORE, *MINIMISED, *columns]))


def _column(history: RankedHistory, name: str) -> Floats:
    rows = (getattr(row, name) if name in MINIMISED else row.values[name] for row in history)
    column = np.array(list(rows), dtype=np.float64)
    if len(column) and np.isnan(column).all():
        raise ValueError(f"objective {name!r} has no numbers; latency and memory are measured where a bound is given")
    return column


def _costs(values: Mapping[str, Any]) -> Floats:
    """All objectives to be minimised, shape (n, m)."""
    columns = {name: np.asarray(column, dtype=np.float64) for name, column in values.items()}
    shapes = {name: column.shape for name, column in columns.items()}
    if len(set(shapes.values())) != 1 or any(len(shape) != 1 for shape in shapes.values()):
        raise ValueError(f"objectives must have one number for each candidate, shape (n,), but have {shapes}")
    return np.stack([column if name in MINIMISED else -column for name, column in columns.items()], axis=1)


def _moocore() -> Any:
    try:
        import moocore
    except ImportError as error:
        raise ImportError(
            "a search for several objectives needs the package moocore: pip install 'vkdnw_pl[pareto]', or pip install "
            "moocore"
        ) from error
    return moocore
