"""The samples of a batch: gradients one by one, agreement of ReLU patterns, correlation of input gradients."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap

from vkdnw_pl.proxies.functional import UndefinedScore
from vkdnw_pl.proxies.functional.batchnorm import BatchNorm, BatchNormMode
from vkdnw_pl.proxies.functional.passes import backpropagate, requiring_gradients, unchanged
from vkdnw_pl.proxies.functional.trace import Trace, check_logits

CHUNK = 16
"""Samples at a time: more were not faster on CPU, and need a gradient of every weight each."""


def per_sample_gradients(
    network: nn.Module,
    names: Sequence[str],
    inputs: Tensor,
    value: Callable[..., Tensor],
    plan: Trace,
    extra: tuple[Tensor, ...] = (),
    batchnorm: BatchNorm = "sample",
) -> Iterator[dict[str, Tensor]]:
    """Gradients of ``value(logits_C, *extra of the sample)``, name -> (b, *shape), for at most ``CHUNK`` samples each.

    ``value`` gives a scalar; ``names`` are parameters; ``extra`` are tensors (B, ...) of further arguments.
    ``batchnorm`` is ``sample`` or ``running``: ``batch`` couples the samples. The samples of a part are one vectorised
    pass; each is a pass of its own where that is not what autograd gives (``plan`` says so) or not possible.
    """
    if batchnorm == "batch":
        raise ValueError("batchnorm='batch' couples the samples, so none has a gradient by itself")
    parameters = dict(network.named_parameters())
    weights = {name: parameters[name].detach() for name in names}

    def sample_value(weights: Mapping[str, Tensor], image: Tensor, *rest: Tensor) -> Tensor:
        logits = check_logits(functional_call(network, dict(weights), (image.unsqueeze(0),)), 1)
        return value(logits[0], *rest)

    def one_by_one(images: Tensor, *rest: Tensor) -> dict[str, Tensor]:
        rows: list[dict[str, Tensor]] = []
        leaves = {name: parameters[name] for name in names}
        for sample in zip(images.split(1), *rest, strict=True):
            with unchanged(network), requiring_gradients(leaves.values()), modes():
                result = value(check_logits(network(sample[0].clone()), 1)[0], *sample[1:])
                if result.requires_grad:
                    backpropagate(result)
                rows.append({n: torch.zeros_like(p) if p.grad is None else p.grad for n, p in leaves.items()})
        return {name: torch.stack([row[name] for row in rows]) for name in names}

    @contextmanager
    def modes() -> Iterator[None]:
        with torch.enable_grad(), BatchNormMode(batchnorm, composite=True):
            yield

    vectorised = plan.hidden is None and not plan.cut
    gradients = vmap(grad(sample_value), in_dims=(None, 0, *(0 for _ in extra)))
    for part in zip(inputs.split(CHUNK), *(tensor.split(CHUNK) for tensor in extra), strict=True):
        if vectorised:
            try:
                with unchanged(network), modes():
                    result = gradients(weights, part[0].clone(), *part[1:])
            except torch.OutOfMemoryError:
                raise
            except RuntimeError:  # torch's many words for what cannot be vectorised
                vectorised = False
        yield result if vectorised else one_by_one(*part)


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
