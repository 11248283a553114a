"""The engine that makes rows: (architecture, seed) -> row, in worker processes of this machine and of others.

The process that keeps a run never scores. What it scores is foreign code, which may take all memory, end its process or
never return; so it is always a worker process that does, also where there is only one. Whoever is free takes the next
row, and which worker makes a row changes no value.
"""

from __future__ import annotations

import gc
import logging
import os
import re
import secrets
import signal
import sys
import time
import warnings
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from datetime import timedelta
from multiprocessing import AuthenticationError, get_context
from multiprocessing.connection import Client, Connection, Listener, wait
from multiprocessing.process import BaseProcess
from typing import Any, Protocol

import torch
from torch.multiprocessing import _prctl_pr_set_pdeathsig  # type: ignore[attr-defined]

from vkdnw_pl.errors import WorkerDied
from vkdnw_pl.runs.signals import await_own_signal, follow_parent
from vkdnw_pl.runs.table import Key, ScoreRow

InProgress = Sequence[tuple[Key, float]]
"""Rows that are being made, and since how many seconds."""


class RowMaker(Protocol):
    """Makes a row, in a worker process, as a pure function of its key; sent there by pickling where that is not forked."""

    def use(self, device: str) -> None:
        """Compute on a device from now on, in a process of its own."""

    def row(self, arch: str, seed: int) -> ScoreRow:
        """The row; what goes wrong with it is a failed row with its reason."""

    def failed(self, key: Key, reason: str, seconds: float) -> ScoreRow:
        """A row without values."""


_TRIES = 2  # what kills its worker once may have been somebody's mistake; twice, and it is the architecture
_TICK_S = 1.0
_MEETING = timedelta(minutes=30)  # until all processes of all machines have loaded what they need
_READY = "ready"


def start_method(device: str) -> str:
    """How worker processes begin: forked where that is safe, which saves each of them seconds of imports."""
    return "fork" if device == "cpu" and sys.platform == "linux" and not torch.cuda.is_initialized() else "spawn"


class Workers:
    """Worker processes that make rows. Use as a context manager: they end with it, whatever happens.

    Args:
        maker: makes a row.
        device: ``cpu``, ``cuda`` (worker i takes GPU i, modulo their number), or one GPU such as ``cuda:1``.
        count: worker processes of this machine.
        row_timeout: seconds that a row may take; None is no limit.
        helpers: connections to other processes that run `help_first`; see `meet_helpers`.
    """

    def __init__(
        self,
        maker: RowMaker,
        device: str,
        count: int,
        row_timeout: float | None = None,
        helpers: Sequence[Connection] = (),
    ) -> None:
        self._maker, self._device, self._count, self._row_timeout = maker, device, count, row_timeout
        self._helpers = [_Taker(connection) for connection in helpers]
        self._workers: list[_Worker] = []
        self._deaths: Counter[Key] = Counter()
        self._told: set[str] = set()

    def __enter__(self) -> Workers:
        return self

    def __exit__(self, *exception: Any) -> None:
        for worker in self._workers:
            worker.process.kill()
        for taker in self._takers:
            taker.close()

    def rows(self, keys: Sequence[Key], waiting: Callable[[InProgress], None] | None = None) -> Iterator[ScoreRow]:
        """Make the rows of these keys, each once; begun in this order, each given as soon as it is made.

        A worker that dies takes no other row with it: its row is tried once more in a fresh process, and fails when that
        dies too. A row that takes longer than ``row_timeout`` fails at once. A worker that dies before it can begin with
        a row raises `WorkerDied`. ``waiting`` is called about every second with what is being made.
        """
        pending = deque(keys)
        missing = len(keys)
        while missing:
            self._hand_out(pending)
            self._wait()
            for row in [*self._from_workers(), *self._from_helpers(pending)]:
                missing -= 1
                self._tell(row)
                yield row
            if waiting is not None:
                waiting([(taker.key, taker.seconds) for taker in self._takers if taker.key is not None])

    def _tell(self, row: ScoreRow) -> None:
        """Print a row's notes, of every kind the first."""
        for note in row.notes:
            kind = re.sub(r"\w+(\.\w+)+", "", note)  # without the name of the weight
            if kind not in self._told:
                self._told.add(kind)
                print(f"\n{row.arch}: {note} (said of the first such network)", file=sys.stderr, flush=True)

    @property
    def _takers(self) -> list[_Taker]:
        return [*self._workers, *self._helpers]

    def _hand_out(self, pending: deque[Key]) -> None:
        """Give a row to everybody who is free, and start the workers that there is more work for."""
        for taker in self._takers:
            queue = taker.reserved or pending
            if queue and taker.ready and taker.key is None:
                taker.take(queue)
        starting = sum(not worker.ready for worker in self._workers)
        while len(self._workers) < self._count and starting < len(pending):
            self._start()
            starting += 1

    def _start(self, first: Key | None = None) -> None:
        """Start a worker; ``first`` is what it begins with."""
        number = min(set(range(self._count)) - {worker.number for worker in self._workers})
        device = own_device(self._device, number) if self._device == "cuda" else self._device
        worker = _Worker(self._maker, device, number)
        if first is not None:
            worker.reserved.append(first)
        self._workers.append(worker)

    def _wait(self) -> None:
        """Until somebody has something to say, or it is time to look after the workers."""
        busy = [taker for taker in self._takers if taker.key is not None or not taker.ready]
        left = [] if self._row_timeout is None else [self._row_timeout - taker.seconds for taker in busy if taker.key]
        wait([taker.connection for taker in busy], max(0.0, min([_TICK_S, *left])))

    def _from_workers(self) -> list[ScoreRow]:
        rows: list[ScoreRow] = []
        for worker in list(self._workers):
            dead = worker.process.exitcode is not None  # asked before what it has sent is read to the end
            if worker.receive(rows) or dead:
                worker.process.join(_TICK_S)  # it may still be ending, by a code or signal of its own
                rows.extend(self._after_death(worker))
            elif worker.key is not None and self._row_timeout is not None and worker.seconds >= self._row_timeout:
                reason = f"took longer than row_timeout={self._row_timeout:g} seconds"
                rows.append(self._maker.failed(worker.key, reason, worker.seconds))
                self._end(worker)
        return rows

    def _after_death(self, worker: _Worker) -> list[ScoreRow]:
        """Let the worker's row be tried again, or fail."""
        key, seconds, death = worker.key, worker.seconds, self._end(worker)
        if key is None:
            if not worker.ready:
                raise WorkerDied(death)
            return []
        print(f"\na worker died at {key[0]} (seed {key[1]}): {death}", file=sys.stderr, flush=True)
        self._deaths[key] += 1
        if self._deaths[key] < _TRIES:
            self._start(first=key)
            return []
        return [self._maker.failed(key, f"its worker died twice, perhaps for lack of memory: {death}", seconds)]

    def _end(self, worker: _Worker) -> str:
        """Forget a worker; returns how its process ended."""
        self._workers.remove(worker)
        worker.close()
        exit_code = worker.process.exitcode or 0
        await_own_signal(exit_code)
        return f"terminated by {signal.Signals(-exit_code).name}" if exit_code < 0 else f"exit code {exit_code}"

    def _from_helpers(self, pending: deque[Key]) -> list[ScoreRow]:
        rows: list[ScoreRow] = []
        for helper in list(self._helpers):
            if helper.receive(rows):  # somebody else makes its row
                self._helpers.remove(helper)
                if helper.key is not None:
                    pending.appendleft(helper.key)
        return rows


class _Taker:
    """Who takes rows through a connection."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.ready = True
        self.reserved: deque[Key] = deque()
        """What it is to do first."""
        self.key: Key | None = None
        """What it works on."""
        self._began_at = 0.0

    @property
    def seconds(self) -> float:
        """How long it has worked on its row."""
        return time.monotonic() - self._began_at

    def take(self, queue: deque[Key]) -> None:
        """Begin with the first of the queue; nothing happens if it has gone, which reading from it will show."""
        with suppress(OSError):
            self.connection.send(queue[0])
            self.key, self._began_at = queue.popleft(), time.monotonic()

    def receive(self, rows: list[ScoreRow]) -> bool:
        """Append the row that it has made; whether it has gone."""
        with suppress(EOFError, OSError):
            if self.connection.poll():  # no more than one: it waits for the next key
                message = self.connection.recv()
                if message == _READY:
                    self.ready = True
                else:
                    self.key = None
                    rows.append(message)
            return False
        return True

    def close(self) -> None:
        self.connection.close()


class _Worker(_Taker):
    """A worker process of this machine."""

    def __init__(self, maker: RowMaker, device: str, number: int) -> None:
        context = get_context(start_method(device))
        connection, inner = context.Pipe()
        super().__init__(connection)
        self.ready = False
        self.number = number
        self.process: BaseProcess = context.Process(  # type: ignore[attr-defined]
            target=_work, args=(inner, maker, device, os.getpid())
        )
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*use of fork")
            self.process.start()
        inner.close()

    def close(self) -> None:
        """End it, if it has not ended."""
        self.process.kill()
        self.process.join()
        super().close()


def _work(connection: Connection, maker: RowMaker, device: str, parent: int) -> None:
    """What a worker process does."""
    follow_parent()
    _prctl_pr_set_pdeathsig(signal.SIGKILL)  # on Linux it ends with its parent, even in the middle of a row
    maker.use(device)
    gc.freeze()  # else a full collection, now and then, looks at half a million objects of imports: 0.2 s
    with suppress(EOFError, BrokenPipeError):
        connection.send(_READY)
        while os.getppid() == parent:
            if connection.poll(_TICK_S):
                connection.send(maker.row(*connection.recv()))


def meet_helpers(workers: int, nodes: int) -> list[Connection]:
    """For the first of the processes that SLURM or torchrun started: connections to the others, which `help_first`.

    ``workers`` is the number of processes on each machine, ``nodes`` that of machines.
    """
    fabric = _launch(workers, nodes)
    secret = secrets.token_bytes(32)
    connections: list[Connection] = []
    with Listener(("", 0), backlog=fabric.world_size, authkey=secret) as listener:
        fabric.broadcast((listener.address[1], secret))
        while len(connections) < fabric.world_size - 1:
            with suppress(AuthenticationError, EOFError, OSError):  # a stranger
                connections.append(listener.accept())
    return connections


def help_first(maker: RowMaker, device: str, workers: int, nodes: int, row_timeout: float | None = None) -> None:
    """For the other processes: score, each in one worker process of its own, until the first process ends.

    Of the device ``cuda`` the processes of a machine take one GPU each.
    """
    fabric = _launch(workers, nodes)
    environment = fabric.strategy.cluster_environment
    port, secret = fabric.broadcast(None)
    with (
        Client((environment.main_address, port), authkey=secret) as first,
        Workers(maker, own_device(device, fabric.local_rank), 1, row_timeout) as own,
    ):
        serve(first, own)


def serve(connection: Connection, workers: Workers) -> None:
    """Make the rows that are asked for through a connection, until it is closed at the other end."""
    with suppress(EOFError, OSError):
        while True:
            for row in workers.rows([connection.recv()]):
                connection.send(row)


def own_device(device: str, local_rank: int) -> str:
    """The device of one of the processes of a machine."""
    return device if device == "cpu" else f"cuda:{local_rank % torch.cuda.device_count()}"


def _launch(workers: int, nodes: int) -> Any:
    """Lightning Fabric knows who was started where, and lets the processes talk for the first time."""
    from lightning_fabric import Fabric
    from lightning_fabric.strategies import DDPStrategy

    logging.getLogger("lightning_fabric").setLevel(logging.ERROR)  # the commands say what the user needs
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*`srun` command is available.*")
        strategy = DDPStrategy(process_group_backend="gloo", timeout=_MEETING)
        fabric = Fabric(accelerator="cpu", devices=workers, num_nodes=nodes, strategy=strategy)
        fabric.launch()
    return fabric
