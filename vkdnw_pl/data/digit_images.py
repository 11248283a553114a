"""Scikit-learn's digits as a data module: real images that need no download."""

from __future__ import annotations

from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.transforms import v2

from vkdnw_pl.data.base import ImageDataModule, Transform, whole
from vkdnw_pl.data.digits import NUM_CLASSES, NUM_TRAIN, clean_digits, corrupt
from vkdnw_pl.data.seeded import ImageArrays
from vkdnw_pl.data.splits import Part, hold_out
from vkdnw_pl.data.transforms import mild_motion

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

    num_classes = NUM_CLASSES
    auto_workers = 0

    def __init__(
        self, corruption: Literal["none", "default"] = "none", image_size: int = 16, val_size: int = 200, **loader: Any
    ) -> None:
        super().__init__(**loader)
        if corruption not in ("none", "default"):
            raise ValueError(f"corruption={corruption!r} is not known; allowed: none, default")
        size = whole("image_size", image_size, 8)
        self.input_size = (3, size, size)
        self.corruption, self.val_size, self.validates_on_test = corruption, val_size, not val_size
        everything = self._canvas(clean_digits("train")[0])
        self.image_statistics = [float(everything.mean())] * 3, [float(everything.std())] * 3

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
        mean, std = self.image_statistics
        normalise = v2.Normalize(list(mean), list(std))

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
