"""Eigenvalues of the Fisher matrix and of feature maps: their deciles and entropies."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from vkdnw_pl.proxies.functional import UndefinedScore

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
    """Entropy in nats of nonnegative weights (n,) normalised to sum one (VKDNW, eq. 11); NaN where all are zero."""
    share = weights / weights.sum()
    return torch.special.entr(share).sum()


def feature_entropy(feature: Tensor) -> float:
    """Entropy in nats of the normalised eigenvalues of the channel covariance of a map (B, C, H, W), as in AZ-NAS."""
    # Centred in float64: in float32 the mean of a constant is not always that constant.
    x = feature.detach().movedim(1, -1).flatten(0, -2).double()
    x = x - x.mean(0)
    eigenvalues = torch.linalg.eigvalsh(x.T @ x / len(x)).clamp(min=0)
    total = eigenvalues.sum()
    if float(total) == 0.0:
        raise UndefinedScore("a feature map is constant, so the entropy of its covariance does not exist")
    share = eigenvalues / total
    return float(-(share * torch.log(share + 1e-8)).sum())
