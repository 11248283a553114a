"""Ending a run on request: Ctrl-C, SIGTERM, and SIGUSR1, by which SLURM says that the time limit is near."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_SIGUSR1 = getattr(signal, "SIGUSR1", None)  # Windows has none
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, *([] if _SIGUSR1 is None else [_SIGUSR1]))
_PATIENCE_S = 2.0


class Stopped(BaseException):
    """The user or the system asked this run to end."""

    def __init__(self, signum: int) -> None:
        super().__init__(signum)
        self.signum = signum

    @property
    def name(self) -> str:
        """Name of the signal, such as ``SIGINT``."""
        return signal.Signals(self.signum).name


@contextmanager
def stop_signals() -> Iterator[None]:
    """Turn the first of the signals into ``Stopped`` and ignore more of them while it is dealt with.

    A process that was forked meanwhile ends at once; on SIGUSR1 it leaves that to its parent.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # Python takes signals in the main thread only
        return
    owner = os.getpid()

    def stop(signum: int, frame: FrameType | None) -> None:
        if os.getpid() != owner:
            _in_worker(signum, frame)
            return
        for number in STOP_SIGNALS:
            signal.signal(number, signal.SIG_IGN)
        raise Stopped(signum)

    before = {number: signal.signal(number, stop) for number in STOP_SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def follow_parent() -> None:
    """In a worker process: the parent decides what a signal means, and ends the workers."""
    for number in STOP_SIGNALS:
        signal.signal(number, _in_worker)


def await_own_signal(exit_code: int) -> None:
    """Within ``stop_signals``, after a worker died: SLURM signals all processes, in any order.

    Raises:
        Stopped: if a signal ended the worker, and it comes to this process too.
    """
    if exit_code in {code for number in STOP_SIGNALS for code in (-number, 128 + number)}:
        time.sleep(_PATIENCE_S)


def _in_worker(number: int, frame: FrameType | None) -> None:
    if number != _SIGUSR1:  # which the parent never sends; what this worker has made is on the disk
        os._exit(128 + number)
