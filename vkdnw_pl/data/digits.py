"""Scikit-learn's 1,797 digits as images that need no download, and the corruptions that make them hard.

Source: E. Alpaydin and C. Kaynak, Optical Recognition of Handwritten Digits, UCI Machine Learning Repository (1998).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.transforms import InterpolationMode, v2

from vkdnw_pl.data.base import ImageDataModule, Part, Transform, hold_out
from vkdnw_pl.data.seeded import ImageArrays
from vkdnw_pl.errors import check_choice, check_whole

IMAGE_SIZE = 16
NUM_TRAIN = 1_000
"""Digits whose images are trained on; the other 797 are tested on."""

Split = Literal["train", "test"]
_SPLIT_SEED = 0
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


def statistics(images: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation, whose last digits would depend on the number of threads; so they are of one."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return images.mean(), images.std()
    finally:
        torch.set_num_threads(threads)


def mild_motion(image_size: int) -> v2.RandomAffine:
    """Rotation by up to 10 degrees and shift by up to a twelfth of the size, for float images on black paper."""
    return v2.RandomAffine(degrees=10, translate=(1 / 12, 1 / 12), interpolation=InterpolationMode.BILINEAR)


@dataclass(frozen=True, kw_only=True)
class Corruption:
    """How strongly a digit is corrupted; amounts are drawn uniformly per image. `nb201_digits` has the defaults."""

    rotation: float = 30.0
    """Largest rotation either way, degrees."""
    shear: float = 0.3
    """Largest horizontal shear either way, pixels per pixel."""
    scale: tuple[float, float] = (0.5, 1.0)
    """Size of the digit's 8x8 frame over that of the canvas, drawn for each of the two axes."""
    shift: float = 2.5
    """Largest shift of the frame's centre along each axis, pixels of the canvas."""
    contrast: tuple[float, float] = (0.4, 1.0)
    """Difference in brightness between ink and paper; the paper's brightness is drawn from what that leaves."""
    occlusion: int = 5
    """Side of a square patch of one grey level put anywhere on the canvas, pixels; 0 for none."""
    noise: float = 0.15
    """Largest standard deviation of the Gaussian pixel noise."""


def split_indices(split: Split) -> Tensor:
    """Indices into scikit-learn's digits of a fixed random split, int64 ``(1000,)`` or ``(797,)``."""
    check_choice("split", split, get_args(Split))
    images, _ = _load()
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(_SPLIT_SEED))
    return order[:NUM_TRAIN] if split == "train" else order[NUM_TRAIN:]


def clean_digits(split: Split) -> tuple[Tensor, Tensor]:
    """The digits as they are: images float32 ``(n, 1, 8, 8)`` in [0, 1] (ink is 1) and labels int64 ``(n,)``."""
    images, labels = _load()
    chosen = split_indices(split)
    return images[chosen], labels[chosen]


def corrupt(images: Tensor, seed: int, corruption: Corruption | None = None) -> Tensor:
    """Corrupt digits, float ``(n, 1, h, w)`` in [0, 1] with ink 1; gives float32 ``(n, 1, 16, 16)`` in [0, 1]."""
    corruption = corruption or Corruption()
    generator = torch.Generator().manual_seed(seed)
    n = len(images)

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return low + (high - low) * torch.rand(n, *shape, generator=generator)

    angle = uniform(-corruption.rotation, corruption.rotation) * (math.pi / 180)
    shear = uniform(-corruption.shear, corruption.shear)
    scale = uniform(*corruption.scale, 2)
    shift = uniform(-corruption.shift, corruption.shift, 2) * (2 / IMAGE_SIZE)
    cos, sin = angle.cos(), angle.sin()
    # Sampling maps canvas to digit: undo shift, then rotation, then shear, then scale.
    unrotate = torch.stack([torch.stack([cos, sin], -1), torch.stack([-sin, cos], -1)], -2)
    unshear = torch.eye(2).repeat(n, 1, 1)
    unshear[:, 0, 1] = -shear
    linear = torch.diag_embed(1 / scale) @ unshear @ unrotate
    theta = torch.cat([linear, -linear @ shift.unsqueeze(-1)], -1)
    grid = F.affine_grid(theta, [n, 1, IMAGE_SIZE, IMAGE_SIZE], align_corners=False)
    ink = F.grid_sample(images.float(), grid, mode="bilinear", padding_mode="zeros", align_corners=False)

    if corruption.occlusion:
        row, column = (
            torch.randint(0, IMAGE_SIZE - corruption.occlusion + 1, (n, 1, 1, 1), generator=generator) for _ in range(2)
        )
        ys, xs = torch.arange(IMAGE_SIZE).view(1, 1, -1, 1), torch.arange(IMAGE_SIZE).view(1, 1, 1, -1)
        inside = (ys >= row) & (ys < row + corruption.occlusion) & (xs >= column) & (xs < column + corruption.occlusion)
        ink = torch.where(inside, uniform(0, 1, 1, 1, 1), ink)

    contrast = uniform(*corruption.contrast, 1, 1, 1)
    paper = uniform(0, 1, 1, 1, 1) * (1 - contrast)
    image = paper + contrast * ink
    noise = torch.randn(image.shape, generator=generator) * uniform(0, corruption.noise, 1, 1, 1)
    return (image + noise).clamp(0, 1)


@cache
def _load() -> tuple[Tensor, Tensor]:
    from sklearn.datasets import load_digits

    bunch = load_digits()
    images = torch.as_tensor(bunch.images, dtype=torch.float32).div(16).unsqueeze(1)
    return images, torch.as_tensor(bunch.target, dtype=torch.int64)
