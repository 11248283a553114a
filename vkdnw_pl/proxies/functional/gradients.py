"""Sums over the layers of weights and their gradients."""

from __future__ import annotations

import math
from collections.abc import Mapping

from torch import Tensor, nn

from vkdnw_pl.proxies.functional import UndefinedScore
from vkdnw_pl.proxies.functional.scalars import layer_weights


def weights_and_gradients(network: nn.Module, gradients: Mapping[str, Tensor]) -> list[tuple[Tensor, Tensor]]:
    """(weight, gradient) of every convolution and linear layer that the loss depends on.

    Raises:
        UndefinedScore: where there is none.
    """
    pairs = [(w.detach(), gradients[name]) for name, w in layer_weights(network).items() if name in gradients]
    if not pairs:
        raise UndefinedScore("the loss depends on no layer's weight")
    return pairs


def total(parts: list[Tensor]) -> float:
    """Sum of scalar tensors in float64."""
    return math.fsum(float(part.double()) for part in parts)
