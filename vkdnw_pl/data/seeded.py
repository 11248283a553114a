"""Training images whose augmentation is a pure function of (seed, epoch, image)."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

Key = tuple[int, int]
"""(epoch, image)."""
_MASK = 0xFFFF_FFFF_FFFF_FFFF


class ImageSet(Protocol):
    """Images as they are stored, before any transform."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> tuple[Any, int]:
        """An image and its class."""


class ImageArrays:
    """Images in memory.

    Args:
        images: (n, channels, height, width).
        labels: int64 (n,).
        places: which of them there are, in this order; None for all.
    """

    def __init__(self, images: Tensor, labels: Tensor, places: Tensor | None = None) -> None:
        self.images, self.places = images, torch.arange(len(images)) if places is None else places
        self.labels = labels[self.places]

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.images[self.places[index]], int(self.labels[index])


def mix(*numbers: int) -> int:
    """Make one seed of 64 bits out of whole numbers, every bit depending on all of them (SplitMix64's finaliser)."""
    state = 0
    for number in numbers:
        state = (state + number + 0x9E37_79B9_7F4A_7C15) & _MASK
        state = ((state ^ (state >> 30)) * 0xBF58_476D_1CE4_E5B9) & _MASK
        state = ((state ^ (state >> 27)) * 0x94D0_49BB_1331_11EB) & _MASK
        state ^= state >> 31
    return state


class SeededDataset(Dataset[tuple[Tensor, Tensor]]):
    """Transformed images, each a pure function of (seed, epoch, image), whoever loads it and after whatever else.

    Around every transform the global random streams of PyTorch (CPU), NumPy and Python are seeded from these three
    numbers, and afterwards they are as before. A list of keys gives a batch, which costs less: the streams are saved
    once, and what is the same for all images is done for all at once.

    Args:
        data: stored images.
        transform: makes a tensor of a stored image, perhaps at random; None for nothing.
        finish: deterministic; takes (channels, height, width) and, with the same result, whole batches of it.
        seed: None where nothing is random.
    """

    def __init__(
        self,
        data: ImageSet,
        transform: Callable[[Any], Tensor] | None = None,
        finish: Callable[[Tensor], Tensor] | None = None,
        seed: int | None = 0,
    ) -> None:
        self.data, self.transform, self.finish, self.seed = data, transform, finish, seed

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, key: int | Key) -> tuple[Tensor, Tensor]:
        images, labels = self.__getitems__([key])
        return images[0], labels[0]

    def __getitems__(self, keys: Sequence[int | Key]) -> tuple[Tensor, Tensor]:
        """Images float32 (B, channels, height, width) and labels int64 (B,); a plain number means epoch 0."""
        images, labels = [], []
        with _kept_streams(self.seed is not None):
            for key in keys:
                epoch, index = key if isinstance(key, tuple) else (0, key)
                image, label = self.data[index]
                if self.seed is not None:
                    _seed_streams(mix(self.seed, epoch, index))
                images.append(image if self.transform is None else self.transform(image))
                labels.append(label)
        batch = torch.stack(images)
        return batch if self.finish is None else self.finish(batch), torch.tensor(labels)


def _seed_streams(seed: int) -> None:
    # Not torch.manual_seed, which also reaches for the GPU.
    torch.default_generator.manual_seed(seed)
    np.random.seed(seed & 0xFFFF_FFFF)
    random.seed(seed)


@contextmanager
def _kept_streams(needed: bool) -> Iterator[None]:
    if not needed:
        yield
        return
    kept_torch, kept_numpy, kept_python = torch.default_generator.get_state(), np.random.get_state(), random.getstate()
    try:
        yield
    finally:
        torch.default_generator.set_state(kept_torch)
        np.random.set_state(kept_numpy)
        random.setstate(kept_python)
