import os
import signal
import threading
import time

import pytest

from vkdnw_pl.errors import UsageError
from vkdnw_pl.runs.signals import Stopped, await_own_signal, exit_code, stop_signals


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1])
def test_first_signal_stops_and_later_ones_do_not_disturb(number):
    before = signal.getsignal(number)

    def work():
        try:
            os.kill(os.getpid(), number)
        finally:
            os.kill(os.getpid(), number)  # impatient

    with pytest.raises(Stopped) as stopped, stop_signals():
        work()
    assert stopped.value.signum == number
    assert stopped.value.name == number.name
    assert signal.getsignal(number) == before


@pytest.mark.parametrize("code", [-signal.SIGUSR1, 128 + signal.SIGTERM])
def test_a_worker_that_is_told_before_its_parent(code):
    """SLURM signals all processes of a step: a worker's end by that signal is no worker that died."""
    threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGUSR1)).start()
    with pytest.raises(Stopped), stop_signals():
        await_own_signal(code)


def test_a_worker_that_died_for_another_reason_is_not_waited_for():
    began_at = time.monotonic()
    with stop_signals():
        await_own_signal(-signal.SIGKILL)
    assert time.monotonic() - began_at < 1


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (Stopped(signal.SIGUSR1), 138),
        (KeyboardInterrupt(), 130),
        (SystemExit(), 0),
        (SystemExit(3), 3),
        (UsageError("no"), 2),
        (ValueError("bug"), 1),
    ],
)
def test_exit_codes(error, code):
    assert exit_code(error) == code
