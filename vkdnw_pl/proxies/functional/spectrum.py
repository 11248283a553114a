"""Eigenvalues of the Fisher matrix, their deciles, and the entropy of the deciles."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

DECILES = tuple(k / 10 for k in range(1, 10))


def eigenvalues_of_root(root: Tensor) -> Tensor:
    """All P eigenvalues of ``AᵀA``, descending, from the singular values of A (N, P).

    The square never exists, so small eigenvalues keep their digits: relative to the largest they are right down to
    the square of the rounding unit, not to the unit. A tall A is first reduced to its triangular factor.
    """
    num_scalars = root.shape[1]
    if root.shape[0] > num_scalars:
        root = torch.linalg.qr(root, mode="r").R
    values = torch.linalg.svdvals(root).square()
    return torch.cat([values, values.new_zeros(num_scalars - len(values))])


def quantiles(eigenvalues: Tensor, at: Sequence[float] = DECILES) -> Tensor:
    """Quantiles of the eigenvalues (P,) with linear interpolation; the deciles 1..9 by default."""
    return torch.quantile(eigenvalues, torch.tensor(at, dtype=eigenvalues.dtype, device=eigenvalues.device))


def entropy(weights: Tensor) -> Tensor:
    """Entropy in nats of nonnegative weights (n,) normalised to sum one; at most ln n (VKDNW, eq. 11).

    NaN where all weights are zero.
    """
    share = weights / weights.sum()
    return torch.special.entr(share).sum()
