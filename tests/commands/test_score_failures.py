"""One bad architecture is a failed row with its reason; the rest goes on."""

import os
import signal
from pathlib import Path

import pytest
from small_runs import bytes_without_seconds, run

from vkdnw_pl.proxies import PROXIES, UndefinedScore
from vkdnw_pl.runs.table import read_table
from vkdnw_pl.spaces import NB201


@pytest.fixture(scope="module")
def good(tmp_path_factory) -> Path:
    """A run in which nothing fails."""
    folder = tmp_path_factory.mktemp("runs") / "good"
    run(folder)
    return folder


@pytest.fixture
def bad(good) -> str:
    """The third architecture of the run."""
    return read_table(good / "scores.csv").archs[2]


def break_build(monkeypatch: pytest.MonkeyPatch, bad: str, action) -> None:
    build = NB201.build

    def broken(self, arch, **network):
        if arch == bad:
            action()
        return build(self, arch, **network)

    monkeypatch.setattr(NB201, "build", broken)


@pytest.mark.parametrize("workers", [pytest.param(1, marks=pytest.mark.slow), 2])
def test_an_architecture_that_raises(tmp_path, good, bad, monkeypatch, capsys, workers):
    def action():
        raise RuntimeError("this one,\nis bad")

    with monkeypatch.context() as patch:
        break_build(patch, bad, action)
        assert run(tmp_path / "run", workers=workers) == 1
        text = capsys.readouterr().out
        assert "FAILED rows: 1 of 12" in text
        assert "1 x RuntimeError: this one, is bad" in text
    expected, rows = (read_table(folder / "scores.csv").rows for folder in (good, tmp_path / "run"))
    for before, row in zip(expected, rows, strict=True):
        if row.arch == bad:
            assert row.failed
            assert row.reason == "RuntimeError: this one, is bad"
            assert set(row.values.values()) == {None}
        else:
            assert row.same_scores(before)
    ranks = dict(line.split(",")[:2] for line in (tmp_path / "run" / "ranking.csv").read_text().splitlines()[1:])
    assert float(ranks[bad]) == 12

    # It stays failed until a new try is asked for.
    capsys.readouterr()
    assert run(tmp_path / "run", workers=workers) == 1
    assert "12 of 12 rows are there already, 1 of them failed (--retry_failed" in capsys.readouterr().out
    assert run(tmp_path / "run", workers=workers, retry_failed=True) == 0
    assert bytes_without_seconds(tmp_path / "run") == bytes_without_seconds(good)


def test_a_proxy_that_gives_nan(tmp_path, bad, monkeypatch):
    seen = []
    compute = PROXIES["synflow"].compute

    def nan_for_the_third(self, borrowed):
        seen.append(None)
        return {"synflow": float("nan")} if len(seen) == 3 else compute(self, borrowed)

    monkeypatch.setattr(PROXIES["synflow"], "compute", nan_for_the_third)
    assert run(tmp_path / "run", proxies=["synflow", "aleph"]) == 1
    (row,) = [row for row in read_table(tmp_path / "run" / "scores.csv").rows if row.failed]
    assert row.arch == bad
    assert row.values["synflow"] is None
    assert row.values["aleph"] is not None
    assert row.reason.startswith("synflow: ")


def test_a_value_that_is_undefined_by_definition_is_no_failure(tmp_path, bad, monkeypatch, capsys):
    seen = []
    compute = PROXIES["synflow"].compute

    def undefined_for_the_third(self, borrowed):
        seen.append(None)
        if len(seen) == 3:
            raise UndefinedScore("there is none")
        return compute(self, borrowed)

    monkeypatch.setattr(PROXIES["synflow"], "compute", undefined_for_the_third)
    assert run(tmp_path / "run", proxies=["synflow", "aleph"]) == 0
    row = read_table(tmp_path / "run" / "scores.csv").rows[2]
    assert (row.arch, row.failed, row.values["synflow"], row.reason) == (bad, False, None, "synflow: there is none")
    assert "ranked last (of 12 rows): synflow 1" in capsys.readouterr().out
    ranks = dict(line.split(",")[:2] for line in (tmp_path / "run" / "ranking.csv").read_text().splitlines()[1:])
    assert float(ranks[bad]) == 12


def test_a_worker_that_is_killed_once(tmp_path, good, bad, monkeypatch, capsys):
    """Nobody sees it in the table."""
    marker = tmp_path / "killed"

    def die_once():
        if not marker.exists():
            marker.touch()
            os.kill(os.getpid(), signal.SIGKILL)

    break_build(monkeypatch, bad, die_once)
    assert run(tmp_path / "run", workers=2) == 0
    assert marker.exists()
    assert f"a worker died at {bad}" in capsys.readouterr().err
    assert bytes_without_seconds(tmp_path / "run") == bytes_without_seconds(good)


def test_an_architecture_that_kills_its_workers(tmp_path, bad, monkeypatch):
    break_build(monkeypatch, bad, lambda: os.kill(os.getpid(), signal.SIGKILL))
    assert run(tmp_path / "run", workers=2) == 1
    rows = read_table(tmp_path / "run" / "scores.csv").rows
    assert len(rows) == 12
    (row,) = [row for row in rows if row.failed]
    assert row.arch == bad
    assert "its worker died twice" in row.reason
    assert "SIGKILL" in row.reason
