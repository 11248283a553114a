"""Evaluation by several processes: they take candidates of a batch from a list in a store that all of them reach.

Whoever is free takes the next candidate, so none waits for one that has an easier share; the first process puts the
results in order. Which process evaluates what changes no value.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, MutableSequence, Sequence
from dataclasses import asdict
from datetime import timedelta
from typing import TYPE_CHECKING

from torch.distributed import TCPStore

from vkdnw_pl.runs.table import ScoreRow
from vkdnw_pl.search.evaluation import ProxyScores
from vkdnw_pl.search.proposals import Proposal

if TYPE_CHECKING:
    from lightning_fabric import Fabric

PATIENCE = timedelta(days=30)
"""A process may wait this long for a candidate that others still evaluate, or for the next batch."""
NOBODY = -1


class Team:
    """What the processes share.

    Args:
        fabric: has started them.
        working_on: place of process i: index of the candidate that it works on, or `NOBODY`; read by the parent when a
            process dies.
        given_up: index -> reason of candidates that are not to be tried again.
    """

    def __init__(self, fabric: Fabric, working_on: MutableSequence[int], given_up: dict[int, str]) -> None:
        self.rank, self._size = fabric.global_rank, fabric.world_size
        self._working_on, self._given_up = working_on, given_up
        environment = fabric.strategy.cluster_environment  # type: ignore[attr-defined]
        host = environment.main_address
        own = TCPStore(host, 0, is_master=True, wait_for_workers=False, timeout=PATIENCE) if self.rank == 0 else None
        port = fabric.broadcast(own.port if own is not None else 0)
        self._store = own or TCPStore(host, port, is_master=False, timeout=PATIENCE)
        self._batches = 0

    def evaluation(self, scores: ProxyScores) -> Callable[[Sequence[Proposal]], Iterator[ScoreRow]]:
        """For the first process: evaluate together with the others."""

        def evaluate(proposals: Sequence[Proposal]) -> Iterator[ScoreRow]:
            batch, self._batches = self._batches, self._batches + 1
            self._store.set(_todo(batch), json.dumps([(one.index, one.arch) for one in proposals]))
            ready: dict[int, ScoreRow] = {}
            shown = 0
            tasks = self._tasks(batch, [(one.index, one.arch) for one in proposals])
            while shown < len(proposals):
                task = next(tasks, None)
                if task is not None:
                    place, index, arch = task
                    ready[place] = self._score(scores, index, arch)
                while shown < len(proposals) and (row := ready.pop(shown, None) or self._fetched(batch, shown)):
                    yield row
                    shown += 1
                if task is None and shown < len(proposals):
                    time.sleep(0.002)
            self._store.set(_todo(batch), "[]")  # not deleted: a process that comes late may still ask for it

        return evaluate

    def help(self, scores: ProxyScores) -> None:
        """For the other processes: evaluate until the first one dismisses them."""
        while True:
            batch, self._batches = self._batches, self._batches + 1
            todo = json.loads(self._store.get(_todo(batch)))
            if todo is None:
                return
            for place, index, arch in self._tasks(batch, todo):
                self._store.set(_row(batch, place), json.dumps(asdict(self._score(scores, index, arch))))

    def dismiss(self) -> None:
        """For the first process: let the others end."""
        self._store.set(_todo(self._batches), json.dumps(None))

    def _tasks(self, batch: int, todo: Sequence[tuple[int, str]]) -> Iterator[tuple[int, int, str]]:
        """(place in the batch, index, architecture) of what this process is to do, one at a time."""
        while (place := self._store.add(_next(batch), 1) - 1) < len(todo):
            index, arch = todo[place]
            yield place, index, arch

    def _score(self, scores: ProxyScores, index: int, arch: str) -> ScoreRow:
        if index in self._given_up:
            return scores.failed(arch, self._given_up[index])
        self._working_on[self.rank] = index
        row = scores.score(arch)
        self._working_on[self.rank] = NOBODY
        return row

    def _fetched(self, batch: int, place: int) -> ScoreRow | None:
        """The row that another process has made, if it is there."""
        key = _row(batch, place)
        if not self._store.check([key]):
            return None
        row = ScoreRow(**json.loads(self._store.get(key)))
        self._store.delete_key(key)
        return row


def _todo(batch: int) -> str:
    return f"todo/{batch}"


def _next(batch: int) -> str:
    return f"next/{batch}"


def _row(batch: int, place: int) -> str:
    return f"row/{batch}/{place}"
