"""A training that was killed and run again ends with the bits of one that was not."""

import json
import signal

import pytest
import torch
import yaml
from training_runs import TINY_ARCH, run_fit

from vkdnw_pl.callbacks import read_history

EPOCHS, BATCHES = 3, 4
PLAIN = {
    "model": {
        "arch": TINY_ARCH,
        "network": {"channels": 4, "cells": 1},
        "optimizer": {"lr_batch_size": None},
        "schedule": {"warmup_epochs": 1},
    },
    "data": {"class_path": "Digits", "init_args": {"batch_size": 50, "val_size": 800, "num_workers": 0}},
    "trainer": {
        "accelerator": "cpu",
        "max_epochs": EPOCHS,
        "deterministic": True,
        "log_every_n_steps": 1,
        "limit_val_batches": 2,
        "limit_test_batches": 2,
    },
}
EVERYTHING = {
    **PLAIN,
    "model": {
        **PLAIN["model"],
        "label_smoothing": 0.1,
        "mixup": 0.2,
        "teacher": {"name": "lcnet_050", "pretrained": False, "reductions": [2, 4]},
    },
    "trainer": {**PLAIN["trainer"], "callbacks": [{"class_path": "EMA", "init_args": {"decay": 0.9}}]},
}
STEPWISE = {
    **EVERYTHING,
    "trainer": {
        **EVERYTHING["trainer"],
        "callbacks": [
            *EVERYTHING["trainer"]["callbacks"],
            {"class_path": "RunCheckpoints", "init_args": {"every_n_steps": 1}},
        ],
    },
}


def assert_same_training(there, here, steps=EPOCHS * BATCHES):
    first, second = (
        torch.load(out / "checkpoints" / "last.ckpt", weights_only=True, map_location="cpu") for out in (there, here)
    )
    for kind in ("state_dict", "current_model_state", "averaging_state"):
        assert (kind in first) == (kind in second)
        for name, value in first.get(kind, {}).items():
            assert torch.equal(value, second[kind][name]), f"{kind} {name}"
    for key, state in first["optimizer_states"][0]["state"].items():
        assert torch.equal(state["momentum_buffer"], second["optimizer_states"][0]["state"][key]["momentum_buffer"])
    assert first["global_step"] == second["global_step"]
    assert steps is None or first["global_step"] == steps


def curve(out):
    """What the history says at each step, without timings."""
    kept = {}
    for line in read_history(out / "history.jsonl"):
        values = {name: value for name, value in line.items() if name.startswith(("train/", "val/", "lr", "grad"))}
        kept.setdefault(line["step"], {}).update(values)
    return kept


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    """Trains a config once, and gives the run folder to every test that asks for it."""
    folders = {}

    def train(config):
        name = yaml.safe_dump(config)
        if name not in folders:
            folders[name] = tmp_path_factory.mktemp("whole") / "run"
            assert run_fit(config, folders[name]) == 0
        return folders[name]

    return train


@pytest.mark.parametrize(
    ("config", "step"),
    [pytest.param(PLAIN, 6, marks=pytest.mark.slow), (EVERYTHING, 6), (STEPWISE, 6)],
    ids=["plain", "ema_mixup_teacher", "mid_epoch"],
)
def test_killed_and_continued(config, step, uninterrupted, tmp_path):
    whole, broken = uninterrupted(EVERYTHING if config is STEPWISE else config), tmp_path / "broken"
    assert run_fit(config, broken, signum=signal.SIGKILL, step=step) == -signal.SIGKILL
    assert torch.load(broken / "checkpoints" / "last.ckpt", weights_only=True)["global_step"] in (BATCHES, step)
    assert run_fit(config, broken, "--ckpt_path", "last") == 0
    assert_same_training(whole, broken)
    assert curve(whole) == curve(broken)


def measured(out):
    """What ``results.json`` says, without timings."""
    results = json.loads((out / "results.json").read_text())
    return {name: value for name, value in results.items() if name.startswith(("train/", "val/", "test/", "lr"))}


def test_killed_when_all_is_trained(uninterrupted, tmp_path):
    """What the training reached stands in its last checkpoint."""
    whole, broken = uninterrupted(PLAIN), tmp_path / "broken"
    assert run_fit(PLAIN, broken, signum=signal.SIGKILL, step=EPOCHS * BATCHES, during="on_train_end") == -9
    assert not (broken / "results.json").exists()
    assert run_fit(PLAIN, broken) == 0
    assert measured(broken) == measured(whole)
    assert {"train/loss", "val/top1", "test/top1"} <= set(measured(whole))
    assert curve(broken) == curve(whole)


def with_trainer(**options):
    return {**PLAIN, "trainer": {**PLAIN["trainer"], **options}}


@pytest.mark.parametrize(
    "config",
    [
        with_trainer(max_steps=11),
        pytest.param(with_trainer(max_epochs=-1, max_steps=11), marks=pytest.mark.slow),
        pytest.param(with_trainer(precision="64-true"), marks=pytest.mark.slow),
        with_trainer(accumulate_grad_batches=3),
    ],
    ids=["max_steps", "steps_only", "float64", "accumulated"],
)
def test_killed_in_other_trainings(config, uninterrupted, tmp_path):
    whole, broken = uninterrupted(config), tmp_path / "broken"
    step = 3 if "accumulate_grad_batches" in config["trainer"] else 6
    assert run_fit(config, broken, signum=signal.SIGKILL, step=step) == -signal.SIGKILL
    assert run_fit(config, broken) == 0
    assert_same_training(whole, broken, None)
    assert curve(whole) == curve(broken)


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_stopped_while_gradients_accumulate(signum, uninterrupted, tmp_path):
    config = with_trainer(accumulate_grad_batches=3)  # 4 batches: steps after the third and the last
    whole, broken = uninterrupted(config), tmp_path / "broken"
    assert run_fit(config, broken, signum=signum, step=2, during="on_train_batch_start") == 128 + signum
    assert torch.load(broken / "checkpoints" / "last.ckpt", weights_only=True)["global_step"] == 3
    assert run_fit(config, broken) == 0
    assert_same_training(whole, broken, None)


def test_stopped_during_validation(uninterrupted, tmp_path):
    whole, broken = uninterrupted(PLAIN), tmp_path / "broken"
    assert run_fit(PLAIN, broken, signum=signal.SIGTERM, step=BATCHES, during="on_validation_batch_end") == 143
    assert (
        torch.load(broken / "checkpoints" / "last.ckpt", weights_only=True)["global_step"] == BATCHES
    )  # the epoch's end
    assert run_fit(PLAIN, broken) == 0
    assert curve(whole) == curve(broken)
    assert_same_training(whole, broken)


@pytest.mark.parametrize(
    ("signum", "code"),
    [
        pytest.param(signal.SIGINT, 130, marks=pytest.mark.slow),
        pytest.param(signal.SIGTERM, 143, marks=pytest.mark.slow),
        (signal.SIGUSR1, 138),
    ],
)
def test_stopped_between_two_steps_and_continued(signum, code, uninterrupted, tmp_path):
    whole, broken = uninterrupted(EVERYTHING), tmp_path / "broken"
    assert run_fit(EVERYTHING, broken, signum=signum, step=6) == code
    assert torch.load(broken / "checkpoints" / "last.ckpt", weights_only=True)["global_step"] == 7
    assert run_fit(EVERYTHING, broken) == 0  # by itself
    assert_same_training(whole, broken)
    assert curve(whole) == curve(broken)  # also the means over the epoch that was cut
