"""What one call of a layer's function contributes: the derivative of its output with respect to one scalar.

For a convolution, linear or normalisation call the derivative with respect to one entry of ``weight`` or ``bias`` lives
in a single channel of the output and is there a slice of the input (shifted, for a convolution).
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from vkdnw_pl.proxies.functional.batchnorm import sample_norm


class Unsupported(Exception):
    """The network does something that the fast engines are not exact for; the text says what."""


# Functions with a bounded derivative, in forward mode that of autograd: others may have an infinite one at some points,
# which forward and reverse mode can treat differently.
_SMOOTH = """
    conv1d conv2d conv3d conv_transpose1d conv_transpose2d conv_transpose3d linear bilinear matmul __matmul__ __rmatmul__
    mm bmm addmm baddbmm einsum scaled_dot_product_attention multi_head_attention_forward embedding
    batch_norm sample_norm layer_norm group_norm instance_norm dropout dropout1d dropout2d dropout3d
    add __add__ __radd__ __iadd__ add_ sub __sub__ __rsub__ __isub__ sub_ rsub mul __mul__ __rmul__ __imul__ mul_
    neg __neg__ sum mean cumsum diff lerp addcmul
    relu relu_ relu6 hardtanh hardtanh_ leaky_relu leaky_relu_ elu elu_ selu selu_ celu silu gelu mish hardswish
    hardsigmoid sigmoid sigmoid_ tanh tanh_ softplus softsign glu abs clamp clamp_ clip square exp sin cos
    softmax log_softmax logsumexp
    max_pool1d max_pool2d max_pool3d avg_pool1d avg_pool2d avg_pool3d adaptive_avg_pool1d
    adaptive_avg_pool2d adaptive_avg_pool3d adaptive_max_pool2d interpolate pixel_shuffle pixel_unshuffle
    channel_shuffle unfold fold max min amax amin topk sort
    cat concat stack split chunk unbind __getitem__ select narrow index_select gather masked_fill masked_fill_ where tril
    triu view reshape flatten unflatten squeeze unsqueeze permute transpose movedim swapaxes t expand expand_as repeat
    repeat_interleave roll flip rot90 pad view_as reshape_as contiguous clone to float double type type_as detach
    view_as_real view_as_complex real imag zeros_like ones_like new_zeros new_ones new_full new_empty
    """


def is_smooth(func: Callable[..., Any]) -> bool:
    """Whether the derivative of ``func`` is finite wherever its value is, and in forward mode that of autograd."""
    name = getattr(func, "__name__", "")
    return name in _SMOOTH_NAMES or (name == "__get__" and func.__self__ in _PROPERTIES)  # type: ignore[attr-defined]


_SMOOTH_NAMES = frozenset(_SMOOTH.split())
_PROPERTIES = (Tensor.T, Tensor.mT, Tensor.H, Tensor.mH, Tensor.real, Tensor.imag, Tensor.data)


def can_be_differentiated(value: Any) -> bool:
    """Whether it is a tensor that can have a derivative."""
    return isinstance(value, Tensor) and (value.is_floating_point() or value.is_complex())


def check_finite(func: Callable[..., Any], tangents: Sequence[Any]) -> None:
    """Raise ``Unsupported`` where a tangent is not finite: backward, autograd may make a zero of it, or a NaN of less."""
    for tangent in tangents:
        if isinstance(tangent, Tensor) and not is_finite(tangent):
            raise Unsupported(f"the derivative of {getattr(func, '__name__', func)} is not finite at a point")


def is_finite(tensor: Tensor) -> bool:
    """Whether all entries are; the sum tells it fast."""
    return bool(torch.isfinite(tensor.sum())) or bool(torch.isfinite(tensor).all())


def _prelu(x: Tensor, weight: Tensor) -> Tensor:
    shape = (1, -1) + (1,) * (x.dim() - 2)
    return torch.where(x > 0, x, x * (weight.view(shape) if weight.numel() > 1 else weight))


def as_autograd(func: Callable[..., Any]) -> Callable[..., Any]:
    """The function, or an equal one whose forward derivative is autograd's where that of ``func`` is not."""
    return _prelu if func in (F.prelu, torch.prelu, Tensor.prelu) else func


@dataclass(frozen=True)
class LocalDerivative:
    """Derivative of a call's output with respect to one scalar: ``values`` in one channel, zero elsewhere."""

    channel_dim: int
    channel: int
    values: Tensor
    """Shape of the output without ``channel_dim``, or broadcastable to it; its first dimension is the batch."""

    def dot(self, grad: Tensor, out: Tensor) -> None:
        """Write the inner product with ``grad`` (shape of the output), per sample, into ``out`` (B,)."""
        products = grad.select(self.channel_dim, self.channel) * self.values
        torch.sum(products.reshape(grad.shape[0], -1), 1, out=out)

    def write(self, out: Tensor) -> None:
        out.select(self.channel_dim, self.channel).copy_(self.values)


def _conv_signature(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> None: ...


def _linear_signature(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> None: ...


def _defaults(signature: Callable[..., Any]) -> dict[str, Any]:
    """Its arguments in their order, with their default values."""
    return {name: parameter.default for name, parameter in inspect.signature(signature).parameters.items()}


_ARGUMENTS: dict[Any, dict[str, Any]] = {
    **dict.fromkeys((F.conv1d, F.conv2d, F.conv3d), _defaults(_conv_signature)),
    F.linear: _defaults(_linear_signature),
    **{f: _defaults(f) for f in (F.batch_norm, F.layer_norm, F.group_norm, sample_norm)},
}
CONVOLUTIONS = (F.conv1d, F.conv2d, F.conv3d)


@dataclass(frozen=True)
class Call:
    """A call of one of the functions above, its arguments by name."""

    func: Callable[..., Any]
    arguments: dict[str, Any]

    @classmethod
    def of(cls, func: Callable[..., Any], args: Any, kwargs: dict[str, Any]) -> Call | None:
        """Bind the arguments; None where ``func`` is not one of the functions known here."""
        defaults = _ARGUMENTS.get(func)
        if defaults is None:
            return None
        return cls(func, {**defaults, **dict(zip(defaults, args, strict=False)), **kwargs})

    @property
    def input(self) -> Tensor:
        return self.arguments["input"]

    def macs(self, out: Tensor) -> int:
        """Multiply-adds of the call that gave ``out``, a bias counting one per element; 0 for normalisation."""
        if self.func not in CONVOLUTIONS and self.func is not F.linear:
            return 0
        return out.numel() * (self.arguments["weight"][0].numel() + (self.arguments["bias"] is not None))

    def derivative(self, role: str, index: int) -> LocalDerivative:
        """Derivative with respect to entry ``index`` of the argument ``role`` (``weight`` or ``bias``)."""
        if self.func in CONVOLUTIONS:
            return self._conv_derivative(role, index)
        if self.func is F.linear:
            return self._linear_derivative(role, index)
        return self._norm_derivative(role, index)

    def _spatial(self, name: str) -> tuple[int, ...]:
        value, dims = self.arguments[name], self.arguments["weight"].dim() - 2
        values = tuple(value) if isinstance(value, tuple | list) else (value,)
        return values if len(values) == dims else values[:1] * dims

    def _padding(self) -> list[tuple[int, int]]:
        """(before, after) of every spatial dimension."""
        padding = self.arguments["padding"]
        kernel, dilation = self.arguments["weight"].shape[2:], self._spatial("dilation")
        if padding == "valid":
            return [(0, 0)] * len(kernel)
        if padding == "same":
            totals = [d * (k - 1) for k, d in zip(kernel, dilation, strict=True)]
            return [(total // 2, total - total // 2) for total in totals]
        return [(p, p) for p in self._spatial("padding")]

    def _output_size(self) -> list[int]:
        size, kernel = self.input.shape[2:], self.arguments["weight"].shape[2:]
        settings = zip(size, kernel, self._spatial("stride"), self._padding(), self._spatial("dilation"), strict=True)
        return [(n + before + after - d * (k - 1) - 1) // s + 1 for n, k, s, (before, after), d in settings]

    def _conv_derivative(self, role: str, index: int) -> LocalDerivative:
        x, weight = self.input, self.arguments["weight"]
        if x.dim() != weight.dim():
            raise Unsupported("a convolution of an unbatched input")
        if role == "bias":
            return LocalDerivative(1, index, x.new_ones((x.shape[0],) + (1,) * (x.dim() - 2)))
        out_channel, in_channel, *taps = (int(i) for i in np.unravel_index(index, weight.shape))
        group = out_channel // (weight.shape[0] // self.arguments["groups"])
        channel = x[:, group * weight.shape[1] + in_channel]
        # Slice positions tap * dilation + stride * (0 .. out-1) of the padded channel.
        channel = F.pad(channel, [side for pair in reversed(self._padding()) for side in pair])
        where: list[slice] = [slice(None)]
        for tap, n, s, d in zip(
            taps, self._output_size(), self._spatial("stride"), self._spatial("dilation"), strict=True
        ):
            where.append(slice(tap * d, tap * d + (n - 1) * s + 1, s))
        return LocalDerivative(1, out_channel, channel[tuple(where)].clone())

    def _linear_derivative(self, role: str, index: int) -> LocalDerivative:
        x = self.input
        if x.dim() < 2:
            raise Unsupported("a linear layer on an unbatched input")
        if role == "bias":
            return LocalDerivative(-1, index, x.new_ones((x.shape[0],) + (1,) * (x.dim() - 2)))
        out_feature, in_feature = divmod(index, self.arguments["weight"].shape[1])
        return LocalDerivative(-1, out_feature, x[..., in_feature].clone())

    def _norm_derivative(self, role: str, index: int) -> LocalDerivative:
        x, arg = self.input, self.arguments
        channel_dim = -1 if self.func is F.layer_norm else 1
        if self.func is F.layer_norm and len(arg["normalized_shape"]) != 1:
            raise Unsupported("a weight of a layer norm over several dimensions")
        if role == "bias":
            kept = list(x.shape)
            del kept[channel_dim]
            return LocalDerivative(channel_dim, index, x.new_ones(()).expand(kept))
        if self.func is F.layer_norm:
            normalised = F.layer_norm(x, arg["normalized_shape"], None, None, arg["eps"])
        elif self.func is F.group_norm:
            normalised = F.group_norm(x, arg["num_groups"], None, None, arg["eps"])
        elif self.func is sample_norm:
            return LocalDerivative(1, index, sample_norm(x[:, index : index + 1], None, None, arg["eps"])[:, 0])
        else:
            at = slice(index, index + 1)
            mean, var = arg["running_mean"], arg["running_var"]
            mean, var = (None, None) if mean is None else (mean[at], var[at])
            x = F.batch_norm(x[:, at], mean, var, None, None, arg["training"], 0.0, arg["eps"])
            return LocalDerivative(1, index, x[:, 0])
        return LocalDerivative(channel_dim, index, normalised.select(channel_dim, index))


def local_derivatives(
    call: Call, targets: Mapping[int, Sequence[tuple[int, int]]]
) -> list[tuple[int, LocalDerivative]]:
    """The derivatives that ``call`` contributes: (column, derivative) of every target among its weight and bias."""
    return [
        (column, call.derivative(role, index))
        for role in ("weight", "bias")
        for column, index in targets.get(id(call.arguments[role]), ())
    ]
