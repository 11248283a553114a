"""What a history depends on: compared when a search is continued, and hashed."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from vkdnw_pl.errors import check_choice, check_whole
from vkdnw_pl.oracles.latency_table import read_latencies, split_source
from vkdnw_pl.ranking import ByAgreement, Term
from vkdnw_pl.runs.folder import Record, file_record
from vkdnw_pl.scoring.settings import ScorerSettings
from vkdnw_pl.search.constraints import Budget, HowToMeasure
from vkdnw_pl.search.history import LABEL, PREDICTED
from vkdnw_pl.search.labels import Labels
from vkdnw_pl.search.pareto import ParetoSearch
from vkdnw_pl.search.predictor import PredictorSearch
from vkdnw_pl.search.strategies import AgeingEvolution, Evolution, LocalSearch, RandomSearch, Strategy
from vkdnw_pl.spaces import Space, make_space

STRATEGIES: dict[str, type[Strategy]] = {
    cls.name: cls for cls in (Evolution, AgeingEvolution, RandomSearch, LocalSearch, PredictorSearch, ParetoSearch)
}


_TOURNAMENT = 10
_POOL = 256


def make_strategy(
    name: str,
    space: Space,
    population: int,
    tournament: int = _TOURNAMENT,
    start: str | None = None,
    objectives: Sequence[str] = ("score", "macs"),
    pool: int = _POOL,
) -> Strategy:
    """Make a strategy by its name, with the options that it has; ``ImportError`` if it lacks its package."""
    check_choice("strategy", name, STRATEGIES)
    check_whole("population", population, 2)
    check_whole("tournament", tournament, 1, most=max(population, _TOURNAMENT))
    cls = STRATEGIES[name]
    if start is not None and "start" not in cls.options:
        raise ValueError(f"start={start!r} has no use with strategy={name!r}, which begins with samples; leave it out")
    options = {
        **{"population": population, "tournament": tournament, "start": start, "objectives": objectives},
        "pool": pool,
    }
    return cls(space, **{option: options[option] for option in cls.options})


@dataclass(frozen=True, kw_only=True)
class SearchSettings(ScorerSettings):
    """Everything that decides the history, resolved: equal settings give histories of which one begins like the other.

    Not part of it: how many candidates are evaluated, and by how many processes.
    """

    space_options: Mapping[str, str]
    """Those of `Space.search_options`."""
    strategy: str
    population: int
    tournament: int
    start: str | None
    """Canonical architecture; None begins with samples."""
    objectives: Sequence[str]
    """Of the strategy ``pareto``."""
    pool: int = _POOL
    """Of the strategy ``predictor``."""
    labels: Labels | None = None
    """Known accuracies that guide the search."""
    budget: Budget
    how_to_measure: HowToMeasure
    latency_table: str | None = None
    """Where latencies come from; None: they are measured."""
    ranking: str
    terms: Sequence[Term]
    """The ranking, resolved."""
    columns: Sequence[str]
    """Columns of the values that are computed or looked up; see `history_columns`."""
    scores: str | None
    """Score table that the values come from; no proxies are computed then."""
    batch: int
    """Candidates that are proposed from one state of the history."""
    seed: int
    """Of the proposals."""
    proxy_seed: int
    """Of weights and images."""

    @property
    def measures(self) -> bool:
        """Whether networks are built and run on this machine to know what they cost."""
        budget = self.budget
        return budget.max_peak_mb is not None or (budget.max_latency_ms is not None and self.latency_table is None)

    def make_space(self) -> Space:
        """The space with the options of this search."""
        return make_space(self.space, self.space_options)

    def make_strategy(self, space: Space) -> Strategy:
        """The strategy on a space that `make_space` made.

        Its samples are of the networks with a label and of those whose latency is known and within the budget; ValueError
        if there are none.
        """
        options = (self.population, self.tournament, self.start, self.objectives, self.pool)
        strategy = make_strategy(self.strategy, space, *options)
        known = None if self.labels is None else set(self.labels.values)
        if self.latency_table is not None:
            most = self.budget.max_latency_ms or 0.0
            fast = {arch for arch, ms in read_latencies(self.latency_table, space).items() if ms <= most}
            known = fast if known is None else known & fast
            if not known:
                raise ValueError(
                    f"labels and latency_table={self.latency_table!r} have no network of at most {most:g} ms in common"
                )
        strategy.samples = None if known is None else sorted(known)
        return strategy

    @property
    def history_columns(self) -> list[str]:
        """All value columns of the history."""
        predicted = [PREDICTED] if self.strategy == PredictorSearch.name else []
        return [*self.columns, *predicted, *([] if self.labels is None else [LABEL])]

    def record(self) -> Record:
        """JSON-able form; what has no use under these settings is left out, files stand with their digest."""
        record: Record = {"space": self.space, "network": dict(self.network), "strategy": self.strategy}
        record |= self.make_space().parameters()
        record |= {option: getattr(self, option) for option in STRATEGIES[self.strategy].options}
        if self.labels is not None:
            record["labels"] = self.labels.record()
        record["budget"] = self.budget.record()
        if self.latency_table is not None:
            file, column = split_source(self.latency_table)
            record["latency_table"] = {**file_record(file), "column": column}
        if self.measures:
            record["how_to_measure"] = vars(self.how_to_measure)
        record |= {"ranking": self.ranking, "terms": _terms(self.terms), "batch": self.batch}
        record |= {"seed": self.seed, "proxy_seed": self.proxy_seed}
        record |= self.scorer_record() if self.scores is None else {"scores": file_record(self.scores)}
        return json.loads(json.dumps(record))  # as it reads back from a file: tuples are lists


def _terms(terms: Sequence[Term]) -> Any:
    of_terms = [_term(term) for term in terms]
    return {type(terms).__name__: of_terms} if isinstance(terms, ByAgreement) else of_terms


def _term(term: Term) -> Any:
    return term if isinstance(term, str) else {type(term).__name__: list(term)}
