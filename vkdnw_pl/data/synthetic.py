"""Images made of noise, with a class to be learned: for speed, tests and dry runs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

from vkdnw_pl.data.base import ImageDataModule, Part, Transform
from vkdnw_pl.data.seeded import mix
from vkdnw_pl.errors import check_number, check_whole, is_whole

_PARTS = get_args(Part)
_GRID = 4


class Synthetic(ImageDataModule):
    """Images of Gaussian noise over a coarse pattern of their class, made when asked for: any number needs no memory.

    An image is a pure function of (images_seed, its use, its number) and the same in every epoch; the test images are
    others than the validation images. Mean 0, variance about 1.

    Args:
        input_size: channels, height, width.
        num_classes: classes, equally frequent.
        train_size: training images.
        val_size: validation images, and as many test images.
        signal: share of the variance that is the pattern's, from 0 (nothing to learn) to 1 (no noise).
        images_seed: of patterns and noise.
        loader: see ``ImageDataModule``.
    """

    def __init__(
        self,
        input_size: tuple[int, int, int] = (3, 32, 32),
        num_classes: int = 10,
        train_size: int = 1_024,
        val_size: int = 256,
        signal: float = 0.2,
        images_seed: int = 0,
        **loader: Any,
    ) -> None:
        super().__init__(**loader)
        if len(input_size) != 3 or not all(is_whole(size, 1) for size in input_size):
            raise ValueError(f"input_size={input_size!r} is not allowed: give channels, height and width")
        for name, size in (("num_classes", num_classes), ("train_size", train_size), ("val_size", val_size)):
            check_whole(name, size, 1)
        check_number("signal", signal, 0, 1)
        check_whole("images_seed", images_seed, 0)
        channels, height, width = input_size
        self.input_size, self.num_classes, self.signal = (channels, height, width), num_classes, signal
        self.train_size, self.val_size, self.images_seed = train_size, val_size, images_seed

    def load(self, part: Part) -> SyntheticImages:
        size = self.train_size if part == "train" else self.val_size
        seed = mix(self.images_seed, _PARTS.index(part))
        generator = torch.Generator().manual_seed(mix(self.images_seed, len(_PARTS)))
        patterns = torch.randn(self.num_classes, self.input_size[0], _GRID, _GRID, generator=generator)
        return SyntheticImages(size, self.input_size, patterns, self.signal, seed)

    def transforms(self, train: bool) -> tuple[Transform, Transform]:
        return None, None


@dataclass
class SyntheticImages:
    """Noise over one of the coarse ``patterns`` (classes, channels, h, w), made when asked for."""

    size: int
    input_size: tuple[int, int, int]
    patterns: Tensor
    signal: float
    seed: int

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        label = index % len(self.patterns)
        generator = torch.Generator().manual_seed(mix(self.seed, index))
        noise = torch.randn(self.input_size, generator=generator)
        pattern = F.interpolate(self.patterns[label][None], size=self.input_size[1:], mode="nearest")[0]
        return self.signal**0.5 * pattern + (1 - self.signal) ** 0.5 * noise, label
