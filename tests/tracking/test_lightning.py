"""W&B beside `fit` and `test`: through the option, or through the config's logger."""

import json
import multiprocessing
import os
import socket
from types import SimpleNamespace

import pytest
import yaml
from pytorch_lightning.loggers import CSVLogger, WandbLogger
from pytorch_lightning.utilities.rank_zero import rank_zero_only
from wandb_records import Records, no_account, overview

from vkdnw_pl import cli
from vkdnw_pl.report.wandb_report import RESULT, TRAINING_CURVES
from vkdnw_pl.tracking.lightning import RunFolderLogger, with_wandb
from vkdnw_pl.tracking.run import WandbRun

CONFIG = {
    "model": {
        "arch": "|nor_conv_3x3~0|+|none~0|skip_connect~1|+|skip_connect~0|none~1|nor_conv_1x1~2|",
        "network": {"channels": 4, "cells": 1},
    },
    "data": {"class_path": "Digits", "init_args": {"batch_size": 200, "num_workers": 0, "image_size": 8}},
    "trainer": {
        "accelerator": "cpu",
        "max_epochs": 1,
        "log_every_n_steps": 1,
        "callbacks": [{"class_path": "ProxyCallback", "init_args": {"proxies": ["macs", "vkdnw"], "batch_size": 4}}],
    },
}


@pytest.fixture(autouse=True, scope="module")
def environment_without_account():
    with no_account():
        yield


def options(wandb=False, group=None, tags=()):
    return {"wandb": wandb, "wandb_group": group, "wandb_tags": list(tags)}


def in_run_folder(logger, folder, **given_options):
    (with_run_folder,) = with_wandb([logger], options(**given_options), folder, "fit")
    return with_run_folder


def test_what_the_logger_says_holds(tmp_path):
    user_logger = WandbLogger(project="theirs", name="called", id="mine", save_dir="here", group="g")
    logger = in_run_folder(user_logger, tmp_path)
    assert isinstance(logger, RunFolderLogger)
    assert logger._wandb_init == {
        "project": "theirs",
        "name": "called",
        "id": "mine",
        "dir": "here",
        "group": "g",
        "resume": "allow",
    }


def test_the_options_fill_what_the_logger_leaves_open(tmp_path):
    logger = in_run_folder(WandbLogger(group="g"), tmp_path, wandb="us/ours", tags=["t"])
    assert logger._wandb_init == {"project": "ours", "entity": "us", "tags": ["t"], "group": "g", "resume": "allow"}
    assert in_run_folder(WandbLogger(), tmp_path, group="g")._wandb_init["group"] == "g"
    assert in_run_folder(WandbLogger(project="p"), tmp_path, wandb=True)._wandb_init["project"] == "p"


@pytest.mark.parametrize(
    ("logger", "given_options", "text"),
    [
        ({"project": "a"}, {"wandb": "b"}, "project='b' and trainer.logger's WandbLogger for project='a'"),
        ({"group": "a"}, {"group": "b"}, "group='b'"),
    ],
)
def test_options_may_not_contradict_the_logger(logger, given_options, text, tmp_path):
    with pytest.raises(ValueError, match=text):
        in_run_folder(WandbLogger(**logger), tmp_path, **given_options)


def test_loggers_without_wandb(tmp_path):
    other = CSVLogger(tmp_path)
    assert with_wandb([other], options(), tmp_path, "fit") == [other]
    both = with_wandb([other], options(wandb=True), tmp_path, "fit")
    assert [type(logger) for logger in both] == [CSVLogger, RunFolderLogger]
    with pytest.raises(ValueError, match="has 2 WandbLoggers"):
        with_wandb([WandbLogger(), WandbLogger()], options(), tmp_path, "fit")


def test_disabled(tmp_path, monkeypatch):
    monkeypatch.setitem(os.environ, "WANDB_MODE", "disabled")
    logger = in_run_folder(WandbLogger(), tmp_path)
    logger.log_metrics({"a": 1.0}, step=0)
    logger.experiment.summary.update({"a": 1})
    logger.log_hyperparams({"b": 2})
    logger.end(0)
    assert list(tmp_path.iterdir()) == []


class BrokenRun:
    """A W&B run whose service has died."""

    def __init__(self):
        self.calls = 0

    def __getattr__(self, name):
        def call(*arguments, **named):
            self.calls += 1
            raise ConnectionResetError("Connection lost\nand more")

        return call


def begun_as(wandb_run, folder, monkeypatch):
    """A logger whose W&B run is this one."""
    monkeypatch.setattr("vkdnw_pl.tracking.lightning.begin", lambda *_: WandbRun(wandb_run, folder))
    monkeypatch.setattr("vkdnw_pl.tracking.lightning._OPEN", [])
    return in_run_folder(WandbLogger(), folder)


def test_a_failing_run_does_no_harm_to_callbacks_that_use_it(tmp_path, capsys, monkeypatch):
    broken = BrokenRun()
    broken.id = "abc"
    logger = begun_as(broken, tmp_path, monkeypatch)
    logger.experiment.log({"a": 1})
    logger.experiment.summary.update({"a": 1})
    logger.experiment.config["a"] = 1
    logger.log_metrics({"a": 1.0}, step=0)
    logger.watch(None)
    assert broken.calls == 1
    assert capsys.readouterr().err.count("note:") == 1
    logger.experiment.anything(1)["x"].more  # noqa: B018


def test_callbacks_can_use_the_run_as_wandbs(tmp_path, monkeypatch):
    run = SimpleNamespace(id="abc", summary={}, define_metric=lambda *_, **__: None)
    logger = begun_as(run, tmp_path, monkeypatch)
    logger.experiment.summary["a"] = 1
    logger.experiment.summary.update({"b": 2})
    assert logger.experiment.id == logger.version == "abc"
    assert logger.experiment.summary["b"] == 2
    assert run.summary == {"a": 1, "b": 2}


def fit(folder, *more, config=CONFIG, command="fit"):
    file = folder.with_suffix(".yaml")
    file.write_text(yaml.safe_dump(config))
    return cli.main([command, "--config", str(file), "--out", str(folder), *more])


def test_training_resumed_and_tested(tmp_path):
    out = tmp_path / "run"
    assert fit(out, "--wandb", "--wandb_group", "trainings") == 0
    first, content = Records(out), overview(out)
    assert first.run["job_type"] == "fit"
    assert first.run["run_group"] == "trainings"
    summary, results = content["summary"], json.loads((out / "results.json").read_text())
    for name, value in results.items():
        assert summary[name] == pytest.approx(value), name
    assert {"test/top1", "val/top1", "train/loss", "lr", "proxy/vkdnw", "proxy/macs"} <= set(summary)
    assert summary["macs"] == summary["proxy/macs"]
    assert summary["arch"] == CONFIG["model"]["arch"]
    assert summary["num_params"] > 0
    assert content["exit_code"] == 0
    assert content["config"]["config"]["trainer"]["max_epochs"] == 1
    assert content["config"]["meta"]["environment"]["device"] == {"kind": "cpu", "processes": 1}
    assert first.artifact("fit") >= {"config.yaml", "meta.json", "results.json", "scores.csv"}
    assert any("train/loss" in point for point in first.history)
    logged = {key for point in first.history for key in point} | set(summary)
    panels = {key for keys in TRAINING_CURVES.values() for key in keys}
    assert {key for key in panels if not key.startswith("train/loss_")} <= logged  # those are a teacher's
    assert RESULT in logged

    # From its own record, which says that W&B is asked for, and not which logger that made.
    record = yaml.safe_load((out / "config.yaml").read_text())
    assert record["wandb"] is True
    assert not record["trainer"]["logger"]
    assert cli.main(["fit", "--config", str(out / "config.yaml"), "--trainer.max_epochs", "2"]) == 0
    second = Records(out)
    assert len(list((out / "wandb").glob("offline-run-*"))) == 2
    assert second.run["run_id"] == first.run["run_id"]
    assert overview(out)["summary"]["proxy/vkdnw"] == summary["proxy/vkdnw"]

    assert cli.main(["test", "--out", str(out)]) == 0
    tested = Records(out, "test")
    assert tested.run["job_type"] == "test"
    assert tested.run["run_id"] != first.run["run_id"]
    assert "test/top1" in overview(out, "test")["summary"]


def test_two_processes_make_one_run(tmp_path):
    out = tmp_path / "run"
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    more = ["--wandb", "--trainer.devices", "2", "--trainer.strategy", "ddp", "--test_after", "false"]

    def work(rank):
        """A process as torchrun starts it."""
        os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "TORCHELASTIC_RUN_ID": "x"}
        os.environ |= {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "GROUP_RANK": "0", "GLOO_SOCKET_IFNAME": "lo"}
        os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank)}
        rank_zero_only.rank = rank  # Lightning reads the environment when it is imported
        os._exit(fit(out, *more))

    processes = [multiprocessing.get_context("fork").Process(target=work, args=(rank,)) for rank in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
    assert [process.exitcode for process in processes] == [0, 0]
    assert len(list((out / "wandb").glob("offline-run-*"))) == 1
    content = overview(out)
    assert content["config"]["meta"]["environment"]["device"] == {"kind": "cpu", "processes": 2}
    assert "val/top1" in content["summary"]
