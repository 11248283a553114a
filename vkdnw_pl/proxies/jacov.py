"""Jacov: correlation of the input Jacobians of different samples."""

from __future__ import annotations

import torch
from torch import Tensor

from vkdnw_pl.proxies.base import GraphProxy, ProxyInfo, UndefinedScore
from vkdnw_pl.proxies.borrow import Borrowed
from vkdnw_pl.proxies.functional.similarity import correlations


class Jacov(GraphProxy):
    """``-Σ (log(v + k) + 1 / (v + k))`` over the eigenvalues v of the correlation matrix of ∂(Σ logits)/∂x.

    The rows of the correlation matrix are the samples' input gradients; k = 1e-5. Higher is better. Computed in
    float64 from the gradients. Where a sample's gradient is constant its correlations do not exist, so there is no
    score (the official code: NaN, replaced by the minimum over networks).
    """

    info = ProxyInfo(
        name="jacov",
        title="Jacov",
        input="data",
        batchnorm="batch",
        source="Mellor et al. 2020 (v1); github.com/ondratybl/VKDNW, compute_jacov_score.py",
    )

    def compute(self, borrowed: Borrowed) -> dict[str, float]:
        grad = borrowed.input_gradient(self.batchnorm)
        if grad is None:
            raise UndefinedScore("the logits do not depend on the input")
        return {"jacov": jacov(grad.flatten(1))}


def jacov(grad_BD: Tensor, k: float = 1e-5) -> float:
    """Score of the input gradients (B, D).

    Raises:
        UndefinedScore: where the gradient of a sample is constant over the input.
    """
    eigenvalues = torch.linalg.eigvalsh(correlations(grad_BD))
    return float(-(torch.log(eigenvalues + k) + 1.0 / (eigenvalues + k)).sum())
