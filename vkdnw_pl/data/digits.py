"""Scikit-learn's digits as a data module."""

from __future__ import annotations

from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.transforms import InterpolationMode, v2

from vkdnw_pl.data.base import ImageDataModule, Part, Transform, hold_out
from vkdnw_pl.data.digit_images import NUM_TRAIN, clean_digits, corrupt, statistics
from vkdnw_pl.data.seeded import ImageArrays
from vkdnw_pl.errors import check_choice, check_whole

_EVALUATION_SEED = 0


class Digits(ImageDataModule):
    """Scikit-learn's 1,797 handwritten digits, 10 classes, part of every installation; 797 of them are the test images.

    Without corruption, training images are rotated by up to 10 degrees and shifted by up to a twelfth of their size.

    Args:
        corruption: none, or default, which makes them hard: rotated, sheared, scaled, shifted, partly covered, changed
            in contrast and noisy, anew in every epoch and once for validation and test.
        image_size: height and width to which the 8x8 digits are resized.
        val_size: of the 1,000 training digits, held out for validation, always the same ones; 0 to validate on the test
            images.
        loader: see ``ImageDataModule``.
    """

    num_classes = 10
    class_names = tuple("0123456789")
    interpolation = "bilinear"
    auto_workers = 0

    def __init__(
        self, corruption: Literal["none", "default"] = "none", image_size: int = 16, val_size: int = 200, **loader: Any
    ) -> None:
        super().__init__(**loader)
        check_choice("corruption", corruption, ("none", "default"))
        check_whole("image_size", image_size, 8)
        self.input_size = (3, image_size, image_size)
        self.corruption, self.val_size, self.validates_on_test = corruption, val_size, not val_size
        mean, std = statistics(self._canvas(clean_digits("train")[0]))
        self.image_statistics = [float(mean)] * 3, [float(std)] * 3

    def load(self, part: Part) -> ImageArrays:
        from_test = part == "test" or (part == "val" and not self.val_size)
        images, labels = clean_digits("test" if from_test else "train")
        if part != "train" or self.corruption == "none":
            images = self._canvas(images)
        if from_test:
            return ImageArrays(images, labels)
        rest, held = hold_out(NUM_TRAIN, self.val_size)
        return ImageArrays(images, labels, rest if part == "train" else held)

    def transforms(self, train: bool) -> tuple[Transform, Transform]:
        size = self.input_size[1]
        assert self.image_statistics is not None
        normalise = v2.Normalize(*self.image_statistics)

        def finish(images: Tensor) -> Tensor:
            return normalise(images.expand(*images.shape[:-3], 3, size, size))

        if not train:
            return None, finish
        return mild_motion(size) if self.corruption == "none" else self._corrupted, finish

    def _canvas(self, images: Tensor) -> Tensor:
        """Digits (n, 1, 8, 8) as they are validated on: resized, and perhaps corrupted, the same way every time."""
        if self.corruption != "none":
            images = corrupt(images, _EVALUATION_SEED)
        return self._resized(images)

    def _corrupted(self, image: Tensor) -> Tensor:
        seed = int(torch.randint(2**31, ()))
        return self._resized(corrupt(image[None], seed))[0]

    def _resized(self, images: Tensor) -> Tensor:
        size = list(self.input_size[1:])
        return images if list(images.shape[2:]) == size else F.interpolate(images, size=size, mode="bilinear")


def mild_motion(image_size: int) -> v2.RandomAffine:
    """Rotation by up to 10 degrees and shift by up to a twelfth of the size, for float images on black paper."""
    return v2.RandomAffine(degrees=10, translate=(1 / 12, 1 / 12), interpolation=InterpolationMode.BILINEAR)
