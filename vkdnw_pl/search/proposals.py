"""Proposals: candidates of a batch that are new and within the budget, a pure function of the history and the seed."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from vkdnw_pl.search.constraints import Budget, Costs, Measured
from vkdnw_pl.search.history import Candidate, RankedHistory
from vkdnw_pl.search.strategies import DrawFrom, Strategy

MAX_TRIES = 10_000
"""Draws for one candidate, after which there seems to be nothing new within the budget."""


@dataclass
class DrawCounts:
    """What became of the draws."""

    accepted: int = 0
    duplicates: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    """Bound of the budget -> draws that broke it."""

    @property
    def tries(self) -> int:
        """All draws."""
        return self.accepted + self.duplicates + self.refused.total()

    @property
    def acceptance(self) -> float:
        """Share of the draws that became candidates."""
        return self.accepted / self.tries if self.tries else 1.0

    def reasons(self) -> str:
        """The draws that were refused, in words."""
        repeated = f", {self.duplicates} are in the history already" if self.duplicates else ""
        broken = ", ".join(f"{count} break {bound}" for bound, count in self.refused.most_common())
        return f"of {self.tries} draws {broken or 'none breaks a bound'}{repeated}"


class Proposer:
    """Makes batches of candidates, with at most ``max_tries`` draws for each.

    ``measure`` is called only for what is within all other bounds, and only where the budget has bounds on measurements.
    """

    def __init__(
        self,
        strategy: Strategy,
        check: Callable[[str], Costs | str],
        budget: Budget,
        measure: Callable[[str], Measured | str] | None,
        seed: int,
        max_tries: int = MAX_TRIES,
    ) -> None:
        self._strategy = strategy
        self._check = check
        self._budget = budget
        self._measure = measure if budget.measured else None
        self._seed = seed
        self._max_tries = max_tries
        self.counts = DrawCounts()
        """Of all batches."""
        self.last = DrawCounts()
        """Of the last candidate."""

    def propose(self, history: RankedHistory, count: int) -> list[Candidate]:
        """Candidates, without values, of the batch that follows the history; fewer than ``count`` where no more are found.

        Networks that are in the history, or in the batch already, are not proposed again. Where the space knows several
        strings of one network, its canonical one is proposed.
        """
        draw_from = self._strategy.drawing(history)
        begin = len(history)
        proposals: list[Candidate] = []
        archs: set[str] = set()
        for place in range(count):
            # Of its own for every candidate: what one takes of a stream does not change what the next ones get.
            rng = random.Random(f"{self._seed}/{begin}/{place}")
            proposal = self._search(draw_from, rng, history, archs, begin + place)
            if proposal is None:
                break
            proposals.append(proposal)
            archs.add(proposal.arch)
        return proposals

    def _search(
        self, draw_from: DrawFrom, rng: random.Random, history: RankedHistory, archs: set[str], index: int
    ) -> Candidate | None:
        self.last = counts = DrawCounts()
        proposal = None
        while proposal is None and counts.tries < self._max_tries:
            drawn = draw_from(rng)
            arch = self._strategy.space.canonicalise(drawn.arch)
            if arch in history or arch in archs:
                counts.duplicates += 1
                continue
            checked = self._check(arch)
            if isinstance(checked, str):
                counts.refused[checked] += 1
                continue
            measured = (None, None) if self._measure is None else self._measure(arch)
            if isinstance(measured, str):
                counts.refused[measured] += 1
                continue
            latency_ms, peak_mb = measured
            if refused := self._budget.refused_measured(latency_ms, peak_mb):
                counts.refused[refused] += 1
                continue
            counts.accepted += 1
            costs = (checked.cost.macs, checked.cost.num_params, checked.layers, latency_ms, peak_mb)
            proposal = Candidate(index, arch, drawn.parent, drawn.origin, *costs)
        self.counts.accepted += counts.accepted
        self.counts.duplicates += counts.duplicates
        self.counts.refused += counts.refused
        return proposal
