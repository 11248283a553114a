"""Strategies: what to look at next, given all that was looked at.

A strategy draws from the random stream that it is given and keeps no state of its own, so a search that is continued
proposes what it would have proposed without the interruption.
"""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

from vkdnw_pl.search.history import RankedHistory
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
    """A way to search ``space``."""

    name: ClassVar[str]
    options: ClassVar[tuple[str, ...]] = ()
    """Its arguments beside ``space``."""

    def __init__(self, space: Space) -> None:
        self.space = space

    @abstractmethod
    def drawing(self, history: RankedHistory) -> DrawFrom:
        """How to draw candidates from this state of the history.

        Called once for each batch; what it returns is called for every candidate of it, perhaps several times.
        """

    def _sampled(self, origin: str) -> DrawFrom:
        return lambda rng: Draw(self.space.sample(rng), None, origin)


class RandomSearch(Strategy):
    """Candidates are samples of the space."""

    name = "random"

    def drawing(self, history: RankedHistory) -> DrawFrom:
        return self._sampled("random")


class StartedSearch(Strategy):
    """A strategy that mutates ``start`` before there are parents; None draws samples of the space instead."""

    options: ClassVar[tuple[str, ...]] = ("population", "start")

    def __init__(self, space: Space, population: int, start: str | None) -> None:
        super().__init__(space)
        self.population = population
        self.start = start

    def _initial(self, rng: random.Random) -> Draw:
        arch = self.space.sample(rng) if self.start is None else self.space.mutate(self.start, rng, 1)
        return Draw(arch, None, "initial")


class Evolution(StartedSearch):
    """The evolution of the published searches of ZiCo, AZ-NAS and VKDNW.

    The history is never pruned. While it has up to 10 candidates, the start is mutated once; while it has fewer than
    ``population - 1``, any of them twice; then one of its best ``population - 1`` by the present scores twice. Parents are
    drawn uniformly. A candidate that failed is never a parent.
    """

    name = "evolution"

    def drawing(self, history: RankedHistory) -> DrawFrom:
        usable = history.usable()
        if len(history) <= INITIAL or not len(usable):
            return self._initial
        parents = usable if len(history) < self.population - 1 else history.top(self.population - 1)

        def child(rng: random.Random) -> Draw:
            parent = int(parents[rng.randrange(len(parents))])
            return Draw(self.space.mutate(history[parent].arch, rng, REPLACED), parent, "mutation")

        return child


class AgeingEvolution(Strategy):
    """Ageing evolution (Real et al., AAAI 2019).

    The first ``population`` candidates are samples. Then the population is the latest ``population`` candidates, however
    good the older ones were; the best of ``tournament`` that are drawn from it, with replacement, is mutated once.
    """

    name = "ageing"
    options = ("population", "tournament")

    def __init__(self, space: Space, population: int, tournament: int) -> None:
        super().__init__(space)
        self.population = population
        self.tournament = tournament

    def drawing(self, history: RankedHistory) -> DrawFrom:
        if len(history) < self.population:
            return self._sampled("initial")
        first = len(history) - self.population
        alive = [i for i in range(first, len(history)) if not history[i].failed]
        if not alive:
            return self._sampled("initial")
        scores = history.scores()

        def child(rng: random.Random) -> Draw:
            drawn = [alive[rng.randrange(len(alive))] for _ in range(self.tournament)]
            parent = max(drawn, key=lambda i: (scores[i], -i))
            return Draw(self.space.mutate(history[parent].arch, rng, 1), parent, "mutation")

        return child
