import os
import signal
import threading
import time

import pytest
import torch

from vkdnw_pl.callbacks.score_writer import ScoreWriter
from vkdnw_pl.runs.journal import read_journals
from vkdnw_pl.runs.signals import Stopped, await_own_signal, stop_signals
from vkdnw_pl.scoring import predict
from vkdnw_pl.scoring.module import ScoringModule
from vkdnw_pl.scoring.shared import SharedState
from vkdnw_pl.spaces import NB201

NETWORK = {"channels": 4, "cells": 1, "image_size": 8}


def rows_of(folder, processes, start_method):
    keys = [(arch, 1) for arch in list(NB201().enumerate(unique=True))[:3000:600]]
    module = ScoringModule("nb201", NETWORK, ["macs", "vkdnw"], 4, "random", "digits", "kaiming_normal")
    state = SharedState(keys, processes, start_method)
    predict.predict(module, keys, [ScoreWriter(folder, module.columns, state)], "cpu", processes)
    assert state.done == 5
    rows = {row.key: row for row in read_journals(folder)}
    return [rows[key] for key in keys]


def test_processes_that_are_spawned_agree_with_this_one(tmp_path, monkeypatch):
    """The way of systems where forking is not safe."""
    monkeypatch.setattr(predict, "start_method", lambda device: "spawn")
    alone, spawned = rows_of(tmp_path / "alone", 1, "spawn"), rows_of(tmp_path / "spawned", 2, "spawn")
    assert all(row.same_scores(other) for row, other in zip(alone, spawned, strict=True))
    assert len(list((tmp_path / "spawned").iterdir())) == 2


def test_leaves_threads_environment_and_random_state_as_they_were(tmp_path, monkeypatch):
    monkeypatch.setenv("MASTER_PORT", "1")  # of a job around this one; nobody may listen there
    threads, environment, state = torch.get_num_threads(), dict(os.environ), torch.get_rng_state()
    rows_of(tmp_path, 2, "fork")
    assert torch.get_num_threads() == threads
    assert dict(os.environ) == environment
    assert torch.equal(torch.get_rng_state(), state)


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
