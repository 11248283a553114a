"""Strategies: what to look at next, given all that was looked at.

A strategy draws from the random stream that it is given and keeps no state of its own, so a search that is continued
proposes what it would have proposed without the interruption.
"""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from vkdnw_pl.search.history import Candidate, RankedHistory
from vkdnw_pl.spaces import Space

if TYPE_CHECKING:
    from vkdnw_pl.search.scores import Evaluate

INITIAL = 10
"""So many candidates are mutated from the start before others can be parents."""
REPLACED = 2
"""Mutations of a parent in `Evolution`."""
PATIENCE = 100
"""Draws in a row without a new neighbour, after which `LocalSearch` takes it that there is none."""


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
    looks_ahead: ClassVar[bool] = False
    """Whether `choose` evaluates candidates."""
    samples: Sequence[str] | None = None
    """The networks that samples are drawn from; None: the whole space."""

    def __init__(self, space: Space) -> None:
        self.space = space

    @abstractmethod
    def drawing(self, history: RankedHistory) -> DrawFrom:
        """How to draw candidates from this state of the history.

        Called once for each batch; what it returns is called for every candidate of it, perhaps several times.
        """

    def num_drawn(self, history: RankedHistory, count: int) -> int:
        """How many new and affordable candidates to draw for a batch of ``count``."""
        return count

    def choose(
        self, drawn: Sequence[Candidate], history: RankedHistory, count: int, evaluate: Evaluate
    ) -> Sequence[Candidate]:
        """Those of the drawn candidates that are evaluated; ``evaluate`` gives values of any, but for their labels."""
        return drawn

    def sample(self, rng: random.Random) -> str:
        """Draw one of ``samples``, or of the space, uniformly."""
        return self.space.sample(rng) if self.samples is None else rng.choice(self.samples)

    def _sampled(self, origin: str) -> DrawFrom:
        return lambda rng: Draw(self.sample(rng), None, origin)


class RandomSearch(Strategy):
    """Candidates are samples of the space."""

    name = "random"

    def drawing(self, history: RankedHistory) -> DrawFrom:
        return self._sampled("random")


class StartedSearch(Strategy):
    """A strategy that mutates ``start`` before there are parents; None draws samples of the space instead."""

    options: ClassVar[tuple[str, ...]] = ("start",)

    def __init__(self, space: Space, start: str | None) -> None:
        super().__init__(space)
        self.start = start

    def _initial(self, rng: random.Random) -> Draw:
        arch = self.sample(rng) if self.start is None else self.space.mutate(self.start, rng, 1)
        return Draw(arch, None, "initial")


class Evolution(StartedSearch):
    """The evolution of the published searches of ZiCo, AZ-NAS and VKDNW.

    The history is never pruned. While it has up to 10 candidates, the start is mutated once; while it has fewer than
    ``population - 1``, any of them twice; then one of its best ``population - 1`` by the present scores twice. Parents are
    drawn uniformly. A candidate that failed is never a parent.
    """

    name = "evolution"
    options = ("population", "start")

    def __init__(self, space: Space, population: int, start: str | None) -> None:
        super().__init__(space, start)
        self.population = population

    def drawing(self, history: RankedHistory) -> DrawFrom:
        usable = history.usable()
        if len(history) <= INITIAL or not len(usable):
            return self._initial
        parents = usable if len(history) < self.population - 1 else history.top(self.population - 1)

        def child(rng: random.Random) -> Draw:
            parent = int(parents[rng.randrange(len(parents))])
            return Draw(self.space.mutate(history[parent].arch, rng, REPLACED), parent, "mutation")

        return child


class LocalSearch(StartedSearch):
    """Local search with restarts: look at the neighbours of the best network, and go on from a better one.

    The first 10 candidates are samples (with a start: mutations of it). Then each is a new neighbour of the best candidate
    since the last restart; where that one has too few new ones for a batch, of the next best. When a batch begins and there
    is none, which is a local optimum, the batch has samples, and the best of these is the next centre. With batches of one
    a better neighbour is the centre at once (first improvement), while White et al. ("Exploring the loss landscape in neural
    architecture search", UAI 2021) look at all neighbours before they move. Neighbours are drawn, not enumerated: after 100
    draws in a row without a new one there seems to be none.
    """

    name = "local"

    def drawing(self, history: RankedHistory) -> DrawFrom:
        if len(history) < INITIAL or not len(history.usable()):
            return self._initial
        climb = _last_climb(history)
        scores = history.scores()
        centres = iter(sorted((i for i in climb if not history[i].failed), key=lambda i: (-scores[i], i)))
        centre = next(centres, None)
        drawn: set[str] = set()  # some of them broke the budget

        def child(rng: random.Random) -> Draw:
            nonlocal centre
            while centre is not None:
                for _ in range(PATIENCE):
                    arch = self.space.canonicalise(self.space.neighbour(history[centre].arch, rng))
                    if arch not in history and arch not in drawn:
                        drawn.add(arch)
                        return Draw(arch, centre, "mutation")
                centre = next(centres, None) if drawn else None
            return Draw(self.sample(rng), None, "random")

        return child


def _last_climb(history: RankedHistory) -> range:
    """Candidates since the last restart, with those that it began with."""
    first = len(history) - 1
    while first and history[first].parent is not None:
        first -= 1
    while first and history[first - 1].parent is None:
        first -= 1
    return range(first, len(history))


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
