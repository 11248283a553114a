"""Zen: expressivity of the feature extractor."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn

from vkdnw_pl.errors import check_choice, check_number
from vkdnw_pl.proxies.base import Proxy, ProxyInfo, UndefinedScore
from vkdnw_pl.proxies.borrow import Borrowed
from vkdnw_pl.proxies.functional.batchnorm import BatchVarianceMode
from vkdnw_pl.proxies.functional.passes import unchanged

_OTHER_NORMS = (nn.LayerNorm, nn.RMSNorm, nn.GroupNorm)


class Zen(Proxy):
    """``log mean_b Σ |f(u) - f(u + γ v)| + Σ_BN log sqrt(mean_c variance_c)``. Higher is better.

    f is the last feature map before pooling, u the images, v standard normal noise, all weights N(0, 1). No score where
    a network has layer or group norms (transformers, ConvNeXt): they take out the scale of the weights, which the
    definition adds again for batch norms alone.

    Args:
        gamma: γ, size of the step.
        variance: what scales a batch norm: ``running`` as in the published codes, where it is the running variance
            after the two forward passes (momentum 0.1, from 1, on a fresh network), or ``batch``, the variance of the
            batch u + γ v, which the paper's formula means.
    """

    info = ProxyInfo(
        name="zen",
        title="ZenNAS",
        input="images",
        batchnorm="batch",
        source="Lin et al., ICCV 2021; github.com/ondratybl/VKDNW, compute_zen_score.py",
        init="gaussian",
    )

    def __init__(self, gamma: float = 1e-2, variance: Literal["running", "batch"] = "running") -> None:
        check_number("zen.gamma", gamma, 0, math.inf, open_low=True, open_high=True)
        check_choice("zen.variance", variance, ("running", "batch"))
        self.gamma = gamma
        self.variance = variance

    def compute(self, borrowed: Borrowed) -> dict[str, float]:
        if any(isinstance(module, _OTHER_NORMS) for module in borrowed.network.modules()):
            raise UndefinedScore(
                "layer norms take out the scale of the weights, and the definition adds it again for batch norms alone"
            )
        images = borrowed.inputs
        if not images.is_floating_point():
            raise UndefinedScore("inputs that are whole numbers cannot be moved a little")
        noise = torch.randn(images.shape, generator=borrowed.generator("zen")).to(images)
        return {"zen": zen(borrowed.network, images, images + self.gamma * noise, self.variance)}


@torch.no_grad()
def zen(network: nn.Module, images: Tensor, moved: Tensor, variance: Literal["running", "batch"] = "running") -> float:
    """Score of the images (B, C, H, W) and the moved ones, see ``Zen``."""
    with BatchVarianceMode() as first:
        before = _features(network, images)
    with BatchVarianceMode() as second:
        after = _features(network, moved)
    change = float((before - after).double().abs().flatten(1).sum(1).mean())
    if change == 0.0:
        raise UndefinedScore("the feature map does not change with the image")
    score = math.log(change)
    for v1, v2 in zip(first.variances, second.variances, strict=True):
        v = v2 if variance == "batch" else 0.9 * (0.9 + 0.1 * v1) + 0.1 * v2
        mean = float(v.double().mean())
        if mean == 0.0:
            raise UndefinedScore("the input of a batch norm is constant")
        score += 0.5 * math.log(mean)
    return score


def _features(network: nn.Module, images: Tensor) -> Tensor:
    """The last feature map before pooling: the output of ``network.final_map``, or timm's ``forward_features``."""
    name = getattr(network, "final_map", None)
    if name is None:
        if not callable(getattr(network, "forward_features", None)):
            raise ValueError(
                "the network has no known last feature map; give it an attribute final_map with the name of the module "
                "whose output goes to the pooling, or a method forward_features"
            )
        with unchanged(network):
            return network.forward_features(images.clone())  # type: ignore[operator]
    maps: list[Tensor] = []
    handle = network.get_submodule(name).register_forward_hook(lambda _module, _args, out: maps.append(out))
    try:
        with unchanged(network):
            network(images.clone())
    finally:
        handle.remove()
    return maps[-1]
