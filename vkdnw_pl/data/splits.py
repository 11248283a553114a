"""Which images are trained on, which are validated on, and which are tested on."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

Part = Literal["train", "val", "test"]
"""What images are used for."""
Source = Literal["train", "eval"]
"""Where published images are from: a data set's training images, or those that it is evaluated on."""

_HOLD_OUT_SEED = 0
_NAMES = {"train": ("train", "valid"), "eval": ("xvalid", "xtest")}
WHERE = "github.com/D-X-Y/AutoDL-Projects, folder configs/nas-benchmark"


def hold_out(count: int, size: int) -> tuple[Tensor, Tensor]:
    """Draw images to be held out of the training, always the same ones.

    Args:
        count: images that there are.
        size: images to be held out.

    Returns:
        Places of the others and of those held out, ascending, int64.

    Raises:
        ValueError: if ``size`` is negative or leaves no image.
    """
    if isinstance(size, bool) or not isinstance(size, int) or not 0 <= size < count:
        raise ValueError(f"val_size={size!r} is not allowed: give a whole number from 0 to {count - 1}")
    order = torch.randperm(count, generator=torch.Generator().manual_seed(_HOLD_OUT_SEED))
    return order[size:].sort().values, order[:size].sort().values


def read_splits(path: str | Path) -> tuple[Source, Tensor, Tensor]:
    """Read a file of splits of NAS-Bench-201 and NATS-Bench.

    Such a file is JSON with two names, ``train`` and ``valid`` (a split of the training images) or ``xvalid`` and
    ``xtest`` (one of the images that the data set is evaluated on); each has ``["int", ["0", "5", ...]]`` or a plain
    list of places from 0.

    Returns:
        Which images are split, and the places of either half, int64.

    Raises:
        ValueError: if the file is not there, is no such file, or its halves overlap.
    """
    file = Path(path).expanduser()
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise ValueError(f"splits={str(path)!r} cannot be read: {error.strerror}; the files are in {WHERE}") from None
    except ValueError as error:
        raise ValueError(f"splits={str(path)!r} is not a JSON file: {error}") from None
    for source, names in _NAMES.items():
        if isinstance(content, Mapping) and set(content) == set(names):
            first, second = (_places(content[name], name, path) for name in names)
            if shared := set(first.tolist()) & set(second.tolist()):
                raise ValueError(
                    f"splits={str(path)!r}: {names[0]} and {names[1]} share {len(shared)} images, one is {min(shared)}"
                )
            return "train" if source == "train" else "eval", first, second
    found = ", ".join(map(str, content)) if isinstance(content, Mapping) else type(content).__name__
    raise ValueError(
        f"splits={str(path)!r} holds {found or 'nothing'}; needed: train and valid, or xvalid and xtest, as in the "
        f"files of {WHERE}"
    )


def check_cover(first: Tensor, second: Tensor, count: int, path: str | Path) -> None:
    """Check that two halves are all images.

    Raises:
        ValueError: if they are of another number of images.
    """
    largest = int(max(first.max(), second.max()))
    if len(first) + len(second) != count or largest >= count:
        raise ValueError(
            f"splits={str(path)!r} is for another data set: it splits {len(first)} + {len(second)} images, the last of "
            f"them {largest}; here are {count}, from 0"
        )


def _places(entry: Any, name: str, path: str | Path) -> Tensor:
    if isinstance(entry, list) and len(entry) == 2 and entry[0] == "int" and isinstance(entry[1], list):
        entry = entry[1]
    try:
        if not isinstance(entry, list) or not entry:
            raise ValueError(f"it is {entry!r:.40}")
        places = [int(place) for place in entry if not isinstance(place, bool | float)]
        if len(places) != len(entry) or min(places) < 0 or len(set(places)) != len(places):
            raise ValueError("it has negative or repeated places, or some that are not whole numbers")
    except (TypeError, ValueError) as error:
        raise ValueError(f'splits={str(path)!r}: {name} must be a list of places, or ["int", list]: {error}') from None
    return torch.tensor(places)
