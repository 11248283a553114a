"""GraSP: change of the gradient flow when weights are removed."""

from __future__ import annotations

import torch

from vkdnw_pl.proxies.base import GraphProxy, ProxyInfo, UndefinedScore
from vkdnw_pl.proxies.borrow import Borrowed
from vkdnw_pl.proxies.functional.gradients import total
from vkdnw_pl.proxies.functional.scalars import layer_weights
from vkdnw_pl.proxies.graph import check_parameters, cross_entropy


class Grasp(GraphProxy):
    """Sum over the weights w of convolution and linear layers of ``-w (H g)``: g the gradient of the mean cross-entropy L
    with respect to them, H its Hessian. Higher is better.

    ``H g`` is the gradient of ``⟨g', ∂L/∂w⟩`` with g' = g held fixed.
    """

    info = ProxyInfo(
        name="grasp",
        title="GraSP",
        needs_labels=True,
        input="data",
        batchnorm="batch",
        source="Wang et al., ICLR 2020; Abdelfattah et al., ICLR 2021",
    )

    def compute(self, borrowed: Borrowed) -> dict[str, float]:
        # The fast normalisation by sample has a first derivative only.
        sample = self.batchnorm == "sample"
        graph = borrowed.fresh_graph("sample", composite=True) if sample else borrowed.graph(self.batchnorm)
        check_parameters(graph)
        weights = [graph.parameters[name] for name in layer_weights(borrowed.network) if name in graph.parameters]
        if not weights:
            raise UndefinedScore("the network has no layer with weights")
        loss = cross_entropy(graph.logits, borrowed.labels)
        gradients = torch.autograd.grad(loss, weights, create_graph=True, allow_unused=True)
        pairs = [(w, g) for w, g in zip(weights, gradients, strict=True) if g is not None]
        if not pairs:
            raise UndefinedScore("the loss depends on no layer's weight")
        inner = torch.stack([(g.detach() * g).sum() for _, g in pairs]).sum()
        used = [w for w, _ in pairs]
        products = torch.autograd.grad(inner, used, retain_graph=True, allow_unused=True)
        parts = [(w.detach() * p).sum() for w, p in zip(used, products, strict=True) if p is not None]
        return {"grasp": -total(parts)}
