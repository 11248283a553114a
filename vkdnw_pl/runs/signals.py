"""Ending a run on request: Ctrl-C, SIGTERM, and SIGUSR1, by which SLURM says that the time limit is near.

A command that may end anywhere works within `stop_signals`; a training, which ends between two steps, within
``TRAINING_SIGNALS.taken()``. Processes that a run starts leave the decision to their parent.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

SIGUSR1 = getattr(signal, "SIGUSR1", signal.SIGTERM)
"""A scheduler's announcement that the time is nearly over; Windows has none."""
STOP_SIGNALS = tuple(dict.fromkeys((signal.SIGINT, SIGUSR1, signal.SIGTERM)))
BY_STRENGTH = (0, *map(int, STOP_SIGNALS))
"""Of two requests the one that stands later decides: SIGTERM ends a job for good, also one that is stopping already."""
_PATIENCE_S = 2.0


class Stopped(BaseException):
    """The user or the system asked this run to end."""

    def __init__(self, signum: int) -> None:
        super().__init__(signum)
        self.signum, self.name = signum, signal.Signals(signum).name
        self.exit_code = 128 + signum


def exit_code(error: BaseException) -> int:
    """Exit code of a command that ends with this exception."""
    if isinstance(error, KeyboardInterrupt):
        return 128 + signal.SIGINT
    if isinstance(error, SystemExit):
        return error.code if isinstance(error.code, int) else int(error.code is not None)
    return getattr(error, "exit_code", 1)


@contextmanager
def stop_signals() -> Iterator[None]:
    """Turn the first of the signals into ``Stopped`` and ignore more of them while it is dealt with.

    A process that was forked meanwhile ends at once; on SIGUSR1 it leaves that to its parent.
    """
    owner = os.getpid()

    def stop(signum: int, frame: FrameType | None) -> None:
        if os.getpid() != owner:
            _in_worker(signum, frame)
            return
        for number in STOP_SIGNALS:
            signal.signal(number, signal.SIG_IGN)
        raise Stopped(signum)

    if not _takes_signals():
        yield
        return
    with _handled_by(stop):
        yield


class TrainingSignals:
    """The requests to stop that a training was sent, and whether they wait for the end of a step.

    A signal that waits is only noted in ``signum``; another one ends what is being done, with ``Stopped`` or (SIGINT)
    ``KeyboardInterrupt``. At first only SIGUSR1 waits: a job that was stopped before its first step would be put back
    into the queue for ever. Forked processes leave all but SIGTERM to their parent.
    """

    def __init__(self) -> None:
        self.active = False
        """Whether the signals come here."""
        self._owner = 0
        self._handlers_afterwards: dict[int, Any] = {}
        self._reset()

    def _reset(self) -> None:
        self.signum = 0
        """The strongest request so far; 0: none."""
        self._stopping = False
        self.wait_for(SIGUSR1, note="the training stops after its first step")

    @contextmanager
    def taken(self) -> Iterator[None]:
        """Take the signals over for a while. Nothing happens if they are taken, or outside of the main thread."""
        if self.active or not _takes_signals():
            yield
            return
        self._reset()
        self._owner, self.active = os.getpid(), True
        try:
            with _handled_by(self._receive) as self._handlers_afterwards:
                yield
        finally:
            self.active = False

    def wait_for(self, *numbers: int, note: str = "") -> None:
        """Say which signals wait from now on; ``note`` tells the user for what."""
        self._waiting, self._note = frozenset(numbers), note

    def stop(self, signum: int) -> None:
        """Begin to stop because of ``signum``: further signals change nothing, but that Ctrl-C ends it at once."""
        self.signum, self._stopping = signum, True

    def ignore_until_exit(self) -> None:
        """Ignore SIGTERM and SIGUSR1 until the process ends.

        ``srun --kill-on-bad-exit`` sends SIGTERM to the other tasks when the first ends with the code that says why; a
        task that dies of it would replace that code.
        """
        self._handlers_afterwards.update(dict.fromkeys((SIGUSR1, signal.SIGTERM), signal.SIG_IGN))

    def _receive(self, signum: int, frame: FrameType | None) -> None:
        if os.getpid() != self._owner:
            if signum == signal.SIGTERM:
                os._exit(128 + signum)
            return  # a loader's worker, which the loader ends
        repeated = self.signum == signum
        if signum == signal.SIGINT and (self._stopping or repeated or signum not in self._waiting):
            self.stop(signum)
            raise KeyboardInterrupt
        if self._stopping:
            return
        if signum not in self._waiting:
            self.stop(signum)
            raise Stopped(signum)
        self.signum = max(self.signum, signum, key=BY_STRENGTH.index)
        if not repeated and _rank() == 0:
            # Not print: it may be what the signal came into.
            os.write(2, f"\n{signal.Signals(signum).name}: {self._note}\n".encode())


TRAINING_SIGNALS = TrainingSignals()
"""Of this process, which has one set of handlers."""


def follow_parent() -> None:
    """In a worker process: the parent decides what a signal means, and ends the workers."""
    for number in STOP_SIGNALS:
        signal.signal(number, _in_worker)


def follow_loader(worker: int = 0) -> None:
    """``worker_init_fn`` of a ``DataLoader``: end on SIGTERM of the parent only, and leave SIGINT and SIGUSR1 to it.

    A worker that ended at once would take the batches with it that its parent needs up to the end of the step.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if not hasattr(signal, "sigwaitinfo"):  # Windows, macOS
        return
    signal.signal(SIGUSR1, signal.SIG_IGN)
    # Blocked, so that the thread learns who sent it.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    threading.Thread(target=_await_parent, args=(os.getppid(),), name="await-parent", daemon=True).start()


def await_own_signal(exit_code: int) -> None:
    """Within ``stop_signals``, after a worker died: SLURM signals all processes, in any order.

    Raises:
        Stopped: if a signal ended the worker, and it comes to this process too.
    """
    if exit_code in {code for number in STOP_SIGNALS for code in (-number, 128 + number)}:
        time.sleep(_PATIENCE_S)


def _takes_signals() -> bool:
    """Python takes signals in the main thread only."""
    return threading.current_thread() is threading.main_thread()


@contextmanager
def _handled_by(handler: Callable[[int, FrameType | None], Any]) -> Iterator[dict[int, Any]]:
    """Yields the handlers that are put back in the end."""
    before: dict[int, Any] = {number: signal.getsignal(number) for number in STOP_SIGNALS}
    try:
        for number in STOP_SIGNALS:
            signal.signal(number, handler)  # within, as a signal may come before all are set
        yield before
    finally:
        for number, handler_before in before.items():
            signal.signal(number, handler_before)


def _in_worker(number: int, frame: FrameType | None) -> None:
    if number in (signal.SIGINT, signal.SIGTERM):  # what this worker has made is on the disk
        os._exit(128 + number)


def _await_parent(parent: int) -> None:
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != parent:
        pass
    os._exit(0)  # what the loader asks for is no failure


def _rank() -> int:
    for name in ("RANK", "LOCAL_RANK", "SLURM_PROCID"):
        if os.environ.get(name, "").isdecimal():
            return int(os.environ[name])
    return 0
