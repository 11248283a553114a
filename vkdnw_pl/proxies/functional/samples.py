"""The samples of a batch: gradients one by one, agreement of ReLU patterns, correlation of input gradients."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap

from vkdnw_pl.proxies.functional import UndefinedScore
from vkdnw_pl.proxies.functional.batchnorm import BatchNorm, BatchNormMode
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
    """Gradients of ``value(logits_C, *extra of the sample)``, name -> (b, *shape), for at most ``CHUNK`` samples each.

    ``value`` gives a scalar; ``parameters`` are some or all of the network's by name; ``extra`` are tensors (B, ...) of
    further arguments. ``batchnorm`` is ``sample`` or ``running``: ``batch`` couples the samples.
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


def agreements(relus: Sequence[Tensor]) -> tuple[Tensor, int]:
    """Kernel (B, B) float64 of the units of ReLU outputs (B, ...) that are on, or off, for both images; all units."""
    if not relus:
        raise UndefinedScore("the network has no ReLU")
    kernel = torch.zeros(len(relus[0]), len(relus[0]), dtype=torch.float64, device=relus[0].device)
    units = 0
    for out in relus:
        # Exact: float32 counts up to 2^24, and no map has so many units per image.
        on = (out.detach() > 0).flatten(1).float()
        each = on.sum(1)
        # Both on, plus both off.
        kernel += (2 * (on @ on.T) - each[:, None] - each[None, :] + on.shape[1]).double()
        units += on.shape[1]
    return kernel, units


def correlations(grad_BD: Tensor) -> Tensor:
    """Correlation matrix (B, B) of the rows, float64; a constant row is an ``UndefinedScore``."""
    if not torch.isfinite(grad_BD).all():
        raise FloatingPointError("the input Jacobian is not finite")
    centred = grad_BD.double() - grad_BD.double().mean(1, keepdim=True)
    norm = centred.norm(dim=1, keepdim=True)
    if bool((norm == 0).any()):
        raise UndefinedScore("the input Jacobian of a sample is constant, so correlations do not exist")
    rows = centred / norm
    return rows @ rows.T
