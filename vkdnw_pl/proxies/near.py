"""NEAR (Husistein, Reiher & Eckhoff, 2024)."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from vkdnw_pl.proxies.base import GraphProxy, ProxyInfo, UndefinedScore
from vkdnw_pl.proxies.borrow import Borrowed
from vkdnw_pl.proxies.graph import visit_outputs

ACTIVATIONS = tuple(getattr(nn, name) for name in nn.modules.activation.__all__)


class Near(GraphProxy):
    """Sum over the layers and activations of the effective rank ``exp(-Σ p log p)`` of their output matrix.

    ``p = σ / Σ σ`` are the normalised singular values (float64) of a matrix Z of activations, not centred; a matrix of
    zeros has rank 0. Counted is the first call of every module that has a ``weight`` (convolutions, linear layers,
    normalisation, embeddings) and of every activation module of ``torch.nn``; activations that are called as functions
    are not seen. Higher is better.

    Rows of Z are positions: those of a map (B, C, H, W) in the order of (B, W, H), those of tokens (B, ..., N, C) in the
    order of (B, ..., N), images of vectors (B, C). Z are C consecutive ones of them, from a random one on, in maps from
    the top of a column on. Where the batch has fewer than C (vectors of more than B channels, maps of fewer than C
    pixels in all) it is all of them, which bounds the rank: compare networks for one size of batch and image only. The
    published code reads further batches there. It also never takes the last admissible start, may take a block that is
    cut off at the end of the rows, and fails for tokens.
    """

    info = ProxyInfo(
        name="near",
        title="NEAR",
        input="data",
        batchnorm="batch",
        source="Husistein et al., ICLR 2025; github.com/ReiherGroup/NEAR, near_score.py",
        init="pytorch",
    )

    def compute(self, borrowed: Borrowed) -> dict[str, float]:
        generator = borrowed.generator("near")
        ranks: dict[nn.Module, float] = {}

        def visit(module: nn.Module, _given: object, out: Tensor) -> None:
            counted = hasattr(module, "weight") or isinstance(module, ACTIVATIONS)
            if counted and module not in ranks and out.dim() > 1 and out.numel():
                ranks[module] = effective_rank(block(*activation_rows(out), generator))

        visit_outputs(borrowed.network, borrowed.inputs, self.batchnorm, visit)
        if not ranks:
            raise UndefinedScore("the network has no layer with a weight and no activation module")
        return {"near": math.fsum(ranks.values())}


def activation_rows(out: Tensor) -> tuple[Tensor, int]:
    """Activations (rows, C) of a map (B, C, ...), tokens (B, N, C) or vectors (B, C), and the rows that belong together."""
    if out.dim() > 3:
        return out.transpose(1, -1).flatten(0, -2), out.shape[2]
    return out.flatten(0, -2), 1


def block(rows_NC: Tensor, step: int, generator: torch.Generator) -> Tensor:
    """C consecutive rows from a random multiple of ``step`` on; all where there are no more."""
    count, channels = rows_NC.shape
    if count <= channels:
        return rows_NC
    start = step * int(torch.randint((count - channels) // step + 1, (), generator=generator))
    return rows_NC[start : start + channels]


def effective_rank(matrix: Tensor) -> float:
    """``exp`` of the entropy of the normalised singular values, from 0 (all zeros) to the smaller side of the matrix."""
    sigma = torch.linalg.svdvals(matrix.double())
    scale = float(sigma.sum())
    if scale == 0.0:
        return 0.0
    return math.exp(float(torch.special.entr(sigma / scale).sum()))
