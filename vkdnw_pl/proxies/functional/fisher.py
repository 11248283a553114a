"""Fisher matrix of a softmax classifier from the Jacobian of its logits.

With p the class probabilities of one sample and J the Jacobian (C, P) of its logits, the sample's Fisher matrix is
``Jᵀ (diag p - p pᵀ) J`` (VKDNW, eq. 9). It is taken through an exact root, ``A = diag(√p) (J - 1 pᵀ J)``, for which
``AᵀA`` is that matrix because ``(I - 1 pᵀ)ᵀ diag(p) (I - 1 pᵀ) = diag(p) - p pᵀ`` where p sums to one.

Why not the matrix itself: with a saturated softmax its entries ``p_c (1 - p_c)`` are differences of nearly equal
numbers and vanish below the rounding unit, while ``√p_c`` keeps a class visible down to the square of it
(``tests/proxies/test_fisher.py`` shows both).
"""

from __future__ import annotations

import torch
from torch import Tensor


def smoothed_probabilities(logits: Tensor, alpha: float) -> Tensor:
    """``(1 - alpha) softmax + alpha / C`` of logits (..., C), in float64."""
    p = torch.softmax(logits.double(), dim=-1)
    return (1.0 - alpha) * p + alpha / logits.shape[-1]


def fisher_root(jac_BCP: Tensor, p_BC: Tensor) -> Tensor:
    """Exact root of the empirical Fisher matrix of a Jacobian (B, C, P) and class probabilities (B, C).

    It is a (B * C, P) float64 matrix A with ``AᵀA = 1/B Σ_b J_bᵀ (diag p_b - p_b p_bᵀ) J_b`` (VKDNW, eq. 10).
    """
    jac, p = jac_BCP.double(), p_BC.double().unsqueeze(-1)
    centred = jac - (p * jac).sum(1, keepdim=True)
    return (centred * p.sqrt()).flatten(0, 1) / len(jac) ** 0.5


def lower_root(p: Tensor) -> Tensor:
    """Analytic lower-triangular root L of ``diag(p) - p pᵀ`` (Tanabe & Sagae 1992), (..., C, C) for p (..., C).

    With q_j = 1 - p_1 - ... - p_j: ``L_jj = √(p_j q_j / q_{j-1})``, ``L_ij = -(p_i / q_j) L_jj``; the last column is
    zero.
    """
    q = 1.0 - p.cumsum(-1)
    q[..., -1] = 0.0
    before = torch.cat([torch.ones_like(q[..., :1]), q[..., :-1]], -1)
    diagonal = torch.sqrt(p * q / before)
    ratio = p.unsqueeze(-1) / q.unsqueeze(-2)  # p_i / q_j
    ratio[..., -1] = 0.0
    return torch.tril(-ratio * diagonal.unsqueeze(-2), -1) + torch.diag_embed(diagonal)
