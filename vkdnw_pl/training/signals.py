"""What SIGINT, SIGTERM and SIGUSR1 do to a training, from its first import to its end. Torch-free."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from vkdnw_pl.runs.signals import Stopped

SIGUSR1 = getattr(signal, "SIGUSR1", signal.SIGTERM)
"""A scheduler's announcement that the time is nearly over; Windows has none."""
BY_STRENGTH = (0, int(signal.SIGINT), int(SIGUSR1), int(signal.SIGTERM))
"""Of two requests the one that stands later decides: SIGTERM ends a job for good, also one that is stopping already."""


class StopSignals:
    """The requests to stop that this process was sent, and whether they wait for the end of a step.

    A signal that waits is only noted in ``signum``; another one ends what is being done, with ``Stopped`` or (SIGINT)
    ``KeyboardInterrupt``. At first only SIGUSR1 waits: it announces the end of a job's time, and a job that was stopped
    before its first step would be put back into the queue for ever. Child processes that were forked leave all but
    SIGTERM to their parent.
    """

    def __init__(self) -> None:
        self.active = False
        """Whether the signals come here."""
        self._owner = 0
        self._reset()

    def _reset(self) -> None:
        self.signum = 0
        """The strongest request so far; 0: none."""
        self._stopping = self._deaf = False
        self.wait_for(SIGUSR1, note="the training stops after its first step")

    @contextmanager
    def taken(self) -> Iterator[None]:
        """Take the signals over for a while. Nothing happens if they are taken, or outside of the main thread."""
        if self.active or threading.current_thread() is not threading.main_thread():
            yield  # Python takes signals in the main thread only
            return
        self._reset()
        self._owner, self.active = os.getpid(), True
        before = {number: signal.signal(number, self._receive) for number in BY_STRENGTH[1:]}
        try:
            yield
        finally:
            self.active = False
            for number, handler in before.items():
                signal.signal(number, signal.SIG_IGN if self._deaf and number != signal.SIGINT else handler)

    def wait_for(self, *numbers: int, note: str = "") -> None:
        """Say which signals wait from now on; ``note`` tells the user for what."""
        self._waiting, self._note = frozenset(numbers), note

    def stop(self, signum: int) -> None:
        """Begin to stop because of ``signum``: further signals change nothing, but that Ctrl-C ends it at once."""
        self.signum, self._stopping = signum, True

    def stay_deaf(self) -> None:
        """Ignore SIGTERM and SIGUSR1 until the process ends.

        ``srun --kill-on-bad-exit`` sends SIGTERM to the other tasks when the first ends with the code that says why; a
        task that dies of it would replace that code.
        """
        self._deaf = True

    def _receive(self, signum: int, frame: FrameType | None) -> Any:
        if os.getpid() != self._owner:
            if signum == signal.SIGTERM:
                os._exit(128 + signum)
            return  # a loader's worker, which the loader ends
        again = self.signum == signum
        if signum == signal.SIGINT and (self._stopping or again or signum not in self._waiting):
            self.stop(signum)
            raise KeyboardInterrupt
        if self._stopping:
            return
        if signum not in self._waiting:
            self.stop(signum)
            raise Stopped(signum)
        self.signum = max(self.signum, signum, key=BY_STRENGTH.index)
        if not again and _rank() == 0:
            # Not print: it may be what the signal came into.
            os.write(2, f"\n{signal.Signals(signum).name}: {self._note}\n".encode())


SIGNALS = StopSignals()
"""Of this process, which has one set of handlers."""


def _rank() -> int:
    for name in ("RANK", "LOCAL_RANK", "SLURM_PROCID"):
        if os.environ.get(name, "").isdecimal():
            return int(os.environ[name])
    return 0
