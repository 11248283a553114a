"""Jacobian by ``torch.func``: slow, but for any network, with whatever use of its weights."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from vkdnw_pl.proxies.functional.batchnorm import BatchNorm, BatchNormMode
from vkdnw_pl.proxies.functional.scalars import Scalar


def generic_jacobian(
    network: nn.Module, inputs: Tensor, scalars: Sequence[Scalar], batchnorm: BatchNorm
) -> tuple[Tensor, Tensor]:
    """Jacobian of the logits with respect to ``scalars``, one Jacobian-vector product of the whole batch for each.

    Exact for shared and functionally used weights and for coupled samples.

    Returns:
        (B, C, P) Jacobian, (B, C) logits.
    """
    parameters = dict(network.named_parameters())
    aliases = {id(p): name for name, p in parameters.items()}
    everywhere = dict(network.named_parameters(remove_duplicate=False))
    columns: list[Tensor] = []
    logits: Tensor | None = None
    with BatchNormMode(batchnorm, composite=True), sdpa_kernel(SDPBackend.MATH), torch.no_grad():
        for scalar in scalars:
            name = aliases[id(everywhere[scalar.parameter])]
            parameter = parameters[name].detach()
            direction = torch.zeros_like(parameter)
            direction[torch.unravel_index(torch.tensor(scalar.index), direction.shape)] = 1.0

            def along(value: Tensor, name: str = name) -> Tensor:
                return torch.func.functional_call(network, {name: value}, (inputs,))

            logits, column = torch.func.jvp(along, (parameter,), (direction,))  # type: ignore[misc]
            columns.append(column)
    if logits is None:
        with torch.no_grad(), BatchNormMode(batchnorm):
            logits = network(inputs)
        return logits.new_zeros(*logits.shape, 0), logits
    return torch.stack(columns, dim=2), logits
