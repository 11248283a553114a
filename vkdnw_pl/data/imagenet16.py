"""ImageNet16-120: ImageNet at 16x16 pixels, the first 120 classes, as NAS-Bench-201 has it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vkdnw_pl.data.small_images import SmallImages, as_tensors, read_batches
from vkdnw_pl.data.splits import Source

FOLDER = "ImageNet16"
TRAIN_FILES = (
    ("train_data_batch_1", "27846dcaa50de8e21a7d1a35f30f0e91"),
    ("train_data_batch_2", "c7254a054e0e795c69120a5727050e3f"),
    ("train_data_batch_3", "4333d3df2e5ffb114b05d2ffc19b1e87"),
    ("train_data_batch_4", "1620cdf193304f4a92677b695d70d10f"),
    ("train_data_batch_5", "348b3c2fdbb3940c4e9e834affd3b18d"),
    ("train_data_batch_6", "6e765307c242a1b3d7d5ef9139b48945"),
    ("train_data_batch_7", "564926d8cbf8fc4818ba23d2faac7564"),
    ("train_data_batch_8", "f4755871f718ccb653440b9dd0ebac66"),
    ("train_data_batch_9", "bb6dd660c38c58552125b1a92f86b5d4"),
    ("train_data_batch_10", "8f03f34ac4b42271a294f91bf480f29b"),
)
"""Names and MD5 of the published files."""
VAL_FILES = (("val_data", "3410e3017fdaefba8d5073aaa65e4bd6"),)
_ALL_CLASSES = 1_000
_ORIGIN = (
    "the folder ImageNet16 of NAS-Bench-201's data, linked from github.com/D-X-Y/NATS-Bench "
    "(drive.google.com/drive/folders/1T3UIyZXUhMmIuJLOBMIYKAsJknAtrrO4)"
)


class ImageNet16(SmallImages):
    """ImageNet16-120: 151,700 training and 6,000 test images of 16x16 pixels, 120 classes (Chrabaszcz et al. 2017).

    Training images are mirrored and shifted by up to 2 pixels (NAS-Bench-201). By default 5,000 training images are
    held out for validation, and the published validation images are only tested on.

    Args:
        root: folder with train_data_batch_1 .. 10 and val_data, or the one that contains it as ImageNet16.
        classes: how many of the 1,000 classes, the first ones in the files' own numbering.
        val_size: training images held out for validation, always the same ones; null for 5,000, 0 to validate on the
            test images.
        splits: path of NAS-Bench-201's imagenet-16-120-test-split.txt; trains on all training images, and validates and
            tests on its two halves of the others.
        verify: check the MD5 of every file that is read (1 GB, a few seconds).
        loader: see ``ImageDataModule``.
    """

    padding = 2
    mean = (122.68, 116.66, 104.01)
    std = (63.22, 61.26, 65.09)

    def __init__(
        self,
        root: str,
        classes: int = 120,
        val_size: int | None = None,
        splits: str | None = None,
        verify: bool = True,
        **loader: Any,
    ) -> None:
        super().__init__(root, val_size, splits, **loader)
        if isinstance(classes, bool) or not isinstance(classes, int) or not 1 <= classes <= _ALL_CLASSES:
            raise ValueError(f"classes={classes!r} is not allowed: give a whole number from 1 to {_ALL_CLASSES}")
        self.num_classes, self.input_size, self.verify = classes, (3, 16, 16), verify

    def read(self, source: Source) -> tuple[Tensor, Tensor]:
        listed = TRAIN_FILES if source == "train" else VAL_FILES
        folder = self._folder()
        parts = []
        for name, md5 in listed:  # file after file, so that no more than one is whole in memory
            images, labels = read_batches([(folder / name, md5 if self.verify else None)], 16, "labels", _ALL_CLASSES)
            if (labels < 1).any():
                raise ValueError(f"{str(folder / name)!r} has a label 0; needed: 1 to {_ALL_CLASSES}")
            kept = labels <= self.num_classes
            parts.append(as_tensors(images[kept], labels[kept] - 1))
        images_of, labels_of = zip(*parts, strict=True)
        return torch.cat(images_of), torch.cat(labels_of)

    def _folder(self) -> Path:
        for folder in (self.root, self.root / FOLDER):
            present = [name for name, _ in TRAIN_FILES + VAL_FILES if (folder / name).is_file()]
            if present:
                missing = [name for name, _ in TRAIN_FILES + VAL_FILES if name not in present]
                if missing:
                    raise ValueError(f"root={str(folder)!r}: {', '.join(missing)} is missing; get {_ORIGIN}")
                return folder
        raise ValueError(
            f"root={str(self.root)!r}: neither it nor {FOLDER} in it has train_data_batch_1 .. 10 and val_data; get "
            f"{_ORIGIN}, 11 files"
        )
