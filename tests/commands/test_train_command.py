"""``fit``, ``validate``, ``test`` and ``predict`` from the command line."""

import csv
import inspect
import json
import signal
from pathlib import Path
from typing import Optional, Union, get_args, get_type_hints

import pytest
import torch
import yaml
from pytorch_lightning import Callback, Trainer

import vkdnw_pl.callbacks
from vkdnw_pl import cli
from vkdnw_pl.callbacks import CALLBACKS
from vkdnw_pl.cluster.options import TRAINING
from vkdnw_pl.data import DATA_MODULES
from vkdnw_pl.spaces import SPACES
from vkdnw_pl.training.cli import TrainingParser
from vkdnw_pl.training.help import class_help, train_help
from vkdnw_pl.training.module import TrainingModule
from vkdnw_pl.training.optimizer import OptimizerOptions, ScheduleOptions
from vkdnw_pl.training.teacher import TeacherOptions

ARCH = "|nor_conv_3x3~0|+|none~0|skip_connect~1|+|skip_connect~0|none~1|nor_conv_1x1~2|"
CONFIG = {
    "model": {"arch": ARCH, "network": {"channels": 4, "cells": 1}, "optimizer": {"lr_batch_size": None}},
    "data": {"class_path": "Digits", "init_args": {"batch_size": 200, "val_size": 200}},
    "trainer": {"accelerator": "cpu", "max_epochs": 1},
}


def call(capsys, *arguments):
    code = cli.main([str(one) for one in arguments])
    return code, *capsys.readouterr()


@pytest.fixture
def config(tmp_path):
    file = tmp_path / "config.yaml"
    file.write_text(yaml.safe_dump(CONFIG))
    return file


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    out = tmp_path_factory.mktemp("trained") / "run"
    file = out.with_suffix(".yaml")
    file.write_text(yaml.safe_dump(CONFIG))
    assert cli.main(["fit", "--config", str(file), "--out", str(out)]) == 0
    return out


def test_help_explains_every_option():
    text = train_help("fit", "vkdnw fit")
    linked = {"num_classes", "input_size", "seed"}
    for name in set(inspect.signature(TrainingModule).parameters) - linked:
        assert f"\n  {name}" in text
    groups = {"optimizer": OptimizerOptions, "schedule": ScheduleOptions, "teacher": TeacherOptions}
    for group, cls in groups.items():
        for name in inspect.signature(cls).parameters:
            assert f"\n  {group}.{name}" in text
    for name in DATA_MODULES:
        assert f"\n  {name}" in text


def test_help_knows_the_defaults():
    module = class_help(Path(inspect.getfile(TrainingModule)), "TrainingModule")
    for name, parameter in inspect.signature(TrainingModule).parameters.items():
        assert name in module.arguments, "every argument has its line in the docstring"
        if parameter.default is None or isinstance(parameter.default, bool):
            assert module.defaults[name] == yaml.safe_dump(parameter.default).splitlines()[0]


@pytest.mark.parametrize("command", TRAINING)
def test_help_of_each_command_needs_no_torch(command, capsys):
    code, out, _ = call(capsys, command, "--help")
    assert code == 0
    assert out.startswith(f"usage: python -m vkdnw_pl {command}")


def test_run_folder(trained):
    names = {path.relative_to(trained).as_posix() for path in trained.rglob("*") if path.is_file()}
    assert {"config.yaml", "meta.json", "history.jsonl", "results.json", "figures/curves.png"} <= names
    assert {"checkpoints/last.ckpt", "checkpoints/best.ckpt"} <= names
    meta = json.loads((trained / "meta.json").read_text())
    assert meta["command"] == "fit"
    assert meta["status"] == "finished"
    assert meta["settings"]["model.optimizer.lr"] == 0.1
    cost = SPACES["nb201"].cost(ARCH, channels=4, cells=1, num_classes=10, image_size=16, in_channels=3)
    assert meta["network"] == {"num_params": cost.num_params, "macs": cost.macs}
    results = json.loads((trained / "results.json").read_text())
    assert {"train/loss", "val/top1", "val/loss", "test/top1"} <= set(results)
    saved = torch.load(trained / "checkpoints" / "last.ckpt", weights_only=True)
    assert saved["hyper_parameters"]["arch"] == ARCH
    assert saved["hyper_parameters"]["optimizer"]["lr"] == 0.1


def test_a_checkpoint_makes_the_module_again(trained):
    module = TrainingModule.load_from_checkpoint(trained / "checkpoints" / "best.ckpt")
    assert module.arch == ARCH
    assert module.num_classes == 10
    assert module.input_size == (3, 16, 16)


def test_a_finished_training_is_not_done_again(trained, capsys):
    before = (trained / "history.jsonl").read_bytes()
    code, out, _ = call(capsys, "fit", "--config", trained / "config.yaml")
    assert code == 0
    assert "finished already" in out
    assert (trained / "history.jsonl").read_bytes() == before


def test_the_config_of_the_run_folder_says_everything(trained):
    """Also what is null, where the default is another."""
    config = yaml.safe_load((trained / "config.yaml").read_text())
    assert config["model"]["optimizer"]["lr_batch_size"] is None
    assert config["model"]["teacher"] is None
    assert config["out"] is None  # it is where the file lies
    for linked in ("num_classes", "input_size", "seed"):
        assert linked not in config["model"]


def test_a_longer_training_goes_on(trained, capsys, tmp_path):
    import shutil

    moved = tmp_path / "moved"
    shutil.copytree(trained, moved)
    before = (trained / "checkpoints" / "last.ckpt").read_bytes()
    code, out, err = call(capsys, "fit", "--config", moved / "config.yaml", "--trainer.max_epochs", 2)
    assert code == 0
    assert "the cosine schedule was one of max_epochs=1 and is now one of max_epochs=2" in err
    assert (trained / "checkpoints" / "last.ckpt").read_bytes() == before  # a copy is a run of its own
    assert f"continuing from {moved}" in out
    assert torch.load(moved / "checkpoints" / "last.ckpt", weights_only=True)["global_step"] == 8


def test_other_settings_are_refused(trained, capsys):
    code, _, err = call(capsys, "fit", "--config", trained / "config.yaml", "--model.optimizer.lr", 0.2)
    assert code == 2
    assert "model.optimizer.lr (there: 0.1, now: 0.2)" in err
    assert "give --overwrite to delete" in err


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("accumulate_grad_batches", "2"),
        ("gradient_clip_val", "0.5"),
        ("precision", "bf16-mixed"),
        ("callbacks", "[{class_path: EMA}]"),
    ],
)
def test_options_of_the_trainer_that_change_the_result_are_settings(option, value, trained, capsys):
    code, _, err = call(capsys, "fit", "--config", trained / "config.yaml", f"--trainer.{option}", value)
    assert code == 2
    assert "was made with other settings: trainer." in err


def test_a_start_that_fails_leaves_the_record_of_the_training(trained, capsys):
    before = [(trained / name).read_text() for name in ("config.yaml", "meta.json")]
    code, _, err = call(capsys, "fit", "--config", trained / "config.yaml", "--trainer.max_epochs", -1)
    assert code == 2
    assert "the training has no end" in err
    assert [(trained / name).read_text() for name in ("config.yaml", "meta.json")] == before


def test_after_a_start_that_failed_other_settings_are_free(config, capsys, tmp_path):
    arguments = ["fit", "--config", config, "--out", tmp_path / "run"]
    code, _, err = call(capsys, *arguments, "--model.schedule.warmup_epochs", 1)
    assert code == 2
    assert "model.schedule.warmup_epochs=1 is not allowed: the whole training has 1 epoch(s)" in err
    assert call(capsys, *arguments)[0] == 0


def test_a_training_that_ran_out_of_time_goes_on(config, capsys, tmp_path):
    arguments = ["fit", "--config", config, "--out", tmp_path / "run", "--trainer.max_epochs", 3]
    code, out, _ = call(capsys, *arguments, "--trainer.max_time", "00:00:00:00")
    assert code == 0
    assert "stopped before the end; continue with" in out
    assert json.loads((tmp_path / "run" / "meta.json").read_text())["status"] == "stopped"
    code, out, _ = call(capsys, *arguments)
    assert code == 0
    assert "finished already" not in out
    assert torch.load(tmp_path / "run/checkpoints/last.ckpt", weights_only=True)["global_step"] == 12


def test_options_that_change_no_result_may_differ(trained, capsys):
    code, out, _ = call(capsys, "fit", "--config", trained / "config.yaml", "--data.num_workers", 1)
    assert code == 0
    assert "finished already" in out


def test_another_folder_continues_with_other_numbers(trained, capsys, tmp_path):
    """What is typed holds, not what the checkpoint says."""
    out = tmp_path / "slower"
    arguments = ["--ckpt_path", trained / "checkpoints/last.ckpt", "--trainer.max_epochs", 2]
    arguments += ["--model.optimizer.lr", 0.01]
    arguments += ["--model.schedule.name", "constant", "--model.optimizer.weight_decay", 0.25]
    code, *_ = call(capsys, "fit", "--config", trained / "config.yaml", "--out", out, *arguments)
    assert code == 0
    group, _ = torch.load(out / "checkpoints" / "last.ckpt", weights_only=True)["optimizer_states"][0]["param_groups"]
    assert (group["lr"], group["weight_decay"]) == (0.01, 0.25)


@pytest.mark.parametrize("command", ["validate", "test"])
def test_evaluation_of_the_best_checkpoint(command, trained, capsys):
    code, out, _ = call(capsys, command, "--config", trained / "config.yaml")
    assert code == 0
    assert f"evaluating {trained / 'checkpoints' / 'best.ckpt'}" in out
    assert ("val/top1" if command == "validate" else "test/top1") in out


def test_predictions_agree_with_the_test(trained, capsys):
    code, out, _ = call(capsys, "predict", "--config", trained / "config.yaml", "--ckpt_path", "last")
    assert code == 0
    with (trained / "predictions.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    columns = ["index", "label", "label_name", "predicted", "predicted_name", "probability", "correct"]
    assert list(rows[0])[:9] == [*columns, "top1", "top1_probability"]
    accuracy = 100 * sum(row["correct"] == "1" for row in rows) / 797
    assert f"right: {accuracy:.2f} % of 797 images; fewest of " in out
    assert accuracy == pytest.approx(json.loads((trained / "results.json").read_text())["test/top1"], abs=1e-4)


def test_start_from_weights(trained, capsys, tmp_path):
    weights = trained / "checkpoints" / "last.ckpt"
    module = TrainingModule(
        ARCH, network={"channels": 4, "cells": 1}, num_classes=10, input_size=(3, 16, 16), weights=str(weights)
    )
    state = torch.load(weights, weights_only=True)["state_dict"]
    for name, value in module.network.state_dict().items():
        assert torch.equal(value, state[f"network.{name}"])


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--model.lrr", "3"], "option '--model.lrr' is not known"),
        (
            ["--trainer.max_epoch", "3"],
            "option '--trainer.max_epoch' is not known; did you mean '--trainer.max_epochs'?",
        ),
        (["--data.bath_size", "3"], "option of Digits 'bath_size' is not known; did you mean 'batch_size'?"),
        (["--data", "Digit"], "data: class 'Digit' is not known; did you mean 'Digits'?"),
        (["--model.optimizer.lr", "foo"], "model.optimizer.lr=foo is not allowed: it takes a number"),
        (["--model.optimizer.lr", "-1"], "model.optimizer.lr=-1.0 is not allowed: give a number of at least 0"),
        (["--model.optimizer.decay", "foo"], "model.optimizer.decay=foo is not allowed: it takes weights or all"),
        (["--model.optimizer.name", "sdg"], "sgd"),
        (["--model.init", "foo"], "model.init=foo is not allowed: it takes kaiming_normal or gaussian"),
        (["--model.num_classes", "5"], "model.num_classes comes from the data module; leave it out"),
        (["--model={num_classes: 5}"], "model.num_classes comes from the data module; leave it out"),
        (["--data", "CIFAR10"], "data.root is missing: CIFAR10 needs it"),
        (["--trainer.strategy", "ddp_fork"], "use ddp"),
        (["--trainer.accelerator", "gpu"], "No supported gpu backend found"),
        (["--data.seed", "5"], "data.seed comes from seed_everything; leave it out"),
        (["--model.network", "{num_classes: 3}"], "model.network has 'num_classes', which comes from the data module"),
        (["--model.network", "{chanels: 3}"], "did you mean 'channels'?"),
        (["--model.arch", "mobilenetv2_10"], "'mobilenetv2_100'"),
        (["--model.arch", "nowhere.json"], "arch='nowhere.json' cannot be read"),
        (
            ["--model.space", "nb2"],
            "space='nb2' is not known; did you mean 'nb201'? (allowed: auto, autoformer, mbv2, ",
        ),
        (["--model.weights", "nowhere.ckpt"], "weights='nowhere.ckpt': there is no such file"),
        (["--model.zero_gamma", "true"], "zero_init_last"),
        (
            ["--model.bn_momentum", "1.5"],
            "model.bn_momentum=1.5 is not allowed: give a number of at least 0 and at most 1",
        ),
        (["--model.label_smoothing", "1"], "model.label_smoothing=1.0 is not allowed"),
        (["--ckpt_path", "nowhere.ckpt"], "ckpt_path='nowhere.ckpt': there is no file nowhere.ckpt"),
        (["--trainer.default_root_dir", "x"], "trainer.default_root_dir is the run folder here: give --out instead"),
        (["--trainer.callbacks", "EMAX"], "trainer.callbacks: class 'EMAX' is not known; did you mean"),
        (["--model.schedule", "{name: cosine_per_epoch, warmup_epochs: 1}"], "cosine_per_epoch"),
    ],
)
def test_wrong_usage(arguments, text, config, capsys, tmp_path):
    code, _, err = call(capsys, "fit", "--config", config, "--out", tmp_path / "run", *arguments)
    assert code == 2, err
    assert text in err
    assert not (tmp_path / "run" / "meta.json").exists()


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ({"model": {"arhc": "x"}}, "option 'model.arhc' is not known; did you mean 'model.arch'?"),
        ({**CONFIG, "modle": {}}, "option 'modle' is not known; did you mean 'model'?"),
        ({**CONFIG, "data": {"class_path": "Digits", "init_args": {"seed": 3}}}, "comes from seed_everything"),
        ({**CONFIG, "data": {"class_path": "Digits", "init_args": {"bath_size": 3}}}, "did you mean 'batch_size'?"),
    ],
)
def test_wrong_config_files(content, text, capsys, tmp_path):
    file = tmp_path / "config.yaml"
    file.write_text(yaml.safe_dump(content))
    code, _, err = call(capsys, "fit", "--config", file, "--out", tmp_path / "run")
    assert code == 2
    assert text in err


def test_data_that_are_not_there(capsys, tmp_path):
    file = tmp_path / "config.yaml"
    file.write_text(yaml.safe_dump({**CONFIG, "data": {"class_path": "CIFAR10", "init_args": {"root": str(tmp_path)}}}))
    code, _, err = call(capsys, "fit", "--config", file, "--out", tmp_path / "run")
    assert code == 1
    assert str(tmp_path) in err
    assert "download" in err
    assert json.loads((tmp_path / "run" / "meta.json").read_text())["status"] == "failed"


def test_evaluation_by_the_run_folder_alone(trained, capsys):
    code, out, _ = call(capsys, "test", "--out", trained)
    assert code == 0
    assert "test/top1" in out


@pytest.mark.parametrize("command", ["validate", "test"])
def test_the_run_folder_by_its_place(command, trained, capsys):
    """Wherever it stands, beside options that replace the run's."""
    last = trained / "checkpoints" / "last.ckpt"
    code, out, _ = call(capsys, command, "--ckpt_path", "last", trained, "--data.eval_batch_size=50")
    assert code == 0
    assert f"evaluating {last}" in out
    name = "val/top1" if command == "validate" else "test/top1"
    assert f"{name} {json.loads((trained / 'results.json').read_text())[name]:.2f} %" in out


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["nowhere"], "it does not exist; give the run folder of fit"),
        (["{run}/config.yaml"], "it is a file; give the run folder of fit"),
        (["{run}/checkpoints"], "it is no run folder of fit"),
        (["{run}", "--out", "other"], "out='other' is not allowed beside"),
        (["{run}", "other"], "takes one run folder"),
    ],
)
def test_what_is_no_run_folder(arguments, text, trained, capsys):
    code, _, err = call(capsys, "test", *(argument.format(run=trained) for argument in arguments))
    assert code == 2
    assert text in err


@pytest.mark.parametrize(
    ("content", "text"),
    [(b"", "damaged, or no checkpoint"), (b"model: 1\n", "damaged, or no checkpoint")],
)
def test_a_file_that_is_no_checkpoint(content, text, trained, capsys, tmp_path):
    file = tmp_path / "last.ckpt"
    file.write_bytes(content)
    code, _, err = call(capsys, "test", "--out", trained, "--ckpt_path", file)
    assert code == 2
    assert text in err
    assert str(file) in err


def test_a_checkpoint_of_another_network(trained, capsys, tmp_path):
    arguments = ["--config", trained / "config.yaml", "--model.network", "{channels: 8, cells: 1}"]
    code, _, err = call(capsys, "test", *arguments, "--ckpt_path", trained / "checkpoints" / "best.ckpt")
    assert code == 2
    assert "is of another network: network is {'cells': 1, 'channels': 4} there" in err


def test_nothing_to_evaluate(config, capsys, tmp_path):
    code, _, err = call(capsys, "test", "--config", config, "--out", tmp_path / "run")
    assert code == 2
    assert "--ckpt_path none" in err


def test_the_network_as_it_is_built(config, capsys, tmp_path):
    code, out, _ = call(capsys, "test", "--config", config, "--out", tmp_path / "run", "--ckpt_path", "none")
    assert code == 0
    assert "test/top1" in out


def test_foreign_folder_is_kept(config, capsys, tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    (run / "scores.csv").write_text("arch\n")
    code, _, err = call(capsys, "fit", "--config", config, "--out", run)
    assert code == 2
    assert "holds scores.csv but no meta.json that says how it was made" in err
    assert (run / "scores.csv").read_text() == "arch\n"


def test_a_loss_that_is_not_finite(config, capsys, tmp_path):
    run = tmp_path / "run"
    code, _, err = call(
        capsys, "fit", "--config", config, "--out", run, "--model.optimizer.lr", "1e30", "--trainer.max_epochs", "9"
    )
    assert code == 1
    assert "nonfinite_batch_rank0.pt" in err
    assert json.loads((run / "meta.json").read_text())["status"] == "failed"
    for saved in (run / "checkpoints").glob("*.ckpt"):
        state = torch.load(saved, weights_only=True)["state_dict"]
        assert all(bool(value.isfinite().all()) for value in state.values())


def test_half_written_files_of_a_killed_training_go(trained, capsys):
    drafts = [trained / name for name in (".results.7.tmp.json", "checkpoints/.last.7.tmp.ckpt", ".meta.json.tmp")]
    for draft in drafts:
        draft.write_bytes(b"half")
    assert call(capsys, "fit", "--config", trained / "config.yaml")[0] == 0
    assert not any(draft.exists() for draft in drafts)


def test_one_callback_that_is_no_list(config, capsys, tmp_path):
    run = tmp_path / "run"
    arguments = ["--trainer.callbacks", "EMA", "--trainer.max_steps", "1"]
    assert call(capsys, "fit", "--config", config, "--out", run, *arguments)[0] == 0
    assert "current_model_state" in torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
    assert json.loads((run / "meta.json").read_text())["settings"]["trainer.EMA.decay"] == 0.9999


def test_one_batch_is_not_all_batches(config, capsys, tmp_path):
    run = tmp_path / "run"
    code, *_ = call(capsys, "fit", "--config", config, "--out", run, "--trainer.limit_train_batches", "1")
    assert code == 0
    assert torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["global_step"] == 1
    assert json.loads((run / "meta.json").read_text())["settings"]["trainer.limit_train_batches"] == 1


class Half(Callback):
    def __init__(self, share: Optional[Union[float, int]] = None) -> None:  # noqa: UP007, UP045
        self.share = share


def test_a_whole_number_stays_one_for_every_option_of_the_trainer():
    parser = TrainingParser(exit_on_error=False)
    parser.add_lightning_class_args(Trainer, "trainer")
    parser.add_subclass_arguments(Callback, "hook")
    kinds = {name: get_args(kind) for name, kind in get_type_hints(Trainer.__init__).items()}
    mixed = {name: kind for name, kind in kinds.items() if int in kind and {float, str} & set(kind)}
    assert {"limit_train_batches", "overfit_batches", "val_check_interval", "devices"} <= set(mixed)
    for text, number in (("1", int), ("1.0", float)):
        options = parser.parse_args([f"--trainer.{name}={text}" for name in mixed])
        for name, kind in mixed.items():
            assert type(options.trainer[name]) is (number if number in kind else str), name
        options = parser.parse_args([f"--hook={__name__}.Half", f"--hook.share={text}"])
        assert type(options.hook.init_args.share) is number


@pytest.mark.parametrize("name", CALLBACKS)
def test_callbacks_are_importable_by_name(name):
    assert getattr(vkdnw_pl.callbacks, name).__name__ == name


def test_signal_handlers_are_as_before(config, tmp_path):
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    assert cli.main(["fit", "--config", str(config), "--out", str(tmp_path / "run"), "--trainer.max_steps", "1"]) == 0
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before
