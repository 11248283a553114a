"""Entropy of feature maps (AZ-NAS)."""

from __future__ import annotations

import torch
from torch import Tensor

from vkdnw_pl.proxies.functional import UndefinedScore


def feature_entropy(feature: Tensor) -> float:
    """Entropy in nats of the normalised eigenvalues of the channel covariance of a feature map (B, C, H, W).

    Raises:
        UndefinedScore: where the map is constant.
    """
    # Centred in float64: in float32 the mean of a constant is not always that constant.
    x = feature.detach().movedim(1, -1).flatten(0, -2).double()
    x = x - x.mean(0)
    eigenvalues = torch.linalg.eigvalsh(x.T @ x / len(x)).clamp(min=0)
    total = eigenvalues.sum()
    if float(total) == 0.0:
        raise UndefinedScore("a feature map is constant, so the entropy of its covariance does not exist")
    share = eigenvalues / total
    return float(-(share * torch.log(share + 1e-8)).sum())
