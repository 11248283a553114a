import math

import pytest

from vkdnw_pl.callbacks import pace
from vkdnw_pl.callbacks.pace import Pace, duration


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.2, "0 s"), (89, "89 s"), (91, "2 min"), (5390, "90 min"), (5401, "1.5 h"), (36e4, "100.0 h")],
)
def test_duration(seconds, text):
    assert duration(seconds) == text


class Training:
    def __init__(self, total):
        self.estimated_stepping_batches = total
        self.global_step = 0


@pytest.fixture
def clock(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(pace.time, "monotonic", lambda: now[0])
    return now


def test_left(clock):
    training, it = Training(100), Pace()
    assert it.left_s(training) is None
    training.global_step = 40  # resumed
    it.start(training)
    assert it.left_s(training) is None
    clock[0] += 20
    training.global_step = 50
    assert it.left_s(training) == 100
    training.global_step = 100
    assert it.left_s(training) == 0


def test_old_epochs_are_forgotten(clock):
    training, it = Training(1000), Pace()
    it.start(training)
    clock[0] += 1000  # compilation
    for _ in range(12):
        training.global_step += 10
        it.mark(training)
        clock[0] += 10
    training.global_step += 10
    assert it.left_s(training) == pytest.approx(1000 - training.global_step)


def test_no_end_in_sight(clock):
    training, it = Training(math.inf), Pace()
    it.start(training)
    training.global_step = 5
    assert it.left_s(training) is None
