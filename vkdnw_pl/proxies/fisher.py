"""Fisher: sensitivity of the loss to whole channels."""

from __future__ import annotations

import torch

from vkdnw_pl.proxies.base import GraphProxy, ProxyInfo, UndefinedScore
from vkdnw_pl.proxies.borrow import Borrowed
from vkdnw_pl.proxies.functional.gradients import total


class Fisher(GraphProxy):
    """Sum over the channels of all convolution and linear outputs ``a`` of ``½ mean_b (Σ a ∂L/∂a)²``, the inner sum over
    positions; every channel counts as often as it has weights. L is the mean cross-entropy. Higher is better.

    Args:
        batchnorm: ``batch`` as in the official code, or ``sample`` or ``running``.
    """

    info = ProxyInfo(
        name="fisher",
        title="Fisher",
        higher_is_better=True,
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
        loss = borrowed.loss(self.batchnorm)
        grads = torch.autograd.grad(loss, graph.layers, retain_graph=True, allow_unused=True)
        parts = []
        for out, fan_in, grad in zip(graph.layers, graph.fan_ins, grads, strict=True):
            if grad is not None:
                product = (out.detach() * grad).flatten(2).sum(2) if out.dim() > 2 else out.detach() * grad
                parts.append(product.square().mean(0).sum() * (fan_in / 2))
        if not parts:
            raise UndefinedScore("the loss depends on no layer")
        return {"fisher": total(parts)}
