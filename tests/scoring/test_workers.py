"""Rows are made by worker processes, whatever becomes of them."""

import os
import signal
import sys
import time
import warnings
from dataclasses import replace
from multiprocessing import Pipe

import pytest
import torch

from vkdnw_pl.errors import WorkerDied
from vkdnw_pl.proxies import PROXIES
from vkdnw_pl.proxies.functional.jacobian import GenericFallback
from vkdnw_pl.runs.table import new_journal, read_journals, row_line
from vkdnw_pl.scoring import scorer
from vkdnw_pl.scoring import workers as engine
from vkdnw_pl.scoring.scorer import Scorer
from vkdnw_pl.scoring.settings import ScorerSettings
from vkdnw_pl.scoring.workers import Workers, serve
from vkdnw_pl.spaces import NB201

NETWORK = {"channels": 4, "cells": 1, "image_size": 8}
KEYS = [(arch, 1) for arch in list(NB201().enumerate(unique=True))[:3000:600]]
forked = pytest.mark.skipif(sys.platform != "linux", reason="workers are forked there, and so know what a test patches")


def make_scorer():
    return Scorer(
        ScorerSettings(
            space="nb201",
            network=NETWORK,
            proxies=["macs", "vkdnw"],
            batch_size=4,
            input="random",
            data="digits",
            init="kaiming_normal",
            device="cpu",
        )
    )


def make_rows(count, keys=KEYS, waiting=None, **options):
    with Workers(make_scorer(), "cpu", count, **options) as workers:
        rows = {row.key: row for row in workers.rows(keys, waiting)}
    return [rows[key] for key in keys]


@pytest.fixture(scope="module")
def expected():
    """Made in this process."""
    scorer = make_scorer()
    return [scorer.row(*key) for key in KEYS]


def agree(rows, others):
    return all(row.same_scores(other) for row, other in zip(rows, others, strict=True))


def act_in_build(monkeypatch, arch, action):
    build = NB201.build

    def patched(self, name, **network):
        if name == arch:
            action()
        return build(self, name, **network)

    monkeypatch.setattr(NB201, "build", patched)


class Speechless(Exception):
    def __str__(self):
        raise RuntimeError("nor can this be said")


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (RuntimeError("x" * 300_000), "RuntimeError: xxx"),
        (ValueError("a \ud800 b\0c\r\nd\x1b[2J"), "ValueError: a \ufffd b\ufffdc d\ufffd[2J"),
        (Speechless(), "Speechless: (it cannot be put into words)"),
        (KeyError(), "KeyError: "),
    ],
    ids=["long", "no text", "speechless", "silent"],
)
@pytest.mark.parametrize("where", ["the network", "the proxy"])
def test_whatever_an_exception_says_its_row_can_be_read_again(monkeypatch, tmp_path, error, reason, where):
    def fail(*_, **__):
        raise error

    owner, name = (NB201, "build") if where == "the network" else (PROXIES["vkdnw"], "compute")
    monkeypatch.setattr(owner, name, fail)
    scorer = make_scorer()
    row = scorer.row(*KEYS[0])
    journal = new_journal(tmp_path, scorer.columns)
    journal.append(row_line(row, scorer.columns))
    journal.close()
    (back,) = read_journals(tmp_path)
    assert back.same_scores(replace(row, seconds=0.0, reason=back.reason))
    said = back.reason if where == "the network" else back.reason.removeprefix("vkdnw: ")
    assert said.startswith(reason.strip())
    assert len(said.partition("; vkdnw")[0]) < 1100


@pytest.mark.parametrize("method", ["fork", pytest.param("spawn", marks=pytest.mark.slow)])
def test_worker_processes_agree_with_this_one(expected, monkeypatch, method):
    monkeypatch.setattr(engine, "start_method", lambda device: method)
    assert agree(make_rows(2), expected)


def test_several_batches_of_the_same_workers(expected):
    with Workers(make_scorer(), "cpu", 2) as workers:
        for keys in (KEYS[:1], KEYS[1:4], [], KEYS[4:]):
            assert sorted(row.key for row in workers.rows(keys)) == sorted(keys)


def test_threads_environment_and_random_state_stay_as_they_were(monkeypatch):
    monkeypatch.setenv("MASTER_PORT", "1")
    threads, environment, state = torch.get_num_threads(), dict(os.environ), torch.get_rng_state()
    make_rows(2)
    assert torch.get_num_threads() == threads
    assert dict(os.environ) == environment
    assert torch.equal(torch.get_rng_state(), state)


@forked
@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("place", [0, 4])
@pytest.mark.parametrize(
    ("action", "how"),
    [
        (lambda: os.kill(os.getpid(), signal.SIGKILL), "terminated by SIGKILL"),
        (lambda: os._exit(7), "exit code 7"),
        (lambda: sys.exit(3), "exit code 3"),
    ],
)
def test_an_architecture_that_ends_its_worker_is_a_failed_row(expected, monkeypatch, capfd, count, place, action, how):
    """Also the last one that is left, and also with one worker."""
    act_in_build(monkeypatch, KEYS[place][0], action)
    rows = make_rows(count)
    assert rows[place].failed
    assert rows[place].reason == f"its worker died twice, perhaps for lack of memory: {how}"
    assert rows[place].values == dict.fromkeys(expected[0].values)
    assert agree(rows[:place] + rows[place + 1 :], expected[:place] + expected[place + 1 :])
    assert capfd.readouterr().err.count(f"a worker died at {KEYS[place][0]} (seed 1): {how}") == 2


@forked
def test_an_architecture_whose_worker_is_killed_once_gets_its_row(expected, monkeypatch, tmp_path):
    def die_once():
        if not (tmp_path / "died").exists():
            (tmp_path / "died").touch()
            os.kill(os.getpid(), signal.SIGKILL)

    act_in_build(monkeypatch, KEYS[2][0], die_once)
    assert agree(make_rows(2), expected)


@forked
@pytest.mark.parametrize("count", [pytest.param(1, marks=pytest.mark.slow), 2])
def test_a_row_that_takes_too_long_fails_at_once(expected, monkeypatch, count):
    act_in_build(monkeypatch, KEYS[1][0], lambda: time.sleep(1000))
    rows = make_rows(count, row_timeout=2.5)
    assert rows[1].failed
    assert rows[1].reason == "took longer than row_timeout=2.5 seconds"
    assert 2.5 <= rows[1].seconds < 30
    assert agree(rows[:1] + rows[2:], expected[:1] + expected[2:])


@forked
def test_a_long_row_leaves_no_other_worker_idle(monkeypatch):
    """All the others are made while the first one takes its time."""
    act_in_build(monkeypatch, KEYS[0][0], lambda: time.sleep(2))
    with Workers(make_scorer(), "cpu", 2) as workers:
        rows = list(workers.rows(KEYS))
    assert [row.key for row in rows][-1] == KEYS[0]


@forked
def test_what_is_in_progress_is_told_while_it_is_waited_for(monkeypatch):
    act_in_build(monkeypatch, KEYS[3][0], lambda: time.sleep(1.5))
    told = []
    make_rows(1, KEYS[3:4], told.append)
    assert any(key == KEYS[3] and seconds > 0.9 for state in told for key, seconds in state)


@forked
def test_a_worker_that_dies_before_it_has_a_row_is_no_fault_of_a_row(monkeypatch):
    monkeypatch.setattr(Scorer, "use", lambda self, device: os._exit(5))
    with pytest.raises(WorkerDied, match="exit code 5"):
        make_rows(2)


@forked
def test_workers_end_with_the_block():
    with Workers(make_scorer(), "cpu", 2) as workers:
        next(workers.rows(KEYS))
        processes = [worker.process for worker in workers._workers]
        assert len(processes) == 2
    assert not any(process.is_alive() for process in processes)


@forked
def test_workers_end_when_their_parent_is_killed(monkeypatch, tmp_path):
    """Even in the middle of a row."""

    def sleep():
        (tmp_path / "worker").write_text(str(os.getpid()))
        time.sleep(1000)

    act_in_build(monkeypatch, KEYS[0][0], sleep)
    parent = os.fork()
    if parent == 0:
        make_rows(1)
        os._exit(0)
    while not (tmp_path / "worker").exists() or not (tmp_path / "worker").read_text():
        time.sleep(0.01)
    worker = int((tmp_path / "worker").read_text())
    os.kill(parent, signal.SIGKILL)
    os.waitpid(parent, 0)
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline and is_running(worker):
        time.sleep(0.05)
    assert not is_running(worker)


def start_helper(action):
    """Another process that helps, as one of another machine would; returns the connection to it and its number."""
    connection, inner = Pipe()
    pid = os.fork()
    if pid == 0:
        connection.close()
        action(inner)
        os._exit(0)
    inner.close()
    return connection, pid


def help_with_own_worker(connection):
    with Workers(make_scorer(), "cpu", 1) as own:
        serve(connection, own)


@forked
def test_helpers_of_other_machines_make_rows_too(expected, monkeypatch):
    connection, pid = start_helper(help_with_own_worker)
    act_in_build(monkeypatch, KEYS[0][0], lambda: time.sleep(5))  # here alone, so the helper makes the rest
    assert agree(make_rows(1, helpers=[connection]), expected)
    assert os.waitpid(pid, 0)[1] == 0, "it ends when the first process closes the connection"


@forked
def test_the_row_of_a_helper_that_goes_is_made_by_another(expected, capfd):
    connection, pid = start_helper(lambda inner: inner.recv())
    assert agree(make_rows(1, helpers=[connection]), expected)
    os.waitpid(pid, 0)
    assert "died" not in capfd.readouterr().err


def is_running(pid):
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().split()[2] not in "ZX"
    except FileNotFoundError:
        return False


@forked
def test_a_fallback_is_said_once_for_every_kind(expected, monkeypatch, capfd):
    """Which weight of which network it is does not make another kind."""
    compute = scorer.score_network
    names = iter("abcdefgh")

    def warning(*args, **options):
        warnings.warn(f"generic Jacobian: {next(names)}.0.weight is shared", GenericFallback, stacklevel=1)
        return compute(*args, **options)

    monkeypatch.setattr(scorer, "score_network", warning)
    assert agree(make_rows(1), expected)
    said = capfd.readouterr().err
    assert said.count("generic Jacobian: ") == 1
    assert "a.0.weight is shared (said of the first such network)" in said
