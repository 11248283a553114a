import json
import math
import pickle
from argparse import Namespace
from pathlib import Path

import numpy as np
import pytest
import torch
from callback_training import TWO_PROCESSES, SmallData, SmallModule, trainer
from pytorch_lightning import Callback
from pytorch_lightning.callbacks import ModelCheckpoint
from pytorch_lightning.loggers import CSVLogger

from vkdnw_pl.callbacks import read_history
from vkdnw_pl.callbacks.history import HistoryLogger, HistoryResume
from vkdnw_pl.callbacks.throughput import Throughput


def lines(folder):
    return (folder / "history.jsonl").read_text().splitlines()


def test_a_line_per_call(tmp_path):
    logger = HistoryLogger(tmp_path / "made" / "if need be")
    logger.log_metrics({"train/loss": 0.1 + 0.2, "epoch": 3.0}, step=7)
    logger.log_metrics({"a": torch.tensor(0.5), "b": np.float64(1e-300), "c": 4, "d": math.inf, "e": math.nan})
    assert read_history(logger.save_dir) == [
        {"step": 7, "epoch": 3, "train/loss": 0.1 + 0.2},
        {"step": None, "a": 0.5, "b": 1e-300, "c": 4, "d": None, "e": None, "nonfinite": ["d", "e"]},
    ]
    assert "Infinity" not in logger.path.read_text()


def test_torn_last_line_is_left_out_and_repaired(tmp_path):
    HistoryLogger(tmp_path).log_metrics({"a": 1.0}, step=0)
    with (tmp_path / "history.jsonl").open("a") as file:
        file.write('{"step": 1, "a')
    assert read_history(tmp_path) == [{"step": 0, "a": 1.0}]
    HistoryLogger(tmp_path).log_metrics({"a": 3.0}, step=1)
    assert read_history(tmp_path) == [{"step": 0, "a": 1.0}, {"step": 1, "a": 3.0}]


@pytest.mark.parametrize("damage", ["no object\n", "[1, 2]\n"])
def test_damage_is_named(tmp_path, damage):
    path = tmp_path / "history.jsonl"
    path.write_text('{"step": 0}\n' + damage + '{"step": 2}\n')
    with pytest.raises(ValueError, match=r"history.jsonl, line 2 is damaged"):
        read_history(path)
    with pytest.raises(ValueError, match="line 2"):
        HistoryLogger(tmp_path).resume_at(1)
    with pytest.raises(ValueError, match=r"elsewhere.*cannot be read"):
        read_history(tmp_path / "elsewhere")


def test_resume_drops_what_comes_again(tmp_path):
    before = HistoryLogger(tmp_path)
    for step in range(5):
        before.log_metrics({"a": float(step)}, step=step)
        before.log_metrics({"without a step": 1.0})
    after = HistoryLogger(tmp_path)
    after.log_metrics({"of this process": 1.0}, step=0)
    for _ in range(2):  # a second call changes nothing
        after.resume_at(3)
        history = read_history(tmp_path)
        assert [line["step"] for line in history] == [0, None, 1, None, 2, None, 0]
        assert history[-1] == {"step": 0, "of this process": 1.0}
    after.log_metrics({"a": 9.0, "b": 9.0, "epoch": 0}, step=2)  # the end of an epoch, again
    after.log_metrics({"a": 9.0, "epoch": 0}, step=2)
    after.log_metrics({"a": 3.0}, step=3)
    assert read_history(tmp_path)[7:] == [{"step": 2, "epoch": 0, "b": 9.0}, {"step": 3, "a": 3.0}]


def test_a_training_from_the_start_keeps_nothing(tmp_path):
    HistoryLogger(tmp_path).log_metrics({"a": 1.0}, step=0)
    logger = HistoryLogger(tmp_path)
    logger.resume_at(0)
    assert read_history(tmp_path) == []
    logger.log_metrics({"a": 2.0}, step=0)
    assert read_history(tmp_path) == [{"step": 0, "a": 2.0}]
    HistoryLogger(tmp_path / "new").resume_at(0)


def test_hyperparameters(tmp_path):
    logger = HistoryLogger(tmp_path)
    logger.log_hyperparams(
        {"lr": 0.1, "path": Path("a/b"), "betas": (0.9, np.float32(0.5)), "no": None, "inf": math.inf}
    )
    logger.log_hyperparams(Namespace(lr=0.2, network={"depth": 3}))
    found = json.loads((tmp_path / "hparams.json").read_text())
    expected = {"lr": 0.2, "path": "a/b", "betas": [0.9, 0.5], "no": None, "inf": "inf", "network": {"depth": 3}}
    assert found == expected
    assert [path.name for path in tmp_path.iterdir()] == ["hparams.json"]


def test_can_be_sent_to_another_process(tmp_path):
    logger = pickle.loads(pickle.dumps(HistoryLogger(tmp_path)))
    logger.log_metrics({"a": 1.0}, step=0)
    assert len(read_history(tmp_path)) == 1


class Killed(BaseException):
    pass


class KillAt(Callback):
    def __init__(self, step):
        self.step = step

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        if trainer.global_step == self.step:
            raise Killed


def fit(folder, *callbacks, at_epoch_end=True, ckpt_path=None, **options):
    checkpoint = ModelCheckpoint(
        folder / "checkpoints", filename="last", save_on_train_epoch_end=at_epoch_end, enable_version_counter=False
    )
    every = [HistoryResume(), Throughput(), checkpoint, *callbacks]
    training = trainer(folder, every, HistoryLogger(folder), max_epochs=3, **options)
    training.fit(SmallModule(), SmallData(), ckpt_path=ckpt_path)
    return training


def without_timings(history):
    timings = {"epoch_s", "images_per_s", "loader_wait"}
    kept = [{name: value for name, value in line.items() if name not in timings} for line in history]
    return sorted(kept, key=lambda line: json.dumps([line["step"], sorted(line)]))


@pytest.mark.parametrize("at_epoch_end", [True, False], ids=["epoch_end", "validation_end"])
def test_killed_and_continued_is_as_uninterrupted(tmp_path, at_epoch_end):
    fit(tmp_path / "whole", at_epoch_end=at_epoch_end)
    with pytest.raises(Killed):
        fit(tmp_path / "killed", KillAt(8), at_epoch_end=at_epoch_end)
    torn = len(lines(tmp_path / "killed"))
    fit(tmp_path / "killed", at_epoch_end=at_epoch_end, ckpt_path=tmp_path / "killed" / "checkpoints" / "last.ckpt")
    whole, continued = (read_history(tmp_path / name) for name in ("whole", "killed"))
    assert torn > sum(line["step"] < 6 for line in whole)  # there was something to drop
    assert without_timings(continued) == without_timings(whole)
    assert [line["step"] for line in whole if "images_per_s" in line] == [2, 5, 8]
    assert (tmp_path / "whole" / "checkpoints" / "last.ckpt").exists()


def test_a_second_training_in_the_folder_begins_anew(tmp_path):
    fit(tmp_path)
    first = read_history(tmp_path)
    fit(tmp_path)
    assert without_timings(read_history(tmp_path)) == without_timings(first)


def test_two_processes_write_once(tmp_path):
    fit(tmp_path, **TWO_PROCESSES)
    history = read_history(tmp_path)
    # 24 images in batches of 8 are two steps for each of two processes
    assert [line["step"] for line in history if "train/loss_step" in line] == [0, 1, 2, 3, 4, 5]
    assert [line["step"] for line in history if "val/loss" in line] == [1, 3, 5]
    assert json.loads((tmp_path / "hparams.json").read_text())["lr"] == 0.1


def test_why_not_lightnings(tmp_path):
    """If this fails, Lightning's logger has learnt to continue, and ours may go."""
    for _ in range(2):
        logger = CSVLogger(tmp_path, name="", version="")
        logger.log_metrics({"a": 1.0}, step=0)
        logger.save()
    assert len((tmp_path / "metrics.csv").read_text().splitlines()) == 2
