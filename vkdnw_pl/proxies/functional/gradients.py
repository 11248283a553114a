"""Gradients of every sample by itself, and sums over the layers of weights and their gradients."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap

from vkdnw_pl.proxies.functional import UndefinedScore
from vkdnw_pl.proxies.functional.batchnorm import BatchNorm, BatchNormMode
from vkdnw_pl.proxies.functional.scalars import layer_weights
from vkdnw_pl.proxies.functional.trace import check_logits

CHUNK = 16
"""Samples at a time: more were not faster on CPU, and need a gradient of every weight each."""


def per_sample_gradients(
    network: nn.Module,
    parameters: Mapping[str, Tensor],
    inputs: Tensor,
    value: Callable[..., Tensor],
    extra: tuple[Tensor, ...] = (),
    batchnorm: BatchNorm = "sample",
) -> Iterator[dict[str, Tensor]]:
    """Gradients of ``value(logits_C, *extra of the sample)``, name -> (b, *shape), for b <= ``CHUNK`` samples at a time.

    Args:
        network: its logits of one sample must not depend on the others.
        parameters: what to differentiate by, some or all of the network's parameters by name.
        inputs: (B, ...).
        value: scalar of the logits (C,) of one sample and its ``extra``.
        extra: tensors (B, ...) of further arguments.
        batchnorm: ``sample`` or ``running``; ``batch`` couples the samples and is refused.
    """
    if batchnorm == "batch":
        raise ValueError("batchnorm='batch' couples the samples, so none has a gradient by itself")

    def sample_value(weights: Mapping[str, Tensor], image: Tensor, *rest: Tensor) -> Tensor:
        with BatchNormMode(batchnorm, composite=True):
            logits = check_logits(functional_call(network, dict(weights), (image.unsqueeze(0),)), 1)
        return value(logits[0], *rest)

    gradients = vmap(grad(sample_value), in_dims=(None, 0, *(0 for _ in extra)))
    with torch.enable_grad():
        for part in zip(inputs.split(CHUNK), *(tensor.split(CHUNK) for tensor in extra), strict=True):
            yield gradients(dict(parameters), *part)


def weights_and_gradients(network: nn.Module, gradients: Mapping[str, Tensor]) -> list[tuple[Tensor, Tensor]]:
    """(weight, gradient) of every convolution and linear layer that the loss depends on; at least one."""
    pairs = [(w.detach(), gradients[name]) for name, w in layer_weights(network).items() if name in gradients]
    if not pairs:
        raise UndefinedScore("the loss depends on no layer's weight")
    return pairs


def total(parts: list[Tensor]) -> float:
    """Sum of scalar tensors in float64."""
    return math.fsum(float(part.double()) for part in parts)
