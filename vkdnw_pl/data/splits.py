"""Which images are trained on, which are validated on, and which are tested on."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from vkdnw_pl.errors import is_whole

Part = Literal["train", "val", "test"]
"""What images are used for."""
Source = Literal["train", "eval"]
"""Where published images are from: a data set's training images, or those that it is evaluated on."""

_HOLD_OUT_SEED = 0
_ORIGIN = "github.com/D-X-Y/AutoDL-Projects, folder configs/nas-benchmark"


def hold_out(count: int, size: int) -> tuple[Tensor, Tensor]:
    """Numbers (int64, ascending) of the images kept and of the ``size`` held out of ``count``, always the same ones."""
    if not is_whole(size, 0) or size >= count:
        raise ValueError(f"val_size={size!r} is not allowed: give a whole number from 0 to {count - 1}")
    order = torch.randperm(count, generator=torch.Generator().manual_seed(_HOLD_OUT_SEED))
    return order[size:].sort().values, order[:size].sort().values


def read_splits(path: str | Path) -> tuple[Source, Tensor, Tensor]:
    """Read a file of splits of NAS-Bench-201 or NATS-Bench: which images are split, and the int64 numbers of each half.

    It is JSON with two names, ``train`` and ``valid`` (a split of the training images) or ``xvalid`` and ``xtest`` (of
    the images for evaluation); each has ``["int", ["0", "5", ...]]`` or a plain list of numbers from 0.

    Raises:
        ValueError: if the file is missing, is no such file, or its halves overlap.
    """
    try:
        content = json.loads(Path(path).expanduser().read_text(encoding="utf-8"))
    except OSError as error:
        raise ValueError(f"splits={str(path)!r} cannot be read: {error.strerror}; the files are in {_ORIGIN}") from None
    except ValueError as error:
        raise ValueError(f"splits={str(path)!r} is not a JSON file: {error}") from None
    names = set(content) if isinstance(content, Mapping) else set()
    if names == {"train", "valid"}:
        return "train", *_halves(content, "train", "valid", path)
    if names == {"xvalid", "xtest"}:
        return "eval", *_halves(content, "xvalid", "xtest", path)
    held = ", ".join(map(str, content)) if isinstance(content, Mapping) else type(content).__name__
    raise ValueError(
        f"splits={str(path)!r} holds {held or 'nothing'}; needed: train and valid, or xvalid and xtest, as in the "
        f"files of {_ORIGIN}"
    )


def check_cover(first: Tensor, second: Tensor, count: int, path: str | Path) -> None:
    """Refuse two halves that are not all ``count`` images."""
    largest = int(max(first.max(), second.max()))
    if len(first) + len(second) != count or largest >= count:
        raise ValueError(
            f"splits={str(path)!r} is for another data set: it splits {len(first)} + {len(second)} images, the last of "
            f"them {largest}; here are {count}, from 0"
        )


def _halves(content: Mapping[str, Any], first: str, second: str, path: str | Path) -> tuple[Tensor, Tensor]:
    halves = _numbers(content[first], first, path), _numbers(content[second], second, path)
    if common := set(halves[0].tolist()) & set(halves[1].tolist()):
        raise ValueError(f"splits={str(path)!r}: {first} and {second} share {len(common)} images, one is {min(common)}")
    return halves


def _numbers(entry: Any, name: str, path: str | Path) -> Tensor:
    if isinstance(entry, list) and len(entry) == 2 and entry[0] == "int" and isinstance(entry[1], list):
        entry = entry[1]
    try:
        if not isinstance(entry, list) or not entry:
            raise ValueError(f"it is {entry!r:.40}")
        numbers = [int(number) for number in entry if not isinstance(number, bool | float)]
        if len(numbers) != len(entry) or min(numbers) < 0 or len(set(numbers)) != len(numbers):
            raise ValueError("it has negative or repeated places, or some that are not whole numbers")
    except (TypeError, ValueError) as error:
        raise ValueError(f'splits={str(path)!r}: {name} must be a list of places, or ["int", list]: {error}') from None
    return torch.tensor(numbers)
