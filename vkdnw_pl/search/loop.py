"""The search itself: propose a batch, evaluate it, keep it, and again; and who is told how far it is."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol

from vkdnw_pl.oracles.latency_table import read_latencies
from vkdnw_pl.runs.files import write_json
from vkdnw_pl.scoring.progress import Progress
from vkdnw_pl.search.constraints import CostCheck, Measurements
from vkdnw_pl.search.folder import SearchFolder, describe_found
from vkdnw_pl.search.history import Candidate, HistoryFile, RankedHistory
from vkdnw_pl.search.labels import Check
from vkdnw_pl.search.proposals import MAX_TRIES, DrawCounts, Proposer
from vkdnw_pl.search.scores import Evaluate, remembered
from vkdnw_pl.search.settings import SearchSettings


class SearchObserver(Protocol):
    """Is told how far a search is."""

    def candidate(self, candidate: Candidate, counts: DrawCounts) -> None:
        """A candidate was added to the history on the disk; ``counts`` are those of all draws."""

    def batch(self, history: RankedHistory) -> None:
        """A batch is complete; ``history`` has all candidates."""


class HistoryMismatch(ValueError):
    """The history on the disk is not what these settings and this software propose."""


def search(
    settings: SearchSettings,
    folder: SearchFolder,
    evaluations: int,
    evaluate: Evaluate,
    observers: Sequence[SearchObserver] = (),
    max_tries: int = MAX_TRIES,
) -> str | None:
    """Search until the history in ``folder`` has ``evaluations`` candidates, going on behind those that are there.

    A batch is proposed from the history before it and evaluated; each candidate is on the disk as soon as it and those
    before it are done. What is proposed depends on nothing but the settings and that history, so that a search that was
    interrupted anywhere goes on as if it had not been.

    Returns:
        Why nothing new could be proposed; None where all evaluations were made.

    Raises:
        HistoryMismatch: if the history on the disk is of another search.
    """
    space = settings.make_space()
    candidates = folder.read_candidates()
    whole = len(candidates) // settings.batch * settings.batch
    history = RankedHistory(settings.terms)
    history.add(candidates[:whole])
    unfinished = candidates[whole:]
    measure = None
    if settings.budget.measured:
        table = settings.latency_table
        latencies = None if table is None else read_latencies(table, space)
        how = settings.how_to_measure
        measure = Measurements(folder.measured, space, settings.network, settings.budget, how, latencies)
    check: Check = CostCheck(settings.budget, space, settings.network)
    strategy = settings.make_strategy(space)
    evaluate = labelled = remembered(evaluate) if strategy.looks_ahead else evaluate
    if settings.labels is not None:
        check, labelled = settings.labels.only_known(check), settings.labels.added_to(evaluate)
    proposer = Proposer(strategy, check, settings.budget, measure, settings.seed, max_tries)
    file = HistoryFile(folder.history, settings.history_columns)
    try:
        while len(history) + len(unfinished) < evaluations:
            count = min(settings.batch, evaluations - len(history))
            drawn = proposer.propose(history, strategy.num_drawn(history, count))
            proposals = strategy.choose(drawn, history, count, evaluate)
            _check_same(unfinished, proposals, folder)
            candidates = list(unfinished)
            rest = proposals[len(unfinished) :]
            for proposal, row in zip(rest, labelled([proposal.arch for proposal in rest]), strict=True):
                values = {**dict.fromkeys(settings.history_columns), **proposal.values, **row.values}
                candidates.append(
                    replace(proposal, values=values, status=row.status, reason=row.reason, seconds=row.seconds)
                )
                file.append(candidates[-1])
                for observer in observers:
                    observer.candidate(candidates[-1], proposer.counts)
            history.add(candidates)
            unfinished = []
            for observer in observers:
                observer.batch(history)
            if len(proposals) < count:
                return f"nothing new was found: {proposer.last.reasons()}"
        return None
    finally:
        file.close()


def _check_same(unfinished: Sequence[Candidate], proposals: Sequence[Candidate], folder: SearchFolder) -> None:
    """Make sure that the first candidates of a batch are those of the disk."""
    for i, candidate in enumerate(unfinished):
        if i >= len(proposals) or proposals[i].arch != candidate.arch:
            proposed = proposals[i].arch if i < len(proposals) else "nothing"
            raise HistoryMismatch(
                f"{folder.history} cannot be continued: its candidate {candidate.index} is {candidate.arch}, and with "
                f"these settings it would be {proposed}. It was changed, or made by another version of this program; "
                "choose another folder with --out, or give --overwrite to begin anew"
            )


_FOUND_EVERY_S = 60.0


class SearchProgress:
    """A `SearchObserver` that counts candidates on a display, and writes ``found.json`` every minute."""

    def __init__(self, settings: SearchSettings, folder: SearchFolder, top_k: int, display: Progress) -> None:
        self._settings, self._folder, self._top_k, self._display = settings, folder, top_k, display
        self._counts = DrawCounts()
        self._history: RankedHistory | None = None
        self._wrote_at = time.monotonic()
        display.note = self._state

    def candidate(self, candidate: Candidate, counts: DrawCounts) -> None:
        """Count one."""
        self._counts = counts
        self._display.add(candidate.failed)

    def batch(self, history: RankedHistory) -> None:
        """Write the best now and then."""
        self._history = history
        if time.monotonic() - self._wrote_at > _FOUND_EVERY_S:
            self._wrote_at = time.monotonic()
            if found := describe_found(self._settings, self._settings.make_space(), history, self._top_k):
                write_json(self._folder.found, found)

    def _state(self) -> str:
        accepted = f"{100 * self._counts.acceptance:.0f} % of draws accepted"
        best = self._history.best(1).tolist() if self._history is not None else []
        if not best or self._history is None:
            return accepted
        return f"best score {self._history.scores()[best[0]]:.3f} (network {best[0]}), {accepted}"
