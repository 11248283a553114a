"""VKDNW: entropy of the deciles of the Fisher spectrum."""

from __future__ import annotations

from math import inf
from typing import Literal

import torch

from vkdnw_pl.errors import check_choice, check_number, check_whole
from vkdnw_pl.proxies.base import Proxy, ProxyInfo, UndefinedScore
from vkdnw_pl.proxies.borrow import Borrowed
from vkdnw_pl.proxies.functional.batchnorm import BatchNorm, check_batch_norm
from vkdnw_pl.proxies.functional.fisher import fisher_root, smoothed_probabilities
from vkdnw_pl.proxies.functional.jacobian import DEFAULT_MEMORY_BYTES, ENGINES, Engine, jacobian
from vkdnw_pl.proxies.functional.scalars import Scalar, layer_weights, spread_entries
from vkdnw_pl.proxies.functional.spectrum import eigenvalues_of_root, entropy, quantiles


class VKDNW(Proxy):
    """Variance of Knowledge for Deep Network Weights, as the paper defines it.

    ``F = 1/B Σ J_bᵀ (diag p_b - p_b p_bᵀ) J_b`` with J the Jacobian of the logits with respect to one weight of every
    convolution and linear layer, p the (smoothed) class probabilities; the score is the entropy of the deciles 1..9 of
    the eigenvalues of F, at most ln 9 = 2.197. Higher is better.

    Where it differs from the official code: see ``vkdnw_official``.

    Args:
        alpha: label smoothing of p in [0, 1); 0 is the paper's formula.
        weights_per_layer: entries of every layer's weight, evenly spread, the first entry being one of them.
        place: which entry stands for a layer where it is one: its relative place in the flattened weight, from 0 (the
            first) to 1 (the last), or ``random``.
        scalars: ``weights`` (convolutions and linear layers) or ``all`` (every parameter tensor: normalisation and
            biases too).
        batchnorm: ``sample``, ``running`` or ``batch``.
        engine: ``auto``, ``reverse``, ``forward`` or ``generic``; changes the cost, not the score.
        max_memory_mb: bound of the tensors alive in a pass, in MiB; changes the cost, not the score.
    """

    info = ProxyInfo(
        name="vkdnw",
        title="VKDNW",
        input="images",
        batchnorm="sample",
        source="Tybl & Neumann, CVPR 2025, eq. 9-11",
    )

    def __init__(
        self,
        alpha: float = 0.05,
        weights_per_layer: int = 1,
        place: float | Literal["random"] = 0.0,
        scalars: Literal["weights", "all"] = "weights",
        batchnorm: BatchNorm = "sample",
        engine: Engine = "auto",
        max_memory_mb: int = DEFAULT_MEMORY_BYTES // 2**20,
    ) -> None:
        check_number("vkdnw.alpha", alpha, 0, 1, open_high=True)
        check_whole("vkdnw.weights_per_layer", weights_per_layer, 1)
        if place != "random":
            check_number("vkdnw.place", place, 0, 1)
        if place != 0 and weights_per_layer != 1:
            raise ValueError(
                f"vkdnw.place={place!r} has no meaning with weights_per_layer={weights_per_layer}: several are spread evenly"
            )
        check_choice("vkdnw.scalars", scalars, ("weights", "all"))
        check_choice("vkdnw.engine", engine, ENGINES)
        check_number("vkdnw.max_memory_mb", max_memory_mb, 0, inf, open_low=True, open_high=True)
        self.alpha = alpha
        self.weights_per_layer = weights_per_layer
        self.place = place
        self.scalars = scalars
        self.batchnorm = check_batch_norm(batchnorm)
        self.engine = engine
        self.max_memory_mb = max_memory_mb

    @property
    def columns(self) -> tuple[str, ...]:
        return ("vkdnw", *(f"vkdnw_decile_{k}" for k in range(1, 10)))

    def compute(self, borrowed: Borrowed) -> dict[str, float]:
        network = borrowed.network
        tensors = layer_weights(network) if self.scalars == "weights" else dict(network.named_parameters())
        generator = borrowed.generator("vkdnw place")
        scalars = [Scalar(name, index) for name, p in tensors.items() for index in self._entries(p.numel(), generator)]
        if not scalars:
            raise UndefinedScore("the network has no layer with weights")
        memory = int(self.max_memory_mb * 2**20)
        result = jacobian(network, borrowed.inputs, scalars, self.batchnorm, self.engine, memory, up_to_shift=True)
        root = fisher_root(result.jac_BCP, smoothed_probabilities(result.logits_BC, self.alpha))
        if not torch.isfinite(root).all():
            raise FloatingPointError("the Fisher matrix is not finite: logits or their derivatives overflow")
        deciles = quantiles(eigenvalues_of_root(root))
        if not deciles.any():
            raise UndefinedScore("the deciles of the Fisher spectrum are all zero")
        values = [float(entropy(deciles)), *deciles.tolist()]
        return dict(zip(self.columns, values, strict=True))

    def _entries(self, numel: int, generator: torch.Generator) -> list[int]:
        """Flat positions in one tensor."""
        if self.place == "random":
            return [int(torch.randint(numel, (), generator=generator))]
        if self.place:
            return [int(self.place * (numel - 1))]
        return list(spread_entries(numel, self.weights_per_layer))
