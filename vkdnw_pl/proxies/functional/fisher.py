"""Fisher matrix of a softmax classifier from the Jacobian of its logits; eigenvalues, their deciles and entropies.

With p the class probabilities of one sample and J the Jacobian (C, P) of its logits, the sample's Fisher matrix is ``Jᵀ
(diag p - p pᵀ) J`` (VKDNW, eq. 9). It is taken through an exact root, ``A = diag(√p) (J - 1 pᵀ J)`` with ``AᵀA`` the
matrix: with a saturated softmax the entries ``p_c (1 - p_c)`` of the matrix itself vanish below the rounding unit,
while ``√p_c`` keeps a class visible down to the square of it.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from vkdnw_pl.proxies.functional import UndefinedScore

DECILES = tuple(k / 10 for k in range(1, 10))


def smoothed_probabilities(logits: Tensor, alpha: float) -> Tensor:
    """``(1 - alpha) softmax + alpha / C`` of logits (..., C), in float64."""
    p = torch.softmax(logits.double(), dim=-1)
    return (1.0 - alpha) * p + alpha / logits.shape[-1]


def fisher_root(jac_BCP: Tensor, p_BC: Tensor) -> Tensor:
    """Root A (B * C, P), float64, of the empirical Fisher matrix of a Jacobian (B, C, P) and probabilities (B, C).

    ``AᵀA = 1/B Σ_b J_bᵀ (diag p_b - p_b p_bᵀ) J_b`` (VKDNW, eq. 10).
    """
    jac, p = jac_BCP.double(), p_BC.double().unsqueeze(-1)
    centred = jac - (p * jac).sum(1, keepdim=True)
    return (centred * p.sqrt()).flatten(0, 1) / len(jac) ** 0.5


def sketch_cotangents(p_BC: Tensor, draws_BCK: Tensor) -> Tensor:
    """Cotangents V (B, K, C) with ``E[(V_b J_b)ᵀ V_b J_b] = J_bᵀ (diag p_b - p_b p_bᵀ) J_b``, K at most C - 1.

    ``V = Ω diag(√p)``; the rows of ``√(K / (C - 1)) Ω`` are orthonormal and orthogonal to √p, which the root of the
    matrix annuls, and uniform among such as ``draws_BCK`` are normal. With K = C - 1 there is no error.
    """
    root = p_BC.sqrt().unsqueeze(-1)
    num_classes, count = draws_BCK.shape[1:]
    basis = torch.linalg.qr(draws_BCK - root * (root * draws_BCK).sum(1, keepdim=True)).Q
    return (basis * root).mT * ((num_classes - 1) / max(count, 1)) ** 0.5


def lower_root(p: Tensor) -> Tensor:
    """Analytic lower-triangular root L (..., C, C) of ``diag(p) - p pᵀ`` for p (..., C) (Tanabe & Sagae 1992).

    With q_j = 1 - p_1 - ... - p_j: ``L_jj = √(p_j q_j / q_{j-1})``, ``L_ij = -(p_i / q_j) L_jj``, last column zero.
    """
    q = 1.0 - p.cumsum(-1)
    q[..., -1] = 0.0
    before = torch.cat([torch.ones_like(q[..., :1]), q[..., :-1]], -1)
    diagonal = torch.sqrt(p * q / before)
    ratio = p.unsqueeze(-1) / q.unsqueeze(-2)  # p_i / q_j
    ratio[..., -1] = 0.0
    return torch.tril(-ratio * diagonal.unsqueeze(-2), -1) + torch.diag_embed(diagonal)


def eigenvalues_of_root(root: Tensor) -> Tensor:
    """All P eigenvalues of ``AᵀA``, descending, from the singular values of A (N, P), a tall A first reduced by QR.

    The square never exists, so small eigenvalues are right down to the square of the rounding unit of the largest.
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


def by_position(feature: Tensor) -> Tensor:
    """A map (B, C, H, W) as a matrix (B H W, C), which is a view where its channels are last in memory; tokens (B, N, d)
    as (B N, d)."""
    return (feature.movedim(1, -1) if feature.dim() == 4 else feature).flatten(0, -2)


def feature_entropy(feature: Tensor) -> float:
    """Entropy in nats of the normalised eigenvalues of the channel covariance of a map (B, C, H, W), or of tokens
    (B, N, d), as in AZ-NAS."""
    # Centred in float64: in float32 the mean of a constant is not always that constant.
    x = by_position(feature.detach())
    x = x - x.mean(0, dtype=torch.float64)
    eigenvalues = torch.linalg.eigvalsh(x.T @ x / len(x)).clamp(min=0)
    total = eigenvalues.sum()
    if float(total) == 0.0:
        raise UndefinedScore("a feature map is constant, so the entropy of its covariance does not exist")
    share = eigenvalues / total
    return float(-(share * torch.log(share + 1e-8)).sum())
