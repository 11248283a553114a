"""``fit`` on a user's own images and on a user's own data module."""

import importlib.util
import json
import sys

import pytest
import pytorch_lightning
import torch
import yaml
from PIL import Image
from pytorch_lightning import LightningDataModule
from torch.utils.data import DataLoader, TensorDataset

from vkdnw_pl import cli
from vkdnw_pl.data.protocol import as_data_module, is_data_module
from vkdnw_pl.training.own_images import with_image_folder

ARCH = "|nor_conv_1x1~0|+|none~0|none~1|+|skip_connect~0|none~1|none~2|"
NETWORK = ["--model.arch", ARCH, "--model.network", "{channels: 4, cells: 1}"]
SHORT = ["--trainer.max_epochs", "1", "--trainer.accelerator", "cpu", "--trainer.enable_progress_bar", "false"]
SMALL = ["--data.batch_size", "4", "--data.image_size", "8", "--data.num_workers", "0"]


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder with `my pics`: three classes of five images."""
    for k, name in enumerate(("big cat", "dog", "ox")):
        (tmp_path / "my pics" / name).mkdir(parents=True)
        for i in range(5):
            Image.new("RGB", (12, 9), (80 * k, 50 * i, 0)).save(tmp_path / "my pics" / name / f"{i}.png")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def fit(capsys, *arguments):
    code = cli.main(["fit", *NETWORK, *SHORT, "--out", "run", *arguments])
    return code, *capsys.readouterr()


def test_a_path_is_an_image_folder(here, capsys):
    code, out, _ = fit(capsys, "--data", "my pics", *SMALL)
    assert code == 0
    assert "3 classes, 12 training and 3 validation images; no images are set apart for testing" in out
    data = yaml.safe_load((here / "run" / "config.yaml").read_text())["data"]
    assert data["class_path"] == "vkdnw_pl.data.ImageFolder"
    assert data["init_args"]["root"] == "my pics"
    hparams = torch.load(here / "run" / "checkpoints" / "last.ckpt", weights_only=True)["hyper_parameters"]
    assert (hparams["num_classes"], hparams["input_size"]) == (3, [3, 8, 8])
    code, out, _ = fit(capsys, "--data=my pics", *SMALL)
    assert (code, "finished already" in out) == (0, True)
    (here / "my pics" / "ox" / "4.png").unlink()
    code, _, err = fit(capsys, "--data=my pics", *SMALL)
    assert (code, "run was made with other settings: data.images (there: pictures of digest " in err) == (2, True)


def test_images_that_were_trained_on_are_not_evaluated(here, capsys):
    assert fit(capsys, "--data", "my pics", *SMALL)[0] == 0
    assert cli.main(["test", "run"]) == 0
    words = "other images are held out for validation than in this network's training"
    capsys.readouterr()
    assert (cli.main(["test", "run", "--data.val_size", "6"]), words in capsys.readouterr().err) == (2, True)
    Image.new("RGB", (9, 9)).save(here / "my pics" / "dog" / "new.png")
    for command in ("test", "validate", "predict"):
        assert (cli.main([command, "run"]), words in capsys.readouterr().err) == (2, True)
    for name in ("big cat", "dog", "ox"):  # images for testing that stand apart may be any
        (here / "apart" / "train" / name).mkdir(parents=True)
        (here / "apart" / "test" / name).mkdir(parents=True)
        for part, count in (("train", 3), ("test", 1)):
            for i in range(count):
                Image.new("RGB", (9, 9)).save(here / "apart" / part / name / f"{i}.png")
    assert cli.main(["test", "run", "--data.root", "apart"]) == 0


@pytest.mark.parametrize(
    ("given", "written"),
    [
        ("--data pics --data.val_size 3", "--data=ImageFolder --data.root=pics --data.val_size 3"),
        ("--data.val_size 3 --out x --data=pics", "--data=ImageFolder --data.root=pics --data.val_size 3 --out x"),
        ("--data.a 1 --config c --data pics", "--data.a 1 --config c --data=ImageFolder --data.root=pics"),
        ("--data Digits --data.val_size 3", "--data Digits --data.val_size 3"),
        ("--data", "--data"),
    ],
)
def test_options_of_the_images_may_stand_before_them(here, given, written):
    (here / "pics").mkdir()
    assert with_image_folder(given.split()) == written.split()


def test_a_path_in_a_config_file(here, capsys):
    (here / "fit.yaml").write_text("data: my pics\n")
    code, out, _ = fit(capsys, "--config", "fit.yaml", "--print_config")
    assert code == 0
    assert yaml.safe_load(out)["data"]["init_args"]["root"] == "my pics"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--data", "pics/"], "data='pics/' is not allowed: there is no folder and no file 'pics/'; give a folder of"),
        (["--data", "pics"], "data: class 'pics' is not known; known: CIFAR10"),
        (["--data", "fit.txt"], "data='fit.txt' is not allowed: 'fit.txt' is no folder and no CSV file; give"),
        (["--data", "my pics/dog"], "'my pics/dog' has 5 images, but no class folders; give a folder"),
        (["--data", "my pics", "--data.val_size", "20"], "val_size=20 is not allowed"),
        (
            ["--data", "my pics", "--data.val_size", "some"],
            "data.val_size=some is not allowed: it takes a whole number or a number or null",
        ),
        (["--data", "my pics", "--data.flip", "some"], "data.flip=some is not allowed: it takes true or false"),
        (["--data", "data.yaml"], "data has 'data' and no class_path: give a folder"),
        (["--data", "no.such.Module"], "data=no.such.Module cannot be imported: No module named 'no'"),
        (["--data", "torch.nn.Linear"], "data=torch.nn.Linear is not allowed: it is no LightningDataModule"),
        (
            ["--data", f"{__name__}.Silent"],
            f"the data module {__name__}.Silent has no num_classes: as soon as it is made",
        ),
        (
            ["--data", f"{__name__}.Flat"],
            f"{__name__}.Flat.input_size=(8, 8) is not allowed: give (channels, height, width)",
        ),
    ],
)
def test_what_is_no_data(here, arguments, words, capsys):
    (here / "fit.txt").touch()
    (here / "data.yaml").write_text("data: my pics")
    code, _, err = fit(capsys, *arguments)
    assert (code, words in err) == (2, True), err
    assert not (here / "run").exists()


class Silent(LightningDataModule):
    """Says nothing."""


class Flat(LightningDataModule):
    num_classes, input_size = 4, (8, 8)


@pytest.fixture
def other_lightning(monkeypatch):
    """The data module of the package ``lightning``: the same source under another name."""
    name = "lightning.pytorch.core.datamodule"
    spec = importlib.util.spec_from_file_location(name, pytorch_lightning.core.datamodule.__file__)
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, name, module)
    spec.loader.exec_module(module)
    return module.LightningDataModule


def test_a_data_module_of_the_other_lightning(other_lightning, here, monkeypatch, capsys):
    class Theirs(other_lightning):
        num_classes, input_size = 4, (3, 8, 8)

        def __init__(self, count: int = 32) -> None:
            super().__init__()
            self.count = count

        def train_dataloader(self):
            return DataLoader(TensorDataset(torch.zeros(self.count, 3, 8, 8), torch.arange(self.count) % 4), 8)

    assert not issubclass(Theirs, LightningDataModule)
    assert is_data_module(Theirs)
    assert not is_data_module(torch.nn.Module)
    monkeypatch.setattr(sys.modules[__name__], "Theirs", Theirs, raising=False)
    Theirs.__qualname__ = "Theirs"
    code, out, err = fit(capsys, "--data", f"{__name__}.Theirs", "--data.count", "24")
    assert code == 0, err
    assert "the data module has no test images: nothing is tested" in out
    (line,) = [
        json.loads(text) for text in (here / "run" / "history.jsonl").read_text().splitlines() if 'train/loss"' in text
    ]
    assert line["step"] == 2  # the last of 24 images in batches of 8
    assert isinstance(as_data_module(Theirs()), LightningDataModule)
