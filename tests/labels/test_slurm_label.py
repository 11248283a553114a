"""Accuracy tables as arrays of SLURM, and after a kill."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from small_labels import ARCHS, rows_of

from vkdnw_pl import cli

pytestmark = pytest.mark.slow
RECIPE = [
    *("--model.space", "nb201", "--model.network", "{channels: 4, cells: 1}", "--trainer.max_epochs", "4"),
    *("--data", "Synthetic", "--data.input_size", "[3, 8, 8]", "--data.train_size", "512", "--data.val_size", "40"),
    *("--trainer.accelerator", "cpu", "--data.batch_size", "16"),
]
TABLE = ["--archs", ",".join(ARCHS), "--seeds", "1..2", *RECIPE]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    assert cli.main(["label", *TABLE, "--out", str(folder / "table"), "--workers", "1"]) == 0
    return folder / "table"


def test_a_kill_loses_only_what_was_in_flight(whole, tmp_path):
    out = tmp_path / "out"
    command = [sys.executable, "-m", "vkdnw_pl", "label", *TABLE, "--out", str(out), "--workers", "1"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, start_new_session=True)
    journal = out / "rows" / "0-0.csv"
    until = time.monotonic() + 120
    while not (journal.is_file() and journal.read_text().count("\n") >= 3):
        assert time.monotonic() < until
        assert process.poll() is None
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    kept = journal.read_text().count("\n") - 1
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert f"{kept} of 6 rows are there already" in done.stdout
    assert rows_of(out) == rows_of(whole)


@pytest.mark.slurm
def test_an_array_equals_one_process(slurm, whole, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    launch = ["label", *TABLE, "--out", "table", "--launch", "slurm", "--array", "2", "--time", "5m", "--wait"]
    assert cli.main(launch) == 0, capsys.readouterr()
    assert rows_of(tmp_path / "table") == rows_of(whole)
    assert (tmp_path / "table" / "accuracies.csv").read_bytes() == (whole / "accuracies.csv").read_bytes()
    assert (tmp_path / "table" / "report.html").is_file()
    assert cli.main(launch) == 0
    assert "nothing to submit" in capsys.readouterr().out
