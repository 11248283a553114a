import math
import os
import signal
import time
from contextlib import ExitStack
from types import SimpleNamespace

import pytest
import wandb
from wandb_records import Records, no_account, overview

from vkdnw_pl.errors import UsageError
from vkdnw_pl.runs.signals import Stopped
from vkdnw_pl.tracking.guarded import Guarded
from vkdnw_pl.tracking.session import Session, begin, exit_code
from vkdnw_pl.tracking.tracked import Tracked, tracked_run

OPTIONS = {"wandb": True, "wandb_group": None, "wandb_tags": [], "archs": ["a"] * 200, "seeds": [1, 2]}
META = {"command": "score", "digest": "12345678", "environment": {"commit": "abc"}, "runs": []}


@pytest.fixture(autouse=True)
def clean():
    with no_account():
        yield


class BrokenRun:
    """A W&B run whose service has died."""

    id = "x"

    def __init__(self):
        self.calls = 0

    def __getattr__(self, name):
        def call(*arguments, **named):
            self.calls += 1
            raise ConnectionResetError("Connection lost\nand more")

        return call


def test_a_failure_is_said_once_and_ends_the_logging(tmp_path, capsys):
    run = BrokenRun()
    session = Session(run, ExitStack())
    tracked = Tracked(session, tmp_path)
    tracked.log({"a": 1.0})
    tracked.log({"a": 2.0})
    tracked.table("t", ["a"], [[1]])
    session.finish(0)
    assert run.calls == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("note: W&B failed (Connection lost); going on without it")
    assert not tracked.active


def test_a_guarded_run_fails_without_harm(capsys):
    run = BrokenRun()
    guarded = Guarded(Session(run, ExitStack()), run)
    guarded.log({"a": 1})
    guarded.summary.update({"a": 1})
    guarded.config["a"] = 1
    assert run.calls == 1
    assert capsys.readouterr().err.count("note:") == 1
    nothing = Guarded(None, None)
    assert isinstance(nothing.experiment.anything(1)["x"], Guarded)


def test_a_guarded_run_is_the_run():
    run = SimpleNamespace(id="abc", summary={})
    guarded = Guarded(Session(run, ExitStack()), run)
    guarded.summary["a"] = 1
    guarded.summary.update({"b": 2})
    assert guarded.id == "abc"
    assert guarded.summary["b"] == 2
    assert run.summary == {"a": 1, "b": 2}


def test_disabled_writes_nothing(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(os.environ, "WANDB_MODE", "disabled")
    with tracked_run(OPTIONS, tmp_path, "score", META) as tracked:
        tracked.log({"a": 1})
        assert not tracked.active
    assert list(tmp_path.iterdir()) == []
    assert not capsys.readouterr().err


def test_a_folder_that_takes_no_files(tmp_path, capsys):
    (tmp_path / "wandb").write_text("a file")
    assert begin(tmp_path, "score", {}, {}) is None
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("note: W&B does not work (")
    assert "WANDB_DATA_DIR" not in os.environ


def struck_by(number, folder, command, group):
    with tracked_run(OPTIONS, folder, command, META, group) as tracked:
        tracked.log({"a": 1.0, "b": math.nan, "c": None})
        tracked.summary({"d": math.inf, "e": "text"})
        os.kill(os.getpid(), number)
        time.sleep(5)


def test_a_signal_ends_the_run_in_good_order(tmp_path):
    with pytest.raises(SystemExit) as ended:
        struck_by(signal.SIGTERM, tmp_path, "score", "score-12345678")
    assert ended.value.code == 143
    found = overview(tmp_path)
    assert found["exit_code"] == 143
    assert found["config"]["archs"] == "200 items, the first is a"
    assert found["config"]["seeds"] == [1, 2]
    assert found["config"]["meta"] == {"command": "score", "digest": "12345678", "environment": {"commit": "abc"}}
    assert found["summary"]["a"] == 1
    assert found["summary"]["e"] == "text"
    assert not {"b", "c", "d"} & set(found["summary"])
    records = Records(tmp_path)
    assert records.run["run_group"] == "score-12345678"
    assert records.of("stats")  # system metrics
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_interrupt_and_own_group(tmp_path, monkeypatch):
    monkeypatch.setitem(os.environ, "WANDB_RUN_GROUP", "of the launch")
    with pytest.raises(KeyboardInterrupt):
        struck_by(signal.SIGINT, tmp_path, "search", "other")
    records = Records(tmp_path)
    assert records.of("exit")[0]["exit_code"] == 130
    assert records.run["run_group"] == "of the launch"
    assert records.run["job_type"] == "search"


@pytest.mark.parametrize(("signal_", "code"), [(Stopped(signal.SIGTERM), 143), (KeyboardInterrupt(), 130)])
def test_a_signal_while_the_run_begins(tmp_path, monkeypatch, signal_, code):
    init = wandb.init

    def struck(**options):
        init(**options)
        raise signal_

    monkeypatch.setattr(wandb, "init", struck)
    with pytest.raises(type(signal_)):
        begin(tmp_path, "fit", {}, {"console": "off"})
    assert overview(tmp_path)["exit_code"] == code
    assert "WANDB_DATA_DIR" not in os.environ


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
