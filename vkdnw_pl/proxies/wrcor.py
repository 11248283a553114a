"""WRCor: how differently a network responds to different images, by activations and gradients."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from vkdnw_pl.errors import check_choice
from vkdnw_pl.networks.features import stage_names
from vkdnw_pl.proxies.base import GraphProxy, ProxyInfo, UndefinedScore
from vkdnw_pl.proxies.borrow import Borrowed
from vkdnw_pl.proxies.functional.batchnorm import BatchNorm
from vkdnw_pl.proxies.graph import cross_entropy, forward_graph


class WRCor(GraphProxy):
    """``log |det K|``, ``K = Σ w (|R(X)| + |R(G)|)`` over the ReLUs. Higher is better.

    X (B, D) is a ReLU's input, G (B, D) the gradient of the mean cross-entropy by it, R the matrix (B, B) of Pearson's
    correlations of the rows, |·| by entry. The weight w is 2^i for a ReLU in block i, the first one being 0, and behind
    the last block 2^blocks: the last blocks decide. A matrix with a constant row does not count, as in the official
    code. On 64 real images. No score where none counts or K is singular, without a ReLU, and for weights of blocks that
    the network does not name.

    Args:
        weights: ``blocks``, w as above, or ``none``, w = 1 (the official code's act_grad_cor).
        hooks: ``relus``, the definition, or ``official``: the published code also takes each ReLU-convolution-norm block
            for a ReLU, so that X counts twice there and the gradient by the convolution's output is one more G; and a
            ReLU that no convolution reads, the last, works in place, so that X is its output.
    """

    info = ProxyInfo(
        name="wrcor",
        title="WRCor",
        needs_labels=True,
        input="data",
        batchnorm="batch",
        samples=64,
        least_samples=2,
        source="Jing et al. 2025; github.com/kunjing96/ZSNAS-WRCor, measures/act_grad_cor_weighted.py",
        init="pytorch",
    )

    def __init__(
        self,
        weights: Literal["blocks", "none"] = "blocks",
        hooks: Literal["relus", "official"] = "relus",
        batchnorm: BatchNorm = "batch",
    ) -> None:
        super().__init__(batchnorm)
        check_choice("wrcor.weights", weights, ("blocks", "none"))
        check_choice("wrcor.hooks", hooks, ("relus", "official"))
        self.weights = weights
        self.hooks = hooks

    def compute(self, borrowed: Borrowed) -> dict[str, float]:
        blocks, unnamed = self._blocks(borrowed)
        matrices: list[Tensor | None] = []  # of X
        weights: list[float] = []
        recent: dict[tuple[object, ...], tuple[Tensor, Tensor | None]] = {}

        def on_relu(x: Tensor, finished: int) -> None:
            # Edges of a cell begin at the same node; the tensor is kept so that no other takes its place.
            key = x.data_ptr(), x.shape, x._version
            if key not in recent:
                if len(recent) == 4:
                    recent.pop(next(iter(recent)))
                recent[key] = x, absolute_correlations(x)
            matrices.append(recent[key][1])
            weights.append(1.0 if self.weights == "none" else 2.0**finished)

        with borrowed.own_streams("forward"):
            graph = forward_graph(borrowed.network, borrowed.inputs, self.batchnorm, taps=blocks, on_relu=on_relu)
        recent.clear()
        if not graph.relus:
            raise UndefinedScore("the network has no ReLU")
        if unnamed is not None:
            raise UndefinedScore(f"ReLUs are weighted by their blocks (see the parameter weights), but {unnamed}")
        behind: dict[int, Tensor] = {}
        if self.hooks == "official":
            behind = {
                layer.relu: layer.out for layer in graph.layers if layer.relu is not None and layer.channel_dim == 1
            }
        loss = cross_entropy(graph.logits, borrowed.labels)
        of_relus = _gradients(loss, graph.relus)
        of_layers = dict(zip(behind, _gradients(loss, list(behind.values())), strict=True))
        images = len(graph.inputs)
        kernel = torch.zeros(images, images, dtype=torch.float64, device=graph.logits.device)
        counted = False
        for place, (relu, weight, of_input) in enumerate(zip(graph.relus, weights, matrices, strict=True)):
            grad = of_relus[place]
            if grad is not None and relu.grad_fn is not None:
                backward: Any = relu.grad_fn
                grad = backward(grad)  # from that by the output to that by the input
            parts = [of_input, _correlations(grad)]
            if place in of_layers:
                parts += [of_input, _correlations(of_layers[place])]
            elif self.hooks == "official":
                parts[0] = absolute_correlations(relu)
            for part in parts:
                if part is not None:
                    kernel += weight * part
                    counted = True
        if not counted:
            raise UndefinedScore("at every ReLU the input and its gradient are constant for an image")
        score = float(torch.linalg.slogdet(kernel).logabsdet)
        if score == -torch.inf:
            raise UndefinedScore("the matrix of correlations is singular")
        return {"wrcor": score}

    def _blocks(self, borrowed: Borrowed) -> tuple[list[str], str | None]:
        """Names of the blocks, and why there are none that are needed."""
        if self.weights == "none":
            return [], None
        try:
            return stage_names(borrowed.network), None
        except ValueError as error:
            return [], str(error)


def _gradients(loss: Tensor, outs: Sequence[Tensor]) -> list[Tensor | None]:
    """Gradient of ``loss`` by each; None where it does not depend on it."""
    wanted = [out for out in outs if out.requires_grad and loss.requires_grad]
    grads = iter(torch.autograd.grad(loss, wanted, allow_unused=True, retain_graph=True) if wanted else ())
    return [next(grads) if out.requires_grad and loss.requires_grad else None for out in outs]


def _correlations(grad: Tensor | None) -> Tensor | None:
    return None if grad is None else absolute_correlations(grad)


def absolute_correlations(rows: Tensor) -> Tensor | None:
    """|Pearson's correlations| (B, B) of the rows (B, ...); None where a row is constant."""
    rows = rows.detach().flatten(1)
    if not torch.isfinite(rows).all():
        raise FloatingPointError("a ReLU's input or gradient is not finite")
    if bool((rows.amax(1) == rows.amin(1)).any()):
        return None
    rows = rows - rows.mean(1, keepdim=True)
    rows = rows / rows.norm(dim=1, keepdim=True)
    return (rows @ rows.T).abs()
