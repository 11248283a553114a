"""GraSP: change of the gradient flow when weights are removed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from vkdnw_pl.proxies.base import GraphProxy, ProxyInfo
from vkdnw_pl.proxies.borrow import Borrowed, cross_entropy
from vkdnw_pl.proxies.functional.batchnorm import sample_norm, sample_norm_composite
from vkdnw_pl.proxies.functional.gradients import total, weights_and_gradients
from vkdnw_pl.proxies.functional.scalars import layer_weights


class Grasp(GraphProxy):
    """Sum over the weights w of convolution and linear layers of ``-w (H g)``: g the gradient of the mean cross-entropy L
    with respect to them, H its Hessian. Higher is better.

    ``H g`` is the gradient of ``⟨g', ∂L/∂w⟩`` with g' = g held fixed.

    Args:
        batchnorm: ``batch`` as in the official code, or ``sample`` or ``running``.
    """

    info = ProxyInfo(
        name="grasp",
        title="GraSP",
        higher_is_better=True,
        needs_labels=True,
        input="data",
        batchnorm="batch",
        source="Wang et al., ICLR 2020; Abdelfattah et al., ICLR 2021",
    )

    def compute(self, borrowed: Borrowed) -> dict[str, float]:
        gradients = borrowed.loss_gradients(self.batchnorm)
        pairs = weights_and_gradients(borrowed.network, gradients)
        names = [name for name in layer_weights(borrowed.network) if name in gradients]
        # A graph of its own: the double backward pass uses it up.
        with _TwiceDifferentiable():
            graph, _ = borrowed.fresh_graph(self.batchnorm)
        weights = [graph.parameters[name] for name in names]
        loss = cross_entropy(graph.logits, borrowed.labels)
        again = torch.autograd.grad(loss, weights, create_graph=True)
        inner = torch.stack([(g * a).sum() for (_, g), a in zip(pairs, again, strict=True)]).sum()
        products = torch.autograd.grad(inner, weights, allow_unused=True)
        parts = [(w * product).sum() for (w, _), product in zip(pairs, products, strict=True) if product is not None]
        return {"grasp": -total(parts)}


class _TwiceDifferentiable(TorchFunctionMode):
    """Within this context the norm of single samples has right second derivatives; the fast one does not."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        return (sample_norm_composite if func is sample_norm else func)(*args, **(kwargs or {}))
