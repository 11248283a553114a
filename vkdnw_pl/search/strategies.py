"""Strategies: what to look at next, given all that was looked at.

A strategy draws from the random stream that it is given and keeps no state of its own, so a search that is continued
proposes what it would have proposed without the interruption.
"""

from __future__ import annotations

import difflib
import random
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from vkdnw_pl.search.ranked_history import RankedHistory
from vkdnw_pl.spaces import Space

INITIAL = 10
"""So many candidates are mutated from the start before others can be parents."""
REPLACED = 2
"""Mutations of a parent in `Evolution`."""


@dataclass(frozen=True)
class Draw:
    """An architecture and where it came from; whether it is new and affordable is not yet known."""

    arch: str
    parent: int | None
    origin: str


DrawFrom = Callable[[random.Random], Draw]


class Strategy(ABC):
    """A way to search.

    Args:
        space: what is searched.
    """

    name: ClassVar[str]

    def __init__(self, space: Space) -> None:
        self.space = space

    @abstractmethod
    def drawing(self, record: RankedHistory) -> DrawFrom:
        """How to draw candidates from this state of the history.

        Called once for each batch; what it returns is called for every candidate of it, perhaps several times.
        """

    def _sampled(self, origin: str) -> DrawFrom:
        return lambda rng: Draw(self.space.sample(rng), None, origin)


class RandomSearch(Strategy):
    """Candidates are samples of the space."""

    name = "random"

    def drawing(self, record: RankedHistory) -> DrawFrom:
        return self._sampled("random")


class Evolution(Strategy):
    """The evolution of the published searches of ZiCo, AZ-NAS and VKDNW.

    The history is never pruned. While it has up to 10 candidates, the start is mutated once; while it has fewer than
    ``population - 1``, any of them twice; then one of its best ``population - 1`` by the present scores twice. Parents are
    drawn uniformly. A candidate that failed is never a parent.

    Args:
        space: what is searched.
        population: see above.
        start: architecture to begin with; None begins with samples of the space.
    """

    name = "evolution"

    def __init__(self, space: Space, population: int, start: str | None) -> None:
        super().__init__(space)
        self.population = population
        self.start = start

    def drawing(self, record: RankedHistory) -> DrawFrom:
        usable = record.usable()
        if len(record) <= INITIAL or not len(usable):
            return self._initial
        parents = usable if len(record) < self.population - 1 else record.top(self.population - 1)
        return lambda rng: self._child(record, parents, rng)

    def _initial(self, rng: random.Random) -> Draw:
        arch = self.space.sample(rng) if self.start is None else self.space.mutate(self.start, rng, 1)
        return Draw(arch, None, "initial")

    def _child(self, record: RankedHistory, parents: Sequence[int] | Any, rng: random.Random) -> Draw:
        parent = int(parents[rng.randrange(len(parents))])
        return Draw(self.space.mutate(record[parent].arch, rng, REPLACED), parent, "mutation")


class Ageing(Strategy):
    """Ageing evolution (Real et al., AAAI 2019).

    The first ``population`` candidates are samples. Then the population is the latest ``population`` candidates, however
    good the older ones were; the best of ``tournament`` that are drawn from it, with replacement, is mutated once.

    Args:
        space: what is searched.
        population: see above.
        tournament: see above.
    """

    name = "ageing"

    def __init__(self, space: Space, population: int, tournament: int) -> None:
        super().__init__(space)
        self.population = population
        self.tournament = tournament

    def drawing(self, record: RankedHistory) -> DrawFrom:
        if len(record) < self.population:
            return self._sampled("initial")
        first = len(record) - self.population
        alive = [i for i in range(first, len(record)) if not record[i].failed]
        if not alive:
            return self._sampled("initial")
        scores = record.scores()

        def child(rng: random.Random) -> Draw:
            drawn = [alive[rng.randrange(len(alive))] for _ in range(self.tournament)]
            parent = max(drawn, key=lambda i: (scores[i], -i))
            return Draw(self.space.mutate(record[parent].arch, rng, 1), parent, "mutation")

        return child


PARETO = "pareto"
STRATEGIES = (Evolution.name, Ageing.name, RandomSearch.name, PARETO)
BEGIN_AT_A_START = (Evolution.name, PARETO)
"""Strategies that take a start."""


def make_strategy(
    name: str,
    space: Space,
    population: int,
    tournament: int = 10,
    start: str | None = None,
    objectives: Sequence[str] = ("score", "macs"),
) -> Strategy:
    """Make a strategy by its name.

    Args:
        name: one of `STRATEGIES`.
        space: what is searched.
        population: of all but `RandomSearch`, at least 2.
        tournament: of `Ageing`, at least 1.
        start: of those in `BEGIN_AT_A_START`.
        objectives: of `pareto.ParetoStrategy`.

    Raises:
        ValueError: if a name or a value is not allowed.
        ImportError: if ``pareto`` lacks its package; the text says how to install it.
    """
    if name not in STRATEGIES:
        near = difflib.get_close_matches(name, STRATEGIES, 1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"strategy={name!r} is not known{hint} (allowed: {', '.join(STRATEGIES)})")
    for option, value, least in (("population", population, 2), ("tournament", tournament, 1)):
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise ValueError(f"{option}={value!r} is not allowed: give a whole number of at least {least}")
    if start is not None and name not in BEGIN_AT_A_START:
        raise ValueError(f"start={start!r} has no use with strategy={name!r}, which begins with samples; leave it out")
    if name == PARETO:
        from vkdnw_pl.search.pareto import ParetoStrategy

        return ParetoStrategy(space, population, objectives, start)
    if name == Evolution.name:
        return Evolution(space, population, start)
    return Ageing(space, population, tournament) if name == Ageing.name else RandomSearch(space)
