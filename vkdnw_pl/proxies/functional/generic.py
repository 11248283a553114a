"""Jacobian by ``torch.func``, or else by plain autograd: slow, but for any network and any use of its weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from vkdnw_pl.proxies.functional.batchnorm import BatchNorm, BatchNormMode
from vkdnw_pl.proxies.functional.scalars import Scalar


def generic_jacobian(
    network: nn.Module, inputs: Tensor, scalars: Sequence[Scalar], batchnorm: BatchNorm
) -> tuple[Tensor, Tensor]:
    """Jacobian (B, C, P) of the logits with respect to ``scalars``, and the logits; one product for each scalar.

    Exact for shared and functionally used weights and for coupled samples. Where the network calls something that has
    no forward derivative (weight norm, custom autograd functions), one backward pass for each logit of each sample.
    """
    parameters = dict(network.named_parameters())
    aliases = {id(p): name for name, p in parameters.items()}
    everywhere = dict(network.named_parameters(remove_duplicate=False))
    entries = [(aliases[id(everywhere[scalar.parameter])], scalar.index) for scalar in scalars]
    with BatchNormMode(batchnorm, composite=True), sdpa_kernel(SDPBackend.MATH), torch.no_grad():
        if not entries:
            logits = network(inputs)
            return logits.new_zeros(*logits.shape, 0), logits
        try:
            return _by_products(network, inputs, parameters, entries)
        except torch.OutOfMemoryError:
            raise
        except RuntimeError:
            # torch's many words for a missing forward derivative; anything else is raised again here.
            return _by_gradients(network, inputs, parameters, entries)


def _by_products(
    network: nn.Module, inputs: Tensor, parameters: Mapping[str, Tensor], entries: Sequence[tuple[str, int]]
) -> tuple[Tensor, Tensor]:
    columns: list[Tensor] = []
    for name, index in entries:
        parameter = parameters[name].detach()
        direction = torch.zeros_like(parameter)
        direction[torch.unravel_index(torch.tensor(index), direction.shape)] = 1.0

        def along(value: Tensor, name: str = name) -> Tensor:
            return torch.func.functional_call(network, {name: value}, (inputs,))

        logits, column = torch.func.jvp(along, (parameter,), (direction,))  # type: ignore[misc]
        columns.append(column)
    return torch.stack(columns, dim=2), logits


@torch.enable_grad()
def _by_gradients(
    network: nn.Module, inputs: Tensor, parameters: Mapping[str, Tensor], entries: Sequence[tuple[str, int]]
) -> tuple[Tensor, Tensor]:
    leaves = {name: parameters[name].detach().clone().requires_grad_() for name, _ in entries}
    logits = torch.func.functional_call(network, leaves, (inputs,))
    jac_BCP = logits.new_zeros(*logits.shape, len(entries))
    if logits.requires_grad:
        for sample, row in enumerate(logits):
            for label, logit in enumerate(row):
                grads = torch.autograd.grad(logit, list(leaves.values()), retain_graph=True, allow_unused=True)
                by_name = dict(zip(leaves, grads, strict=True))
                for column, (name, index) in enumerate(entries):
                    grad = by_name[name]
                    if grad is not None:
                        jac_BCP[sample, label, column] = grad.flatten()[index]
    return jac_BCP.detach(), logits.detach()
