"""What a batch of a data module must be; anybody's data module may give another one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

_OF_LABELS = (torch.int64, torch.uint8)


def check_batch(batch: Any, input_size: Sequence[int], num_classes: int, *, labelled: bool = True) -> None:
    """Refuse what would be trained on or evaluated as something else, or end in the middle of torch.

    Args:
        batch: what a loader gave; must be images (B, C, H, W), floating point, and labels (B,), int64.
        input_size: (C, H, W), as the data module says it.
        num_classes: labels are from 0 to one less.
        labelled: whether the labels are used.

    Raises:
        ValueError: naming what the batch has, and what it must have.
    """
    channels, height, width = input_size
    needed = (
        f"give images (B, {channels}, {height}, {width}), float32, and labels (B,), int64, from 0 to {num_classes - 1}, as "
        "the data module's input_size and num_classes say"
    )
    if not isinstance(batch, list | tuple) or len(batch) != 2 or not all(isinstance(item, Tensor) for item in batch):
        raise ValueError(f"a batch of the data module is {_kind(batch)}; {needed}")
    images, labels = batch
    if list(images.shape[1:]) != list(input_size) or not images.is_floating_point():
        raise ValueError(f"a batch of the data module has images {_form(images)}; {needed}")
    if not labelled:
        return
    if labels.shape != images.shape[:1] or labels.dtype not in _OF_LABELS:
        raise ValueError(f"a batch of the data module has labels {_form(labels)} for {len(images)} images; {needed}")
    least, greatest = (int(value) for value in labels.aminmax()) if len(labels) else (0, 0)
    if least < 0 or greatest >= num_classes:
        raise ValueError(
            f"a batch of the data module has the label {least if least < 0 else greatest}, and num_classes={num_classes}; "
            f"{needed}"
        )


def _form(tensor: Tensor) -> str:
    return f"({', '.join(map(str, tensor.shape))}), {str(tensor.dtype).removeprefix('torch.')}"


def _kind(batch: Any) -> str:
    if isinstance(batch, list | tuple):
        return f"a {type(batch).__name__} of {', '.join(type(item).__name__ for item in batch)}"
    return f"a {type(batch).__name__}"
