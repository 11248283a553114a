"""VKDNW, the entropy of the deciles of the Fisher spectrum: as the paper defines it, and as its published code computes it."""

from __future__ import annotations

import random
from dataclasses import dataclass
from functools import partial
from math import inf
from typing import Literal

import torch
from torch import Tensor

from vkdnw_pl.errors import check_choice, check_number, check_whole
from vkdnw_pl.proxies.base import Proxy, ProxyInfo, UndefinedScore
from vkdnw_pl.proxies.borrow import Borrowed
from vkdnw_pl.proxies.functional.batchnorm import BatchNorm, check_batch_norm
from vkdnw_pl.proxies.functional.fisher import (
    DECILES,
    eigenvalues_of_root,
    entropy,
    fisher_root,
    lower_root,
    quantiles,
    sketch_cotangents,
    smoothed_probabilities,
)
from vkdnw_pl.proxies.functional.jacobian import DEFAULT_MEMORY_BYTES, ENGINES, Engine, jacobian
from vkdnw_pl.proxies.functional.scalars import Scalar, layer_weights, spread_entries
from vkdnw_pl.proxies.graph import gradient_leaves

_SMALL = 1e-10
_OVERFLOW = "the Fisher matrix is not finite: logits or their derivatives overflow"


@dataclass(eq=False)
class VKDNW(Proxy):
    """Variance of Knowledge for Deep Network Weights, as the paper defines it.

    ``F = 1/B Σ J_bᵀ (diag p_b - p_b p_bᵀ) J_b`` with J the Jacobian of the logits with respect to one weight of every
    convolution and linear layer, p the (smoothed) class probabilities; the score is the entropy of the deciles 1..9 of
    the eigenvalues of F, at most ln 9 = 2.197. Higher is better.

    Args:
        alpha: label smoothing of p in [0, 1); 0 is the paper's formula.
        weights_per_layer: entries of every layer's weight, evenly spread, the first entry being one of them.
        place: which entry stands for a layer where it is one: its place in the flattened weight, from 0 (the first) to 1
            (the last), or ``random``.
        scalars: ``weights`` (convolutions and linear layers) or ``all`` (every parameter tensor: normalisation and
            biases too).
        batchnorm: ``sample``, ``running`` or ``batch``.
        sketch: None for all C classes; or so many random combinations of them for each sample, an unbiased estimate of F
            in about 1 + ``sketch`` forward passes instead of C, exact from C - 1 on.
        engine: ``auto``, ``reverse``, ``forward`` or ``generic``; changes the cost, not the score.
        max_memory_mb: bound of the tensors alive in a pass, in MiB; changes the cost, not the score.
    """

    info = ProxyInfo(
        name="vkdnw", title="VKDNW", input="images", batchnorm="sample", source="Tybl & Neumann, CVPR 2025, eq. 9-11"
    )

    alpha: float = 0.05
    weights_per_layer: int = 1
    place: float | Literal["random"] = 0.0
    scalars: Literal["weights", "all"] = "weights"
    batchnorm: BatchNorm = "sample"
    sketch: int | None = None
    engine: Engine = "auto"
    max_memory_mb: int = DEFAULT_MEMORY_BYTES // 2**20

    def __post_init__(self) -> None:
        check_number("vkdnw.alpha", self.alpha, 0, 1, open_high=True)
        check_whole("vkdnw.weights_per_layer", self.weights_per_layer, 1)
        if self.place != "random":
            check_number("vkdnw.place", self.place, 0, 1)
        if self.place != 0 and self.weights_per_layer != 1:
            several = f"weights_per_layer={self.weights_per_layer}: several are spread evenly"
            raise ValueError(f"vkdnw.place={self.place!r} has no meaning with {several}")
        check_choice("vkdnw.scalars", self.scalars, ("weights", "all"))
        check_batch_norm(self.batchnorm)
        if self.sketch is not None:
            check_whole("vkdnw.sketch", self.sketch, 1)
        check_choice("vkdnw.engine", self.engine, ENGINES)
        check_number("vkdnw.max_memory_mb", self.max_memory_mb, 0, inf, open_low=True, open_high=True)

    @property
    def columns(self) -> tuple[str, ...]:
        return ("vkdnw", *(f"vkdnw_decile_{k}" for k in range(1, 10)))

    def compute(self, borrowed: Borrowed) -> dict[str, float]:
        network = borrowed.network
        tensors = layer_weights(network) if self.scalars == "weights" else gradient_leaves(network)
        generator = borrowed.generator("vkdnw place")
        scalars = [Scalar(name, index) for name, p in tensors.items() for index in self._entries(p.numel(), generator)]
        if not scalars:
            raise UndefinedScore("the network has no layer with weights")
        memory = int(self.max_memory_mb * 2**20)
        compute = partial(jacobian, network, borrowed.inputs, scalars, self.batchnorm, self.engine, memory)
        if self.sketch is None:
            result = compute(up_to_shift=True)
            root = fisher_root(result.jac_BCP, smoothed_probabilities(result.logits_BC, self.alpha))
        else:
            jac_BKP = compute(cotangents=partial(self._cotangents, borrowed), num_cotangents=self.sketch).jac_BCP
            root = jac_BKP.double().flatten(0, 1) / len(jac_BKP) ** 0.5
        if not torch.isfinite(root).all():
            raise FloatingPointError(_OVERFLOW)
        deciles = quantiles(eigenvalues_of_root(root))
        if not deciles.any():
            raise UndefinedScore("the deciles of the Fisher spectrum are all zero")
        values = [float(entropy(deciles)), *deciles.tolist()]
        return dict(zip(self.columns, values, strict=True))

    def _cotangents(self, borrowed: Borrowed, first: int, logits: Tensor) -> Tensor:
        """Those (b, K, C) of the samples from ``first`` on, drawn for the whole batch whatever part is wanted."""
        assert self.sketch is not None
        p_BC = smoothed_probabilities(logits, self.alpha)
        count = min(self.sketch, p_BC.shape[1] - 1)
        shape = (len(borrowed.inputs), p_BC.shape[1], count)
        draws = torch.randn(shape, generator=borrowed.generator("vkdnw sketch"), dtype=torch.float64)
        return sketch_cotangents(p_BC, draws[first : first + len(p_BC)].to(p_BC.device))

    def _entries(self, numel: int, generator: torch.Generator) -> list[int]:
        """Flat positions in one tensor."""
        if self.place == "random":
            return [int(torch.randint(numel, (), generator=generator))]
        if self.place:
            return [int(self.place * (numel - 1))]
        return list(spread_entries(numel, self.weights_per_layer))


@dataclass(eq=False)
class VKDNWOfficial(Proxy):
    """The reference code's behaviour; the defaults are those of its NAS-Bench-201 runs.

    Differences from ``vkdnw``: the first 128 parameter tensors (normalisation and biases among them) instead of one
    weight per layer; batch norm by its running statistics; label smoothing held in half precision, so that the
    probabilities do not quite sum to one; ``A = L J`` instead of ``Lᵀ J`` with the lower-triangular root L, so that
    ``AᵀA`` is not the Fisher matrix and depends on the order of the classes; float32; 1e-10 added inside the
    normalisation and the logarithm. Higher is better.

    Columns: the entropy, the number of parameter tensors of the network (``dim``), the quantiles.

    Args:
        num_tensors: how many parameter tensors enter; all where the network has fewer.
        tensors: ``first``, ``last``, or ``random`` (drawn by ``random.Random(T)``, T the number of tensors).
        weights_per_tensor: entries of every tensor, evenly spread, the first entry being one of them.
        alpha: label smoothing.
        alpha_precision: ``float16`` or ``float64``.
        root: ``lower`` (L J) or ``exact`` (Lᵀ J).
        quantiles: ``interior`` (deciles 1..9) or ``all`` (0..10, the reference's MobileNetV2 variant).
        batchnorm: ``running`` as in the reference, or ``sample`` or ``batch``.
        precision: ``float32`` or ``float64`` for everything after the Jacobian.
        max_memory_mb: bound of the tensors alive in a pass, in MiB; changes the cost, not the score.
    """

    info = ProxyInfo(
        name="vkdnw_official",
        title="VKDNW (reference code)",
        input="images",
        batchnorm="running",
        source="github.com/ondratybl/VKDNW, NB201/ZeroShotProxy/compute_vkdnw_score.py",
    )

    num_tensors: int = 128
    tensors: Literal["first", "last", "random"] = "first"
    weights_per_tensor: int = 1
    alpha: float = 0.05
    alpha_precision: Literal["float16", "float64"] = "float16"
    root: Literal["lower", "exact"] = "lower"
    quantiles: Literal["interior", "all"] = "interior"
    batchnorm: BatchNorm = "running"
    precision: Literal["float32", "float64"] = "float32"
    max_memory_mb: int = DEFAULT_MEMORY_BYTES // 2**20

    def __post_init__(self) -> None:
        check_choice("vkdnw_official.tensors", self.tensors, ("first", "last", "random"))
        check_choice("vkdnw_official.alpha_precision", self.alpha_precision, ("float16", "float64"))
        check_choice("vkdnw_official.root", self.root, ("lower", "exact"))
        check_choice("vkdnw_official.quantiles", self.quantiles, ("interior", "all"))
        check_choice("vkdnw_official.precision", self.precision, ("float32", "float64"))
        check_number("vkdnw_official.alpha", self.alpha, 0, 1, open_high=True)
        check_whole("vkdnw_official.num_tensors", self.num_tensors, 1)
        check_whole("vkdnw_official.weights_per_tensor", self.weights_per_tensor, 1)
        check_number("vkdnw_official.max_memory_mb", self.max_memory_mb, 0, inf, open_low=True, open_high=True)
        check_batch_norm(self.batchnorm)

    @property
    def columns(self) -> tuple[str, ...]:
        return (self.name, f"{self.name}_dim", *(f"{self.name}_decile_{round(10 * at)}" for at in self._quantiles_at()))

    def _quantiles_at(self) -> tuple[float, ...]:
        return DECILES if self.quantiles == "interior" else (0.0, *DECILES, 1.0)

    def _choose(self, names: list[str]) -> list[str]:
        if len(names) <= self.num_tensors:
            return names
        if self.tensors == "random":
            return random.Random(len(names)).sample(names, self.num_tensors)
        return names[: self.num_tensors] if self.tensors == "first" else names[-self.num_tensors :]

    def compute(self, borrowed: Borrowed) -> dict[str, float]:
        parameters = gradient_leaves(borrowed.network)
        if not parameters:
            raise UndefinedScore("the network has no parameters")
        scalars = [
            Scalar(name, index)
            for name in self._choose(list(parameters))
            for index in spread_entries(parameters[name].numel(), self.weights_per_tensor)
        ]
        memory = int(self.max_memory_mb * 2**20)
        result = jacobian(borrowed.network, borrowed.inputs, scalars, self.batchnorm, max_memory_bytes=memory)
        if result.logits_BC.shape[1] == 1:  # what is left is rounding
            raise UndefinedScore("the deciles of the Fisher spectrum are all zero")
        dtype = getattr(torch, self.precision)
        fisher = official_fisher(result.jac_BCP, result.logits_BC, self.alpha, self.alpha_precision, self.root, dtype)
        if not torch.isfinite(fisher).all():
            raise FloatingPointError(_OVERFLOW)
        at = quantiles(torch.linalg.svdvals(fisher), self._quantiles_at())
        share = at / (at.abs().sum() + _SMALL)
        score = -(share * torch.log(share + _SMALL)).sum()
        return dict(zip(self.columns, [float(score), float(len(parameters)), *at.tolist()], strict=True))


def official_fisher(
    jac_BCP: Tensor, logits_BC: Tensor, alpha: float, alpha_precision: str, root: str, dtype: torch.dtype
) -> Tensor:
    """The reference's matrix (P, P): mean over samples of AᵀA with ``A = L J`` or, ``root='exact'``, ``Lᵀ J``."""
    held = torch.tensor(alpha, dtype=getattr(torch, alpha_precision))
    keep, spread = (1 - held).to(dtype), (held / logits_BC.shape[1]).to(dtype)
    lower = lower_root(torch.softmax(logits_BC.to(dtype), -1) * keep + spread)
    product = (lower if root == "lower" else lower.mT) @ jac_BCP.to(dtype)
    return torch.einsum("bcp,bcq->pq", product, product) / len(product)
