"""Correlations of the input gradients of different samples."""

from __future__ import annotations

import torch
from torch import Tensor

from vkdnw_pl.proxies.functional import UndefinedScore


def correlations(grad_BD: Tensor) -> Tensor:
    """Correlation matrix (B, B) of the rows, float64.

    Raises:
        FloatingPointError: where a row is not finite.
        UndefinedScore: where a row is constant.
    """
    if not torch.isfinite(grad_BD).all():
        raise FloatingPointError("the input Jacobian is not finite")
    centred = grad_BD.double() - grad_BD.double().mean(1, keepdim=True)
    norm = centred.norm(dim=1, keepdim=True)
    if bool((norm == 0).any()):
        raise UndefinedScore("the input Jacobian of a sample is constant, so correlations do not exist")
    rows = centred / norm
    return rows @ rows.T
