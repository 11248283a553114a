"""ImageNet-1K (ILSVRC 2012) in class folders, made from the published tar files where they are missing.

A folder is ``train.part`` or ``val.part`` until it is whole; extracting again goes on where it was interrupted.
"""

from __future__ import annotations

import io
import re
import shutil
import tarfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from tqdm import tqdm

from vkdnw_pl.data.base import ImageDataModule, Part, Transform, hold_out
from vkdnw_pl.data.photos import Photos
from vkdnw_pl.data.transforms import IMAGENET_MEAN, IMAGENET_STD, photo_evaluation, photo_training
from vkdnw_pl.errors import check_number, check_whole

Folder = Literal["train", "val"]
_COUNTS = {"train": 1_281_167, "val": 50_000}
_ORIGIN = "image-net.org/download-images (ILSVRC 2012, free for research after registration)"
_TRAIN = "ILSVRC2012_img_train.tar"
_VAL = "ILSVRC2012_img_val.tar"
_DEVKIT = "ILSVRC2012_devkit_t12.tar.gz"
_META = "ILSVRC2012_devkit_t12/data/meta.mat"
_TRUTH = "ILSVRC2012_devkit_t12/data/ILSVRC2012_validation_ground_truth.txt"
_CLASS_TAR = re.compile(r"(n\d{8})\.tar")
_VAL_IMAGE = re.compile(r"ILSVRC2012_val_(\d{8})\.JPEG")


class ImageNet(ImageDataModule):
    """ImageNet-1K: 1,281,167 training and 50,000 validation images in 1,000 classes (Russakovsky et al. 2015).

    Needs root/train/<wnid>/*.JPEG and root/val/<wnid>/*.JPEG, or makes them from the published tar files. The classes
    are numbered in the order of their names. The published validation images are also the test images, as in all
    published tables. A file that cannot be decoded is an error that names it; of 16 bits the upper 8 count, and grey images
    of floating-point numbers go from 0 to 1.

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
        check_whole("image_size", image_size, 8)
        check_whole("classes", classes, 1)
        check_number("crop_pct", crop_pct, 0, 1, open_low=True)
        check_number("color_jitter", color_jitter, 0, 1)
        check_number("lighting", lighting, 0)
        check_number("erase_probability", erase_probability, 0, 1)
        self.root = Path(root).expanduser()
        self.num_classes, self.input_size = classes, (3, image_size, image_size)
        self.crop_pct: float = crop_pct
        self.val_size, self.subset, self.extract = val_size, subset, extract
        self.validates_on_test, self.image_statistics = not val_size, (IMAGENET_MEAN, IMAGENET_STD)
        self._augmentation = (auto_augment, color_jitter, lighting, erase_probability)
        self._photos: dict[Folder, Photos] = {}

    def prepare_data(self) -> None:
        if self.extract:
            if not (self.root / "train").is_dir():
                extract_train(self.root, self.num_classes)
            if not (self.root / "val").is_dir():
                extract_val(self.root)

    def load(self, part: Part) -> Photos:
        if part == "test" or (part == "val" and not self.val_size):
            return self._read("val")
        photos = self._read("train")
        if not self.val_size:
            return photos
        rest, held = hold_out(len(photos), self.val_size)
        return photos.chosen((rest if part == "train" else held).numpy())

    def file_names(self, part: Part) -> Sequence[str]:
        photos = self.images(part)
        assert isinstance(photos, Photos)  # as load gives them
        return photos.names()

    def transforms(self, train: bool) -> tuple[Transform, Transform]:
        size = self.input_size[1]
        if train:
            return photo_training(size, *self._augmentation)
        return photo_evaluation(size, self.crop_pct)

    def _read(self, folder: Folder) -> Photos:
        if folder not in self._photos:
            self._photos[folder] = self._checked(folder, Photos.of(self._with(folder), folder, as_seen=False))
            self.class_names = tuple(self._photos[folder].classes)
        return self._photos[folder]

    def _with(self, name: Folder) -> Path:
        """The root, which has this folder."""
        if (self.root / name).is_dir():
            return self.root
        tars = (_TRAIN,) if name == "train" else (_VAL, _DEVKIT)
        if all((self.root / tar).is_file() for tar in tars):
            how = f"{' and '.join(tars)} are there: extract: true makes the folder from them"
        else:
            how = f"or put {' and '.join(tars)} there, from {_ORIGIN}, and give extract: true"
        needed = f"with one folder of images for each class ({name}/n01440764/*.JPEG)"
        raise ValueError(f"root={str(self.root)!r}: there is no folder {name} in it, {needed}; {how}")

    def _checked(self, folder: Folder, photos: Photos) -> Photos:
        where = str(self.root / folder)
        if len(photos.classes) != self.num_classes:
            raise ValueError(f"{where!r} has {len(photos.classes)} class folders; classes={self.num_classes}")
        if self.num_classes == 1_000 and not self.subset and len(photos) != _COUNTS[folder]:
            counts = f"has {len(photos):,} images; ImageNet has {_COUNTS[folder]:,}"
            raise ValueError(f"{where!r} {counts}, so the copy is incomplete (subset: true accepts it)")
        other: Folder = "val" if folder == "train" else "train"
        names = _class_folders(self.root / other)
        if names and names != photos.classes:
            first = next((a, b) for a, b in zip([*photos.classes, None], [*names, None]) if a != b)
            names_differ = f"the class folders of {folder} and {other} differ, first {first[0]} and {first[1]}"
            raise ValueError(f"root={str(self.root)!r}: {names_differ}; classes are numbered by their names")
        return photos


def _class_folders(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir() if entry.is_dir()) if folder.is_dir() else []


def extract_train(root: Path, classes: int) -> None:
    """Make the folder ``train`` from the tar file in ``root``, a tar of one tar for each of ``classes``."""
    part = root / "train.part"
    with _opened(root / _TRAIN) as tar, _progress(root / _TRAIN) as bar:
        for member in tar:
            match = _CLASS_TAR.fullmatch(member.name)
            if not match or not member.isfile():
                raise ValueError(f"it holds {member.name!r}; expected are tar files of classes such as n01440764.tar")
            if not (part / match[1]).is_dir():
                _extract_class(tar, member, part, match[1])
            bar.update(member.offset_data + member.size - bar.n)
    extracted = sum(1 for entry in part.iterdir() if re.fullmatch(r"n\d{8}", entry.name)) if part.is_dir() else 0
    if extracted != classes:
        raise ValueError(f"{str(root / _TRAIN)!r} has {extracted} classes; classes={classes}: the file is not whole")
    part.rename(root / "train")


def extract_val(root: Path) -> None:
    """Make the folder ``val`` from the tar file in ``root``; which class an image shows is in the development kit."""
    wnids = _validation_classes(root / _DEVKIT)
    part, num_images = root / "val.part", 0
    with _opened(root / _VAL) as tar, _progress(root / _VAL) as bar:
        for member in tar:
            match = _VAL_IMAGE.fullmatch(member.name)
            if not match or not member.isfile() or not 1 <= int(match[1]) <= len(wnids):
                raise ValueError(f"it holds {member.name!r}; expected: ILSVRC2012_val_00000001.JPEG to {len(wnids):08}")
            member = member.replace(name=f"{wnids[int(match[1]) - 1]}/{member.name}", deep=False)
            target = part / member.name
            if not target.is_file() or target.stat().st_size != member.size:
                tar.extract(member, part, filter="data")
            num_images += 1
            bar.update(member.offset_data + member.size - bar.n)
    if num_images != len(wnids):
        raise ValueError(f"{str(root / _VAL)!r} has {num_images} of {len(wnids)} images: the file is not whole")
    part.rename(root / "val")


def _extract_class(tar: tarfile.TarFile, member: tarfile.TarInfo, part: Path, wnid: str) -> None:
    unfinished = part / f"{wnid}.part"
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    content = tar.extractfile(member)
    assert content is not None  # it is a file
    with tarfile.open(fileobj=content) as images:
        images.extractall(unfinished, filter="data")
    unfinished.rename(part / wnid)


def _validation_classes(devkit: Path) -> list[str]:
    with _opened(devkit) as tar:
        wnid_of = _numbered_classes(_content(tar, _META))
        return [wnid_of[int(line)] for line in _content(tar, _TRUTH).decode("ascii").split()]


def _numbered_classes(meta: bytes) -> dict[int, str]:
    """Names of the classes by their numbers in the development kit."""
    from scipy.io import loadmat

    synsets = loadmat(io.BytesIO(meta), squeeze_me=True)["synsets"]
    # The leaves of WordNet's tree are the classes; inner nodes have numbers above theirs.
    return {int(synset["ILSVRC2012_ID"]): str(synset["WNID"]) for synset in synsets if int(synset["num_children"]) == 0}


def _content(tar: tarfile.TarFile, name: str) -> bytes:
    file = tar.extractfile(name)
    if file is None:
        raise ValueError(f"{name} is not a file in it")
    return file.read()


@contextmanager
def _opened(path: Path) -> Iterator[tarfile.TarFile]:
    if not path.is_file():
        raise ValueError(f"extract: true needs {str(path)!r}, which is not there")
    try:
        with tarfile.open(path) as tar:
            yield tar
    except OSError as error:  # also a full disk, which is no fault of the file
        raise ValueError(f"{str(path)!r} could not be extracted: {error}; call again to go on") from error
    except Exception as error:  # damaged files raise nearly every kind of error
        raise ValueError(f"{str(path)!r} is damaged or another file: {error}") from error


@contextmanager
def _progress(path: Path) -> Iterator[tqdm]:
    with tqdm(total=path.stat().st_size, unit="B", unit_scale=True, desc=path.name) as bar:
        yield bar
        bar.update(bar.total - bar.n)  # what fills up the last block
