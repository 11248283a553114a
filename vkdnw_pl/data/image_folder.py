"""A user's own images as a data module."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from vkdnw_pl.data.base import ImageDataModule, Part, Transform
from vkdnw_pl.data.own_images import IMAGE_SIZE, listed, read_own_images
from vkdnw_pl.data.photos import Photos, check_headers
from vkdnw_pl.data.transforms import IMAGENET_MEAN, IMAGENET_STD, needed_side, photo_evaluation, photo_training
from vkdnw_pl.errors import check_bool, check_number, check_whole, is_whole, shown

_VAL_SIZE = 0.2
_HOLD_OUT_SEED = 0
_IMAGES_OF = {"val": "validation", "test": "test"}
_MOST_CHECKED = 20_000
"""So many files are looked at before a training begins: 2 s on a local disk."""


class ImageFolder(ImageDataModule):
    """Your own images: folders with one folder for each class, or a CSV file of files and labels (docs/own_images.md).

    The classes are numbered in the order of their names. Images of any size and kind are resized and cropped to squares
    of colours; they are seen upright and with white behind what is transparent. Where no images are set apart for
    testing, the validation images are the test images.

    Args:
        root: folder with one folder of images for each class, or with such folders in train, val and perhaps test, or a
            CSV file with columns file, label and perhaps split.
        image_size: height and width of what the network gets.
        val_size: where there are no validation images, training images held out for that, of each class its share and
            always the same ones; a number, or below 1 a share of all; null for 0.2; 0 to validate on the test images.
        crop_pct: image_size over the shorter side to which an image is resized for evaluation.
        crop_scale: smallest share of an image's area that a training image is cut from.
        flip: mirror half of the training images; false where left and right make a difference, as in letters.
        auto_augment: whether to apply AutoAugment's policy for ImageNet.
        color_jitter: largest relative change of brightness, contrast and saturation; 0 for none.
        erase_probability: of setting a random rectangle to zero.
        loader: see ``ImageDataModule``.
    """

    def __init__(
        self,
        root: str,
        image_size: int = IMAGE_SIZE,
        val_size: float | int | None = None,
        crop_pct: float = 0.875,
        crop_scale: float = 0.35,
        flip: bool = True,
        auto_augment: bool = False,
        color_jitter: float = 0.0,
        erase_probability: float = 0.0,
        **loader: Any,
    ) -> None:
        super().__init__(**loader)
        check_whole("image_size", image_size, 8)
        check_number("crop_pct", crop_pct, 0, 1, open_low=True)
        check_number("crop_scale", crop_scale, 0, 1, open_low=True)
        check_bool("flip", flip)
        check_bool("auto_augment", auto_augment)
        check_number("color_jitter", color_jitter, 0, 1)
        check_number("erase_probability", erase_probability, 0, 1)
        self.listed = read_own_images(root)
        self.class_names, self.num_classes = self.listed.classes, len(self.listed.classes)
        self.input_size = (3, image_size, image_size)
        self.crop_pct: float = crop_pct
        self.image_statistics = IMAGENET_MEAN, IMAGENET_STD
        self._augmentation: dict[str, Any] = {
            **{"auto_augment": auto_augment, "color_jitter": color_jitter, "erase_probability": erase_probability},
            **{"crop_scale": crop_scale, "flip": flip, "lighting": 0.0},
        }
        self._photos = {
            part: Photos(
                self.listed.root,
                np.array([os.fsencode(file) for file in images.files]),
                np.array(images.labels, np.int64),
                list(self.listed.classes),
            )
            for part, images in self.listed.parts.items()
        }
        self._held_out: np.ndarray | None = None
        self._hold_out(val_size)
        self.validates_on_test = self._photos["val"] is self._photos["test"]
        self._checked = False

    @property
    def digest(self) -> str:
        """SHA-256 of which images there are."""
        return self.listed.digest

    @property
    def held_out(self) -> str | None:  # type: ignore[override]
        """SHA-256 of the training images and which of them are held out; None where the user set them apart."""
        if self._held_out is None:
            return None
        numbers = ",".join(map(str, self._held_out))
        return hashlib.sha256(f"{self.listed.digest_of(['train'])} {numbers}".encode()).hexdigest()

    @property
    def notes(self) -> Sequence[str]:
        counts = {part: len(photos) for part, photos in self._photos.items()}
        about = f"{self.num_classes} classes, {counts['train']:,} training and {counts['val']:,} validation images"
        if "val" not in self.listed.parts and not self.validates_on_test:
            about += " (held out of one folder)"
        if "test" in self.listed.parts:
            notes = [f"{about}, {counts['test']:,} test images"]
        else:
            notes = [f"{about}; no images are set apart for testing: the validation images are the test images"]
        for part in ("val", "test") if "test" in self.listed.parts else ("val",):
            images_of = np.bincount(self._photos[part].labels, minlength=self.num_classes)
            if lacking := [repr(name) for name, n in zip(self.class_names or (), images_of, strict=True) if not n]:
                notes.append(
                    f"classes without a {_IMAGES_OF[part]} image, whose accuracy counts nowhere: {listed(lacking)}"
                )
        if folders := self.listed.left_out_folders:
            notes.append(f"folders left out, neither train, val nor test: {listed(map(repr, folders))}")
        if left_out := self.listed.left_out:
            notes.append(f"files left out, no images by their names: {len(left_out)}, the first is {left_out[0]!r}")
        return notes

    def prepare_data(self) -> None:
        if not self._checked:
            files = [file for images in self.listed.parts.values() for file in images.files]
            check_headers(self.listed.root / file for file in files[:_MOST_CHECKED])
            self._checked = True

    def load(self, part: Part) -> Photos:
        size, scale = self.input_size[1], self._augmentation["crop_scale"]
        least_side = needed_side(size, crop_scale=scale) if part == "train" else needed_side(size, self.crop_pct)
        return replace(self._photos[part], least_side=least_side)

    def transforms(self, train: bool) -> tuple[Transform, Transform]:
        size = self.input_size[1]
        return photo_training(size, **self._augmentation) if train else photo_evaluation(size, self.crop_pct)

    def file_names(self, part: Part) -> Sequence[str]:
        return self._photos[part].names()

    def _hold_out(self, val_size: float | int | None) -> None:
        """Complete the parts."""
        photos, path = self._photos, str(self.listed.path)
        if "val" in photos:
            if val_size is not None:
                raise ValueError(f"val_size={val_size!r} has no use: {path!r} has validation images; leave it out")
        elif val_size == 0 and val_size is not False:
            if "test" not in photos:
                raise ValueError(f"val_size=0 is not allowed: {path!r} has no test images to validate on")
            photos["val"] = photos["test"]
        else:
            train = photos["train"]
            number = _number("val_size", _VAL_SIZE if val_size is None else val_size, len(train))
            rest, held = stratified(train.labels, number)
            self._held_out = held
            photos["train"], photos["val"] = train.chosen(rest), train.chosen(held)
        photos.setdefault("test", photos["val"])


def stratified(labels: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Numbers (ascending) of the images kept and of the ``size`` held out, of each class in proportion, always the same.

    Args:
        labels: class numbers from 0, int64 (n,), of which none is left out.
        size: below n.

    Raises:
        ValueError: if no image of a class would be kept.
    """
    counts = np.bincount(labels)
    shares = counts * size / len(labels)
    held = shares.astype(int)
    missing = size - held.sum()
    # The classes whose share was cut most get one more; every class keeps an image to train on.
    takers = [label for label in np.argsort(held - shares, kind="stable") if held[label] < counts[label] - 1]
    if missing > len(takers):
        raise ValueError(f"{size} of {len(labels)} images held out would leave a class without one to train on")
    held[takers[:missing]] += 1
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(_HOLD_OUT_SEED)).numpy()
    chosen = [order[labels[order] == label][: held[label]] for label in range(len(counts))]
    numbers = np.sort(np.concatenate(chosen))
    return np.setdiff1d(np.arange(len(labels)), numbers), numbers


def _number(name: str, size: float | int, count: int) -> int:
    """How many images are meant by a number or a share of ``count``."""
    if is_whole(size, 1) and size < count:
        return int(size)
    if isinstance(size, float) and 0 < size < 1:
        return min(max(1, round(size * count)), count - 1)
    raise ValueError(
        f"{name}={shown(size)} is not allowed: give a number of images, below the {count} that there are, or a share above 0 "
        "and below 1"
    )
