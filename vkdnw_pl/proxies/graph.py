"""A forward pass with its autograd graph, and what proxies read off it: stages, layers, ReLUs, the loss."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.overrides import TorchFunctionMode

from vkdnw_pl.networks.features import channels_last
from vkdnw_pl.networks.private_copy import is_scripted
from vkdnw_pl.proxies.functional import UndefinedScore
from vkdnw_pl.proxies.functional.batchnorm import BatchNorm, BatchNormMode
from vkdnw_pl.proxies.functional.calls import CONVOLUTIONS, is_finite
from vkdnw_pl.proxies.functional.passes import unchanged
from vkdnw_pl.proxies.functional.trace import check_logits


@dataclass(frozen=True)
class Layer:
    """A convolution or linear call."""

    out: Tensor
    """(B, C, ...) of a convolution, (B, ..., C) of a linear call."""
    channel_dim: int
    """Dimension of C."""
    fan_in: int
    """Weights per channel."""
    relu: int | None
    """Place among the ReLUs of the one just before, where the layer reads its output."""


@dataclass(frozen=True)
class Graph:
    """A forward pass with its autograd graph."""

    inputs: Tensor
    """The batch, requiring gradients where it is not of whole numbers."""
    parameters: Mapping[str, Tensor]
    """Every parameter that is no whole number by name, requiring gradients; empty for a network with scripted modules."""
    taps: Mapping[str, Tensor]
    """Outputs of the modules that were asked for, in the order of the calls; maps as (B, C, H, W)."""
    layers: tuple[Layer, ...]
    """The convolution and linear calls, in order."""
    relus: tuple[Tensor, ...]
    """Outputs (B, ...) of the ReLU calls, in order."""
    logits: Tensor


def forward_graph(
    network: nn.Module,
    images: Tensor,
    batchnorm: BatchNorm,
    composite: bool = False,
    taps: Iterable[str] = (),
    on_relu: Callable[[Tensor, int], None] | None = None,
) -> Graph:
    """One forward pass of ``images`` (B, ...) through a network in evaluation mode, which is not changed.

    ``taps`` are names of modules. With ``composite``, ``sample`` norm and attention have derivatives of every order.
    ``on_relu`` is called before every ReLU with its input (B, ...) and the number of taps that have an output by then.
    Raises ValueError where the network does not return logits (B, C), FloatingPointError where they are not finite.
    """
    outputs: dict[str, Tensor] = {}
    modules = {name: network.get_submodule(name) for name in taps}
    nhwc = channels_last(network)

    def tap(name: str, _module: nn.Module, _args: object, out: Tensor) -> Tensor | None:
        if isinstance(out, Tensor) and out.is_floating_point() and not out.requires_grad:
            out.requires_grad_()  # the next stage has a derivative also where this one is constant
        outputs.pop(name, None)
        if nhwc and isinstance(out, Tensor) and out.dim() == 4:
            outputs[name] = out.permute(0, 3, 1, 2)
            return outputs[name].permute(0, 2, 3, 1)  # so that what follows is a function of the tap
        outputs[name] = out
        return None

    scripted = is_scripted(network)
    leaves = {} if scripted else gradient_leaves(network)
    recorder = _Recorder(None if on_relu is None else lambda x: on_relu(x.detach(), len(outputs)))
    handles = [module.register_forward_hook(partial(tap, name)) for name, module in modules.items()]
    try:
        inputs = images.detach()
        if inputs.is_floating_point() or inputs.is_complex():
            inputs.requires_grad_()
        own = inputs.clone()  # the network may write into it
        attention = sdpa_kernel(SDPBackend.MATH) if composite else nullcontext()
        with unchanged(network), torch.enable_grad(), recorder, BatchNormMode(batchnorm, composite), attention:
            out = functional_call(network, leaves, (own,)) if leaves else network(own)
    finally:
        for handle in handles:
            handle.remove()
    logits = check_logits(out, len(inputs))
    if not is_finite(logits):
        raise FloatingPointError("the logits are not finite")
    return Graph(inputs, leaves, outputs, tuple(recorder.layers), tuple(recorder.relus), logits)


def visit_outputs(
    network: nn.Module, images: Tensor, batchnorm: BatchNorm, visit: Callable[[nn.Module, Any, Tensor], None]
) -> None:
    """One forward pass without gradients that shows ``visit`` what every module is given and returns, right after each call.

    ``visit`` gets the module, its first argument (None where it has only named ones) and its output, of several the
    first, where that is a tensor of real numbers. A later layer may write into it, so ``visit`` takes what it needs at
    once. A module around others comes after them, the network itself last. Scripted modules cannot be watched. Raises as
    `forward_graph`.
    """

    def show(module: nn.Module, args: tuple[Any, ...], out: object) -> None:
        first = out[0] if isinstance(out, tuple | list) and out else out
        if isinstance(first, Tensor) and first.is_floating_point():
            visit(module, args[0] if args else None, first)

    watched = [module for module in network.modules() if not isinstance(module, torch.jit.ScriptModule)]
    handles = [module.register_forward_hook(show) for module in watched]
    try:
        with unchanged(network), torch.no_grad(), BatchNormMode(batchnorm):
            logits = check_logits(network(images.detach().clone()), len(images))
    finally:
        for handle in handles:
            handle.remove()
    if not is_finite(logits):
        raise FloatingPointError("the logits are not finite")


def gradient_leaves(network: nn.Module) -> dict[str, Tensor]:
    """The parameters by name, requiring gradients; whole numbers have none."""
    parameters = {n: p.detach() for n, p in network.named_parameters() if p.is_floating_point() or p.is_complex()}
    return {name: parameter.requires_grad_() for name, parameter in parameters.items()}


class _Recorder(TorchFunctionMode):
    """Keeps the outputs of layers and ReLUs, which the autograd graph holds anyway."""

    def __init__(self, on_relu: Callable[[Tensor], None] | None = None) -> None:
        super().__init__()
        self.layers: list[Layer] = []
        self.relus: list[Tensor] = []
        self.on_relu = on_relu

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        is_relu = func in RELUS or (func is F.hardtanh and _clips_at_zero(*args, **(kwargs or {})))
        if is_relu and self.on_relu is not None:
            self.on_relu(args[0] if args else (kwargs or {})["input"])  # before it is overwritten, perhaps
        out = func(*args, **(kwargs or {}))
        if is_relu:
            self.relus.append(out)
        elif func in CONVOLUTIONS or func is F.linear:
            given = _signature(*args, **(kwargs or {}))
            relu = len(self.relus) - 1 if self.relus and given[0] is self.relus[-1] else None
            self.layers.append(Layer(out, 1 if func in CONVOLUTIONS else -1, given[1][0].numel(), relu))
        return out


def _signature(input: Tensor, weight: Tensor, *_args: Any, **_kwargs: Any) -> tuple[Tensor, Tensor]:
    return input, weight


def _clips_at_zero(_input: Tensor, min_val: float = -1.0, *_args: Any, **_kwargs: Any) -> bool:
    """Whether a call of ``hardtanh`` is a ReLU with an upper bound, as ReLU6 makes."""
    return min_val == 0


RELUS = (F.relu, F.relu_, torch.relu, torch.relu_, Tensor.relu, Tensor.relu_, F.relu6)


def cross_entropy(logits_BC: Tensor, labels_B: Tensor) -> Tensor:
    """Mean cross-entropy; ValueError where a label is not a class of the network."""
    check_classes(labels_B, logits_BC.shape[1])
    return F.cross_entropy(logits_BC, labels_B)


def check_classes(labels_B: Tensor, num_logits: int) -> None:
    """Raise ValueError where a label is not a class of a network with ``num_logits`` logits, UndefinedScore for one class."""
    if int(labels_B.min()) < 0:
        raise ValueError(f"the images have a label {int(labels_B.min())}; labels are class numbers from 0")
    if int(labels_B.max()) >= num_logits:
        raise ValueError(
            f"the images have a label {int(labels_B.max())}, but the network returns {num_logits} logits; choose other "
            "images, or a network with more classes"
        )
    if num_logits == 1:
        raise UndefinedScore("the cross-entropy of one class is 0 for every network")


def check_parameters(graph: Graph) -> None:
    """Raise ValueError where there is nothing to differentiate by."""
    if not graph.parameters:
        raise ValueError("the network has no parameters that can be differentiated by (none at all, or scripted ones)")


def loss_gradients(graph: Graph, loss: Tensor, retain: bool) -> dict[str, Tensor]:
    """Gradients of ``loss`` by parameter name; one that it does not depend on is left out."""
    check_parameters(graph)
    grads = torch.autograd.grad(loss, list(graph.parameters.values()), retain_graph=retain, allow_unused=True)
    return {name: g for name, g in zip(graph.parameters, grads, strict=True) if g is not None}
