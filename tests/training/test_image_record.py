"""Names of the classes, and how images are prepared, go with a network from its data module into its checkpoints."""

import pytest
import torch
from pytorch_lightning import LightningDataModule, Trainer
from torch.utils.data import DataLoader, TensorDataset

from vkdnw_pl.errors import UsageError
from vkdnw_pl.training.image_record import image_record
from vkdnw_pl.training.module import TrainingModule

NAMES = ("red fox", 'the "big" one', "a, b")


class Plain(LightningDataModule):
    """As a user may write one: nothing but what is needed."""

    num_classes, input_size = 3, (3, 8, 8)

    def train_dataloader(self):
        return DataLoader(TensorDataset(torch.zeros(4, 3, 8, 8), torch.arange(4) % 3), batch_size=4)


class Named(Plain):
    image_statistics = (torch.full((3,), 0.5), (0.25, 0.25, 0.25))
    crop_pct, interpolation = 0.875, "bicubic"

    def __init__(self, names=NAMES):
        super().__init__()
        self.names = names

    def setup(self, stage):
        self.class_names = self.names


@pytest.fixture
def module():
    return TrainingModule("SuperConvK3BNRELU(3,4,2,1)SuperConvK1BNRELU(4,8,1,1)", num_classes=3, input_size=(3, 8, 8))


def fit(module, data, epochs=1, ckpt_path=None):
    quiet = dict(logger=False, enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False)
    trainer = Trainer(accelerator="cpu", max_epochs=epochs, **quiet)
    trainer.fit(module, data, ckpt_path=ckpt_path)
    return trainer


def test_a_checkpoint_knows_the_images(module, tmp_path):
    fit(module, Named()).save_checkpoint(tmp_path / "x.ckpt")
    assert torch.load(tmp_path / "x.ckpt", weights_only=True)["image_record"] == {
        "class_names": list(NAMES),
        "normalisation": {"mean": [0.5] * 3, "std": [0.25] * 3},
        "crop_pct": 0.875,
        "interpolation": "bicubic",
    }
    assert TrainingModule.load_from_checkpoint(tmp_path / "x.ckpt").class_names == NAMES


@pytest.mark.parametrize(
    ("names", "text"),
    [
        (('the "big" one', "red fox", "a, b"), "class 0 is 'the \"big\" one' here and 'red fox' there"),
        (("red fox", "dog", "a, b"), "class 1 is 'dog' here and 'the \"big\" one' there"),
    ],
)
def test_other_classes_do_not_continue(names, text, module, tmp_path):
    fit(module, Named()).save_checkpoint(tmp_path / "x.ckpt")
    with pytest.raises(UsageError, match=text) as refused:
        fit(module, Named(names), 2, tmp_path / "x.ckpt")
    assert ", ".join(map(repr, names)) in str(refused.value)
    assert ", ".join(map(repr, NAMES)) in str(refused.value)
    # Where the data module says no names, those of the checkpoint stay.
    fit(module, Plain(), 2, tmp_path / "x.ckpt")
    assert module.class_names == NAMES


def test_a_checkpoint_of_before_continues(module, tmp_path):
    fit(module, Named()).save_checkpoint(tmp_path / "x.ckpt")
    content = torch.load(tmp_path / "x.ckpt", weights_only=True)
    del content["image_record"]
    torch.save(content, tmp_path / "x.ckpt")
    assert TrainingModule.load_from_checkpoint(tmp_path / "x.ckpt").class_names is None
    fit(module, Named(), 2, tmp_path / "x.ckpt")
    assert module.class_names == NAMES


def test_a_data_module_that_says_nothing(module):
    fit(module, Plain())
    assert module.class_names is None
    assert image_record(Plain(), 3)["normalisation"] is None


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("class_names", NAMES[:2], "Wrong has 2 class_names for 3 classes"),
        ("interpolation", "cubic", "did you mean 'bicubic'"),
        ("image_statistics", (0.5, 0.25), r"Wrong.image_statistics=\(0.5, 0.25\) is not allowed: give \(mean, std\)"),
        ("crop_pct", 1.5, "crop_pct=1.5 is not allowed"),
    ],
)
def test_wrong_values_of_a_data_module_are_named(name, value, text):
    with pytest.raises(ValueError, match=text):
        image_record(type("Wrong", (Plain,), {name: value})(), 3)
