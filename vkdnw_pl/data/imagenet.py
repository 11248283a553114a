"""ImageNet-1K (ILSVRC 2012) in class folders."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from PIL import Image
from torchvision.datasets import ImageFolder

from vkdnw_pl.data.base import ImageDataModule, Transform
from vkdnw_pl.data.imagenet_archives import DEVKIT, TRAIN, VAL, extract_train, extract_val
from vkdnw_pl.data.seeded import ImageSet
from vkdnw_pl.data.splits import Part, hold_out
from vkdnw_pl.data.transforms import IMAGENET_MEAN, IMAGENET_STD, open_photo, photo_evaluation, photo_training

Folder = Literal["train", "val"]
_COUNTS = {"train": 1_281_167, "val": 50_000}
_ORIGIN = "image-net.org/download-images (ILSVRC 2012, free for research after registration)"


class ImageNet(ImageDataModule):
    """ImageNet-1K: 1,281,167 training and 50,000 validation images in 1,000 classes (Russakovsky et al. 2015).

    Needs root/train/<wnid>/*.JPEG and root/val/<wnid>/*.JPEG, or makes them from the published tar files. The classes
    are numbered in the order of their names. The published validation images are also the test images, as in all
    published tables. A file that cannot be decoded is an error that names it.

    Args:
        root: folder with train and val, or with the tar files.
        image_size: height and width of what the network, or its teacher, gets.
        crop_pct: image_size over the shorter side to which an image is resized for evaluation.
        auto_augment: whether to apply AutoAugment's policy for ImageNet.
        color_jitter: largest relative change of brightness, contrast and saturation; 0 for none.
        lighting: standard deviation of AlexNet's PCA lighting; 0 for none.
        erase_probability: of setting a random rectangle to zero.
        val_size: training images held out for validation, always the same ones; 0 to validate on the published ones.
        classes: number of class folders that there must be.
        subset: accept less images than ImageNet has with 1,000 classes; else they mean an incomplete copy.
        extract: make missing folders from ILSVRC2012_img_train.tar, ILSVRC2012_img_val.tar and
            ILSVRC2012_devkit_t12.tar.gz in root.
        loader: see ``ImageDataModule``.
    """

    def __init__(
        self,
        root: str,
        image_size: int = 224,
        crop_pct: float = 0.875,
        auto_augment: bool = False,
        color_jitter: float = 0.0,
        lighting: float = 0.1,
        erase_probability: float = 0.0,
        val_size: int = 0,
        classes: int = 1_000,
        subset: bool = False,
        extract: bool = False,
        **loader: Any,
    ) -> None:
        super().__init__(**loader)
        for name, value, allowed, right in (
            ("image_size", image_size, "a whole number of at least 8", isinstance(image_size, int) and image_size >= 8),
            ("crop_pct", crop_pct, "a number above 0, at most 1", 0 < crop_pct <= 1),
            ("color_jitter", color_jitter, "a number from 0 to 1", 0 <= color_jitter <= 1),
            ("lighting", lighting, "a number of at least 0", lighting >= 0),
            ("erase_probability", erase_probability, "a number from 0 to 1", 0 <= erase_probability <= 1),
            ("classes", classes, "a whole number of at least 1", isinstance(classes, int) and classes >= 1),
        ):
            if not right:
                raise ValueError(f"{name}={value!r} is not allowed: give {allowed}")
        self.root = Path(root).expanduser()
        self.num_classes, self.input_size = classes, (3, image_size, image_size)
        self.crop_pct, self.val_size, self.subset, self.extract = crop_pct, val_size, subset, extract
        self.validates_on_test, self.image_statistics = not val_size, (IMAGENET_MEAN, IMAGENET_STD)
        self._augmentation = dict(
            auto_augment=auto_augment,
            color_jitter=color_jitter,
            lighting=lighting,
            erase_probability=erase_probability,
        )
        self._photos: dict[Folder, Photos] = {}

    def prepare_data(self) -> None:
        """Make missing folders from the tar files, if asked to."""
        if self.extract:
            if not (self.root / "train").is_dir():
                extract_train(self.root, self.num_classes)
            if not (self.root / "val").is_dir():
                extract_val(self.root)

    def load(self, part: Part) -> ImageSet:
        if part == "test" or (part == "val" and not self.val_size):
            return self._read("val")
        photos = self._read("train")
        if not self.val_size:
            return photos
        rest, held = hold_out(len(photos), self.val_size)
        return photos.only(rest if part == "train" else held)

    def transforms(self, train: bool) -> tuple[Transform, Transform]:
        size = self.input_size[1]
        if train:
            return photo_training(size, **self._augmentation)  # type: ignore[arg-type]
        return photo_evaluation(size, self.crop_pct)

    def _read(self, folder: Folder) -> Photos:
        if folder not in self._photos:
            photos = Photos.of(self._folder(folder))
            self._check(folder, photos)
            self._photos[folder] = photos
        return self._photos[folder]

    def _folder(self, name: Folder) -> Path:
        if (self.root / name).is_dir():
            return self.root / name
        tars = (TRAIN,) if name == "train" else (VAL, DEVKIT)
        there = [tar for tar in tars if (self.root / tar).is_file()]
        if len(there) == len(tars):
            how = f"{' and '.join(tars)} are there: extract: true makes the folder from them"
        else:
            how = f"or put {' and '.join(tars)} there, from {_ORIGIN}, and give extract: true"
        raise ValueError(
            f"root={str(self.root)!r}: there is no folder {name} in it, which must have one folder of images for each "
            f"class ({name}/n01440764/*.JPEG); {how}"
        )

    def _check(self, folder: Folder, photos: Photos) -> None:
        where = str(self.root / folder)
        if len(photos.classes) != self.num_classes:
            raise ValueError(f"{where!r} has {len(photos.classes)} class folders; classes={self.num_classes}")
        if self.num_classes == 1_000 and not self.subset and len(photos) != _COUNTS[folder]:
            raise ValueError(
                f"{where!r} has {len(photos):,} images; ImageNet has {_COUNTS[folder]:,}, so the copy is incomplete "
                "(subset: true accepts it)"
            )
        other: Folder = "val" if folder == "train" else "train"
        names = _class_folders(self.root / other)
        if names and names != photos.classes:
            first = next((a, b) for a, b in zip([*photos.classes, None], [*names, None]) if a != b)
            raise ValueError(
                f"root={str(self.root)!r}: the class folders of {folder} and {other} differ; the first that do are "
                f"{first[0]} and {first[1]}, and classes are numbered in the order of their names"
            )


class Photos:
    """Image files, decoded when asked for.

    Args:
        folder: where they are.
        files: their paths in it, as bytes in one array: a million Python strings would be copied into every worker.
        labels: int64 (n,).
        classes: names of the class folders.
    """

    def __init__(self, folder: Path, files: np.ndarray, labels: np.ndarray, classes: list[str]) -> None:
        self.folder, self.files, self.labels, self.classes = folder, files, labels, classes

    @classmethod
    def of(cls, folder: Path) -> Photos:
        """All images of a folder of class folders.

        Raises:
            ValueError: if it has no class folder, or one without an image.
        """
        try:
            found = ImageFolder(str(folder))
        except FileNotFoundError as error:
            raise ValueError(f"{str(folder)!r} must have one folder of images for each class: {error}") from None
        start = len(str(folder)) + 1
        files = np.array([path[start:].encode() for path, _ in found.samples])
        return cls(folder, files, np.array(found.targets, np.int64), found.classes)

    def only(self, places: torch.Tensor) -> Photos:
        """Some of them."""
        return Photos(self.folder, self.files[places.numpy()], self.labels[places.numpy()], self.classes)

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> tuple[Image.Image, int]:
        with warnings.catch_warnings():
            # Some of ImageNet's files have broken camera data, which nobody needs.
            warnings.filterwarnings("ignore", message=".*EXIF.*")
            return open_photo(str(self.folder / self.files[index].decode())), int(self.labels[index])


def _class_folders(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir() if entry.is_dir()) if folder.is_dir() else []
