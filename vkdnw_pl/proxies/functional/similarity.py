"""How alike the samples of a batch are: agreement of their ReLU patterns, correlation of their input gradients."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from vkdnw_pl.proxies.functional import UndefinedScore


@dataclass(frozen=True)
class Agreement:
    """How alike the images' patterns are."""

    kernel: Tensor
    """(B, B) float64: ReLU units that are on for both images or off for both."""
    units: int
    """All units of one image."""


def agreements(relus: Sequence[Tensor]) -> Agreement:
    """Count the units of ReLU outputs (B, ...) on which two images agree; no ReLU is an ``UndefinedScore``."""
    if not relus:
        raise UndefinedScore("the network has no ReLU")
    kernel = torch.zeros(len(relus[0]), len(relus[0]), dtype=torch.float64, device=relus[0].device)
    units = 0
    for out in relus:
        # Exact: float32 counts up to 2^24, and no map has so many units per image.
        on = (out.detach() > 0).flatten(1).float()
        each = on.sum(1)
        # Both on, plus both off.
        kernel += (2 * (on @ on.T) - each[:, None] - each[None, :] + on.shape[1]).double()
        units += on.shape[1]
    return Agreement(kernel, units)


def correlations(grad_BD: Tensor) -> Tensor:
    """Correlation matrix (B, B) of the rows, float64; a constant row is an ``UndefinedScore``."""
    if not torch.isfinite(grad_BD).all():
        raise FloatingPointError("the input Jacobian is not finite")
    centred = grad_BD.double() - grad_BD.double().mean(1, keepdim=True)
    norm = centred.norm(dim=1, keepdim=True)
    if bool((norm == 0).any()):
        raise UndefinedScore("the input Jacobian of a sample is constant, so correlations do not exist")
    rows = centred / norm
    return rows @ rows.T
