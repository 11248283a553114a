"""What signals do before, during and after the steps of a training, and in the workers of its loader."""

import os
import signal
import time

import pytest
from vkdnw_pl.runs.signals import BY_STRENGTH, Stopped, TrainingSignals, follow_loader


NUMBERS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)


@pytest.fixture
def signals():
    before = [signal.getsignal(number) for number in NUMBERS]
    ours = TrainingSignals()
    with ours.taken():
        yield ours
    assert [signal.getsignal(number) for number in NUMBERS] == before


def test_before_the_first_step_only_sigusr1_waits(signals, capfd):
    signal.raise_signal(signal.SIGUSR1)
    signal.raise_signal(signal.SIGUSR1)
    assert signals.signum == signal.SIGUSR1
    assert capfd.readouterr().err.count("SIGUSR1: the training stops after its first step") == 1
    with pytest.raises(Stopped) as stop:
        signal.raise_signal(signal.SIGTERM)
    assert stop.value.signum == signals.signum == signal.SIGTERM
    signal.raise_signal(signal.SIGTERM)  # while that is dealt with
    signal.raise_signal(signal.SIGUSR1)
    assert signals.signum == signal.SIGTERM


def test_ctrl_c_before_the_first_step(signals):
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)
    assert signals.signum == signal.SIGINT


@pytest.mark.parametrize(
    ("sent", "decides"),
    [
        ([signal.SIGUSR1, signal.SIGTERM], signal.SIGTERM),
        ([signal.SIGTERM, signal.SIGUSR1], signal.SIGTERM),
        ([signal.SIGINT, signal.SIGUSR1], signal.SIGUSR1),
    ],
)
def test_the_stronger_request_decides(sent, decides, signals):
    signals.wait_for(*NUMBERS)
    for number in sent:
        signal.raise_signal(number)
    assert signals.signum == decides


def test_ctrl_c_again_ends_it_at_once(signals):
    signals.wait_for(*NUMBERS)
    signal.raise_signal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)


def test_ctrl_c_ends_a_stop_at_once(signals):
    signals.stop(signal.SIGUSR1)
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)
    assert signals.signum == signal.SIGINT


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGUSR1, 5), (signal.SIGINT, 5)])
def test_forked_processes_leave_it_to_their_parent(number, code, signals):
    child = os.fork()
    if child == 0:
        signal.raise_signal(number)
        os._exit(5)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == code
    assert signals.signum == 0


def test_ignored_until_the_process_ends():
    before = [signal.getsignal(number) for number in NUMBERS]
    signals = TrainingSignals()
    try:
        with signals.taken():
            signals.ignore_until_exit()
        assert signal.getsignal(signal.SIGTERM) == signal.getsignal(signal.SIGUSR1) == signal.SIG_IGN
        assert signal.getsignal(signal.SIGINT) == before[0]
    finally:
        for number, handler in zip(NUMBERS, before):
            signal.signal(number, handler)


def test_taken_once(signals):
    signals.wait_for(*NUMBERS)
    signal.raise_signal(signal.SIGUSR1)
    with signals.taken():
        assert signals.signum == signal.SIGUSR1
    assert signals.active


def test_processes_agree_by_strength():
    assert BY_STRENGTH == (0, signal.SIGINT, signal.SIGUSR1, signal.SIGTERM)


def alive(pid):
    return os.waitpid(pid, os.WNOHANG) == (0, 0)


@pytest.fixture
def worker():
    """Process id of a worker."""
    ready, told = os.pipe()
    child = os.fork()
    if child == 0:
        follow_loader()
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
