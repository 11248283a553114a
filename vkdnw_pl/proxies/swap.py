"""SWAP: how many patterns over the images the units of a network show."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from vkdnw_pl.errors import check_choice, check_number, check_whole
from vkdnw_pl.proxies.base import GraphProxy, ProxyInfo, UndefinedScore
from vkdnw_pl.proxies.borrow import Borrowed
from vkdnw_pl.proxies.functional.batchnorm import BatchNorm

_TABLE = 20
"""Up to so many images every possible pattern has a place in a table; float32 adds up to 2^24 exactly."""
_BITS = 48
"""Images in one number, of more: float64 adds up to 2^53 exactly."""


class Swap(GraphProxy):
    """Number of different patterns of on and off over the images among the units of all ReLU outputs. Higher is better.

    With the ReLU outputs (B, ...) side by side as a matrix (B, N), it is the number of distinct columns, at most 2^B; the
    linear regions of TE-NAS are its distinct rows. The score is the mean over initialisations, every weight N(0, 1), on
    16 real images. With ``mu`` and ``sigma`` it is regularised: times ``exp(-(P - mu)² / sigma)``, P the parameters in
    thousands, which favours networks of that size. No score where there is no ReLU.

    Args:
        inits: initialisations; 32 in the official code. The mean of 4 orders networks nearly as that of 32 does. Kept
            weights are one.
        mu: μ, preferred number of parameters, in thousands; None for none.
        sigma: σ, how much other sizes matter, in thousands squared (neither squared nor doubled, as published).
        units: ``all`` ReLUs, or those of ``maps`` (B, C, H, W) alone, as in the official code.
    """

    info = ProxyInfo(
        name="swap",
        title="SWAP",
        input="data",
        batchnorm="batch",
        samples=16,
        least_samples=2,
        source="Peng et al., ICLR 2024; github.com/pym1024/SWAP, src/metrics/swap.py",
        init="gaussian",
    )

    def __init__(
        self,
        inits: int = 4,
        mu: float | None = None,
        sigma: float | None = None,
        units: Literal["all", "maps"] = "all",
        batchnorm: BatchNorm = "batch",
    ) -> None:
        super().__init__(batchnorm)
        check_whole("swap.inits", inits, 1)
        check_choice("swap.units", units, ("all", "maps"))
        if (mu is None) != (sigma is None):
            raise ValueError(f"swap: mu={mu!r} and sigma={sigma!r} are not allowed: give both, or none")
        if mu is not None and sigma is not None:
            check_number("swap.mu", mu, 0, math.inf, open_high=True)
            check_number("swap.sigma", sigma, 0, math.inf, open_low=True, open_high=True)
        self.inits = inits
        self.mu = mu
        self.sigma = sigma
        self.units = units

    def compute(self, borrowed: Borrowed) -> dict[str, float]:
        counts = []
        for draw in range(self.inits):
            relus = borrowed.redrawn(draw).graph(self.batchnorm).relus
            chosen = [out for out in relus if self.units == "all" or out.dim() == 4]
            if not chosen:
                of_maps = "" if self.units == "all" else " of feature maps"
                raise UndefinedScore(f"the network has no ReLU{of_maps}")
            counts.append(distinct_patterns(chosen))
        score = sum(counts) / len(counts)
        if self.mu is not None and self.sigma is not None:
            thousands = sum(parameter.numel() for parameter in borrowed.network.parameters()) / 1e3
            score *= math.exp(-((thousands - self.mu) ** 2) / self.sigma)
            if score == 0.0:
                raise UndefinedScore(f"{thousands:g} thousand parameters are too far from mu={self.mu:g}")
        return {"swap": score}


@torch.no_grad()
def distinct_patterns(relus: Sequence[Tensor]) -> int:
    """Number of different columns of on and off over the rows of ReLU outputs (B, ...), which are put side by side."""
    images, device = len(relus[0]), relus[0].device
    powers = 2.0 ** torch.arange(min(images, _BITS), dtype=torch.float64, device=device)
    if images <= _TABLE:
        shown = torch.zeros(2**images, dtype=torch.bool, device=device)
        for out in relus:
            shown[(powers.float() @ (out > 0).flatten(1).float()).long()] = True
        return int(shown.sum())
    seen: Tensor | None = None
    for out in relus:
        words = torch.stack([powers[: len(part)] @ part.double() for part in (out > 0).flatten(1).split(_BITS)])
        seen = (words if seen is None else torch.cat([seen, words], 1)).unique(dim=1)
    assert seen is not None
    return seen.shape[1]
