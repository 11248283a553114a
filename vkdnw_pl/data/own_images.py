"""What a user's own images are: class folders, or a CSV file of files and labels. Torch-free."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vkdnw_pl.data import DATA_MODULES
from vkdnw_pl.errors import nearest, shown
from vkdnw_pl.runs.csv_table import CsvTable, read_csv

ENDINGS = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")
"""Of the names of image files, as torchvision has them."""
_PART_OF = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation"), "val"),
    **dict.fromkeys(("test", "testing"), "test"),
}
"""What folders, and cells of the column ``split``, are called -> what their images are for."""
_FORMS = (
    "give a folder of one folder of images for each class, a folder that has such folders in train, val and perhaps test, or "
    "a CSV file with the columns file and label"
)
IMAGE_SIZE = 64
"""Height and width that images are resized to unless the user says otherwise."""
_NAMES = ("ImageFolder", "vkdnw_pl.data.ImageFolder", "vkdnw_pl.data.image_folder.ImageFolder")
_MOST_NAMED = 5
_OTHER_SOURCES = (".npy", ".npz", ".yaml", ".yml", ".json")
"""Endings of files that options for images take too."""


@dataclass
class ImageList:
    """Files of images and their classes, in order."""

    files: list[str] = field(default_factory=list)
    """Names relative to `OwnImages.root`."""
    labels: list[int] = field(default_factory=list)
    """Class numbers from 0."""


@dataclass(frozen=True)
class OwnImages:
    """Image files of a user, by what they are for."""

    path: Path
    """What the user named: a folder or a CSV file."""
    root: Path
    """Folder that the names of files are relative to."""
    classes: tuple[str, ...]
    """Names in the order of their numbers."""
    parts: Mapping[str, ImageList]
    """``train``, and ``val`` and ``test`` where the user set them apart."""
    left_out: Sequence[str]
    """Files in the class folders that are no images by their names."""
    left_out_folders: Sequence[str] = ()
    """Folders beside train, val and test."""

    @property
    def digest(self) -> str:
        """SHA-256 of what the images are: names, sizes and classes of all files, not where they lie."""
        return self.digest_of(self.parts)

    def digest_of(self, parts: Iterable[str]) -> str:
        """`digest` of some of the parts."""
        lines = [repr(self.classes)]
        for part in parts:
            images = self.parts[part]
            for file, label in zip(images.files, images.labels, strict=True):
                lines.append(f"{part} {label} {os.stat(self.root / file).st_size} {file}")
        return hashlib.sha256("\n".join(lines).encode(errors="surrogateescape")).hexdigest()


def is_own_images(source: str) -> bool:
    """Whether an option such as ``--data`` names a folder or a CSV file that is there; a class's name never does.

    Raises:
        ValueError: if it can only be meant as a path, and there is nothing.
    """
    if source in DATA_MODULES or not source or source.lstrip()[0] in "[{":
        return False
    path = Path(source).expanduser()
    if path.is_dir() or (path.is_file() and path.suffix.lower() == ".csv"):
        return True
    if not path.exists() and ("/" in source or os.sep in source or path.suffix.lower() == ".csv"):
        raise ValueError(f"there is no folder and no file {source!r}")
    if path.is_file() and path.suffix.lower() not in _OTHER_SOURCES:
        raise ValueError(f"{source!r} is no folder and no CSV file")
    return False


def data_module_of(source: str) -> dict[str, Any]:
    """The data module that a path of images stands for, as options name it."""
    return {"class_path": "ImageFolder", "init_args": {"root": source}}


def image_folder_args(source: Any) -> dict[str, Any] | None:
    """Arguments of the `ImageFolder` that an option names; None where it names something else."""
    if not isinstance(source, Mapping) or source.get("class_path") not in _NAMES:
        return None
    return dict(source.get("init_args") or {})


def read_own_images(source: str) -> OwnImages:
    """List the images of a folder or a CSV file.

    A folder has one folder of images for each class, in torchvision's order, or such class folders in ``train``, ``val``
    and ``test``, of which the last two may be missing. Names that begin with a dot are left out. A CSV file has the
    columns ``file`` (relative to the CSV file) and ``label``, and perhaps ``split`` with train, val and test.

    Raises:
        ValueError: naming what is wrong with the folder or the file, and what is needed.
    """
    path = Path(source).expanduser()
    try:
        if path.is_dir():
            images = _of_folder(path)
        elif path.is_file() and path.suffix.lower() == ".csv":
            images = _of_csv(path)
        else:
            what = "is no folder and no CSV file" if path.exists() else "does not exist"
            raise ValueError(f"{source!r} {what}; {_FORMS}")
    except OSError as error:
        raise ValueError(f"{source!r} cannot be read: {error.filename or ''} {error.strerror or error}") from None
    if len(images.classes) < 2:
        below = _folders(path / images.classes[0]) if path.is_dir() else []
        hint = f"; did you mean {str(path / images.classes[0])!r}?" if len(below) > 1 else ""
        raise ValueError(
            f"{source!r} has a single class, {images.classes[0]!r}, so there is nothing to tell apart{hint}"
        )
    return images


def _of_folder(path: Path) -> OwnImages:
    part_folders: dict[str, str] = {}
    for name in _folders(path):
        part = _PART_OF.get(name.lower())
        if part and _folders(path / name):  # else it is a class, such as trains
            if part in part_folders:
                raise ValueError(
                    f"{str(path)!r} has both {part_folders[part]} and {name}; which one is meant? Move the other"
                )
            part_folders[part] = name
    beside = [name for name in _folders(path) if name not in part_folders.values()] if part_folders else []
    if not part_folders:
        if len(found := _folders(path)) > 1 and all(name.lower() in _PART_OF for name in found):
            raise ValueError(
                f"{str(path)!r} has {' and '.join(found)}, and no class folders in them; name classes by what they show, or "
                "give each of these one folder of images for each class"
            )
        part_folders = {"train": ""}
    elif "train" not in part_folders:
        first = next(iter(part_folders.values()))
        raise ValueError(f"{str(path)!r} has a folder {first} of class folders, but no train; {_FORMS}")
    for name in beside:
        if _PART_OF.get(name.lower()):
            raise ValueError(
                f"{str(path / name)!r} must have one folder of images for each class, as {part_folders['train']} has; "
                "images without labels do not belong there (label them with predict)"
            )
    if len(part_folders) == 1 and any(image_files(path, name)[0] for name in beside):
        raise ValueError(
            f"{str(path)!r} has a folder train of folders, and beside it {listed(map(repr, beside))} with images: if train is a "
            "class, give it another name; if not, the others are called val and test, or lie elsewhere"
        )
    for folder in dict.fromkeys(("", *part_folders.values())):
        _refuse_loose(path / folder)
    parts: dict[str, ImageList] = {}
    left_out: list[str] = []
    classes: tuple[str, ...] = ()
    for part in ("train", "val", "test"):
        if part in part_folders:
            names, parts[part], others = _class_folders(path, part_folders[part])
            left_out += others
            classes = classes or names
            if names != classes:
                raise ValueError(
                    f"{str(path)!r}: {_difference(part_folders['train'], classes, part_folders[part], names)}"
                )
    return OwnImages(path, path, classes, parts, left_out, beside)


def _refuse_loose(folder: Path) -> None:
    """Refuse images that lie beside folders, which say no class."""
    loose = sorted(name for name in os.listdir(folder) if _is_image(name) and (folder / name).is_file())
    if loose and _folders(folder):
        raise ValueError(
            f"{str(folder)!r} has images beside its folders ({len(loose)}, the first is {loose[0]!r}), of no class: move "
            "them into one, or away"
        )


def _class_folders(root: Path, folder: str) -> tuple[tuple[str, ...], ImageList, list[str]]:
    """Classes, images and other files of class folders."""
    classes, images, left_out = tuple(_folders(root / folder)), ImageList(), []
    where = str(root / folder)
    if not classes:
        loose = sum(_is_image(name) for name in os.listdir(root / folder))
        holds = f"has {loose} images, but no class folders" if loose else "has no folders in it"
        raise ValueError(f"{where!r} {holds}; {_FORMS}")
    empty = []
    for label, name in enumerate(classes):
        files, others = image_files(root, os.path.join(folder, name))
        images.files += files
        images.labels += [label] * len(files)
        left_out += others
        if not files:
            kinds = Counter(os.path.splitext(other)[1].lower() or "no ending" for other in others)
            empty.append(f"{name!r}" + (f" (its files: {', '.join(kinds)})" if kinds else ""))
    if empty:
        raise ValueError(
            f"{where!r} has class folders without images: {listed(empty)}; images end in {', '.join(ENDINGS)}; add some, or "
            "remove the folders"
        )
    return classes, images, left_out


def image_files(root: Path, folder: str) -> tuple[list[str], list[str]]:
    """Images and other files below a folder of ``root``, in torchvision's order, relative to ``root``."""

    def stop(error: OSError) -> None:
        raise error

    images: list[str] = []
    others: list[str] = []
    top = os.path.join(root, folder)
    places = []
    for place, folders, names in os.walk(top, onerror=stop, followlinks=True):
        folders[:] = [name for name in folders if not _leads_back(os.path.join(place, name))]
        places.append((place, names))
    for place, names in sorted(places):
        below = os.path.relpath(place, top)
        if below != "." and any(_is_hidden(name) for name in below.split(os.sep)):
            continue
        for name in sorted(names):
            if not _is_hidden(name):
                file = os.path.normpath(os.path.join(folder, below, name))
                (images if _is_image(name) else others).append(file)
    return images, others


def _of_csv(path: Path) -> OwnImages:
    table = read_csv(path, ("file", "label"))
    if unknown := [name for name in table.names if name not in ("file", "label", "split")]:
        known = "the columns are file, label and perhaps split"
        raise ValueError(f"{path}, line 1: column {shown(unknown[0])} is not known; {known}")
    files, labels = table.texts("file"), table.texts("label")
    if not files:
        raise ValueError(f"{path} lists no images: there is no line below the names of the columns")
    lines: dict[str, int] = {}
    for row, (file, label) in enumerate(zip(files, labels, strict=True)):
        if not file or not label:
            raise ValueError(f"{table.place(row, 'label' if file else 'file')} is empty")
        if not (path.parent / file).is_file():
            raise ValueError(f"{table.place(row, 'file')}: there is no file {str(path.parent / file)!r}")
        if (name := os.path.normpath(file)) in lines:
            raise ValueError(f"{table.place(row, 'file')}: {shown(file)} stands in line {lines[name]} too")
        lines[name] = table.lines[row]
    parts: dict[str, ImageList] = {}
    classes = _in_order(set(labels))
    numbers = {name: number for number, name in enumerate(classes)}
    for part, file, label in zip(_splits(table), files, labels, strict=True):
        images = parts.setdefault(part, ImageList())
        images.files.append(file)
        images.labels.append(numbers[label])
    if "train" not in parts:
        raise ValueError(f"{path}: no line has the split train")
    trained = {classes[number] for number in parts["train"].labels}
    if missing := [name for name in classes if name not in trained]:
        raise ValueError(f"{path}: labels without an image for training: {listed(map(repr, missing))}")
    return OwnImages(
        path, path.parent, classes, {name: parts[name] for name in ("train", "val", "test") if name in parts}, ()
    )


def _splits(table: CsvTable) -> list[str]:
    if "split" not in table.names:
        return ["train"] * len(table)
    splits = table.texts("split")
    for row, split in enumerate(splits):
        if split.lower() not in _PART_OF:
            hint = nearest(split, ("train", "val", "test"))
            raise ValueError(
                f"{table.place(row, 'split')}: {shown(split)} is not allowed: give train, val or test{hint}"
            )
    return [_PART_OF[split.lower()] for split in splits]


def _in_order(names: set[str]) -> tuple[str, ...]:
    """Whole numbers by their value, others as torchvision orders folders."""
    if all(name.isascii() and name.isdecimal() for name in names):
        return tuple(sorted(names, key=lambda name: (int(name), name)))
    return tuple(sorted(names))


def _folders(path: Path) -> list[str]:
    """Names of the folders in a folder, in torchvision's order of classes."""
    with os.scandir(path) as entries:
        return sorted(entry.name for entry in entries if entry.is_dir() and not _is_hidden(entry.name))


def _leads_back(folder: str) -> bool:
    """Whether a folder is a link to one that it is in, whose images would come again and again."""
    if not os.path.islink(folder):
        return False
    return Path(os.path.realpath(os.path.dirname(folder))).is_relative_to(os.path.realpath(folder))


def _is_hidden(name: str) -> bool:
    """Whether a name is one that programs leave behind, such as .ipynb_checkpoints and macOS's ._cat.jpg."""
    return name.startswith(".") or name == "__MACOSX"


def _is_image(name: str) -> bool:
    return not _is_hidden(name) and name.lower().endswith(ENDINGS)


def _difference(first: str, names: Sequence[str], second: str, others: Sequence[str]) -> str:
    """How the classes of two folders differ."""
    missing, added = [n for n in names if n not in others], [n for n in others if n not in names]
    only = [
        f"only in {folder}: {listed(map(repr, found))}"
        for folder, found in ((first, missing), (second, added))
        if found
    ]
    return f"the class folders of {first} and {second} differ ({'; '.join(only)})"


def listed(names: Iterable[str]) -> str:
    """The first few names with commas between, and how many more there are."""
    names = list(names)
    more = f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
    return ", ".join(names[:_MOST_NAMED]) + more
