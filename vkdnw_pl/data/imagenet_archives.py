"""Makes ImageNet's class folders from the tar files in which ILSVRC 2012 is published.

A folder gets its name, ``train`` or ``val``, when it is whole; until then it is ``train.part`` or ``val.part``, and
extracting again goes on where it was interrupted.
"""

from __future__ import annotations

import io
import re
import shutil
import tarfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tqdm import tqdm

TRAIN = "ILSVRC2012_img_train.tar"
VAL = "ILSVRC2012_img_val.tar"
DEVKIT = "ILSVRC2012_devkit_t12.tar.gz"
_META = "ILSVRC2012_devkit_t12/data/meta.mat"
_TRUTH = "ILSVRC2012_devkit_t12/data/ILSVRC2012_validation_ground_truth.txt"
_CLASS_TAR = re.compile(r"(n\d{8})\.tar")
_VAL_IMAGE = re.compile(r"ILSVRC2012_val_(\d{8})\.JPEG")


def extract_train(root: Path, classes: int) -> None:
    """Extract the training images: a tar of one tar for each class.

    Args:
        root: has the tar file, and gets the folder ``train``.
        classes: how many classes there must be.

    Raises:
        ValueError: if the tar file is missing, damaged, incomplete or something else.
    """
    part = root / "train.part"
    with _opened(root / TRAIN) as tar, _progress(root / TRAIN) as bar:
        for member in tar:
            match = _CLASS_TAR.fullmatch(member.name)
            if not match or not member.isfile():
                raise ValueError(f"it holds {member.name!r}; expected are tar files of classes such as n01440764.tar")
            if not (part / match[1]).is_dir():
                _extract_class(tar, member, part, match[1])
            bar.update(member.offset_data + member.size - bar.n)
    found = sum(1 for entry in part.iterdir() if re.fullmatch(r"n\d{8}", entry.name)) if part.is_dir() else 0
    if found != classes:
        raise ValueError(f"{str(root / TRAIN)!r} has {found} classes; classes={classes}: the file is not whole")
    part.rename(root / "train")


def extract_val(root: Path) -> None:
    """Extract the validation images; which class they show is in the development kit.

    Args:
        root: has the two tar files, and gets the folder ``val``.

    Raises:
        ValueError: if a tar file is missing, damaged, incomplete or something else.
    """
    wnids = _validation_classes(root / DEVKIT)
    part, found = root / "val.part", 0
    with _opened(root / VAL) as tar, _progress(root / VAL) as bar:
        for member in tar:
            match = _VAL_IMAGE.fullmatch(member.name)
            if not match or not member.isfile() or not 1 <= int(match[1]) <= len(wnids):
                raise ValueError(
                    f"it holds {member.name!r}; expected are ILSVRC2012_val_00000001.JPEG to {len(wnids):08}"
                )
            member = member.replace(name=f"{wnids[int(match[1]) - 1]}/{member.name}", deep=False)
            target = part / member.name
            if not target.is_file() or target.stat().st_size != member.size:
                tar.extract(member, part, filter="data")
            found += 1
            bar.update(member.offset_data + member.size - bar.n)
    if found != len(wnids):
        raise ValueError(f"{str(root / VAL)!r} has {found} of {len(wnids)} images: the file is not whole")
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
    """Class of every validation image, in the order of their numbers."""
    with _opened(devkit) as tar:
        wnid_of = _numbered_classes(_content(tar, _META))
        return [wnid_of[int(line)] for line in _content(tar, _TRUTH).decode("ascii").split()]


def _numbered_classes(meta: bytes) -> dict[int, str]:
    """Names of the classes by their numbers in the development kit, which are those of the ground truth."""
    from scipy.io import loadmat
    from scipy.io.matlab import MatReadError

    try:
        synsets = loadmat(io.BytesIO(meta), squeeze_me=True)["synsets"]
        # The leaves of WordNet's tree are the classes; inner nodes have numbers above theirs.
        return {int(one["ILSVRC2012_ID"]): str(one["WNID"]) for one in synsets if int(one["num_children"]) == 0}
    except (MatReadError, LookupError, TypeError, ValueError) as error:
        raise ValueError(f"{_META} cannot be read: {error}") from error


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
    except (tarfile.TarError, EOFError, zlib.error, LookupError, TypeError, ValueError) as error:
        raise ValueError(f"{str(path)!r} is damaged or another file: {error}") from error
    except OSError as error:  # also a full disk, which is no fault of the file
        raise ValueError(f"{str(path)!r} could not be extracted: {error}; call again to go on") from error


@contextmanager
def _progress(path: Path) -> Iterator[tqdm]:
    with tqdm(total=path.stat().st_size, unit="B", unit_scale=True, desc=path.name) as bar:
        yield bar
        bar.update(bar.total - bar.n)  # what fills up the last block
