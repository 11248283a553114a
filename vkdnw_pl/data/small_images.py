"""What CIFAR and ImageNet16 have in common: pickled batches, NAS-Bench-201's augmentation and splits."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vkdnw_pl.data.base import ImageDataModule, Transform
from vkdnw_pl.data.restricted_pickle import read_batch
from vkdnw_pl.data.seeded import ImageArrays
from vkdnw_pl.data.splits import Part, Source, check_cover, hold_out, read_splits
from vkdnw_pl.data.transforms import flip_and_crop, normalisation

DEFAULT_VAL_SIZE = 5_000


class SmallImages(ImageDataModule):
    """Small images that are held in memory.

    Args:
        root: folder of the files.
        val_size: training images held out for validation, always the same ones; None for 5,000, or as ``splits`` says.
        splits: path of a file of splits.
        loader: see ``ImageDataModule``.
    """

    auto_workers = 4
    padding: int
    """Largest shift of a training image, pixels."""
    mean: tuple[float, float, float]
    """Of the pixels, black 0 and white 255."""
    std: tuple[float, float, float]

    def __init__(self, root: str, val_size: int | None = None, splits: str | None = None, **loader: Any) -> None:
        super().__init__(**loader)
        if splits is not None and val_size is not None:
            raise ValueError(f"val_size={val_size!r} has no meaning with splits={splits!r}, which say what is held out")
        self.root = Path(root).expanduser()
        self.image_statistics = [m / 255 for m in self.mean], [s / 255 for s in self.std]
        self.val_size = DEFAULT_VAL_SIZE if val_size is None else val_size
        self.splits, self.validates_on_test = splits, splits is None and not self.val_size
        self._arrays: dict[Source, tuple[Tensor, Tensor]] = {}

    @abstractmethod
    def read(self, source: Source) -> tuple[Tensor, Tensor]:
        """All published images of a kind, uint8 (n, 3, height, width), and their classes, int64 (n,)."""

    def load(self, part: Part) -> ImageArrays:
        if self.splits is not None:
            source, first, second = read_splits(self.splits)
            halves = dict(zip(("train", "val") if source == "train" else ("val", "test"), (first, second), strict=True))
            if part in halves:
                check_cover(first, second, len(self._read(source)[1]), self.splits)
                return ImageArrays(*self._read(source), halves[part])
        elif part == "train" or (part == "val" and self.val_size):
            images, labels = self._read("train")
            rest, held = hold_out(len(labels), self.val_size)
            return ImageArrays(images, labels, rest if part == "train" else held)
        return ImageArrays(*self._read("train" if part == "train" else "eval"))

    def transforms(self, train: bool) -> tuple[Transform, Transform]:
        assert self.image_statistics is not None
        return flip_and_crop(self.input_size[1], self.padding) if train else None, normalisation(*self.image_statistics)

    def _read(self, source: Source) -> tuple[Tensor, Tensor]:
        if source not in self._arrays:
            self._arrays[source] = self.read(source)
        return self._arrays[source]


def read_batches(
    files: Sequence[tuple[Path, str | None]], image_size: int, label_key: str, num_labels: int
) -> tuple[np.ndarray, np.ndarray]:
    """Read the pickled batches of one set of images.

    Args:
        files: paths and their MD5; None where it is not checked.
        image_size: height and width.
        label_key: where the labels are.
        num_labels: how many labels are possible.

    Returns:
        Images uint8 (n, 3, height, width), and labels int64 (n,) as they are in the files.

    Raises:
        ValueError: if a file is damaged or holds something else.
    """
    images, labels = [], []
    for path, md5 in files:
        content = read_batch(path, md5)
        if missing := [key for key in ("data", label_key) if key not in content]:
            raise ValueError(f"{str(path)!r} has no {missing[0]!r}; it holds {', '.join(content) or 'nothing'}")
        data, named = content["data"], content[label_key]
        if not isinstance(data, np.ndarray) or data.dtype != np.uint8 or data.shape[1:] != (3 * image_size**2,):
            what = f"{data.dtype} {data.shape}" if isinstance(data, np.ndarray) else type(data).__name__
            raise ValueError(f"{str(path)!r} has images {what}; needed: uint8 (n, {3 * image_size**2})")
        if not isinstance(named, list | np.ndarray) or not all(isinstance(one, int | np.integer) for one in named):
            raise ValueError(f"{str(path)!r} has labels that are not a list of whole numbers")
        if len(named) != len(data) or not all(0 <= one <= num_labels for one in named):
            raise ValueError(
                f"{str(path)!r} has {len(named)} labels for {len(data)} images, or some above {num_labels} or below 0"
            )
        images.append(data.reshape(-1, 3, image_size, image_size))
        labels.append(np.asarray(named, np.int64))
    return np.concatenate(images), np.concatenate(labels)


def as_tensors(images: np.ndarray, labels: np.ndarray) -> tuple[Tensor, Tensor]:
    """Same arrays as tensors of their own."""
    return torch.tensor(images), torch.tensor(labels)
