"""Scikit-learn's 1,797 digits as images that need no download, and the corruptions that make them hard.

Source: E. Alpaydin and C. Kaynak, Optical Recognition of Handwritten Digits, UCI Machine Learning Repository (1998).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

from vkdnw_pl.errors import check_choice

IMAGE_SIZE = 16
NUM_TRAIN = 1_000
"""Digits whose images are trained on; the other 797 are tested on."""

Split = Literal["train", "test"]
_SPLIT_SEED = 0


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


def statistics(images: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation, whose last digits would depend on the number of threads; so they are of one."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return images.mean(), images.std()
    finally:
        torch.set_num_threads(threads)
