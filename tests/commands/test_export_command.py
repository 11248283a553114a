"""``export``: from a training, a checkpoint or an architecture to files that others read."""

import json
import resource
import shutil

import numpy as np
import pytest
import safetensors.torch
import timm
import torch
import yaml
from PIL import Image

import vkdnw_pl.networks.timm_models  # noqa: F401  (registers vkdnw_mbv2)
from vkdnw_pl import cli
from vkdnw_pl.data import Digits
from vkdnw_pl.spaces import SPACES
from vkdnw_pl.spaces.resolve import resolve_arch
from vkdnw_pl.training import exported as exported_files
from vkdnw_pl.training.exported import load_exported, read_exported
from vkdnw_pl.training.module import TrainingModule

TINY = "SuperConvK3BNRELU(3,8,2,1)SuperResIDWE1K3(8,16,2,8,1)SuperConvK1BNRELU(16,32,1,1)"
NB201 = "|nor_conv_3x3~0|+|none~0|skip_connect~1|+|skip_connect~0|none~1|nor_conv_1x1~2|"
FOUND = {
    "format": 1,
    "space": "mbv2",
    "arch": TINY,
    "network": {"use_se": True, "num_classes": 100, "image_size": 32},
    "rank": 1,
    "top": [{"arch": TINY}],
}


def call(capsys, *arguments):
    code = cli.main([str(one) for one in arguments])
    return code, *capsys.readouterr()


def state_of(checkpoint, key="state_dict"):
    state = torch.load(checkpoint, weights_only=True)[key]
    return {name.removeprefix("network."): value for name, value in state.items() if name.startswith("network.")}


@pytest.fixture(scope="module")
def search(tmp_path_factory):
    folder = tmp_path_factory.mktemp("search")
    (folder / "found.json").write_text(json.dumps(FOUND))
    return folder


@pytest.fixture(scope="module")
def run(search):
    """Two epochs of a found network, with averaged weights, images made smaller for the network."""
    config = {
        "model": {"arch": str(search / "found.json"), "student_size": 12},
        "data": {"class_path": "Digits", "init_args": {"batch_size": 200, "val_size": 200}},
        "trainer": {"accelerator": "cpu", "max_epochs": 2, "callbacks": [{"class_path": "EMA"}]},
    }
    (search / "fit.yaml").write_text(yaml.safe_dump(config))
    out = search / "fit"
    assert cli.main(["fit", "--config", str(search / "fit.yaml"), "--out", str(out)]) == 0
    return out


@pytest.fixture
def images():
    return torch.randn(5, 3, 12, 12, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def exported(run, search):
    """All formats of the last checkpoint."""
    out = search / "exported"
    formats = "state_dict,safetensors,onnx"
    assert cli.main(["export", str(run), "--out", str(out), "--format", formats, "--checkpoint", "last"]) == 0
    return out


def test_the_file_has_all_that_it_takes(exported, run):
    content = torch.load(exported / "model.pt", weights_only=True)
    state, statistics = content.pop("state_dict"), Digits().image_statistics
    assert content == {
        "format": 1,
        "space": "mbv2",
        "arch": TINY,
        "network": {"use_se": True},
        "num_classes": 10,
        "input_size": [3, 12, 12],
        "normalisation": {"mean": statistics[0], "std": statistics[1]},
        "crop_pct": 1.0,
        "interpolation": "bilinear",
        "resized_from": 16,
        "class_names": list("0123456789"),
    }
    checkpoint = run / "checkpoints" / "last.ckpt"
    average, trained = state_of(checkpoint), state_of(checkpoint, "current_model_state")
    assert list(state) == list(average)
    assert all(torch.equal(state[name], average[name]) for name in state)
    assert not all(torch.equal(state[name], trained[name]) for name in state)


def test_both_files_of_weights_are_one_network(exported, images):
    network, other = load_exported(exported), load_exported(exported / "model.safetensors")
    assert not network.training
    assert network.class_names == other.class_names == tuple("0123456789")
    assert torch.equal(network(images), other(images))
    assert read_exported(exported / "model.safetensors")[0] == read_exported(exported)[0]
    module = TrainingModule.load_from_checkpoint(exported.parent / "fit" / "checkpoints" / "last.ckpt")
    assert torch.equal(network(images), module.eval()(images))


def test_card(exported, run):
    card = json.loads((exported / "model.json").read_text())
    cost = SPACES["mbv2"].cost(TINY, use_se=True, num_classes=10, image_size=12)
    assert (card["macs"], card["num_params"]) == (cost.macs, cost.num_params)
    reference = SPACES["mbv2"].reference_cost(TINY, use_se=True, num_classes=10, image_size=12)
    assert card["reference"] == {"macs": reference.macs, "num_params": reference.num_params}
    results = json.loads((run / "results.json").read_text())
    assert card["accuracy"] == {name: value for name, value in results.items() if name[:4] in ("val/", "test")}
    assert card["trained"]
    assert card["source"] == {"file": "last.ckpt", "epoch": 1, "steps": 8, "averaged": True}
    assert card["data"]["class_path"] == "vkdnw_pl.data.Digits"
    assert set(card["files"]) == {"model.pt", "model.safetensors", "model.onnx"}
    assert card["onnx"]["opset"] == 18
    assert 0 < card["onnx"]["difference"] <= 1e-4
    assert resolve_arch(str(exported / "model.json")).arch == TINY


def test_the_best_checkpoint_has_its_own_accuracy(run, capsys):
    """Even if it is not the last: nothing is said of other weights than the exported ones."""
    moved = run.parent / "moved"
    shutil.copytree(run, moved)
    best = torch.load(moved / "checkpoints" / "best.ckpt", weights_only=True)
    epoch_1 = next(
        json.loads(line) for line in (moved / "history.jsonl").read_text().splitlines() if "val/top1" in line
    )
    best |= {"global_step": epoch_1["step"] + 1, "epoch": 0}
    torch.save(best, moved / "checkpoints" / "best.ckpt")
    code, out, _ = call(capsys, "export", moved)
    assert code == 0
    assert str(moved / "export" / "model.pt") in out
    card = json.loads((moved / "export" / "model.json").read_text())
    assert card["accuracy"] == {name: value for name, value in epoch_1.items() if name.startswith("val/")}
    assert card["source"]["epoch"] == 0


def test_timm_takes_the_file(exported, images):
    network = load_exported(exported)
    for file in ("model.pt", "model.safetensors"):
        model = timm.create_model(
            "vkdnw_mbv2", arch=TINY, num_classes=10, use_se=True, checkpoint_path=str(exported / file)
        )
        assert torch.equal(model.eval()(images), network(images))
    model = timm.create_model(
        "vkdnw_mbv2", arch=str(exported / "model.json"), checkpoint_path=str(exported / "model.pt")
    )
    assert torch.equal(model.eval()(images), network(images))


def test_timm_knows_how_its_images_are_prepared(exported, search):
    mean, std = map(tuple, Digits().image_statistics)
    model = timm.create_model("vkdnw_mbv2", arch=str(exported / "model.json"))
    for network in (load_exported(exported), load_exported(exported / "model.safetensors"), model):
        assert network.pretrained_cfg["label_names"] == tuple("0123456789")
        found = timm.data.resolve_model_data_config(network)
        assert (found["input_size"], found["mean"], found["std"]) == ((3, 12, 12), mean, std)
        assert found["interpolation"] == "bilinear"
        assert found["crop_pct"] == 1.0  # of images of 12 pixels all is seen
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (12, 12, 3), dtype=np.uint8))
    prepared = timm.data.create_transform(**found, is_training=False)(image)
    expected = (np.asarray(image) / 255 - np.array(mean)) / np.array(std)
    np.testing.assert_allclose(prepared.permute(1, 2, 0), expected, rtol=1e-5, atol=1e-6)
    given = timm.create_model(
        "vkdnw_mbv2", arch=str(exported / "model.json"), pretrained_cfg_overlay={"std": (1, 1, 1)}
    )
    assert timm.data.resolve_model_data_config(given) == {**found, "std": (1, 1, 1)}
    assert given.pretrained_cfg["label_names"] == tuple("0123456789")
    finetuned = timm.create_model("vkdnw_mbv2", arch=str(exported / "model.json"), num_classes=3)
    assert "label_names" not in finetuned.pretrained_cfg  # those of other classes
    of_search = timm.create_model("vkdnw_mbv2", arch=str(search / "found.json"))
    assert timm.data.resolve_model_data_config(of_search)["input_size"] == (3, 32, 32)


@pytest.mark.parametrize("file", ["model.pt", "model.safetensors"])
def test_fit_takes_the_file(exported, file, images):
    module = TrainingModule(
        str(exported / "model.json"), num_classes=10, input_size=(3, 12, 12), weights=str(exported / file)
    )
    assert torch.equal(module.eval()(images), load_exported(exported)(images))


def test_onnxruntime_computes_the_same(exported, images):
    import onnx
    import onnxruntime

    session = onnxruntime.InferenceSession(exported / "model.onnx", providers=["CPUExecutionProvider"])
    assert [one.shape for one in session.get_inputs()] == [["batch", 3, 12, 12]]
    network = load_exported(exported)
    for batch in (1, 4, 5):
        (logits,) = session.run(["logits"], {"images": images[:batch].numpy()})
        np.testing.assert_allclose(logits, network(images[:batch]).detach(), rtol=1e-4, atol=1e-5)
    properties = {one.key: one.value for one in onnx.load(exported / "model.onnx").metadata_props}
    assert properties["arch"] == TINY
    assert json.loads(properties["class_names"]) == list("0123456789")
    assert json.loads(properties["input_size"]) == [3, 12, 12]
    assert tuple(json.loads(properties[name]) for name in ("mean", "std")) == Digits().image_statistics
    assert (properties["crop_pct"], properties["interpolation"]) == ("1.0", "bilinear")


def test_a_wrong_onnx_file_is_an_error(exported, run, capsys, tmp_path, monkeypatch):
    """The file of one network does not pass for another's, and none is left behind."""
    other = SPACES["mbv2"].build(TINY, use_se=True, num_classes=10).eval()
    with pytest.raises(exported_files.OnnxMismatch, match="differ by"):
        exported_files.compare(other, exported / "model.onnx", (3, 12, 12))
    monkeypatch.setattr(exported_files, "_export", lambda *_: shutil.copy(exported / "model.onnx", _[2]))
    options = ["--num_classes", 10, "--image_size", 12, "--network", "{use_se: true}", "--format", "onnx"]
    code, _, err = call(capsys, "export", TINY, "--untrained", "true", "--out", tmp_path / "out", *options)
    assert code == 1
    assert "was not written: logits of the ONNX file differ" in err
    assert list((tmp_path / "out").iterdir()) == []


def test_logits_that_are_not_finite_are_no_success(tmp_path):
    network = SPACES["mbv2"].build(TINY, num_classes=2).eval()
    torch.nn.init.constant_(network.classifier.bias, float("nan"))
    with pytest.raises(exported_files.OnnxMismatch, match="not finite"):
        exported_files.write_onnx(network, tmp_path / "model.onnx", (3, 8, 8))
    assert list(tmp_path.iterdir()) == []


def test_missing_packages(capsys, tmp_path, monkeypatch):
    monkeypatch.setattr(exported_files, "_ONNX_PACKAGES", ("onnx", "no_such_package"))
    code, _, err = call(capsys, "export", TINY, "--untrained", "true", "--out", tmp_path / "x", "--format", "onnx")
    assert code == 1
    assert "needs no_such_package: pip install 'vkdnw_pl[onnx]'" in err


def test_another_format_beside_the_first(run, capsys, tmp_path):
    out = tmp_path / "out"
    assert call(capsys, "export", run, "--out", out)[0] == 0
    first = json.loads((out / "model.json").read_text())
    assert call(capsys, "export", out, "--out", out, "--format", "safetensors")[0] == 0
    second = json.loads((out / "model.json").read_text())
    assert set(second["files"]) == {"model.pt", "model.safetensors"}
    assert {**second, "files": None} == {**first, "files": None}
    code, _, err = call(capsys, "export", run, "--out", out)
    assert code == 2
    assert "has model.pt already" in err
    code, _, err = call(capsys, "export", TINY, "--untrained", "true", "--out", out)
    assert code == 2
    assert "has model.json, model.pt, model.safetensors already" in err
    code, _, err = call(capsys, "export", TINY, "--untrained", "true", "--out", out, "--overwrite", "true")
    assert code == 0
    assert "not trained (seed 0)" in err
    assert sorted(path.name for path in out.iterdir()) == ["model.json", "model.pt"]
    assert json.loads((out / "model.json").read_text())["trained"] is False


@pytest.mark.parametrize("source", ["folder", "file"])
def test_a_found_network_untrained(source, search, capsys, tmp_path):
    given = search / "found.json" if source == "file" else search
    if source == "folder":
        given = tmp_path / "run"
        given.mkdir()
        shutil.copy(search / "found.json", given)
    code, _, err = call(capsys, "export", given, "--out", tmp_path / "out")
    assert code == 2
    assert "--untrained true" in err
    assert call(capsys, "export", given, "--out", tmp_path / "out", "--untrained", "true")[0] == 0
    record, state = read_exported(tmp_path / "out")
    assert (record.num_classes, record.input_size, record.network) == (100, [3, 32, 32], {"use_se": True})
    options = ["--untrained", "true", "--num_classes", 3, "--seed", 1]
    assert call(capsys, "export", given, "--out", tmp_path / "other", *options)[0] == 0
    other, weights = read_exported(tmp_path / "other")
    assert other.num_classes == 3
    name = next(iter(state))
    assert not torch.equal(state[name], weights[name])


def test_other_spaces(capsys, tmp_path):
    options = ["--untrained", "true", "--network", "{channels: 4, cells: 1}", "--out", tmp_path / "nb201"]
    assert call(capsys, "export", NB201, *options)[0] == 0
    assert load_exported(tmp_path / "nb201")(torch.zeros(1, 3, 32, 32)).shape == (1, 10)
    options = ["--untrained", "true", "--network", "{pretrained: false}", "--num_classes", 4]
    assert call(capsys, "export", "mobilenetv3_small_050", *options, "--out", tmp_path / "timm")[0] == 0
    record, state = read_exported(tmp_path / "timm")
    assert record.network == {}, "where weights come from is no property of the network"
    assert timm.create_model("mobilenetv3_small_050", num_classes=4).load_state_dict(state)


@pytest.mark.parametrize("file", ["bare.pt", "bare.safetensors"])
def test_a_bare_state_dict_needs_its_architecture(file, capsys, tmp_path):
    network = SPACES["mbv2"].build(TINY, num_classes=3).eval()
    save = torch.save if file == "bare.pt" else safetensors.torch.save_file
    save(network.state_dict(), tmp_path / file)
    code, _, err = call(capsys, "export", tmp_path / file, "--out", tmp_path / "out")
    assert code == 2
    assert "say it with --arch" in err
    options = ["--arch", TINY, "--num_classes", 3, "--image_size", 16]
    assert call(capsys, "export", tmp_path / file, "--out", tmp_path / "out", *options)[0] == 0
    x = torch.randn(2, 3, 16, 16)
    assert torch.equal(load_exported(tmp_path / "out")(x), network(x))


@pytest.mark.parametrize("file", ["model.pt", "model.safetensors"])
def test_a_full_disk(file, exported, tmp_path):
    record, state = read_exported(exported)
    exported_files.save_exported(tmp_path / file, record, state)
    before, limits = (tmp_path / file).read_bytes(), resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        with pytest.raises(OSError, match="File too large"):  # of which the commands say one line
            exported_files.save_exported(tmp_path / file, record, state)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert [path.name for path in tmp_path.iterdir()] == [file]
    assert (tmp_path / file).read_bytes() == before


def test_a_checkpoint_whose_found_file_has_moved(run, capsys, tmp_path):
    content = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
    content["hyper_parameters"] |= {"arch": "runs/nowhere/found.json", "space": "auto", "network": None}
    content["state_dict"]["distillation.loss.weight"] = torch.zeros(3)
    torch.save(content, tmp_path / "last.ckpt")
    code, _, err = call(capsys, "export", tmp_path / "last.ckpt", "--out", tmp_path / "out")
    assert code == 2
    assert "if the file has moved, say where with --arch" in err
    options = ["--arch", run.parent / "found.json", "--out", tmp_path / "out"]
    assert call(capsys, "export", tmp_path / "last.ckpt", *options)[0] == 0
    _, state = read_exported(tmp_path / "out")
    assert not any(name.startswith("distillation") for name in state), "a teacher's parts stay behind"
    card = json.loads((tmp_path / "out" / "model.json").read_text())
    assert card["accuracy"] is None


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["mbv2_48m", "--untrained", "true"], "did you mean 'mbv2_480m'"),
        (["nowhere.json", "--untrained", "true"], "arch='nowhere.json' cannot be read"),
        (["mbv2_480m"], "source='mbv2_480m' has no trained weights"),
        (["mbv2_480m", "--format", "onxn"], "format='onxn' is not known; did you mean 'onnx'?"),
        (["mbv2_480m", "--format", "onnx", "--opset", "11"], "opset=11 is not allowed"),
        (["mbv2_480m", "--untrained", "true", "--network", "{use_see: true}"], "did you mean 'use_se'?"),
        (
            ["{run}", "--checkpoint", "epoch_7"],
            "there is no {run}/checkpoints/epoch_7.ckpt (there are: best, last)",
        ),
        (["{run}", "--num_classes", "3"], "num_classes is not allowed here"),
        (["{run}", "--network", "{use_se: false}"], "are those of another network"),
        (["{run}/config.yaml"], "is not a file of weights that can be read safely"),
        (["{run}/nowhere"], "is not an architecture of any space"),
        (["{run}/checkpoints"], "is a folder without checkpoints, found.json or model.pt"),
    ],
)
def test_wrong_usage(arguments, text, run, capsys, tmp_path):
    given = [one.replace("{run}", str(run)) for one in arguments]
    code, out, err = call(capsys, "export", *given, "--out", tmp_path / "out")
    assert code == 2, err
    assert text.replace("{run}", str(run)) in err
    assert not (tmp_path / "out").exists()
    assert out == ""


def test_out_is_needed_without_a_run_folder(capsys):
    code, _, err = call(capsys, "export", TINY, "--untrained", "true")
    assert code == 2
    assert "--out" in err
