"""The proxies of zero-cost-nas (Abdelfattah et al., ICLR 2021); L is the mean cross-entropy, w the weights of layers."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.utils._pytree import tree_map

from vkdnw_pl.errors import check_bool, check_choice
from vkdnw_pl.proxies.base import GraphProxy, Proxy, ProxyInfo, UndefinedScore
from vkdnw_pl.proxies.borrow import Borrowed
from vkdnw_pl.proxies.functional.batchnorm import BatchNorm, BatchNormMode, NoBatchNormMode
from vkdnw_pl.proxies.functional.passes import unchanged
from vkdnw_pl.proxies.functional.scalars import layer_weights, total, weights_and_gradients
from vkdnw_pl.proxies.functional.trace import check_logits
from vkdnw_pl.proxies.graph import Graph, check_parameters, cross_entropy


class L2Norm(Proxy):
    """Sum over convolution and linear layers of the Euclidean norm of their weight. Higher is better."""

    info = ProxyInfo(
        name="l2_norm",
        title="L2 norm",
        source="Abdelfattah et al., ICLR 2021 (zero-cost-nas); NASLib, l2_norm.py",
        init="pytorch",
        reads="weights",
    )

    def compute(self, borrowed: Borrowed) -> dict[str, float]:
        weights = layer_weights(borrowed.network)
        if not weights:
            raise UndefinedScore("the network has no layer with weights")
        return {"l2_norm": total([w.detach().norm() for w in weights.values()])}


class GradNorm(GraphProxy):
    """Norm of the gradient of the mean cross-entropy. Higher is better.

    Two definitions have this name. ``norm="global"`` (AZ-NAS, VKDNW): the Euclidean norm over all parameters, with
    random images and random labels. ``norm="layers"`` (zero-cost-nas, NASLib): the sum over convolution and linear
    layers of the norms of their weights' gradients, there with real images and PyTorch's initialisation:
    ``{name: grad_norm, norm: layers, images: data, init: pytorch}``.

    Args:
        norm: ``global`` or ``layers``.
    """

    info = ProxyInfo(
        name="grad_norm",
        title="GradNorm",
        needs_labels=True,
        input="images",
        batchnorm="batch",
        source="Abdelfattah et al., ICLR 2021; github.com/ondratybl/VKDNW, compute_gradnorm_score.py",
    )

    def __init__(self, norm: Literal["global", "layers"] = "global", batchnorm: BatchNorm = "batch") -> None:
        super().__init__(batchnorm)
        check_choice("grad_norm.norm", norm, ("global", "layers"))
        self.norm = norm

    def compute(self, borrowed: Borrowed) -> dict[str, float]:
        gradients = borrowed.loss_gradients(self.batchnorm)
        if self.norm == "layers":
            return {"grad_norm": total([g.norm() for _, g in weights_and_gradients(borrowed.network, gradients)])}
        if not gradients:
            raise UndefinedScore("the loss depends on no parameter")
        return {"grad_norm": math.sqrt(total([g.double().square().sum() for g in gradients.values()]))}


class Snip(GraphProxy):
    """Connection sensitivity: sum over w of ``|w ∂L/∂w|``. Higher is better.

    The gradient with respect to a mask of ones, as the official code has it, is the same product.
    """

    info = ProxyInfo(
        name="snip",
        title="SNIP",
        needs_labels=True,
        input="data",
        batchnorm="batch",
        source="Lee et al., ICLR 2019; Abdelfattah et al., ICLR 2021",
    )

    def compute(self, borrowed: Borrowed) -> dict[str, float]:
        pairs = weights_and_gradients(borrowed.network, borrowed.loss_gradients(self.batchnorm))
        return {"snip": total([(w * g).abs().sum() for w, g in pairs])}


class Plain(GraphProxy):
    """First-order change of the loss when weights are removed: sum over w of ``w ∂L/∂w``. Higher is better.

    Where every layer is followed by batch norm the sum is that of the last linear layer alone, since the loss does not
    change with the scale of any other weight.
    """

    info = ProxyInfo(
        name="plain",
        title="Plain",
        needs_labels=True,
        input="data",
        batchnorm="batch",
        source="Mozer & Smolensky 1988; Abdelfattah et al., ICLR 2021 (zero-cost-nas)",
        init="pytorch",
    )

    def compute(self, borrowed: Borrowed) -> dict[str, float]:
        pairs = weights_and_gradients(borrowed.network, borrowed.loss_gradients(self.batchnorm))
        return {"plain": total([(w * g).sum() for w, g in pairs])}


class Fisher(GraphProxy):
    """Sum over the channels of all convolution and linear outputs ``a`` of ``½ mean_b (Σ a ∂L/∂a)²``, the inner sum over
    positions; every channel counts as often as it has weights. Higher is better.
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
        layers = borrowed.graph(self.batchnorm).layers
        if not layers:
            raise UndefinedScore("the loss depends on no layer")
        outs = [layer.out for layer in layers]
        grads = torch.autograd.grad(borrowed.loss(self.batchnorm), outs, retain_graph=True, allow_unused=True)
        parts = []
        for layer, grad in zip(layers, grads, strict=True):
            if grad is not None:
                product = (layer.out.detach() * grad).movedim(layer.channel_dim, 1)
                summed = product.flatten(2).sum(2) if product.dim() > 2 else product
                parts.append(summed.square().mean(0).sum() * (layer.fan_in / 2))
        if not parts:
            raise UndefinedScore("the loss depends on no layer")
        return {"fisher": total(parts)}


class Grasp(GraphProxy):
    """Change of the gradient flow when weights are removed: sum over w of ``-w (H g)``. Higher is better.

    g is the gradient of L with respect to these weights, H its Hessian; ``H g`` is the gradient of ``⟨g', ∂L/∂w⟩`` with
    g' = g held fixed.
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
        # The fast normalisation by sample has a first derivative only, and so has fast attention.
        if self.batchnorm != "sample":
            try:
                return {"grasp": self._of(borrowed.graph(self.batchnorm), borrowed)}
            except RuntimeError as error:
                if "_scaled_dot_product" not in str(error):
                    raise
        return {"grasp": self._of(borrowed.fresh_graph(self.batchnorm, composite=True), borrowed)}

    def _of(self, graph: Graph, borrowed: Borrowed) -> float:
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
        return -total(parts)


class Synflow(Proxy):
    """Sum over the weights w of convolution and linear layers of ``|w ∂R/∂w|``, R the sum of the logits for one image of
    ones, with all weights and buffers replaced by their absolute values and batch norm by the identity. Computed in
    float64 (deep networks leave the range of float32). Higher is better.

    AZ-NAS, VKDNW and zero-cost-nas return the sum itself (zero-cost-nas leaves batch norm in the reduction blocks),
    NASLib its logarithm.

    Args:
        log: return the natural logarithm, as NASLib does.
    """

    info = ProxyInfo(
        name="synflow", title="SynFlow", source="Tanaka et al., NeurIPS 2020; Abdelfattah et al., ICLR 2021"
    )

    def __init__(self, log: bool = False) -> None:
        check_bool("synflow.log", log)
        self.log = log

    def compute(self, borrowed: Borrowed) -> dict[str, float]:
        if not borrowed.inputs.is_floating_point():
            raise UndefinedScore("there is no input of ones where inputs are whole numbers")
        network = borrowed.network
        ones = torch.ones_like(borrowed.inputs[:1], dtype=torch.float64)
        try:
            score = _flow(network, ones, NoBatchNormMode())
        except RuntimeError as error:
            if not re.search("type", str(error)):
                raise
            score = math.nan  # it casts to single precision and goes on so
        if not math.isfinite(score):
            try:
                score = _flow(network, ones, _DoubleMode())
            except RuntimeError as error:
                if not re.search("type", str(error)):
                    raise
                raise ValueError(f"synflow is computed in float64; the network casts to another: {error}") from error
        if not math.isfinite(score):
            raise UndefinedScore("without normalisation the signal, or its gradient, leaves the range of float64")
        if self.log and score == 0.0:
            raise UndefinedScore("no signal reaches the logits, and the logarithm of 0 does not exist")
        return {"synflow": math.log(score) if self.log else score}


def _flow(network: nn.Module, ones: Tensor, mode: NoBatchNormMode) -> float:
    _, gradients = absolute_flow(network, ones, mode)
    return total([(w * g).abs().sum() for w, g in weights_and_gradients(network, gradients)])


def absolute_flow(network: nn.Module, ones: Tensor, mode: BatchNormMode) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """(values, gradients of the sum of the logits) by parameter, of a pass with absolute values in float64.

    They stand in the place of the parameters and buffers of the state dict; a parameter that the logits do not depend on
    has no gradient. UndefinedScore where there is none at all.
    """
    parameters, buffers = dict(network.named_parameters()), dict(network.named_buffers())
    lasting = network.state_dict().keys()
    tensors = {
        name: tensor.detach().to(torch.float64 if tensor.is_floating_point() else tensor.dtype, copy=True)
        for name, tensor in {**parameters, **buffers}.items()
    }
    leaves = {}
    for name, tensor in tensors.items():
        if name in lasting and tensor.is_floating_point():
            tensor.abs_()
        if name in parameters and (tensor.is_floating_point() or tensor.is_complex()):
            leaves[name] = tensor.requires_grad_()
    with unchanged(network), torch.enable_grad(), mode:
        logits = check_logits(functional_call(network, tensors, (ones.clone(),)), 1)
    if not logits.requires_grad:
        raise UndefinedScore("the logits depend on no layer's weight")
    grads = torch.autograd.grad(logits.sum(), list(leaves.values()), allow_unused=True)
    gradients = {name: g for name, g in zip(leaves, grads, strict=True) if g is not None}
    return {name: leaf.detach() for name, leaf in leaves.items()}, gradients


class _DoubleMode(NoBatchNormMode):
    """Nor does the network cast to single precision, as linear attention does: the signal has no place in its range."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func is Tensor.float:
            return args[0].double()
        args, kwargs = tree_map(lambda x: torch.float64 if x is torch.float32 else x, (args, kwargs or {}))
        return super().__torch_function__(func, types, args, kwargs)
