"""A row is a training: bit for bit that of a plain loop with the same recipe."""

import math

import pytest
import torch
import torch.nn.functional as F
from small_labels import ARCHS, DATA, MODEL

from vkdnw_pl.labels.rows import RowTrainer
from vkdnw_pl.labels.settings import LabelSettings
from vkdnw_pl.spaces import NB201

SMALL = {
    "space": "nb201",
    "network": {"channels": 4, "cells": 1},
    "images": "",
    "dataset": "x",
    "accuracy": "test",
    "device": "cpu",
}
EPOCHS, LR = 2, 0.1


def make_trainer(tmp_path, recipe, num_classes, image_size, groups=None):
    settings = LabelSettings(
        **SMALL,
        groups=groups or dict.fromkeys(ARCHS, "given"),
        seeds=(1,),
        recipe=recipe,
        num_classes=num_classes,
        image_size=image_size,
    )
    return RowTrainer(settings, tmp_path / "unfinished")


@pytest.fixture
def synthetic(tmp_path):
    return make_trainer(tmp_path, {"model": MODEL, "data": DATA, "trainer": {"max_epochs": 2}}, 4, (3, 8, 8))


def loop(arch, seed):
    """As benchmarks/nb201_digits trained the embedded table, for two epochs of fewer copies."""
    from vkdnw_pl.data.digit_images import clean_digits, corrupt

    images, labels = clean_digits("train")
    images, labels = corrupt(images.repeat(3, 1, 1, 1), 100), labels.repeat(3)
    torch.manual_seed(seed)
    network = NB201().build(arch, channels=4, cells=1, image_size=16, in_channels=1)
    network.to(memory_format=torch.channels_last)
    order = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.SGD(network.parameters(), lr=LR, momentum=0.9, nesterov=True, weight_decay=5e-4)
    for epoch in range(EPOCHS):
        optimizer.param_groups[0]["lr"] = LR * 0.5 * (1 + math.cos(math.pi * epoch / EPOCHS))
        first = (seed * EPOCHS + epoch) % 3 * 1000
        for chosen in (first + torch.randperm(1000, generator=order)).split(100):
            optimizer.zero_grad()
            F.cross_entropy(network(images[chosen]), labels[chosen]).backward()
            optimizer.step()
    images, labels = clean_digits("test")
    with torch.inference_mode():
        right = network.eval()(corrupt(images, 200)).argmax(1) == labels
    return 100 * int(right.sum()) / len(labels)


def test_a_row_is_what_a_plain_loop_gives(tmp_path):
    recipe = {
        "model": {
            "init": "keep",
            "channels_last": True,
            "optimizer": {"lr": LR, "lr_batch_size": None, "weight_decay": 5e-4, "decay": "all"},
            "schedule": {"name": "cosine_per_epoch"},
        },
        "data": {
            "class_path": "vkdnw_pl.data.NumberedDigits",
            "init_args": {
                "copies": 3,
                "copies_per_seed": 2,
                "test_copies": 1,
                "batch_size": 100,
                "eval_batch_size": 797,
            },
        },
        "trainer": {"max_epochs": EPOCHS},
    }
    row = make_trainer(tmp_path, recipe, 10, (1, 16, 16)).row(ARCHS[0], 2)
    assert row.reason == ""
    assert row.values["test"] == loop(ARCHS[0], 2)
    assert row.values["val"] is None  # the same images
    assert row.values["epochs"] == EPOCHS
    cost = NB201().cost(ARCHS[0], channels=4, cells=1, image_size=16, in_channels=1)
    assert (row.values["macs"], row.values["params"]) == (cost.macs, cost.num_params)


def test_a_row_does_not_know_the_rows_before(synthetic):
    first = synthetic.row(ARCHS[0], 1)
    synthetic.row(ARCHS[1], 2)
    torch.manual_seed(77)
    assert synthetic.row(ARCHS[0], 1).same_scores(first)
    assert not synthetic.row(ARCHS[0], 2).same_scores(first)


def test_what_goes_wrong_is_a_failed_row_with_its_reason(tmp_path, synthetic):
    model = {**MODEL, "optimizer": {"lr": 1e38, "lr_batch_size": None}}
    broken = make_trainer(tmp_path, {"model": model, "data": DATA, "trainer": {"max_epochs": 3}}, 4, (3, 8, 8))
    row = broken.row(ARCHS[0], 1)
    assert row.failed
    assert row.reason.startswith("FloatingPointError: the training loss is nan at epoch 0, batch")
    assert synthetic.row("no architecture", 1).failed


def test_a_training_of_minutes_goes_on_from_its_checkpoint(synthetic, monkeypatch):
    from vkdnw_pl.labels import module

    expected = synthetic.row(ARCHS[0], 1)
    monkeypatch.setattr(module, "_FIRST_CHECKPOINT_S", 0.0)
    steps = []

    class Killed(BaseException):
        pass

    def end_in_the_second_epoch(self, batch, batch_idx):
        steps.append((self.current_epoch, batch_idx))
        if len(steps) == 6:
            raise Killed
        return training_step(self, batch, batch_idx)

    training_step = module.LabelModule.training_step
    monkeypatch.setattr(module.LabelModule, "training_step", end_in_the_second_epoch)
    with pytest.raises(Killed):
        synthetic.row(ARCHS[0], 1)
    assert list(synthetic.unfinished.glob("*/checkpoints/last.ckpt"))
    steps = list(range(100))
    row = synthetic.row(ARCHS[0], 1)
    assert next(step for step in steps if isinstance(step, tuple)) == (1, 0)
    assert row.same_scores(expected)
    assert not list(synthetic.unfinished.glob("*"))
