"""Proxy values of candidates: computed in this process, or looked up in a score table."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from vkdnw_pl.runs.table import FAILED, ScoreRow, join_rows, read_table
from vkdnw_pl.scoring.score_tables import canonical
from vkdnw_pl.search.proposals import Proposal
from vkdnw_pl.search.settings import SearchSettings
from vkdnw_pl.spaces import Space

if TYPE_CHECKING:
    from vkdnw_pl.scoring.module import ScoringModule

Evaluate = Callable[[Sequence[Proposal]], Iterator[ScoreRow]]
"""Gives one row for each proposal, in their order, each as soon as it and all before it are known."""


class NotInTable(ValueError):
    """A score table lacks an architecture that the search came upon."""


class TableScores:
    """Looks values up in a score table.

    Args:
        path: of the table.
        space: its architectures are brought to this space's canonical strings.
        columns: what to look up.
        seed: which rows of the table count.

    Raises:
        ValueError: if the file is no score table, lacks a column, or has no row of this seed.
    """

    def __init__(self, path: str, space: Space, columns: Sequence[str], seed: int) -> None:
        self._path = path
        self._columns = tuple(columns)
        table = canonical(read_table(Path(path).expanduser()), space, path)
        missing = [column for column in columns if column not in table.columns]
        if missing:
            raise ValueError(
                f"scores={path!r} has no column {', '.join(map(repr, missing))} (it has: {', '.join(table.columns)})"
            )
        if seed not in table.seeds:
            seeds = ", ".join(map(str, table.seeds)) or "none"
            raise ValueError(f"proxy_seed={seed} is not allowed: the seeds in {path} are {seeds}")
        rows = join_rows((row for row in table.rows if row.seed == seed), path)
        self._rows = {arch: row for (arch, _), row in rows.items()}

    def __len__(self) -> int:
        return len(self._rows)

    def __call__(self, proposals: Sequence[Proposal]) -> Iterator[ScoreRow]:
        for proposal in proposals:
            row = self._rows.get(proposal.arch)
            if row is None:
                raise NotInTable(
                    f"{self._path} has no scores of {proposal.arch}, which the search came upon; give a table of all "
                    "architectures of the space, or leave scores out to compute them"
                )
            yield replace(row, values={column: row.values[column] for column in self._columns}, seconds=0.0)


class NoScores:
    """For rankings by what the space itself knows: there is nothing to compute."""

    def __init__(self, seed: int) -> None:
        self._seed = seed

    def __call__(self, proposals: Sequence[Proposal]) -> Iterator[ScoreRow]:
        for proposal in proposals:
            yield ScoreRow(proposal.arch, self._seed, {})


class ProxyScores:
    """Builds the networks and computes the proxies, one after the other in this process.

    Args:
        module: what `score` has, so that a search and a score table of the same settings have the same values.
        seed: of weights and images.
        columns: the values to keep.
    """

    def __init__(self, module: ScoringModule, seed: int, columns: Sequence[str]) -> None:
        self._module, self._seed, self._columns = module, seed, tuple(columns)

    def score(self, arch: str) -> ScoreRow:
        """Evaluate one architecture; whatever goes wrong with it is in the row."""
        row = self._module.predict_step((arch, self._seed))
        return replace(row, values={column: row.values[column] for column in self._columns})

    def failed(self, arch: str, reason: str) -> ScoreRow:
        """A row of an architecture that is not to be evaluated."""
        return ScoreRow(arch, self._seed, dict.fromkeys(self._columns), FAILED, reason)

    def __call__(self, proposals: Sequence[Proposal]) -> Iterator[ScoreRow]:
        for proposal in proposals:
            yield self.score(proposal.arch)


def make_module(settings: SearchSettings, device: str) -> ScoringModule:
    """The module that computes the proxies, on a device, ready to score."""
    from vkdnw_pl.scoring.module import ScoringModule

    module = ScoringModule.of(settings)
    module.to(device)
    module.on_predict_start()
    return module


def make_evaluation(settings: SearchSettings, device: str) -> Evaluate:
    """What gives the values of these settings in one process."""
    if settings.scores is not None:
        return TableScores(settings.scores, settings.make_space(), settings.columns, settings.proxy_seed)
    if not settings.proxies:
        return NoScores(settings.proxy_seed)
    return ProxyScores(make_module(settings, device), settings.proxy_seed, settings.columns)
