"""What goes with a trained network about its images: names of the classes, and how images are prepared. Plain values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from vkdnw_pl.errors import UsageError, one_line, shown
from vkdnw_pl.networks.arch_file import prepared_images

ImageRecord = dict[str, Any]
"""``class_names`` (list, or None), ``normalisation`` (``mean`` and ``std``, or None), ``crop_pct``, ``interpolation``."""
IMAGE_FACTS = ("class_names", "normalisation", "crop_pct", "interpolation")
"""Its names."""
_SHOWN = 12


def image_record(data: Any, num_classes: int) -> ImageRecord:
    """What a data module that is set up says of its images; anybody's, which may say nothing of it.

    Args:
        data: may have ``class_names``, ``image_statistics`` (mean and standard deviation of each channel, for white =
            1), ``crop_pct`` and ``interpolation``, as `ImageDataModule` has them.
        num_classes: of the network.

    Raises:
        ValueError: naming what is of the wrong kind.
    """
    names, statistics = getattr(data, "class_names", None), getattr(data, "image_statistics", None)
    record: ImageRecord = {
        "class_names": None if names is None else [str(name) for name in names],
        "normalisation": None,
        "crop_pct": 1.0 if getattr(data, "crop_pct", None) is None else data.crop_pct,
        "interpolation": getattr(data, "interpolation", None),
    }
    if statistics is not None:
        try:
            mean, std = ([float(value) for value in values] for values in statistics)
        except (TypeError, ValueError):
            raise ValueError(
                f"{type(data).__name__}.image_statistics={shown(statistics)} is not allowed: give (mean, std), each with a "
                "number for each channel"
            ) from None
        record["normalisation"] = {"mean": mean, "std": std}
    check_image_record(record, num_classes, type(data).__name__)
    return record


def check_image_record(record: Any, num_classes: int, where: str) -> None:
    """Refuse a record with values of the wrong kind, or without a name for each class; ``where`` is how texts call it."""
    if not isinstance(record, Mapping):
        raise ValueError(f"{where} is damaged: it is a {type(record).__name__}, not values by name")
    images = prepared_images(record, where)
    names = images.get("label_names")
    if names is not None and len(names) != num_classes:
        raise ValueError(f"{where} has {len(names)} class_names for {num_classes} classes")


def check_same_classes(saved: Sequence[str] | None, names: Sequence[str] | None) -> None:
    """Refuse images of other classes, or in another order, than those that a checkpoint's network was trained on."""
    if saved is None or names is None or list(saved) == list(names):
        return
    first = next(i for i, pair in enumerate(zip([*saved, None], [*names, None])) if pair[0] != pair[1])
    there, here = ([*values[first : first + 1], "none"][0] for values in (saved, names))
    raise UsageError(
        f"the images are of other classes than those that the network was trained on: class {first} is {here!r} here and "
        f"{there!r} there (here: {_listed(names)}; there: {_listed(saved)})"
    )


def check_same_held_out(saved: str | None, held_out: str | None) -> None:
    """Refuse images that are held out of others than those that a checkpoint's network was trained on."""
    if saved is not None and held_out is not None and saved != held_out:
        raise UsageError(
            "other images are held out for validation than in this network's training (images were added, removed or "
            "changed, or val_size is another), so some that would be evaluated may have been trained on; give the same "
            "images, put those to evaluate into a folder test beside train, or label them with predict RUN --images DIR"
        )


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return one_line(", ".join(map(repr, names[:_SHOWN]))) + more
