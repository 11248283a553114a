"""What a history depends on: compared when a search is continued, and hashed."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from vkdnw_pl.ranking import Term
from vkdnw_pl.runs.settings import Record as JsonRecord
from vkdnw_pl.runs.settings import digest, file_record, source_record
from vkdnw_pl.search.constraints import Budget
from vkdnw_pl.search.measuring import HowToMeasure
from vkdnw_pl.search.strategies import BEGIN_AT_A_START, PARETO, Strategy, make_strategy
from vkdnw_pl.spaces import Space, make_space

if TYPE_CHECKING:
    from vkdnw_pl.data.batches import Source
    from vkdnw_pl.networks.init import Init


@dataclass(frozen=True, kw_only=True)
class SearchSettings:
    """Everything that decides the history, resolved: equal settings give histories of which one begins like the other.

    Not part of it: how many candidates are evaluated, and by how many processes.
    """

    space: str
    network: Mapping[str, Any]
    space_options: Mapping[str, str]
    """Those of `Space.search_options`."""
    strategy: str
    population: int
    tournament: int
    start: str | None
    """Canonical architecture; None begins with samples."""
    objectives: Sequence[str]
    """Of the strategy ``pareto``."""
    budget: Budget
    how_to_measure: HowToMeasure
    ranking: str
    terms: Sequence[Term]
    """The ranking, resolved."""
    columns: Sequence[str]
    """Value columns of the history."""
    proxies: Sequence[Mapping[str, Any]]
    """Name and every parameter of each proxy that is computed; none where the values come from a table."""
    scores: str | None
    """Score table that the values come from."""
    batch: int
    """Candidates that are proposed from one state of the history."""
    seed: int
    """Of the proposals."""
    proxy_seed: int
    """Of weights and images."""
    batch_size: int
    input: Source
    data: Source | None
    """None where no proxy looks at it."""
    init: Init | Literal["auto"]
    device: str

    def make_space(self) -> Space:
        """The space with the options of this search."""
        return make_space(self.space, self.space_options)

    def make_strategy(self, space: Space) -> Strategy:
        """The strategy on a space that `make_space` made."""
        return make_strategy(self.strategy, space, self.population, self.tournament, self.start, self.objectives)

    def record(self) -> JsonRecord:
        """JSON-able form; what has no use under these settings is left out, files stand with their digest."""
        record: JsonRecord = {"space": self.space, "network": dict(self.network), "strategy": self.strategy}
        record |= self.make_space().parameters()
        if self.strategy != "random":
            record["population"] = self.population
        if self.strategy == "ageing":
            record["tournament"] = self.tournament
        if self.strategy in BEGIN_AT_A_START:
            record["start"] = self.start
        if self.strategy == PARETO:
            record["objectives"] = list(self.objectives)
        record["budget"] = self.budget.record()
        if self.budget.measured:
            record["how_to_measure"] = vars(self.how_to_measure)
        record |= {"ranking": self.ranking, "terms": [_term(term) for term in self.terms], "batch": self.batch}
        record |= {"seed": self.seed, "proxy_seed": self.proxy_seed}
        if self.scores is not None:
            record["scores"] = file_record(self.scores)
        else:
            record |= {
                "proxies": [dict(proxy) for proxy in self.proxies],
                "batch_size": self.batch_size,
                "input": source_record(self.input),
                "data": source_record(self.data),
                "init": self.init,
                "device": self.device,
            }
        return json.loads(json.dumps(record))  # as it reads back from a file: tuples are lists

    def digest(self) -> str:
        """Eight hexadecimal digits that name these settings."""
        return digest(self.record())


def _term(term: Term) -> Any:
    return term if isinstance(term, str) else {type(term).__name__: list(term)}
