"""The weights of a network: single scalars, layers with their gradients, and sums over them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from vkdnw_pl.errors import nearest
from vkdnw_pl.proxies.functional import UndefinedScore

_NOT_LAYERS = (nn.Embedding, nn.EmbeddingBag, nn.LayerNorm, nn.RMSNorm)


@dataclass(frozen=True)
class Scalar:
    """One entry of one parameter tensor."""

    parameter: str
    """Qualified name as in ``named_parameters()``."""
    index: int
    """Position in the flattened tensor."""


def check_scalars(network: nn.Module, scalars: Sequence[Scalar]) -> None:
    """Refuse scalars that do not exist in ``network``, naming the nearest name or the allowed positions."""
    parameters = dict(network.named_parameters(remove_duplicate=False))
    for scalar in scalars:
        if scalar.parameter not in parameters:
            hint = nearest(scalar.parameter, parameters)
            raise ValueError(f"scalars: the network has no parameter {scalar.parameter!r}{hint}")
        numel = parameters[scalar.parameter].numel()
        if not 0 <= scalar.index < numel:
            raise ValueError(f"scalars: {scalar.parameter} has no entry {scalar.index}; allowed: 0 to {numel - 1}")


def layer_weights(network: nn.Module) -> dict[str, nn.Parameter]:
    """The weight of every layer with weights: name → parameter, in the order of ``named_parameters()``.

    It is a parameter named ``weight`` (or ``..._weight``, as attention's fused projections, or ``weight_...`` of a
    recurrent layer) with at least two dimensions: not normalisation, embeddings, class tokens and biases. Of a
    parametrised weight (weight norm and its like) the largest original tensor stands for the layer. A weight shared by
    several layers counts once.
    """
    weights: dict[str, nn.Parameter] = {}
    for module_name, module in network.named_modules():
        if isinstance(module, _NOT_LAYERS):
            continue
        if module_name.rpartition(".")[0].endswith("parametrizations"):
            candidates = list(module.named_parameters(recurse=False))
            candidates = sorted(candidates, key=lambda item: -item[1].numel())[:1]
        else:
            recurrent = isinstance(module, nn.RNNBase | nn.RNNCellBase)
            own = module.named_parameters(recurse=False)
            candidates = [(n, p) for n, p in own if n.endswith("weight") or (recurrent and n.startswith("weight_"))]
        for name, parameter in candidates:
            if parameter.dim() >= 2 and not any(parameter is other for other in weights.values()):
                weights[f"{module_name}.{name}" if module_name else name] = parameter
    return weights


def spread_entries(numel: int, count: int) -> Iterator[int]:
    """``count`` evenly spread flat positions from 0 to the last, rounded down as in the official code; all if fewer."""
    count = min(count, numel)
    return iter([i * (numel - 1) // max(count - 1, 1) for i in range(count)])


def weights_and_gradients(network: nn.Module, gradients: Mapping[str, Tensor]) -> list[tuple[Tensor, Tensor]]:
    """(weight, gradient) of every convolution and linear layer that the loss depends on; at least one."""
    pairs = [(w.detach(), gradients[name]) for name, w in layer_weights(network).items() if name in gradients]
    if not pairs:
        raise UndefinedScore("the loss depends on no layer's weight")
    return pairs


def total(parts: list[Tensor]) -> float:
    """Sum of scalar tensors in float64."""
    return math.fsum(float(part.double()) for part in parts)
