"""``fit`` in processes that Slurm started (here: that look so), and what stops them."""

import json
import shutil
import signal

import pytest
import torch
from test_resume import BATCHES, EPOCHS, PLAIN, assert_same_training, curve
from training_runs import run_fit, run_tasks

from vkdnw_pl.callbacks import read_history

TWO = {**PLAIN, "data": {**PLAIN["data"], "init_args": {**PLAIN["data"]["init_args"], "batch_size": 25}}}
SHORT = {**TWO, "trainer": {**TWO["trainer"], "max_epochs": 1}, "model": {**TWO["model"], "schedule": {}}}


def meta(out):
    return json.loads((out / "meta.json").read_text())


def last_step(out):
    return torch.load(out / "checkpoints" / "last.ckpt", weights_only=True)["global_step"]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Run folder of a training of two tasks that nobody stopped."""
    out = tmp_path_factory.mktemp("whole") / "run"
    assert run_tasks(TWO, out) == [0, 0]
    return out


def test_devices_follow_from_the_tasks(whole):
    assert meta(whole)["status"] == "finished"
    assert meta(whole)["runs"][0]["processes"] == 2
    assert last_step(whole) == EPOCHS * BATCHES  # half of the images for each
    assert not list(whole.rglob("hpc_ckpt*"))


def test_a_finished_training_is_not_done_again_by_any_task(whole, capfd):
    before = (whole / "history.jsonl").read_bytes()
    assert run_tasks(TWO, whole) == [0, 0]
    assert capfd.readouterr().out.count("finished already") == 1
    assert (whole / "history.jsonl").read_bytes() == before
    assert len(meta(whole)["runs"]) == 1


def test_all_tasks_refuse_other_settings(whole, capfd):
    assert run_tasks(TWO, whole, "--model.optimizer.lr", "0.2") == [2, 2]
    assert capfd.readouterr().err.count("was made with other settings") == 1


@pytest.mark.parametrize(
    ("strikes", "signum", "saved"),
    [
        ({0: (signal.SIGUSR1, 6, "on_train_batch_end"), 1: (signal.SIGUSR1, 5, "on_train_batch_end")}, 10, {6, 7}),
        pytest.param(
            {0: (signal.SIGUSR1, 4, "validation_step"), 1: (signal.SIGTERM, 4, "validation_step")},
            15,
            {BATCHES},
            marks=pytest.mark.slow,
        ),
    ],
    ids=["one_after_the_other", "validation"],
)
def test_tasks_stop_together_and_go_on(strikes, signum, saved, whole, tmp_path):
    broken = tmp_path / "broken"
    assert run_tasks(TWO, broken, strikes=strikes) == [128 + signum, 0]
    assert meta(broken)["status"] == "stopped"
    assert meta(broken)["runs"][0]["stopped_by"] == signal.Signals(signum).name
    assert last_step(broken) in saved
    assert run_tasks(TWO, broken) == [0, 0]
    assert_same_training(whole, broken)
    assert curve(broken).keys() == curve(whole).keys()
    for step, values in curve(whole).items():  # sums over processes are added in another order
        assert curve(broken)[step] == pytest.approx(values, rel=1e-6)


def test_sigusr1_before_the_first_step_waits_for_it(tmp_path, capfd):
    out = tmp_path / "run"
    assert run_fit(PLAIN, out, signum=signal.SIGUSR1, step=0, during="on_validation_start") == 138  # the sanity check
    assert "the training stops after its first step" in capfd.readouterr().err
    assert last_step(out) == meta(out)["runs"][0]["steps"] == 1


def test_sigterm_before_the_first_step_ends_it(tmp_path):
    out = tmp_path / "run"
    assert run_fit(PLAIN, out, signum=signal.SIGTERM, step=0, during="setup") == 143
    assert meta(out)["status"] == "stopped"
    assert not list((out / "checkpoints").glob("*.ckpt"))


def test_sigusr1_after_the_last_step_leaves_the_test_to_the_next_job(tmp_path, capfd):
    """Which has all its time for it, and does it to the end."""
    out = tmp_path / "run"
    assert run_tasks(SHORT, out, strikes={1: (signal.SIGUSR1, BATCHES, "on_train_batch_end")}) == [138, 0]
    assert "test/top1" not in json.loads((out / "results.json").read_text())
    assert run_fit(SHORT, out, signum=signal.SIGUSR1, step=BATCHES, during="test_step") == 0
    assert "the test goes on as long as it can" in capfd.readouterr().err
    assert [run["stopped_by"] for run in meta(out)["runs"]] == ["SIGUSR1", None]
    assert sum("test/top1" in line for line in read_history(out)) == 1


def test_sigusr1_in_the_test(tmp_path):
    out = tmp_path / "run"
    assert run_fit(SHORT, out, signum=signal.SIGUSR1, step=2 * BATCHES, during="test_step") == 138
    assert meta(out)["status"] == "stopped"
    assert "test/top1" not in json.loads((out / "results.json").read_text())


def test_an_epoch_of_one_step_can_be_stopped(tmp_path):
    out = tmp_path / "run"
    config = {**PLAIN, "trainer": {**PLAIN["trainer"], "limit_train_batches": 1, "max_epochs": 50}}
    assert run_fit(config, out, signum=signal.SIGTERM, step=2) == 143
    assert last_step(out) == 2  # at the end of its epoch


def test_overwrite_begins_anew_with_another_run_of_wandb(whole, tmp_path):
    out = tmp_path / "run"
    shutil.copytree(whole, out)
    (out / "wandb_id").write_text("earlier\n")
    (out / "wandb" / "run").mkdir(parents=True)
    assert run_tasks(SHORT, out, "--overwrite", "true") == [0, 0]
    assert len(meta(out)["runs"]) == 1
    assert meta(out)["runs"][0]["ckpt_path"] is None
    assert not (out / "wandb_id").exists()
    assert not (out / "wandb").exists()


@pytest.mark.parametrize(
    ("tasks", "options", "text"),
    [
        (2, ["--trainer.devices", "1"], "but Slurm started 2 (--nodes 1 --ntasks-per-node 2)"),
        # Lightning would train on half of the images, without a word.
        (1, ["--trainer.devices", "2"], "but Slurm started 1 (--nodes 1 --ntasks-per-node 1)"),
        (2, ["--trainer.plugins", "lightning_fabric.plugins.environments.LightningEnvironment"], "plugins"),
    ],
)
def test_other_processes_than_slurms_are_refused(tasks, options, text, tmp_path, capfd):
    assert run_tasks(SHORT, tmp_path / "run", *options, tasks=tasks) == [2] * tasks
    assert text in capfd.readouterr().err
    assert not (tmp_path / "run" / "meta.json").exists()
