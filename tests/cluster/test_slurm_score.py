"""`score` as jobs of a real SLURM."""

import json
import os
import subprocess
import time
from pathlib import Path

import pytest

from vkdnw_pl import cli
from vkdnw_pl.runs.folder import RunFolder
from vkdnw_pl.runs.table import read_table

pytestmark = [pytest.mark.slurm, pytest.mark.slow]

ROOT = Path(__file__).parents[2]
SLOW = '''"""Images that take as long as the file `pause` says, so that there is a middle to be interrupted in."""

import time
from pathlib import Path

import torch
from pytorch_lightning import LightningDataModule


class _Images(torch.utils.data.Dataset):
    def __len__(self):
        return 64

    def __getitem__(self, place):
        time.sleep(float(Path("pause").read_text()))
        return torch.full((3, 8, 8), place / 64.0), place % 10


class Slow(LightningDataModule):
    def train_dataloader(self):
        return torch.utils.data.DataLoader(_Images(), batch_size=4)
'''
OPTIONS = (
    *("--network", "{channels: 4, cells: 1, image_size: 8}", "--batch_size", "4"),
    *("--proxies", "[macs, aleph, {name: naswot, images: images, samples: 4}]"),
    *("--device", "cpu", "--workers", "1", "--progress", "false", "--top_k", "5"),
)
SLOWLY = (*OPTIONS, "--input", "{class_path: slow.Slow}", "--seeds", "1..10")


@pytest.fixture
def place(slurm, tmp_path, monkeypatch):
    """A folder of submission whose name has a space in it."""
    folder = tmp_path / "a place"
    folder.mkdir()
    (folder / "slow.py").write_text(SLOW)
    (folder / "pause").write_text("0")
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.setenv("PYTHONPATH", f"{ROOT}:{folder}")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    for name in list(os.environ):
        if name.startswith(("SBATCH_", "VKDNW_")):
            monkeypatch.delenv(name)
    return folder


def table(folder):
    """Every byte of the table but for the times."""
    return [line.rpartition(",")[0] for line in (Path(folder) / "scores.csv").read_text().splitlines()]


def same_results(one, other):
    assert table(one) == table(other)
    for name in ("ranking.csv", "metrics.csv"):
        assert (Path(one) / name).read_bytes() == (Path(other) / name).read_bytes()


def jobs_of(out):
    return json.loads((Path(out) / "slurm" / "launch.json").read_text())["jobs"]


def until(condition, seconds=90):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "this did not happen in time"
        time.sleep(0.1)


def rows_there(shard):
    """Whether a run that is under way has made a few rows."""
    return sum(file.read_bytes().count(b"\n") - 1 for file in Path(shard, "rows").glob("*.csv")) >= 2


def in_queue(job):
    return subprocess.run(["squeue", "-h", "-o", "%T", "-j", job], capture_output=True, text=True).stdout.strip()


def slurm_does(*command):
    subprocess.run(command, check=True, capture_output=True)


def test_an_array_equals_one_process(place, capsys):
    given = ("--archs", "sample:10", *OPTIONS)
    assert cli.main(["score", *given, "--out", "one"]) == 0
    launch = ["score", *given, "--out", "the array", "--launch", "slurm", "--array", "4", "--time", "5m"]
    assert cli.main([*launch, "--wait"]) == 0
    assert "5 finished; 10 of 10 rows" in capsys.readouterr().out
    same_results("one", "the array")
    assert [job["array"] for job in jobs_of("the array")] == ["0-3", None]
    assert f"afterany:{jobs_of('the array')[0]['id']}" in " ".join(jobs_of("the array")[1]["command"])
    assert Path("the array/report.html").is_file()
    assert RunFolder("the array").read_meta()["status"] == "finished"
    assert cli.main(launch) == 0
    assert "nothing to submit" in capsys.readouterr().out
    assert len(jobs_of("the array")) == 2


def test_killed_tasks_lose_nothing_and_are_seen_and_repaired(place, start_now, capsys):
    given = ("--archs", "sample:4", *SLOWLY)
    assert cli.main(["score", *given, "--out", "one"]) == 0
    Path("pause").write_text("0.1")
    assert cli.main(["score", *given, "--out", "out", "--launch", "slurm", "--array", "2"]) == 0
    job = jobs_of("out")[0]["id"]
    shards = [f"out/shards/{i}-of-2" for i in range(2)]

    until(lambda: rows_there(shards[0]))
    slurm_does("scancel", "--signal=KILL", f"{job}_0.0")  # the step, at once
    until(lambda: rows_there(shards[1]))
    slurm_does("scancel", "--signal=KILL", f"{job}_1")  # the job, which is told before
    until(lambda: not in_queue(f"{job}_0") and not in_queue(f"{job}_1"))
    Path("pause").write_text("0")
    capsys.readouterr()
    assert cli.main(["status", "out", "--json"]) == 1
    first, second, merge = json.loads(capsys.readouterr().out)["tasks"]
    assert [(task["state"], task["exit_code"]) for task in (first, second)] == [("failed", 137), ("failed", 143)]
    assert 2 <= first["rows"] < 20
    assert 2 <= second["rows"] < 20

    slurm_does("scontrol", "requeue", f"{job}_0")
    start_now(f"{job}_0")
    assert cli.main(["status", "out", "--resubmit", "--wait"]) == 0
    capsys.readouterr()
    assert [one["array"] for one in jobs_of("out") if one["kind"] == "array"] == ["0-1", "1"]
    assert [RunFolder(shard).read_meta()["runs"][-1]["rows_made"] for shard in shards] == [
        20 - first["rows"],
        20 - second["rows"],
    ]
    same_results("one", "out")
    assert cli.main(["status", "out", "--json"]) == 0
    first, second, merge = json.loads(capsys.readouterr().out)["tasks"]
    assert (first["restarts"], second["restarts"]) == (1, 0)
    assert merge["state"] == "finished"


def test_a_job_that_reaches_its_time_limit_goes_on(place, start_now, capsys):
    given = ("--archs", "sample:10", *SLOWLY)
    assert cli.main(["score", *given, "--out", "one"]) == 0
    Path("pause").write_text("0.2")
    more = ("--time", "10m", "--sbatch", "[--signal=USR1@60]")
    assert cli.main(["score", *given, "--out", "out", "--launch", "slurm", *more]) == 0
    job = jobs_of("out")[0]["id"]
    until(lambda: rows_there("out"))
    slurm_does("scontrol", "update", f"jobid={job}", "TimeLimit=1")  # Slurm looks at it every 30 s
    until(lambda: in_queue(job) == "PENDING")
    meta = RunFolder("out").read_meta()
    assert (meta["status"], meta["runs"][-1]["stopped_by"]) == ("stopped", "SIGUSR1")
    kept = len(read_table(Path("out/scores.csv")).rows)
    assert 2 <= kept < 100
    capsys.readouterr()
    assert cli.main(["status", "out"]) == 0
    assert "waiting" in capsys.readouterr().out
    Path("pause").write_text("0")
    start_now(job, "TimeLimit=10")
    assert cli.main(["status", "out", "--wait"]) == 0
    assert RunFolder("out").read_meta()["runs"][-1]["rows_made"] == 100 - kept
    same_results("one", "out")
    assert len(jobs_of("out")) == 1
