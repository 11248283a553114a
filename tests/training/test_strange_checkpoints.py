"""Checkpoints that are damaged, hand-made or of strangers: one line that names file and key, and no code of theirs run."""

import importlib
import json
import re
import shutil
import sys

import pytest
import torch
import yaml
from training_runs import TINY_ARCH

from vkdnw_pl import cli
from vkdnw_pl.training.exported import load_exported, read_saved
from vkdnw_pl.training.module import TrainingModule
from vkdnw_pl.training.teacher import TeacherOptions, _build

CONFIG = {
    "model": {"arch": TINY_ARCH, "network": {"channels": 2, "cells": 1}, "schedule": {"warmup_epochs": 0}},
    "data": {"class_path": "Digits", "init_args": {"batch_size": 100, "image_size": 8, "num_workers": 0}},
    "trainer": {"accelerator": "cpu", "max_epochs": 1, "limit_train_batches": 2, "limit_test_batches": 1},
}
EVIL = """
from pathlib import Path

from vkdnw_pl.spaces import NB201

Path(__file__).with_name("was_run").touch()


class EvilSpace(NB201):
    name = "evil"
"""


def call(capsys, *arguments):
    code = cli.main([str(one) for one in arguments])
    return code, *capsys.readouterr()


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained")
    (folder / "fit.yaml").write_text(yaml.safe_dump(CONFIG))
    assert cli.main(["fit", "--config", str(folder / "fit.yaml"), "--out", str(folder / "run")]) == 0
    assert cli.main(["export", str(folder / "run"), "--format", "state_dict,safetensors"]) == 0
    return folder


@pytest.fixture
def run(trained, tmp_path):
    shutil.copytree(trained / "run", tmp_path / "run")
    return tmp_path / "run"


def flip_a_byte(path, pattern):
    """In the middle of where the file holds a tensor."""
    raw = bytearray(path.read_bytes())
    place = raw.index(pattern) + len(pattern) // 2
    raw[place] ^= 0x40
    path.write_bytes(raw)


def weight_of(path):
    content = torch.load(path, weights_only=True)
    state = content.get("state_dict", content)
    return next(value for name, value in state.items() if value.numel() > 20).numpy().tobytes()


def longer(run):
    return ["fit", "--config", run / "config.yaml", "--trainer.max_epochs", "2"]


def test_a_flipped_byte_is_found_wherever_weights_are_read(run, capsys, tmp_path):
    checkpoint, best = run / "checkpoints" / "last.ckpt", run / "checkpoints" / "best.ckpt"
    assert read_saved(checkpoint)["global_step"] == 2
    flip_a_byte(checkpoint, weight_of(checkpoint))
    flip_a_byte(best, weight_of(best))
    torch.load(checkpoint, weights_only=True)  # PyTorch does not see it
    given = [
        longer(run),
        ["validate", "--out", run],
        ["test", "--out", run, "--ckpt_path", checkpoint],
        ["predict", "--out", run],
        ["export", run, "--out", tmp_path / "out"],
        ["fit", "--config", run / "config.yaml", "--model.weights", checkpoint, "--out", tmp_path / "other"],
    ]
    for arguments in given:
        code, _, error = call(capsys, *arguments)
        assert code == 2, arguments
        assert "it is damaged: its part " in error
        assert "/data/" in error
        assert ".ckpt'" in error
        assert "Traceback" not in error


def test_a_flipped_bit_in_the_directory_of_the_parts(run):
    """PyTorch takes a part that is marked as a folder for one without content, and gives what was in memory."""
    path = run / "checkpoints" / "last.ckpt"
    raw = bytearray(path.read_bytes())
    entry = raw.rindex(b"PK\x01\x02", 0, raw.rindex(b"/data/0"))
    raw[entry + 38] ^= 0x10  # the external attributes
    path.write_bytes(raw)
    with pytest.raises(ValueError, match=r"it is damaged: its part .*/data/0 is marked as a folder"):
        read_saved(path)


@pytest.mark.parametrize("name", ["model.pt", "model.safetensors"])
def test_a_flipped_byte_of_an_export(run, name):
    weight = weight_of(run / "export" / "model.pt")
    load_exported(run / "export" / name)
    flip_a_byte(run / "export" / name, weight)
    with pytest.raises(ValueError, match=rf"{name}' is damaged, or another file than .*model.json.*SHA-256"):
        load_exported(run / "export" / name)
    (run / "export" / "model.json").unlink()
    if name == "model.pt":  # a safetensors file alone has no checksum
        with pytest.raises(ValueError, match="it is damaged: its part"):
            load_exported(run / "export" / name)


def test_a_flipped_byte_of_a_teacher(tmp_path):
    options = TeacherOptions(name="lcnet_050", pretrained=False)
    network = _build(options, 10)
    torch.save(network.state_dict(), tmp_path / "teacher.pt")
    flip_a_byte(tmp_path / "teacher.pt", network.conv_stem.weight.detach().numpy().tobytes())
    with pytest.raises(ValueError, match=r"model.teacher.weights=.* it is damaged: its part"):
        _build(TeacherOptions(name="lcnet_050", weights=str(tmp_path / "teacher.pt")), 10)


def put(content, keys, value):
    *path, last = keys
    for key in path:
        content = content[key]
    if value is None:
        del content[last]
    else:
        content[last] = value


PROGRESS = ("loops", "fit_loop", "epoch_progress", "current")
WRONG = [
    (("hyper_parameters",), [1], "hyper_parameters, is damaged: it is a list"),
    (("hyper_parameters", "num_classes"), "ten", "num_classes is 'ten', it must be a whole number"),
    (("hyper_parameters", "input_size"), [3, "x", 8], "input_size is .* must be channels, height and width"),
    (("hyper_parameters", "network"), "wide", "network is 'wide', it must be options by name"),
    (("loops",), 3, "loops is a int, not values by name"),
    (("loops", "fit_loop"), [], "loops, fit_loop is a list"),
    ((*PROGRESS, "ready"), "soon", "epoch_progress, current, ready is 'soon', it must be a whole number"),
    (PROGRESS, None, "epoch_progress has no 'current'"),
    (("global_step",), -1, "global_step is -1"),
    (("optimizer_states",), "none", "optimizer_states is a str, not a list"),
    (("optimizer_states", 0, "state", 0), 7, "state, 0 is a int, not values by name"),
    (("optimizer_states", 0, "param_groups"), {"lr": 1}, "param_groups is a dict, not a list"),
    (("optimizer_states", 0, "state", 0, "momentum_buffer"), "x", "state, 0, momentum_buffer is a str"),
    (("lr_schedulers", 0, "last_epoch"), "x", "last_epoch is 'x'"),
    (("callbacks", "RunCheckpoints"), {"best": 1.0}, "cannot be continued: "),
    (("state_dict",), {"network.stem.0.weight": torch.zeros(2)}, r"weight is a tensor \(2,\), not a tensor \(2, 3"),
    (("state_dict", "network.stem.0.weight"), 5, "network.stem.0.weight is a int, not a tensor"),
    (("state_dict", "network.more"), torch.zeros(2), "'network.more' is no weight of the one here"),
]


@pytest.mark.parametrize(("keys", "value", "text"), WRONG, ids=[".".join(map(str, keys)) for keys, _, _ in WRONG])
def test_values_of_a_wrong_kind(keys, value, text, run, capsys):
    checkpoint = run / "checkpoints" / "last.ckpt"
    content = torch.load(checkpoint, weights_only=True)
    put(content, keys, value)
    torch.save(content, checkpoint)
    code, _, error = call(capsys, *longer(run))
    assert code in (1, 2)
    assert "Traceback" not in error
    assert f"ckpt_path='{checkpoint}'" in error
    assert error.count("\n") <= 2
    assert re.search(text, error), error


@pytest.mark.parametrize(
    ("keys", "value", "text"),
    [
        (("hyper_parameters",), 5, "hyper_parameters, is damaged"),
        (("hyper_parameters", "arch"), 5, "arch is 5, it must be a text"),
        (("hyper_parameters", "space"), None, "space missing"),
        (("hyper_parameters", "input_size"), [3], "input_size is"),
        (("state_dict",), {1: torch.zeros(2)}, "1 is a Tensor, not a tensor with a name"),
    ],
)
def test_export_of_values_of_a_wrong_kind(keys, value, text, run, capsys, tmp_path):
    content = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
    put(content, keys, value)
    torch.save(content, tmp_path / "odd.ckpt")
    code, _, error = call(capsys, "export", tmp_path / "odd.ckpt", "--out", tmp_path / "out")
    assert code == 2
    assert str(tmp_path / "odd.ckpt") in error
    assert text in error
    assert "Traceback" not in error


@pytest.fixture
def stranger(run, tmp_path, monkeypatch):
    """Files of a stranger that all name a class in a module beside them."""
    (tmp_path / "evilspace.py").write_text(EVIL)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "evilspace", raising=False)
    (tmp_path / "found.json").write_text(json.dumps({"space": "evilspace.EvilSpace", "arch": TINY_ARCH}))
    content = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
    content["hyper_parameters"]["space"] = "evilspace.EvilSpace"
    torch.save(content, tmp_path / "evil.ckpt")
    content = torch.load(run / "export" / "model.pt", weights_only=True)
    torch.save({**content, "space": "evilspace.EvilSpace"}, tmp_path / "evil.pt")
    config = yaml.safe_load((run / "config.yaml").read_text())
    config["model"]["space"] = "evilspace.EvilSpace"
    (run / "config.yaml").write_text(yaml.safe_dump(config))
    yield tmp_path
    sys.modules.pop("evilspace", None)


@pytest.mark.parametrize(
    ("arguments", "way_out"),
    [
        (
            ["fit", "--config", "fit.yaml", "--model.arch", "found.json", "--out", "x"],
            "--model.space evilspace.EvilSpace",
        ),
        (["export", "found.json", "--untrained", "true", "--out", "x"], "--space evilspace.EvilSpace"),
        (["export", "evil.ckpt", "--out", "x"], "--space evilspace.EvilSpace"),
        (["export", "evil.pt", "--out", "x"], "--space evilspace.EvilSpace"),
        (["test", "--out", "run"], "--config run/config.yaml"),
    ],
    ids=["found", "export_found", "checkpoint", "exported", "run_folder"],
)
def test_no_file_makes_code_run(arguments, way_out, stranger, trained, capsys):
    """But where the user names the space as well, it is an ordinary one."""
    shutil.copy(trained / "fit.yaml", "fit.yaml")
    code, _, error = call(capsys, *arguments)
    assert code == 2
    assert "Traceback" not in error
    assert way_out in error
    assert not (stranger / "was_run").exists()
    if arguments[0] == "export":
        assert call(capsys, *arguments, "--space", "evilspace.EvilSpace")[0] == 0
        assert (stranger / "was_run").exists()


def test_a_module_from_a_checkpoint_of_a_stranger(stranger, run):
    last, evil = run / "checkpoints" / "last.ckpt", stranger / "evil.ckpt"
    module = TrainingModule.load_from_checkpoint(last)
    assert torch.equal(module.network.stem[0].weight, torch.load(last)["state_dict"]["network.stem.0.weight"])
    with pytest.raises(ValueError, match=r"evil.ckpt', hyper_parameters, names the space 'evilspace.EvilSpace'"):
        TrainingModule.load_from_checkpoint(evil)
    assert not (stranger / "was_run").exists()
    TrainingModule.load_from_checkpoint(evil, space="nb201")
    importlib.import_module("evilspace")
    assert TrainingModule.load_from_checkpoint(evil).space == "evilspace.EvilSpace"
    flip_a_byte(last, weight_of(last))
    with pytest.raises(ValueError, match="it is damaged: its part"):
        TrainingModule.load_from_checkpoint(last)


@pytest.mark.parametrize(
    ("record", "text"),
    [
        (5, "is damaged: it is a int, not values by name"),
        ({"class_names": [1] * 10}, "is damaged: 'class_names' must be a list of texts"),
        ({"class_names": ["a"]}, "has 1 class_names for 10 classes"),
        ({"normalisation": {"mean": [0.5], "std": [0.0]}}, "is damaged: 'std' must be numbers above 0"),
        ({"crop_pct": 0}, "crop_pct=0 is not allowed"),
        ({"interpolation": "x", "arch": "evil"}, "interpolation='x' is not known"),
    ],
)
def test_what_a_checkpoint_says_of_images_is_checked(record, text, run, capsys):
    checkpoint = run / "checkpoints" / "best.ckpt"
    content = torch.load(checkpoint, weights_only=True)
    torch.save({**content, "image_record": record}, checkpoint)
    for arguments in (["test", run], ["export", run], ["predict", run, "--images", __file__]):
        code, _, err = call(capsys, *arguments)
        assert code == 2, err
        assert text in err
        assert "image_record" in err
