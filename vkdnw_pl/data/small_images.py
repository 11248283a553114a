"""CIFAR and ImageNet16: small images held in memory, with NAS-Bench-201's augmentation and splits.

Torchvision's data sets unpickle what a check of an earlier reading has passed, so a file that changes in between runs
code; the pickled batches are read by our own reader. Names, sums and download of CIFAR are torchvision's.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torchvision import datasets
from torchvision.datasets.utils import check_integrity, download_and_extract_archive

from vkdnw_pl.data.base import ImageDataModule, Part, Source, Transform, check_cover, hold_out, read_splits
from vkdnw_pl.data.restricted_pickle import read_batch
from vkdnw_pl.data.seeded import ImageArrays
from vkdnw_pl.data.transforms import flip_and_crop, normalisation
from vkdnw_pl.errors import check_bool, is_whole

DEFAULT_VAL_SIZE = 5_000
IMAGENET16_FOLDER = "ImageNet16"
_TRAIN_MD5 = (
    "27846dcaa50de8e21a7d1a35f30f0e91 c7254a054e0e795c69120a5727050e3f 4333d3df2e5ffb114b05d2ffc19b1e87 "
    "1620cdf193304f4a92677b695d70d10f 348b3c2fdbb3940c4e9e834affd3b18d 6e765307c242a1b3d7d5ef9139b48945 "
    "564926d8cbf8fc4818ba23d2faac7564 f4755871f718ccb653440b9dd0ebac66 bb6dd660c38c58552125b1a92f86b5d4 "
    "8f03f34ac4b42271a294f91bf480f29b"
)
IMAGENET16_TRAIN_FILES = tuple((f"train_data_batch_{i}", md5) for i, md5 in enumerate(_TRAIN_MD5.split(), start=1))
IMAGENET16_VAL_FILES = (("val_data", "3410e3017fdaefba8d5073aaa65e4bd6"),)
_IMAGENET16_CLASSES = 1_000
_IMAGENET16_ORIGIN = (
    "the folder ImageNet16 of NAS-Bench-201's data, linked from github.com/D-X-Y/NATS-Bench "
    "(drive.google.com/drive/folders/1T3UIyZXUhMmIuJLOBMIYKAsJknAtrrO4)"
)


class SmallImages(ImageDataModule):
    """Small images that are held in memory; ``read`` gives those that were published."""

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
                check_cover(first, second, len(self._published(source)[1]), self.splits)
                return ImageArrays(*self._published(source), halves[part])
        elif part == "train" or (part == "val" and self.val_size):
            images, labels = self._published("train")
            rest, held = hold_out(len(labels), self.val_size)
            return ImageArrays(images, labels, rest if part == "train" else held)
        return ImageArrays(*self._published("train" if part == "train" else "eval"))

    def transforms(self, train: bool) -> tuple[Transform, Transform]:
        assert self.image_statistics is not None
        return flip_and_crop(self.input_size[1], self.padding) if train else None, normalisation(*self.image_statistics)

    def _published(self, source: Source) -> tuple[Tensor, Tensor]:
        if source not in self._arrays:
            self._arrays[source] = self.read(source)
        return self._arrays[source]


class CIFAR10(SmallImages):
    """CIFAR-10: 50,000 training and 10,000 test images of 32x32 pixels, 10 classes (Krizhevsky 2009).

    Training images are mirrored and shifted by up to 4 pixels (NAS-Bench-201). By default 5,000 training images are
    held out for validation, and the test images are only tested on. Published tables mostly train on all 50,000:
    val_size 0 does so. Then the test images serve as validation images too, and the best epoch by them is no honest
    test result.

    Args:
        root: folder that has, or gets, cifar-10-batches-py.
        download: fetch what is missing from www.cs.toronto.edu (170 MB).
        val_size: training images held out for validation, always the same ones; null for 5,000, 0 to validate on the
            test images, as published tables do.
        splits: path of NAS-Bench-201's cifar-split.txt; trains on its train half and validates on its valid half.
        loader: see ``ImageDataModule``.
    """

    num_classes = 10
    input_size = (3, 32, 32)
    padding = 4
    mean = (125.3, 123.0, 113.9)
    std = (63.0, 62.1, 66.7)
    published: type[datasets.CIFAR10] = datasets.CIFAR10
    label_key = "labels"

    def __init__(
        self,
        root: str,
        download: bool = False,
        val_size: int | None = None,
        splits: str | None = None,
        **loader: Any,
    ) -> None:
        super().__init__(root, val_size, splits, **loader)
        self.download = download

    def prepare_data(self) -> None:
        files = self._files("train") + self._files("eval")
        if not self.download or all(check_integrity(str(path), md5) for path, md5 in files):
            return
        published = self.published
        try:
            download_and_extract_archive(
                published.url, str(self.root), filename=published.filename, md5=published.tgz_md5
            )
        except (OSError, RuntimeError) as error:
            unpack = f"get {published.filename} another way and unpack it in {str(self.root)!r}"
            raise ValueError(f"{published.url} could not be downloaded: {error}; {unpack}") from None

    def read(self, source: Source) -> tuple[Tensor, Tensor]:
        files = self._files(source)
        if missing := [path for path, _ in files if not path.is_file()]:
            raise ValueError(
                f"root={str(self.root)!r}: there is no {'/'.join(missing[0].parts[-2:])}; give the folder that "
                f"contains {self.published.base_folder}, or download: true to fetch it there from {self.published.url}"
            )
        images, labels = read_batches(files, 32, self.label_key, self.num_classes - 1)
        self.class_names = self._class_names()
        return torch.tensor(images), torch.tensor(labels)

    def _class_names(self) -> tuple[str, ...] | None:
        """The names that CIFAR comes with; None where that file is missing, or another than the published one."""
        meta = self.published.meta
        path = self.root / self.published.base_folder / meta["filename"]
        if not check_integrity(str(path), meta["md5"]):
            return None
        return tuple(map(str, read_batch(path)[meta["key"]]))

    def _files(self, source: Source) -> list[tuple[Path, str | None]]:
        published = self.published
        listed = published.train_list if source == "train" else published.test_list
        return [(self.root / published.base_folder / name, md5) for name, md5 in listed]


class CIFAR100(CIFAR10):
    """CIFAR-100: 50,000 training and 10,000 test images of 32x32 pixels, 100 classes (Krizhevsky 2009).

    Augmented and held out as CIFAR10, whose help says what that means for the test result.

    Args:
        root: folder that has, or gets, cifar-100-python.
        download: fetch what is missing from www.cs.toronto.edu (169 MB).
        val_size: training images held out for validation, always the same ones; null for 5,000, 0 to validate on the
            test images, as published tables do.
        splits: path of NAS-Bench-201's cifar100-test-split.txt; trains on all training images, and validates and tests
            on its two halves of the test images.
        loader: see ``ImageDataModule``.
    """

    num_classes = 100
    mean = (129.3, 124.1, 112.4)
    std = (68.2, 65.4, 70.4)
    published = datasets.CIFAR100
    label_key = "fine_labels"


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
        if not is_whole(classes, 1) or classes > _IMAGENET16_CLASSES:
            raise ValueError(f"classes={classes!r} is not allowed: give a whole number from 1 to {_IMAGENET16_CLASSES}")
        check_bool("verify", verify)
        self.num_classes, self.input_size, self.verify = classes, (3, 16, 16), verify

    def read(self, source: Source) -> tuple[Tensor, Tensor]:
        folder = self._folder()
        parts = []
        # File after file, so that no more than one is whole in memory.
        for name, md5 in IMAGENET16_TRAIN_FILES if source == "train" else IMAGENET16_VAL_FILES:
            file = folder / name, md5 if self.verify else None
            images, labels = read_batches([file], 16, "labels", _IMAGENET16_CLASSES)
            if (labels < 1).any():
                raise ValueError(f"{str(folder / name)!r} has a label 0; needed: 1 to {_IMAGENET16_CLASSES}")
            kept = labels <= self.num_classes
            parts.append((torch.tensor(images[kept]), torch.tensor(labels[kept] - 1)))
        return torch.cat([images for images, _ in parts]), torch.cat([labels for _, labels in parts])

    def _folder(self) -> Path:
        names = [name for name, _ in IMAGENET16_TRAIN_FILES + IMAGENET16_VAL_FILES]
        for folder in (self.root, self.root / IMAGENET16_FOLDER):
            missing = [name for name in names if not (folder / name).is_file()]
            if not missing:
                return folder
            if len(missing) < len(names):
                raise ValueError(f"root={str(folder)!r}: {', '.join(missing)} is missing; get {_IMAGENET16_ORIGIN}")
        raise ValueError(
            f"root={str(self.root)!r}: neither it nor {IMAGENET16_FOLDER} in it has train_data_batch_1 .. 10 and "
            f"val_data; get {_IMAGENET16_ORIGIN}, 11 files"
        )


def read_batches(
    files: Sequence[tuple[Path, str | None]], image_size: int, label_key: str, largest_label: int
) -> tuple[np.ndarray, np.ndarray]:
    """Images uint8 (n, 3, height, width) and labels int64 (n,) of pickled files; an MD5 of None is not checked."""
    all_images, all_labels = [], []
    for path, md5 in files:
        content = read_batch(path, md5)
        if missing := [key for key in ("data", label_key) if key not in content]:
            raise ValueError(f"{str(path)!r} has no {missing[0]!r}; it holds {', '.join(content) or 'nothing'}")
        images, labels = content["data"], content[label_key]
        if not isinstance(images, np.ndarray) or images.dtype != np.uint8 or images.shape[1:] != (3 * image_size**2,):
            kind = f"{images.dtype} {images.shape}" if isinstance(images, np.ndarray) else type(images).__name__
            raise ValueError(f"{str(path)!r} has images {kind}; needed: uint8 (n, {3 * image_size**2})")
        if not isinstance(labels, list | np.ndarray) or not all(isinstance(k, int | np.integer) for k in labels):
            raise ValueError(f"{str(path)!r} has labels that are not a list of whole numbers")
        if len(labels) != len(images) or not all(0 <= k <= largest_label for k in labels):
            allowed = f"{len(images)} images, or some above {largest_label} or below 0"
            raise ValueError(f"{str(path)!r} has {len(labels)} labels for {allowed}")
        all_images.append(images.reshape(-1, 3, image_size, image_size))
        all_labels.append(np.asarray(labels, np.int64))
    return np.concatenate(all_images), np.concatenate(all_labels)
