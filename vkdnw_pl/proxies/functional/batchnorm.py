"""How batch normalisation behaves at initialization, by modes that rewrite calls of ``torch.nn.functional.batch_norm``.

``sample``   every sample is normalised by its own spatial statistics (what batch norm without running statistics
             does on a batch of one). Inputs with one value per channel are treated as ``running``.
``running``  by the running statistics, which at initialization are 0 and 1, so nearly the identity.
``batch``    by the statistics of the batch, which couples the samples.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, cast, get_args

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.overrides import TorchFunctionMode, handle_torch_function, has_torch_function

from vkdnw_pl.errors import check_choice

BatchNorm = Literal["sample", "running", "batch"]
BATCH_NORMS: tuple[str, ...] = get_args(BatchNorm)


def check_batch_norm(value: str) -> BatchNorm:
    """Return ``value`` if it names a behaviour; else a ``ValueError`` names the allowed ones."""
    check_choice("batchnorm", value, BATCH_NORMS)
    return cast(BatchNorm, value)


class SampleNorm(torch.autograd.Function):
    """Instance normalisation in few passes over memory; unlike PyTorch's it does not copy channels-last tensors."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float) -> Tensor:  # type: ignore[override]
        dims = tuple(range(2, x.dim()))
        centred = x - x.mean(dims, keepdim=True)
        memory = centred.square()  # used again: memory that is new to the process is slower than arithmetic
        rstd = torch.rsqrt(memory.mean(dims, keepdim=True) + eps)
        scale = rstd if weight is None else rstd * _of_channels(weight, x)
        ctx.save_for_backward(centred, rstd, scale)
        if bias is None:
            return torch.mul(centred, scale, out=memory)
        return torch.addcmul(_of_channels(bias, x), centred, scale, out=memory)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor | None, Tensor | None, None]:  # type: ignore[override]
        centred, rstd, scale = ctx.saved_tensors
        with torch._C.DisableTorchFunction():  # modes that are on in a backward pass are not for this
            dims = tuple(range(2, grad.dim()))
            mean = grad.mean(dims, keepdim=True)
            memory = grad * centred
            slope = memory.mean(dims, keepdim=True).mul_(rstd)
            of_weight, of_bias = (
                total.sum(0).flatten() * grad[0, 0].numel() if needed else None
                for total, needed in zip((slope, mean), ctx.needs_input_grad[1:3], strict=True)
            )
            # The mean goes first: it can be much larger than what is left.
            of_input = torch.addcmul(mean.mul_(scale).neg_(), grad, scale, out=memory)
            of_input.addcmul_(centred, slope.mul_(rstd).mul_(scale), value=-1)
            return of_input, of_weight, of_bias, None


def normalise(x: Tensor, dims: tuple[int, ...], eps: float) -> tuple[Tensor, Tensor]:
    """``((x - mean) * rstd, rstd)`` with the statistics over ``dims``; faster on CPU than ``var_mean``."""
    centred = x - x.mean(dims, keepdim=True)
    rstd = torch.rsqrt(centred.square().mean(dims, keepdim=True) + eps)
    return centred.mul_(rstd), rstd


def normalised_tangent(t: Tensor, out: Tensor, rstd: Tensor, dims: tuple[int, ...]) -> Tensor:
    """Derivative of ``out = (x - mean(x)) * rstd`` along ``t``, ``mean`` over ``dims``; symmetric, so the vjp too."""
    memory = t * out
    slope = memory.mean(dims, keepdim=True)
    # The mean goes first: it can be much larger than what is left.
    return torch.sub(t, t.mean(dims, keepdim=True), out=memory).addcmul_(out, slope, value=-1).mul_(rstd)


def sample_norm(input: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float) -> Tensor:
    """Normalise every sample and channel of ``input`` (B, C, ...) over its spatial positions, then scale and shift."""
    if has_torch_function((input,)):
        return handle_torch_function(sample_norm, (input,), input, weight, bias, eps)
    return cast(Tensor, SampleNorm.apply(input, weight, bias, eps))  # type: ignore[no-untyped-call]


def sample_norm_composite(input: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float) -> Tensor:
    """The same from elementary differentiable operations: the reference, and what ``torch.func`` can transform."""
    dims = tuple(range(2, input.dim()))
    centred = input - input.mean(dims, keepdim=True)
    out = centred * torch.rsqrt(centred.square().mean(dims, keepdim=True) + eps)
    return affine(out, weight, bias)


def affine(out: Tensor, weight: Tensor | None, bias: Tensor | None) -> Tensor:
    """Scale and shift the channels (dimension 1)."""
    if weight is not None:
        out = out * _of_channels(weight, out)
    if bias is not None:
        out = out + _of_channels(bias, out)
    return out


def _of_channels(vector: Tensor, like: Tensor) -> Tensor:
    return vector.view((1, -1) + (1,) * (like.dim() - 2))


def has_spatial_statistics(x: Tensor) -> bool:
    """Whether a sample has more than one value per channel."""
    return x.dim() > 2 and x.shape[2:].numel() > 1


def _standardises_a_weight(
    input: Tensor, running_mean: Tensor | None, running_var: Tensor | None, *args: Any, **kwargs: Any
) -> bool:
    """Whether a call of batch norm is no layer: weights (1, C, ...) are standardised, nothing is kept (timm's StdConv2d)."""
    momentum = args[3] if len(args) > 3 else kwargs.get("momentum", 0.1)
    return running_mean is None and momentum == 0.0 and len(input) == 1


class BatchNormMode(TorchFunctionMode):
    """Within this context every batch norm behaves as told; ``composite`` is for ``torch.func`` transforms."""

    def __init__(self, behaviour: BatchNorm, composite: bool = False) -> None:
        super().__init__()
        self.behaviour = check_batch_norm(behaviour)
        self.sample_norm = sample_norm_composite if composite else sample_norm

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func is F.batch_norm and (self.behaviour == "sample" or not _standardises_a_weight(*args, **kwargs)):
            return self._batch_norm(*args, **kwargs)
        return func(*args, **kwargs)

    def _batch_norm(
        self,
        input: Tensor,
        running_mean: Tensor | None,
        running_var: Tensor | None,
        weight: Tensor | None = None,
        bias: Tensor | None = None,
        training: bool = False,
        momentum: float = 0.1,
        eps: float = 1e-5,
    ) -> Tensor:
        if self.behaviour == "batch":
            return F.batch_norm(input, None, None, weight, bias, True, 0.0, eps)
        if self.behaviour == "sample" and has_spatial_statistics(input):
            return self.sample_norm(input, weight, bias, eps)
        if running_mean is None or running_var is None:  # track_running_stats=False: fresh statistics are 0 and 1
            running_mean, running_var = input.new_zeros(input.shape[1]), input.new_ones(input.shape[1])
        return F.batch_norm(input, running_mean, running_var, weight, bias, False, 0.0, eps)


class BatchVarianceMode(BatchNormMode):
    """``batch`` that keeps every batch norm's variance (C,) of the batch, unbiased as the running one is made of."""

    def __init__(self) -> None:
        super().__init__("batch")
        self.variances: list[Tensor] = []

    def _batch_norm(self, input: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        self.variances.append(input.var([0, *range(2, input.dim())]))
        return super()._batch_norm(input, *args, **kwargs)


class NoBatchNormMode(BatchNormMode):
    """Within this context every batch norm is the identity, its scale and shift included."""

    def __init__(self) -> None:
        super().__init__("running")

    def _batch_norm(self, input: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        return input
