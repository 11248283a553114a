"""``fit`` as jobs of a real SLURM: several processes, the end of a job's time, and the best networks of a search."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from test_resume import PLAIN, assert_same_training, curve
from training_runs import TINY_ARCH, run_tasks

from vkdnw_pl.callbacks import read_history
from vkdnw_pl.cluster.slurm import job_states

ROOT = Path(__file__).parents[2]
SCRIPTS = ROOT / "slurm"
EPOCHS = 8
CONFIG = {
    **PLAIN,
    "data": {**PLAIN["data"], "init_args": {"batch_size": 50, "val_size": 200, "num_workers": 1}},
    "trainer": {**PLAIN["trainer"], "max_epochs": EPOCHS},
}


def until(condition, seconds=120):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "this takes too long"
        time.sleep(0.1)


def sbatch(script, *arguments, options=(), log):
    """Submit a script and return the job's number."""
    variables = {"VKDNW_SLURM_DIR": str(SCRIPTS), "VKDNW_PYTHON": sys.executable, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        ["sbatch", "--parsable", "--time=10", f"--output={log}", *options, str(SCRIPTS / script), *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": str(ROOT), **variables},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def state(job):
    """Of each task of a job what scontrol knows, by name."""
    shown = subprocess.run(["scontrol", "show", "job", job], capture_output=True, text=True).stdout
    return [
        dict(pair.split("=", 1) for pair in one.split() if "=" in pair) for one in shown.split("\n\n") if one.strip()
    ]


def ended(job):
    return not any(one.waits or one.runs for one in job_states([job]).values())


@pytest.mark.slow
@pytest.mark.slurm
def test_two_tasks_stop_before_the_time_limit_and_go_on(slurm, start_now, tmp_path):
    whole, broken, log = tmp_path / "whole", tmp_path / "broken", tmp_path / "log"
    assert run_tasks(CONFIG, whole) == [0, 0]
    job = sbatch(
        "fit_ddp.sbatch",
        *("--config", whole.with_suffix(".yaml"), "--out", broken),
        options=["--ntasks-per-node=2"],
        log=log,
    )
    try:
        until(lambda: ended(job) or ((broken / "history.jsonl").is_file() and len(read_history(broken)) > 10))
        subprocess.run(["scancel", "--signal=USR1", job], check=True)  # as --signal does when the time is nearly over
        until(lambda: ended(job) or state(job)[0]["JobState"] == "PENDING")
        assert state(job)[0]["Restarts"] == "1", log.read_text()
        meta = json.loads((broken / "meta.json").read_text())
        assert (meta["status"], meta["runs"][0]["stopped_by"]) == ("stopped", "SIGUSR1")
        start_now(job)
        until(lambda: ended(job))
    finally:
        subprocess.run(["scancel", job])
    assert (state(job)[0]["JobState"], state(job)[0]["ExitCode"]) == ("COMPLETED", "0:0"), (state(job), log.read_text())
    meta = json.loads((broken / "meta.json").read_text())
    assert [run["stopped_by"] for run in meta["runs"]] == ["SIGUSR1", None]
    assert [run["processes"] for run in meta["runs"]] == [2, 2]
    assert log.read_text().count("stopped by SIGUSR1") == 1  # said once
    assert "exit_code=0" in (broken / "slurm" / "marks" / "fit").read_text()
    assert not list(tmp_path.rglob("hpc_ckpt*"))
    assert_same_training(whole, broken, steps=None)
    assert curve(broken).keys() == curve(whole).keys()
    for step, values in curve(whole).items():  # sums over processes are added in another order
        assert curve(broken)[step] == pytest.approx(values, rel=1e-6)


@pytest.mark.slow
@pytest.mark.slurm
def test_the_best_networks_of_a_search_are_trained_by_an_array(slurm, tmp_path):
    archs = [TINY_ARCH, TINY_ARCH.replace("none~1", "skip_connect~1")]
    top = [{"arch": arch, "space": "nb201", "network": {"channels": 4, "cells": 1}} for arch in archs]
    found, config, out = tmp_path / "found.json", tmp_path / "fit.yaml", tmp_path / "top"
    found.write_text(json.dumps({**top[0], "top": top}))
    model = {name: value for name, value in PLAIN["model"].items() if name not in ("arch", "network", "schedule")}
    trainer = {**PLAIN["trainer"], "max_epochs": 1}
    config.write_text(yaml.safe_dump({**PLAIN, "model": model, "trainer": trainer}))
    job = sbatch(
        "sweep_train.sbatch",
        *("--config", config, "--model.arch", found, "--out", out),
        options=["--array=0-1", "--ntasks=1"],
        log=tmp_path / "log-%a",
    )
    try:
        until(lambda: ended(job))
    finally:
        subprocess.run(["scancel", job])
    logs = "".join(path.read_text() for path in tmp_path.glob("log-*"))
    assert [one["ExitCode"] for one in state(job)] == ["0:0", "0:0"], logs
    for rank, arch in enumerate(archs, start=1):
        meta = json.loads((out / f"rank-{rank}" / "meta.json").read_text())
        assert (meta["status"], meta["settings"]["model.arch"]) == ("finished", arch)
        assert "exit_code=0" in (out / "slurm" / "marks" / f"rank-{rank}").read_text()


ARRAY = {"SLURM_ARRAY_TASK_ID": "0", "SLURM_ARRAY_JOB_ID": "1"}
SWEEP = ("--out", "x", "--model.arch", "found.json")
GPUS = {"SLURM_GPUS_ON_NODE": "4", "SLURM_CPUS_ON_NODE": "32"}


@pytest.mark.parametrize(
    ("script", "arguments", "variables", "text"),
    [
        ("fit_ddp.sbatch", [], {}, "--out is missing"),
        ("fit_ddp.sbatch", ["--out"], {}, "--out needs a value"),
        (
            "fit_ddp.sbatch",
            ["--out", "x"],
            {**GPUS, "SLURM_CPUS_ON_NODE": "2"},
            "4 processes per node, but only 2 CPU(s)",
        ),
        ("fit_ddp.sbatch", ["--out", "x"], {**GPUS, "SLURM_NTASKS_PER_NODE": "2"}, "give --ntasks-per-node=4"),
        ("fit_ddp.sbatch", ["--out", "x"], {"SLURM_NTASKS": "3", "SLURM_JOB_NUM_NODES": "2"}, "give --ntasks-per-node"),
        ("sweep_train.sbatch", SWEEP, {}, "no array: submit it with sbatch --array=0-4"),
        ("sweep_train.sbatch", ["--out", "x"], ARRAY, "--model.arch is missing"),
        ("sweep_train.sbatch", ["--model.arch", "found.json"], ARRAY, "--out is missing"),
        ("sweep_train.sbatch", [*SWEEP[:3], "found.json#2"], ARRAY, "takes its own rank"),
        ("sweep_train.sbatch", [*SWEEP[:3], "mbv2_480m"], ARRAY, "give the found.json of a search"),
    ],
)
def test_what_is_missing_is_said(script, arguments, variables, text, tmp_path):
    done = _run_script(script, arguments, variables, tmp_path)
    assert done.returncode == 2
    assert text in done.stderr
    assert not list(tmp_path.iterdir())


def test_one_task_for_each_gpu(tmp_path):
    """The steps' options, with an srun that writes them down."""
    srun = tmp_path / "bin" / "srun"
    srun.parent.mkdir()
    srun.write_text('#!/bin/sh\necho "$@" >steps\n')
    srun.chmod(0o755)
    variables = {**GPUS, "SLURM_JOB_NUM_NODES": "2", "PATH": f"{srun.parent}:{os.environ['PATH']}"}
    done = _run_script("fit_ddp.sbatch", ["--config", "c.yaml", "--out", "x"], variables, tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "steps").read_text().split() == [
        *("--nodes=2", "--ntasks=8", "--ntasks-per-node=4", "--cpus-per-task=8", "--kill-on-bad-exit=1"),
        *("python", "-m", "vkdnw_pl", "fit", "--config", "c.yaml", "--out", "x"),
    ]


def _run_script(script, arguments, variables, folder):
    ours = {name: value for name, value in os.environ.items() if not name.startswith(("SLURM_", "VKDNW_", "SBATCH_"))}
    return subprocess.run(
        ["bash", str(SCRIPTS / script), *arguments],
        env={**ours, "VKDNW_SLURM_DIR": str(SCRIPTS), **variables},
        cwd=folder,
        capture_output=True,
        text=True,
    )
