"""Dextr (Asthana et al., 2025)."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call, jvp
from torch.nn.attention import SDPBackend, sdpa_kernel

from vkdnw_pl.errors import check_choice, check_whole
from vkdnw_pl.proxies.base import GraphProxy, ProxyInfo, UndefinedScore
from vkdnw_pl.proxies.borrow import Borrowed
from vkdnw_pl.proxies.functional.batchnorm import BatchNorm, BatchNormMode, affine, sample_norm_composite
from vkdnw_pl.proxies.functional.passes import unchanged
from vkdnw_pl.proxies.functional.trace import check_logits
from vkdnw_pl.proxies.graph import visit_outputs


class Dextr(GraphProxy):
    """``a b / (a + b)`` of ``a = log(1 + S)`` and ``b = log(1 + κ)``. Higher is better.

    ``S`` is the sum over module calls of ``σ_min / σ_max`` of one image's output as a matrix (C, H W), or (N, C) of
    tokens, in float64; 0 where the output is. With more than one image it is the mean of theirs.

    ``κ`` is the curvature, in the space of the logits, of the image of a circle: ``x(θ) = u cos θ + w sin θ`` with
    orthonormal random u, w of the form of an input, at ``θ = 0``. With f' and f'' the derivatives of the logits by θ it is
    ``|f'' - its part along f'| / |f'|²``, in float64. Without batch norm, or with ``running``, a ReLU network is linear
    around u, so that f' = J w and f'' = -J u: κ then says how small the Jacobian J is, and nothing of curvature.

    No score where the logits do not move along the circle, no module returns a matrix, or neither term is above 0. (The
    published codes return a alone, of another scale, or 12345.)

    Columns: ``dextr``, and its two terms a and b as ``dextr_condition`` and ``dextr_curvature``.

    Args:
        modules: ``leaves`` are the modules without modules in them. Left out are those that return what they are given
            (identity, dropout) and outputs of one row or column, of ratio 1 by construction. ``all`` counts all these,
            and containers, so that one map may enter several times (published code).
        outputs: None for the curve of all logits; or so many of them, drawn with replacement (published code: 10).
    """

    info = ProxyInfo(
        name="dextr",
        title="Dextr",
        input="data",
        batchnorm="sample",
        samples=1,
        source="Asthana et al., TMLR 2025; github.com/rohanasthana/Dextr, NAS_Bench_201.py",
        init="pytorch",
    )

    def __init__(
        self,
        modules: Literal["leaves", "all"] = "leaves",
        outputs: int | None = None,
        batchnorm: BatchNorm = "sample",
    ) -> None:
        super().__init__(batchnorm)
        check_choice("dextr.modules", modules, ("leaves", "all"))
        if outputs is not None:
            check_whole("dextr.outputs", outputs, 1)
        self.modules = modules
        self.outputs = outputs

    @property
    def columns(self) -> tuple[str, ...]:
        return ("dextr", "dextr_condition", "dextr_curvature")

    def compute(self, borrowed: Borrowed) -> dict[str, float]:
        if not borrowed.inputs.is_floating_point():
            raise UndefinedScore("there is no circle of inputs that are whole numbers")
        ratios: list[float] = []

        def visit(module: nn.Module, given: object, out: Tensor) -> None:
            if out.dim() > 1 and out.numel():
                maps = out.flatten(2) if out.dim() > 2 else out.unsqueeze(2)
                if self.modules == "all" or (_is_leaf(module) and min(maps.shape[1:]) > 1 and not _is_same(given, out)):
                    ratios.append(condition(maps))

        visit_outputs(borrowed.network, borrowed.inputs, self.batchnorm, visit)
        if not ratios:
            raise UndefinedScore("no module returns a map (channels, height, width) or tokens of more than one channel")
        first, second = derivatives(borrowed.network, *self._circle(borrowed), self.batchnorm)
        if self.outputs is not None:
            drawn = torch.randint(len(first), (self.outputs,), generator=borrowed.generator("dextr outputs"))
            first, second = first[drawn.to(first.device)], second[drawn.to(first.device)]
        a, b = math.log1p(math.fsum(ratios)), math.log1p(curvature(first, second))
        if a + b == 0.0:
            raise UndefinedScore("neither the outputs' condition nor the curvature is above 0")
        return {"dextr": a * b / (a + b), "dextr_condition": a, "dextr_curvature": b}

    def _circle(self, borrowed: Borrowed) -> tuple[Tensor, Tensor]:
        """Two orthonormal inputs (1, ...) in float64."""
        like = borrowed.inputs[:1]
        draw = torch.randn(like.numel(), 2, generator=borrowed.generator("dextr circle"), dtype=torch.float64)
        basis = torch.linalg.svd(draw, full_matrices=False).U.to(like.device)
        return basis[:, 0].reshape(like.shape), basis[:, 1].reshape(like.shape)


def _is_leaf(module: nn.Module) -> bool:
    return next(module.children(), None) is None


def _is_same(given: object, out: Tensor) -> bool:
    """Whether a module returned what it was given, as the identity and dropout do."""
    return isinstance(given, Tensor) and given.shape == out.shape and given.data_ptr() == out.data_ptr()


def condition(maps_BCP: Tensor) -> float:
    """Mean over the images of σ_min / σ_max; 0 for a map of zeros."""
    sigma = torch.linalg.svdvals(maps_BCP.double())
    largest = sigma[:, 0]
    return float(torch.where(largest > 0, sigma[:, -1] / largest.clamp(min=torch.finfo(sigma.dtype).tiny), 0.0).mean())


def derivatives(network: nn.Module, u: Tensor, w: Tensor, batchnorm: BatchNorm) -> tuple[Tensor, Tensor]:
    """First and second derivative (C,) of the logits along ``u cos θ + w sin θ`` (1, ...) at θ = 0, in float64."""
    tensors = {
        name: tensor.detach().to(torch.float64 if tensor.is_floating_point() else tensor.dtype)
        for name, tensor in (*network.named_parameters(), *network.named_buffers())
    }

    def logits(theta: Tensor) -> Tensor:
        out = functional_call(network, tensors, (u * torch.cos(theta) + w * torch.sin(theta),))
        return check_logits(out, 1)[0]

    def velocity(theta: Tensor) -> Tensor:
        derivative: Tensor = jvp(logits, (theta,), (torch.ones_like(theta),))[1]
        return derivative

    zero = u.new_zeros(())
    with unchanged(network), sdpa_kernel(SDPBackend.MATH), _Elementary(batchnorm):
        try:
            with torch.no_grad():
                both = jvp(velocity, (zero,), (torch.ones_like(zero),))
                first, second = both[0], both[1]
        except RuntimeError:  # a function has no such derivative: each logit by two backward passes
            with torch.enable_grad():
                first, second = _by_logit(logits, zero.requires_grad_())
    return first, second


def _by_logit(logits: Callable[[Tensor], Tensor], theta: Tensor) -> tuple[Tensor, Tensor]:
    first, second = [], []
    for logit in logits(theta):
        v = _slope(logit, theta)
        first.append(v.detach())
        second.append(_slope(v, theta).detach())
    return torch.stack(first), torch.stack(second)


def _slope(value: Tensor, theta: Tensor) -> Tensor:
    if not value.requires_grad:
        return torch.zeros_like(theta)
    (slope,) = torch.autograd.grad(value, theta, create_graph=True, materialize_grads=True)
    return slope


class _Elementary(BatchNormMode):
    """Elementary operations in the place of what has no second derivative, or a wrong one.

    PyTorch's in forward mode take the statistics of layer norm, and of batch norm by the batch, for constants.
    """

    def __init__(self, behaviour: BatchNorm) -> None:
        super().__init__(behaviour, composite=True)

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func in (F.layer_norm, torch.layer_norm):
            return _layer_norm(*args, **(kwargs or {}))
        if func is F.instance_norm:
            return _instance_norm(*args, **(kwargs or {}))
        if func is F.hardsigmoid:
            return F.relu6(args[0] + 3) / 6
        return super().__torch_function__(func, types, args, kwargs)

    def _batch_norm(self, input: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        if self.behaviour != "batch":
            return super()._batch_norm(input, *args, **kwargs)
        names = ("running_mean", "running_var", "weight", "bias", "training", "momentum", "eps")
        given = {**dict(zip(names, args, strict=False)), **kwargs}
        out = _standardised(input, (0, *range(2, input.dim())), given.get("eps", 1e-5))
        return affine(out, given.get("weight"), given.get("bias"))


def _layer_norm(
    input: Tensor,
    normalized_shape: Sequence[int],
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
    *_: Any,
) -> Tensor:
    out = _standardised(input, tuple(range(-len(normalized_shape), 0)), eps)
    out = out if weight is None else out * weight
    return out if bias is None else out + bias


def _instance_norm(
    input: Tensor,
    running_mean: Tensor | None = None,
    running_var: Tensor | None = None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    use_input_stats: bool = True,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    if not use_input_stats:
        return F.instance_norm(input, running_mean, running_var, weight, bias, False, momentum, eps)
    return sample_norm_composite(input, weight, bias, eps)


def _standardised(x: Tensor, dims: tuple[int, ...], eps: float) -> Tensor:
    centred = x - x.mean(dims, keepdim=True)
    return centred * torch.rsqrt(centred.square().mean(dims, keepdim=True) + eps)


def curvature(first: Tensor, second: Tensor) -> float:
    """Curvature of a curve with these derivatives (C,) by its parameter."""
    speed = float(first.square().sum())
    if not math.isfinite(speed) or not bool(torch.isfinite(second).all()):
        raise UndefinedScore("the derivatives of the logits along the circle are not finite")
    if speed == 0.0:
        raise UndefinedScore("the logits do not move along the circle")
    across = second - first * (first @ second) / speed
    return float(across.norm()) / speed
