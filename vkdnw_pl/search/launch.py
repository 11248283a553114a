"""Starts a search: in this process, or in several that evaluate together, with Lightning Fabric."""

from __future__ import annotations

import multiprocessing
import os
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from multiprocessing import get_context
from typing import Any

import torch
from lightning_fabric import Fabric
from lightning_fabric.plugins.environments import LightningEnvironment
from lightning_fabric.strategies import DDPStrategy
from torch.multiprocessing.spawn import ProcessExitedException

from vkdnw_pl.runs.signals import await_own_signal, follow_parent, stop_signals
from vkdnw_pl.scoring.predict import WorkerDied, local_rendezvous, one_thread, quiet, start_method
from vkdnw_pl.search.engine import HistoryMismatch, Outcome, Watch, search
from vkdnw_pl.search.evaluation import ProxyScores, make_evaluation, make_module
from vkdnw_pl.search.folder import SearchFolder
from vkdnw_pl.search.settings import SearchSettings
from vkdnw_pl.search.team import NOBODY, Team

_MEETING = timedelta(minutes=30)  # until all processes have loaded what they need
_TRIES = 2  # what kills its worker once may have been somebody's mistake; twice, and it is the architecture

Ending = tuple[str | None, str | None]
"""`Outcome.exhausted`, and what is wrong with the history."""


class Job:
    """A search to run. No dataclass: where processes are spawned, Fabric would look into one, and refuses frozen ones.

    Args:
        settings: of the search.
        folder: its run folder.
        evaluations: how many candidates the history is to have.
        watch: is told how far it is.
    """

    def __init__(self, settings: SearchSettings, folder: SearchFolder, evaluations: int, watch: Watch) -> None:
        self.settings, self.folder, self.evaluations, self.watch = settings, folder, evaluations, watch


def launch(job: Job, workers: int, nodes: int = 1) -> Outcome:
    """Run a search.

    On CPU every process computes with one thread, however many there are, so that a value has the same bits.

    Args:
        job: what to do.
        workers: processes of this machine that evaluate; 1 stays in this process. More than 1 only where proxies are
            computed.
        nodes: machines. More than 1 must have been started by SLURM or torchrun, with ``workers`` processes on each; all
            but the first process only help, and need nothing of the folder.

    Raises:
        Stopped: on SIGINT, SIGTERM and SIGUSR1; the worker processes have ended then.
        HistoryMismatch: see `engine.search`.
        WorkerDied: if a worker dies and no candidate is to blame.
    """
    with ExitStack() as stack:
        stack.enter_context(quiet())
        stack.enter_context(one_thread())
        stack.enter_context(torch.random.fork_rng(devices=[]))
        stack.enter_context(stop_signals())
        if nodes > 1:
            return _over_nodes(job, workers, nodes)
        if workers == 1:
            evaluate = make_evaluation(job.settings, job.settings.device)
            return search(job.settings, job.folder, job.evaluations, evaluate, job.watch)
        stack.enter_context(local_rendezvous())
        return _together(job, workers)


def _over_nodes(job: Job, workers: int, nodes: int) -> Outcome:
    fabric = Fabric(
        accelerator="gpu" if job.settings.device == "cuda" else "cpu",
        devices=workers,
        num_nodes=nodes,
        strategy=DDPStrategy(process_group_backend="gloo", timeout=_MEETING),
    )
    fabric.launch()
    exhausted, mismatch = _member(fabric, job, [NOBODY] * (workers * nodes), {}, os.getpid())
    if mismatch is not None:
        raise HistoryMismatch(mismatch)
    return Outcome(exhausted)


def _together(job: Job, workers: int) -> Outcome:
    method = start_method(job.settings.device)
    deaths: Counter[int] = Counter()
    given_up: dict[int, str] = {}
    while True:
        working_on = get_context(method).Array("q", [NOBODY] * workers, lock=False)
        fabric = Fabric(
            accelerator="gpu" if job.settings.device == "cuda" else "cpu",
            devices=workers,
            strategy=DDPStrategy(
                start_method=method,  # type: ignore[arg-type]
                process_group_backend="gloo",  # only small messages, and those of a CPU
                timeout=_MEETING,
            ),
            plugins=[LightningEnvironment()],
        )
        try:
            with _ended_workers():
                exhausted, mismatch = fabric.launch(_member, job, working_on, given_up, os.getpid())  # type: ignore[arg-type]
        except ProcessExitedException as error:
            await_own_signal(error.exit_code)
            index = working_on[error.error_index]
            if index == NOBODY:
                raise WorkerDied(error.error_index, error.msg) from error
            deaths[index] += 1
            print(f"\na worker died while evaluating candidate {index}: {error.msg}", file=sys.stderr)
            if deaths[index] == _TRIES:
                given_up[index] = f"its worker died {_TRIES} times, perhaps for lack of memory: {error.msg}"
            continue
        if mismatch is not None:
            raise HistoryMismatch(mismatch)
        return Outcome(exhausted)


def _member(fabric: Fabric, job: Job, working_on: Any, given_up: dict[int, str], parent: int) -> Ending:
    """What each process does; the first one's ending counts."""
    if os.getpid() != parent:
        follow_parent()
    settings = job.settings
    device = str(fabric.device)
    module = make_module(settings, device)
    scores = ProxyScores(module, settings.proxy_seed, settings.columns)
    team = Team(fabric, working_on, given_up)
    ending: Ending = (None, None)
    if team.rank == 0:
        try:
            outcome = search(settings, job.folder, job.evaluations, team.evaluation(scores), job.watch)
            ending = (outcome.exhausted, None)
        except HistoryMismatch as error:
            ending = (None, str(error))
        team.dismiss()
    else:
        team.help(scores)
    fabric.barrier()  # the store is the first process's
    return ending


@contextmanager
def _ended_workers() -> Iterator[None]:
    """End the processes that were started within and are left after an exception."""
    before = set(multiprocessing.active_children())
    try:
        yield
    finally:
        for process in set(multiprocessing.active_children()) - before:
            process.kill()
            process.join()
