"""SynFlow: synaptic flow."""

from __future__ import annotations

import copy
import math

import torch
from torch import nn
from torch.func import functional_call

from vkdnw_pl.errors import check_bool
from vkdnw_pl.proxies.base import Proxy, ProxyInfo, UndefinedScore
from vkdnw_pl.proxies.borrow import Borrowed
from vkdnw_pl.proxies.functional.batchnorm import NoBatchNormMode
from vkdnw_pl.proxies.functional.gradients import total, weights_and_gradients
from vkdnw_pl.proxies.functional.trace import check_logits


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
        network = _absolute(borrowed.network)
        ones = torch.ones_like(borrowed.inputs[:1], dtype=torch.float64)
        leaves = {name: p.detach().requires_grad_() for name, p in network.named_parameters()}
        with torch.enable_grad(), NoBatchNormMode():
            logits = check_logits(functional_call(network, leaves, (ones,)), 1)
        if not logits.requires_grad:
            raise UndefinedScore("the logits depend on no layer's weight")
        grads = torch.autograd.grad(logits.sum(), list(leaves.values()), allow_unused=True)
        gradients = {name: g for name, g in zip(leaves, grads, strict=True) if g is not None}
        score = total([(w * g).abs().sum() for w, g in weights_and_gradients(network, gradients)])
        if self.log and score == 0.0:
            raise UndefinedScore("no signal reaches the logits, and the logarithm of 0 does not exist")
        return {"synflow": math.log(score) if self.log else score}


def _absolute(network: nn.Module) -> nn.Module:
    """A copy in float64 whose parameters and buffers are the absolute values."""
    network = copy.deepcopy(network).double()
    with torch.no_grad():
        for tensor in network.state_dict().values():
            if tensor.is_floating_point():
                tensor.abs_()
    return network
