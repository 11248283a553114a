"""Fisher: sensitivity of the loss to whole channels."""

from __future__ import annotations

import torch

from vkdnw_pl.proxies.base import GraphProxy, ProxyInfo, UndefinedScore
from vkdnw_pl.proxies.borrow import Borrowed
from vkdnw_pl.proxies.functional.gradients import total


class Fisher(GraphProxy):
    """Sum over the channels of all convolution and linear outputs ``a`` of ``½ mean_b (Σ a ∂L/∂a)²``, the inner sum over
    positions; every channel counts as often as it has weights. L is the mean cross-entropy. Higher is better.
    """

    info = ProxyInfo(
        name="fisher",
        title="Fisher",
        needs_labels=True,
        input="data",
        batchnorm="batch",
        source="Theis et al. 2018; Turner et al., ICLR 2020; Abdelfattah et al., ICLR 2021 (zero-cost-nas)",
        init="pytorch",
    )

    def compute(self, borrowed: Borrowed) -> dict[str, float]:
        graph = borrowed.graph(self.batchnorm)
        if not graph.layers:
            raise UndefinedScore("the loss depends on no layer")
        outs = [layer.out for layer in graph.layers]
        grads = torch.autograd.grad(borrowed.loss(self.batchnorm), outs, retain_graph=True, allow_unused=True)
        parts = []
        for layer, grad in zip(graph.layers, grads, strict=True):
            if grad is not None:
                product = (layer.out.detach() * grad).movedim(layer.channel_dim, 1)
                summed = product.flatten(2).sum(2) if product.dim() > 2 else product
                parts.append(summed.square().mean(0).sum() * (layer.fan_in / 2))
        if not parts:
            raise UndefinedScore("the loss depends on no layer")
        return {"fisher": total(parts)}
