"""What every rank metric asks of its input, and the way from any array to float64."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

Array = np.ndarray[Any, np.dtype[np.float64]]


def check_pair(preds: Any, target: Any) -> tuple[Tensor, Tensor]:
    """Return predictions and targets as float64 tensors of shape (n,), detached, on the device of the predictions.

    ``preds`` may hold ``inf`` and ``-inf``: they are the extremes of the ranking. (Apple's GPUs have no float64, so
    tensors on them come to the CPU.)

    Raises:
        ValueError: if the two are not one-dimensional and equally long, ``preds`` holds NaN, or ``target`` holds a
            value that is not finite.
    """
    preds = _double(preds)
    target = _double(target).to(preds.device)
    if preds.ndim != 1 or preds.shape != target.shape:
        raise ValueError(
            f"preds has shape {tuple(preds.shape)} and target {tuple(target.shape)}; both must be (n,), one value per item"
        )
    if num_nan := int(preds.isnan().sum()):
        raise ValueError(
            f"preds has {num_nan} NaN among {len(preds)} values; a NaN has no place in a ranking: drop these items, or "
            "give -inf for those that rank last"
        )
    if num_bad := int((~target.isfinite()).sum()):
        raise ValueError(f"target has {num_bad} value(s) of {len(target)} that are not finite; drop these items")
    return preds, target


def check_arrays(preds: Any, target: Any) -> tuple[Array, Array, torch.device]:
    """Like `check_pair`, as numpy arrays and the device for the result; refuses to work on nothing.

    Raises:
        ValueError: as `check_pair`, and if there are no items.
    """
    preds, target = check_pair(preds, target)
    if len(preds) == 0:
        raise ValueError("preds and target are empty; a rank metric needs at least one item")
    return preds.cpu().numpy(), target.cpu().numpy(), preds.device


def is_constant(values: Array) -> bool:
    """Whether all values are equal, so that a correlation with them is undefined."""
    return bool((values == values[0]).all())


def as_result(value: float, device: torch.device) -> Tensor:
    """A metric's value as a float64 tensor without dimensions."""
    return torch.tensor(value, dtype=torch.float64, device=device)


def _double(values: Any) -> Tensor:
    if not isinstance(values, Tensor):
        # Not torch.as_tensor(values): it would round a list of Python floats to float32.
        return torch.from_numpy(np.array(values, dtype=np.float64))
    values = values.detach()
    return (values.cpu() if values.device.type == "mps" else values).double()
