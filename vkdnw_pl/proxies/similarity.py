"""How alike a network sees different images: NASWOT and Jacov (Mellor et al.), EPE-NAS (Lopes et al.)."""

from __future__ import annotations

import torch
from torch import Tensor

from vkdnw_pl.proxies.base import GraphProxy, ProxyInfo, UndefinedScore
from vkdnw_pl.proxies.borrow import Borrowed
from vkdnw_pl.proxies.functional.samples import agreements, correlations


class Naswot(GraphProxy):
    """``log |det K|`` where K_ij counts the ReLU units that are on for both of the images i and j, or off for both.

    Higher is better. On 64 real images, as published. No score where K is singular, as it is where two images switch the
    same units on or there are fewer units than images less one (official: -inf, or what round-off makes of it).
    """

    info = ProxyInfo(
        name="naswot",
        title="NASWOT",
        input="data",
        batchnorm="batch",
        samples=64,
        source="Mellor et al., ICML 2021",
    )

    def compute(self, borrowed: Borrowed) -> dict[str, float]:
        kernel, _ = borrowed.derived(self.batchnorm, "agreement", lambda graph: agreements(graph.relus))
        # The elimination behind a determinant seldom ends in an exact zero, so the rank is what tells.
        if int(torch.linalg.matrix_rank(kernel, hermitian=True)) < len(kernel):
            raise UndefinedScore("the kernel of the activation patterns is singular")
        return {"naswot": float(torch.linalg.slogdet(kernel).logabsdet)}


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
        least_samples=2,
        source="Mellor et al. 2020 (v1); github.com/ondratybl/VKDNW, compute_jacov_score.py",
    )

    def compute(self, borrowed: Borrowed) -> dict[str, float]:
        return {"jacov": jacov(borrowed.input_gradient(self.batchnorm).flatten(1))}


def jacov(grad_BD: Tensor, k: float = 1e-5) -> float:
    """Score of the input gradients (B, D)."""
    eigenvalues = torch.linalg.eigvalsh(correlations(grad_BD))
    return float(-(torch.log(eigenvalues + k) + 1.0 / (eigenvalues + k)).sum())


class EpeNas(GraphProxy):
    """Correlation of the input Jacobians of images of one class.

    With ``R_c`` the matrix of correlations of the rows ∂(Σ logits)/∂x of the images of class c and
    ``s_c = Σ log(|R_c| + 1e-5)``: ``Σ_c |s_c|`` for up to 100 logits, where a class of one image has
    ``s_c = log(1 + 1e-5)``. For more logits s_c is divided by the number of its images, classes of one image are left
    out, and the score is the mean over c of ``Σ_d |s_c - s_d|``; none where no class is left (official: 0).
    Higher is better.
    """

    info = ProxyInfo(
        name="epe_nas",
        title="EPE-NAS",
        needs_labels=True,
        input="data",
        batchnorm="batch",
        least_samples=2,
        source="Lopes et al., ICANN 2021; NASLib, epe_nas.py",
        init="pytorch",
    )

    def compute(self, borrowed: Borrowed) -> dict[str, float]:
        grad = borrowed.input_gradient(self.batchnorm)
        num_logits = borrowed.graph(self.batchnorm).logits.shape[1]
        return {"epe_nas": epe_nas(grad.flatten(1), borrowed.labels, num_logits)}


def epe_nas(grad_BD: Tensor, labels_B: Tensor, num_logits: int, k: float = 1e-5) -> float:
    """Score of the input gradients (B, D) of images with classes (B,)."""
    many = num_logits > 100
    sums = []
    for label in labels_B.unique():
        rows = grad_BD[labels_B == label]
        if many and len(rows) == 1:
            continue
        logs = torch.log(correlations(rows).abs() + k).sum()
        sums.append(logs / len(rows) if many else logs)
    if not sums:
        raise UndefinedScore("no two images are of one class, and with more than 100 logits such classes do not count")
    per_class = torch.stack(sums)
    if not many:
        return float(per_class.abs().sum())
    return float((per_class[:, None] - per_class[None, :]).abs().sum() / len(per_class))
