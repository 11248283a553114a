"""One W&B run: where it goes, how it begins and ends, and that it may fail. Wandb's own reader reads it back."""

import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import wandb
from wandb_records import Records, latest, no_account, overview

from vkdnw_pl.options import WandbOptions
from vkdnw_pl.runs.folder import RunFolder, remove_wandb
from vkdnw_pl.runs.signals import Stopped
from vkdnw_pl.search.folder import SearchFolder
from vkdnw_pl.tracking.run import WandbRun, begin, run_id, wandb_run
from vkdnw_pl.training.folder import TrainingFolder

CONFIG = {"archs": ["a"] * 200, "seeds": [1, 2]}
META = {"command": "score", "digest": "12345678", "environment": {"commit": "abc"}, "runs": []}
KEY = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture(autouse=True)
def environment_without_account(tmp_path):
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


class RunOfNotes:
    """A W&B run that notes how it ends."""

    def finish(self, exit_code):
        self.exit_code = exit_code


def test_wandb_is_imported_only_where_it_is_asked_for():
    names = "score, search, evaluate, merge, export"
    code = f"import sys; from vkdnw_pl.commands import {names}; sys.exit('wandb' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


# What is kept in the run folder.


def test_a_folder_keeps_its_id_and_each_command_that_only_looks_has_its_own(tmp_path):
    first = run_id(tmp_path, "score")
    assert (tmp_path / "wandb_id").read_text() == first + "\n"
    assert run_id(tmp_path, "score") == first
    evaluation = run_id(tmp_path, "evaluate")
    assert evaluation != first
    assert run_id(tmp_path, "evaluate") == evaluation
    assert len({first, evaluation, run_id(tmp_path, "test")}) == 3


def test_the_environment_may_name_the_run(tmp_path, monkeypatch):
    monkeypatch.setitem(os.environ, "WANDB_RUN_ID", "mine")
    assert run_id(tmp_path, "score") == "mine"


@pytest.mark.parametrize("kind", [RunFolder, SearchFolder, TrainingFolder])
def test_overwrite_begins_another_run(kind, tmp_path):
    first = run_id(tmp_path, "fit")
    (tmp_path / "wandb").mkdir()
    kind(tmp_path).clear()
    assert not (tmp_path / "wandb").exists()
    assert run_id(tmp_path, "fit") != first


def test_a_folder_wandb_of_other_origin_stays(tmp_path):
    (tmp_path / "wandb").mkdir()
    remove_wandb(tmp_path)
    assert (tmp_path / "wandb").exists()


@pytest.mark.parametrize("cache", [None, "/elsewhere"])
def test_all_folders_of_wandb_are_in_the_run_folder_unless_the_user_says_where(cache, tmp_path, monkeypatch):
    if cache is not None:
        monkeypatch.setitem(os.environ, "WANDB_CACHE_DIR", cache)
    seen = {}
    monkeypatch.setattr(wandb, "init", lambda **options: seen.update(os.environ) or RunOfNotes())
    begin(tmp_path, "score", {"mode": "offline"}).finish()
    assert seen["WANDB_DATA_DIR"] == str(tmp_path / "wandb")
    assert seen["WANDB_CACHE_DIR"] == (cache or str(tmp_path / "wandb" / "cache"))
    assert "WANDB_DATA_DIR" not in os.environ


# With and without key, network and working W&B.


def init_modes(monkeypatch, *, fails_online=False):
    """The modes with which wandb.init is called from now on."""
    modes = []

    def init(**options):
        modes.append(options["mode"])
        assert not options["settings"].x_disable_stats  # W&B's own system metrics
        if options["mode"] != "offline" and fails_online:
            (Path(options["dir"]) / "wandb" / "run-1").mkdir()
            raise ConnectionError("no answer\nand more")
        return type("Run", (RunOfNotes,), {"url": "https://wandb.here/run"})()

    monkeypatch.setattr(wandb, "init", init)
    return modes


def test_without_key_it_is_offline(tmp_path, monkeypatch, capsys):
    modes = init_modes(monkeypatch)
    monkeypatch.setattr(wandb, "login", lambda **options: False)
    assert begin(tmp_path, "score", {}).active
    assert modes == ["offline"]
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("note: there is no W&B key (WANDB_API_KEY or `wandb login`), so W&B writes offline below")


def test_with_key_it_is_online(tmp_path, monkeypatch, capsys):
    modes = init_modes(monkeypatch)
    monkeypatch.setattr(wandb, "login", lambda **options: True)
    assert begin(tmp_path, "score", {}).active
    assert modes == [None]
    assert capsys.readouterr().err == "note: W&B: https://wandb.here/run\n"


def test_where_the_server_does_not_answer_it_is_offline(tmp_path, monkeypatch, capsys):
    modes = init_modes(monkeypatch, fails_online=True)
    monkeypatch.setattr(wandb, "login", lambda **options: True)
    assert begin(tmp_path, "score", {}).active
    assert modes == [None, "offline"]
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("note: W&B cannot be reached (no answer), so W&B writes offline below")
    assert not (tmp_path / "wandb" / "run-1").exists()


@pytest.mark.slow
def test_a_real_server_that_does_not_answer(tmp_path):
    server = {"WANDB_API_KEY": KEY, "WANDB_BASE_URL": "http://127.0.0.1:9", "WANDB_INIT_TIMEOUT": "1"}
    code = (
        "import sys; from pathlib import Path; from vkdnw_pl.tracking.run import begin\n"
        "run = begin(Path(sys.argv[1]), 'evaluate', {}); run.summary({'rows': 12}); run.finish()"
    )
    process = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], env={**os.environ, **server}, capture_output=True, text=True
    )
    assert process.returncode == 0
    (line,) = process.stderr.splitlines()
    assert line.startswith("note: W&B cannot be reached (")
    assert "so W&B writes offline below" in line
    assert overview(tmp_path, "evaluate")["summary"]["rows"] == 12
    attempts = [path for path in (tmp_path / "wandb").glob("*run-*") if path.is_dir() and not path.is_symlink()]
    assert attempts == [latest(tmp_path, "evaluate")]
    for path in tmp_path.rglob("*"):
        assert not path.is_file() or KEY.encode() not in path.read_bytes(), path


@pytest.mark.parametrize(
    ("server", "mode"),
    [("", "online"), pytest.param("https://wandb.here", "offline", marks=pytest.mark.slow)],
)
def test_a_key_counts_for_its_server(server, mode, tmp_path):
    """What `wandb login` leaves in the home folder is found, as wandb finds it."""
    (tmp_path / ".netrc").write_text(f"machine api.wandb.ai login user password {KEY}\n")
    (tmp_path / ".netrc").chmod(0o600)
    (tmp_path / ".config" / "wandb").mkdir(parents=True)
    (tmp_path / ".config" / "wandb" / "settings").write_text(f"[default]\nbase_url = {server}\n" if server else "")
    code = (
        "import sys, wandb; from pathlib import Path; from vkdnw_pl.tracking.run import begin\n"
        "wandb.init = lambda **options: sys.exit(options['mode'] or 'online')\n"
        "begin(Path(sys.argv[1]), 'score', {})"
    )
    environment = {name: value for name, value in os.environ.items() if name != "NETRC"} | {"HOME": str(tmp_path)}
    process = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], env=environment, capture_output=True, text=True
    )
    assert process.stderr.splitlines()[-1] == mode


def test_disabled_writes_nothing(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(os.environ, "WANDB_MODE", "disabled")
    with wandb_run(WandbOptions(wandb=True), CONFIG, tmp_path, "score", META) as run:
        run.log({"a": 1})
        assert not run.active
    assert list(tmp_path.iterdir()) == []
    assert not capsys.readouterr().err


def test_a_folder_that_takes_no_files(tmp_path, capsys):
    (tmp_path / "wandb").write_text("a file")
    assert not begin(tmp_path, "score", {}).active
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("note: W&B does not work (")
    assert "WANDB_DATA_DIR" not in os.environ


def test_a_failure_is_said_once_and_ends_the_logging(tmp_path, capsys):
    broken = BrokenRun()
    run = WandbRun(broken, tmp_path)
    run.log({"a": 1.0})
    run.log({"a": 2.0})
    run.table("t", ["a"], [[1]])
    run.finish()
    assert broken.calls == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("note: W&B failed (Connection lost); going on without it")
    assert not run.active


def test_a_run_of_the_calling_program_survives_the_failure_of_ours(tmp_path, monkeypatch):
    torn_down = []
    monkeypatch.setattr(wandb, "teardown", torn_down.append)
    for theirs in (None, object()):
        monkeypatch.setattr(wandb, "run", theirs)
        run = WandbRun(BrokenRun(), tmp_path)
        run.log({"a": 1.0})
        run.exit_code = 3
        run.finish()
    assert torn_down == [3]


# How it ends.


def struck_by(number, folder, command, group):
    with wandb_run(WandbOptions(wandb=True), CONFIG, folder, command, META, group) as run:
        run.log({"a": 1.0, "b": math.nan, "c": None})
        run.summary({"d": math.inf, "e": "text"})
        os.kill(os.getpid(), number)
        time.sleep(5)


def test_a_signal_ends_the_run_in_good_order(tmp_path):
    with pytest.raises(SystemExit) as ended:
        struck_by(signal.SIGTERM, tmp_path, "score", "score-12345678")
    assert ended.value.code == 143
    content = overview(tmp_path)
    assert content["exit_code"] == 143
    assert content["config"]["archs"] == "200 items, the first is a"
    assert content["config"]["seeds"] == [1, 2]
    assert content["config"]["meta"] == {"command": "score", "digest": "12345678", "environment": {"commit": "abc"}}
    assert content["summary"]["a"] == 1
    assert content["summary"]["e"] == "text"
    assert not {"b", "c", "d"} & set(content["summary"])
    records = Records(tmp_path)
    assert records.run["run_group"] == "score-12345678"
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_interrupt_and_group_of_the_environment(tmp_path, monkeypatch):
    monkeypatch.setitem(os.environ, "WANDB_RUN_GROUP", "of the launch")
    notes, calls = RunOfNotes(), []
    monkeypatch.setattr(wandb, "init", lambda **options: calls.append(options) or notes)
    notes.log, notes.summary = dict, {}
    with pytest.raises(KeyboardInterrupt):
        struck_by(signal.SIGINT, tmp_path, "search", "other")
    assert notes.exit_code == 130
    (options,) = calls
    assert options["group"] == "of the launch"
    assert options["job_type"] == "search"


def test_a_signal_while_the_run_begins(tmp_path, monkeypatch):
    init = wandb.init

    def struck(**options):
        init(**options)
        raise Stopped(signal.SIGTERM)

    monkeypatch.setattr(wandb, "init", struck)
    with pytest.raises(Stopped):
        begin(tmp_path, "fit", {"settings": {"console": "off"}})
    assert overview(tmp_path)["exit_code"] == 143
    assert "WANDB_DATA_DIR" not in os.environ
