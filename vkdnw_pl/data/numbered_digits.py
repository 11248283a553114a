"""The corrupted digits that the embedded table ``nb201_digits`` was trained on: made once, and numbered."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from vkdnw_pl.data.base import ImageDataModule, ImageLoader, Part, Transform
from vkdnw_pl.data.digit_images import IMAGE_SIZE, NUM_TRAIN, Split, clean_digits, corrupt
from vkdnw_pl.data.seeded import ImageArrays, Key, SeededDataset, TrainingSampler
from vkdnw_pl.errors import check_whole

_SEEDS = {"train": 100, "test": 200}


class NumberedDigits(ImageDataModule):
    """Scikit-learn's digits, corrupted as in ``Digits(corruption="default")``, with every corruption made beforehand.

    Grey images of 16 pixels in [0, 1], 10 classes. An epoch sees one copy of each of the 1,000 training digits: epoch e of
    seed s that of number ``s * copies_per_seed + e``, modulo ``copies``. The orders of a seed's epochs come from one
    stream. Validation and test images are ``test_copies`` of each of the 797 other digits.

    Args:
        copies: corruptions of every training digit.
        copies_per_seed: how many copies further on the next seed begins; with as many as there are epochs, seeds share
            none before all were seen.
        test_copies: corruptions of every test digit.
        loader: see ``ImageDataModule``.
    """

    num_classes = 10
    input_size = (1, IMAGE_SIZE, IMAGE_SIZE)
    validates_on_test = True
    auto_workers = 0

    def __init__(self, copies: int = 36, copies_per_seed: int = 12, test_copies: int = 5, **loader: Any) -> None:
        super().__init__(**loader)
        for name, value in (("copies", copies), ("copies_per_seed", copies_per_seed), ("test_copies", test_copies)):
            check_whole(name, value, 1)
        self.copies, self.copies_per_seed, self.test_copies = copies, copies_per_seed, test_copies

    def load(self, part: Part) -> ImageArrays:
        split: Split = "train" if part == "train" else "test"
        return ImageArrays(*_corrupted(split, self.copies if part == "train" else self.test_copies))

    def transforms(self, train: bool) -> tuple[Transform, Transform]:
        return None, None

    def train_dataloader(self) -> ImageLoader:
        data = self._training_images(self.seed)
        sampler = _OneStream(data, self.batch_size, *self._world_and_rank(), self.seed, self.drop_last)
        return self._loader(data, sampler, self.batch_size)

    def _training_images(self, seed: int) -> SeededDataset:
        images = self.images("train")
        assert isinstance(images, ImageArrays)
        return _OneCopy(images, seed * self.copies_per_seed, self.copies)


@lru_cache(maxsize=4)
def _corrupted(split: Split, copies: int) -> tuple[Tensor, Tensor]:
    """Independent corruptions (copies * n, 1, 16, 16) of every digit of a split, copy after copy, and their labels."""
    images, labels = clean_digits(split)
    return corrupt(images.repeat(copies, 1, 1, 1), _SEEDS[split]), labels.repeat(copies)


class _OneCopy(SeededDataset):
    """In epoch e the images of copy ``first + e``, modulo ``copies``."""

    def __init__(self, images: ImageArrays, first: int, copies: int) -> None:
        super().__init__(images, seed=None)
        self._images, self._labels, self._first, self._copies = images.images, images.labels, first, copies

    def __len__(self) -> int:
        return NUM_TRAIN

    def __getitems__(self, keys: Sequence[int | Key]) -> tuple[Tensor, Tensor]:
        pairs = [key if isinstance(key, tuple) else (0, key) for key in keys]
        chosen = torch.tensor([(self._first + epoch) % self._copies * NUM_TRAIN + index for epoch, index in pairs])
        return self._images[chosen], self._labels[chosen]


class _OneStream(TrainingSampler):
    """The permutations of one generator, epoch after epoch."""

    def order(self, epoch: int) -> Tensor:
        generator = torch.Generator().manual_seed(self.seed)
        for _ in range(epoch):
            torch.randperm(NUM_TRAIN, generator=generator)
        return torch.randperm(NUM_TRAIN, generator=generator)
