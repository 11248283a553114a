"""Workers of a loader end when the loader says so, not when the job is signalled."""

import os
import signal
import time

import pytest

from vkdnw_pl.data.stopping import follow_parent


def alive(pid):
    return os.waitpid(pid, os.WNOHANG) == (0, 0)


@pytest.fixture
def worker():
    """Process id of a worker."""
    ready, told = os.pipe()
    child = os.fork()
    if child == 0:
        follow_parent()
        os.write(told, b"x")
        time.sleep(30)
        os._exit(9)
    os.read(ready, 1)
    yield child
    try:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    except (ProcessLookupError, ChildProcessError):
        return


def test_signals_of_others_are_the_parents_matter(worker):
    stranger = os.fork()
    if stranger == 0:
        for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT):
            os.kill(worker, number)
        os._exit(0)
    os.waitpid(stranger, 0)
    time.sleep(0.1)
    assert alive(worker)


def test_sigterm_of_the_parent_ends_it(worker):
    os.kill(worker, signal.SIGTERM)
    assert os.waitstatus_to_exitcode(os.waitpid(worker, 0)[1]) == 0
