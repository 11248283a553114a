"""Photographs in files: found in class folders, decoded when asked for."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps
from torchvision.datasets import ImageFolder

from vkdnw_pl.errors import first_line


@dataclass
class Photos:
    """Image files and their classes, decoded when asked for."""

    root: Path
    files: np.ndarray
    """Names relative to ``root``, bytes (n,): one array, since workers would copy a million strings."""
    labels: np.ndarray
    """Class numbers from 0, int64 (n,)."""
    classes: list[str]
    as_seen: bool = True
    """See `open_photo`."""
    least_side: int | None = None
    """See `open_photo`."""

    @classmethod
    def of(cls, root: Path, folder: str, as_seen: bool = True) -> Photos:
        """The images of the class folders in a folder of ``root``, in torchvision's order.

        Raises:
            ValueError: if it has no class folders, or one without images.
        """
        try:
            listed = ImageFolder(str(root / folder))
        except FileNotFoundError as error:
            where = str(root / folder)
            raise ValueError(f"{where!r} must have one folder of images for each class: {error}") from None
        start = len(os.fsencode(root / "_")) - 1
        files = np.array([os.fsencode(path)[start:] for path, _ in listed.samples])
        return cls(root, files, np.array(listed.targets, np.int64), listed.classes, as_seen)

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> tuple[Image.Image, int]:
        photo = open_photo(str(self.root / self.name(index)), self.as_seen, self.least_side)
        return photo, int(self.labels[index])

    def name(self, index: int) -> str:
        """Name of a file relative to ``root``."""
        return os.fsdecode(self.files[index])

    def names(self) -> Sequence[str]:
        """Names of all files relative to ``root``."""
        return [os.fsdecode(file) for file in self.files]

    def chosen(self, numbers: np.ndarray) -> Photos:
        """Only the images of these numbers."""
        return replace(self, files=self.files[numbers], labels=self.labels[numbers])


def open_photo(path: str, as_seen: bool = True, least_side: int | None = None) -> Image.Image:
    """Decode an image file to RGB with 8 bits.

    Of 16 bits the upper 8 count, as Pillow reads colours of 16 bits; floating-point numbers are meant for black 0 and
    white 1.

    Args:
        path: of the file.
        as_seen: what people see: upright as the camera's data (EXIF) say, and white behind what is transparent. Else
            the stored colours, as torchvision reads them.
        least_side: a JPEG file is decoded to a half, a quarter or an eighth of its size where both sides keep this many
            pixels, which for a photograph of 12 megapixels takes a fifth of the time (0.05 s instead of 0.26 s with
            resizing) and changes what is resized to 64 pixels by 0.3 of 255 on average; None for its whole size.

    Raises:
        ValueError: naming a file that is missing, damaged or cut short, or whose numbers do not say what white is.
    """
    try:
        with warnings.catch_warnings(), Image.open(path) as image:
            # Broken camera data, as some of ImageNet's files have, is nothing that anybody needs.
            warnings.filterwarnings("ignore", message=".*EXIF.*")
            if least_side is not None:
                image.draft(None, (least_side, least_side))  # type: ignore[arg-type]  # None keeps the colours
            image.load()
            return _on_white(_upright(image)) if as_seen else _eight_bits(image).convert("RGB")
    except Exception as error:  # damaged files raise nearly every kind of error
        raise ValueError(
            f"image file {path!r} cannot be read: {first_line(error)}; put a whole copy there or remove it"
        ) from None


def check_headers(paths: Iterable[Path]) -> None:
    """Look at the beginnings of image files; a ``ValueError`` names the first that is none."""
    broken = []
    for path in paths:
        try:
            with Image.open(path):
                pass
        except Exception as error:  # damaged files raise nearly every kind of error
            broken.append((str(path), first_line(error)))
    if broken:
        file, reason = broken[0]
        others = f" (and {len(broken) - 1} more)" if len(broken) > 1 else ""
        raise ValueError(f"image file {file!r}{others} cannot be read: {reason}; put whole copies there or remove them")


def _upright(image: Image.Image) -> Image.Image:
    """As the camera was held."""
    try:
        return ImageOps.exif_transpose(image)
    except Exception:  # damaged camera data; the picture is whole
        return image


def _on_white(image: Image.Image) -> Image.Image:
    """An image as RGB of 8 bits, with white behind it."""
    if image.mode not in ("LA", "La", "PA", "RGBA", "RGBa") and "transparency" not in image.info:
        return _eight_bits(image).convert("RGB")
    image = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")


def _eight_bits(image: Image.Image) -> Image.Image:
    """A grey image of larger numbers as one of 8 bits; Pillow's own conversion cuts off what is above 255."""
    if image.mode.startswith("I;16"):
        return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if image.mode == "F":
        values = np.asarray(image)
        if not (values.min() >= 0 and values.max() <= 1):  # also where one is not a number
            raise ValueError(
                f"its values are floating-point numbers from {values.min():g} to {values.max():g}, and only for those "
                "from 0 to 1 it is known what white is; convert it to 8 or 16 bits"
            )
        return Image.fromarray((values * 255).round().astype(np.uint8))
    if image.mode == "I":
        raise ValueError(
            "its values are whole numbers of 32 bits, whose white is not known; convert it to 8 or 16 bits"
        )
    return image
