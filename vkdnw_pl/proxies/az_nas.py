"""The proxies of AZ-NAS (Lee & Ham, CVPR 2024) that read feature maps."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import get_args

import torch
import torch.nn.functional as F
from torch import Tensor

from vkdnw_pl.errors import check_choice
from vkdnw_pl.networks.features import Taps
from vkdnw_pl.proxies.base import GraphProxy, ProxyInfo, UndefinedScore
from vkdnw_pl.proxies.borrow import Borrowed
from vkdnw_pl.proxies.functional.batchnorm import BatchNorm
from vkdnw_pl.proxies.functional.fisher import by_position


class FeatureProxy(GraphProxy):
    """A proxy that reads feature maps, of a transformer the tokens behind each residual sub-block.

    Args:
        batchnorm: see `GraphProxy`.
        taps: which maps: the network's ``own``, or of every network the ends of its ``stages``
            (`networks.features.feature_taps`).
    """

    def __init__(self, batchnorm: BatchNorm = "batch", taps: Taps = "own") -> None:
        super().__init__(batchnorm)
        check_choice(f"{self.info.name}.taps", taps, get_args(Taps))
        self.taps = taps


class Expressivity(FeatureProxy):
    """Sum over the feature maps of the entropy of their channel covariance's spectrum. Higher is better.

    No score where a feature map is constant (the official code: NaN, then -inf).
    """

    info = ProxyInfo(
        name="expressivity",
        title="Expressivity",
        input="images",
        needs_images=True,
        batchnorm="batch",
        source="Lee & Ham, CVPR 2024 (AZ-NAS), section 3.1",
    )

    def compute(self, borrowed: Borrowed) -> dict[str, float]:
        return {"expressivity": math.fsum(borrowed.feature_entropies(self.batchnorm, self.taps))}


class Progressivity(FeatureProxy):
    """Smallest increase of the feature entropy from one stage to the next. Higher is better.

    No score where a feature map is constant (the official code: NaN, then -inf).
    """

    info = ProxyInfo(
        name="progressivity",
        title="Progressivity",
        input="images",
        needs_images=True,
        batchnorm="batch",
        source="Lee & Ham, CVPR 2024 (AZ-NAS), section 3.2",
    )

    def compute(self, borrowed: Borrowed) -> dict[str, float]:
        entropies = borrowed.feature_entropies(self.batchnorm, self.taps)
        check_pairs(entropies)
        return {"progressivity": min(after - before for before, after in pairwise(entropies))}


class Trainability(FeatureProxy):
    """Mean over the blocks of ``2 - σ - 1 / (σ + 1e-6)``, at most 0 (σ = 1: gradients neither vanish nor explode).

    σ is the spectral norm of the estimated Jacobian of the block: random signs g are sent back through it, and
    ``g_inᵀ g / (B H W)`` is the estimate. Higher is better. No score where a block is the identity (the official
    code: -inf). On tokens (B, N, d) the estimate is ``g_inᵀ g / (B N)``, and what is the identity, or has a pooling
    before it, is left out, as in the code for AutoFormer.
    """

    info = ProxyInfo(
        name="trainability",
        title="Trainability",
        input="images",
        needs_images=True,
        batchnorm="batch",
        source="Lee & Ham, CVPR 2024 (AZ-NAS), section 3.3",
    )

    def compute(self, borrowed: Borrowed) -> dict[str, float]:
        taps = borrowed.taps(self.batchnorm, self.taps)
        check_pairs(taps)
        generator = borrowed.generator("trainability")
        values = []
        # Deep to shallow, the order in which the official code draws its signs.
        for before, after in reversed(list(pairwise(taps))):
            if after.dim() == 3 and before.shape != after.shape:
                continue  # pooled between them: a position of the one is none of the other
            draw = torch.randint(0, 2, after.shape, generator=generator, dtype=torch.float32)
            # In the memory order of the map: passes back from another one take twice the time.
            signs = torch.empty_like(after, requires_grad=False).copy_(draw.mul_(2).sub_(1))
            try:
                values.append(block_trainability(before, after, signs))
            except Identity:
                if after.dim() != 3:
                    raise
        if not values:
            raise UndefinedScore("no sub-block of the transformer has a Jacobian that can be estimated")
        return {"trainability": sum(values) / len(values)}


def check_pairs(maps: Sequence[object]) -> None:
    """UndefinedScore where there is no pair of maps, one behind the other."""
    if len(maps) < 2:
        raise UndefinedScore("the network has one feature map, and the definition compares two")


class Identity(UndefinedScore):
    """A block is the identity."""


def block_trainability(before: Tensor, after: Tensor, signs: Tensor) -> float:
    """``2 - σ - 1 / (σ + 1e-6)`` of the block that maps ``before`` (B, C, H, W) to ``after``, with cotangent ``signs``.

    Tokens (B, N, d) are positions with d channels. `Identity` where the block is that; ValueError where it does not divide
    height and width by the same whole number.
    """
    pulled = torch.zeros_like(before)
    if after.requires_grad:
        (grad,) = torch.autograd.grad(after, before, signs, retain_graph=True, allow_unused=True)
        pulled = pulled if grad is None else grad
    if pulled.shape == signs.shape and torch.equal(pulled, signs):
        raise Identity("a block is the identity")
    stride = 1 if after.dim() == 3 else before.shape[-1] // after.shape[-1]
    if after.dim() == 4 and before.shape[-2:] != (after.shape[-2] * stride, after.shape[-1] * stride):
        raise ValueError(
            f"a block maps height and width {tuple(before.shape[-2:])} to {tuple(after.shape[-2:])}; trainability needs "
            "blocks that divide both by the same whole number (choose another input size)"
        )
    if stride > 1:
        pulled = F.pixel_unshuffle(pulled, stride)
    signs_PC = by_position(signs).double()
    matrix = by_position(pulled).double().T @ signs_PC / len(signs_PC)
    sigma = float(torch.linalg.matrix_norm(matrix, 2))
    return 2.0 - sigma - 1.0 / (sigma + 1e-6)
