"""Accuracy tables that take seconds: tiny networks on images that are learned at once."""

from pathlib import Path
from typing import Any

from vkdnw_pl.commands.label import label as label_command
from vkdnw_pl.errors import user_input
from vkdnw_pl.labels.plan import LabelOptions

ARCHS = [
    "|nor_conv_3x3~0|+|nor_conv_3x3~0|skip_connect~1|+|avg_pool_3x3~0|skip_connect~1|nor_conv_3x3~2|",
    "|nor_conv_1x1~0|+|none~0|nor_conv_1x1~1|+|skip_connect~0|none~1|nor_conv_1x1~2|",
    "|skip_connect~0|+|none~0|nor_conv_3x3~1|+|nor_conv_1x1~0|none~1|none~2|",
]
MODEL = {"network": {"channels": 4, "cells": 1}, "space": "nb201", "optimizer": {"lr": 0.05, "lr_batch_size": None}}
DATA = {
    "class_path": "vkdnw_pl.data.Synthetic",
    "init_args": {"input_size": [3, 8, 8], "num_classes": 4, "train_size": 64, "val_size": 30, "batch_size": 16},
}


def label(out: Path, **options: Any) -> int:
    """The command with a recipe of one epoch, as the command line calls it."""
    recipe = {"model": MODEL, "data": DATA, "trainer": {"max_epochs": 1}}
    given = {"archs": ARCHS, "seeds": "1..2", "workers": 1, "device": "cpu", "progress": False}
    with user_input():
        chosen = LabelOptions(**{**given, **recipe, "out": str(out), **options})
    return label_command(chosen)


def rows_of(folder: Path) -> list[str]:
    """Lines of labels.csv without the time."""
    return [line.rpartition(",")[0] for line in (folder / "labels.csv").read_text().splitlines()]
