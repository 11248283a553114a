"""ZiCo: gradients that are large and alike from batch to batch."""

from __future__ import annotations

import math

import torch

from vkdnw_pl.errors import check_whole
from vkdnw_pl.proxies.base import GraphProxy, ProxyInfo, UndefinedScore
from vkdnw_pl.proxies.borrow import Borrowed
from vkdnw_pl.proxies.functional.batchnorm import BatchNorm
from vkdnw_pl.proxies.functional.scalars import layer_weights


class ZiCo(GraphProxy):
    """Sum over convolution and linear layers of ``log Σ_w mean|g_w| / std(g_w)``. Higher is better.

    Mean and standard deviation (not corrected) of the gradient of the mean cross-entropy over batches; weights whose
    gradient never changes are left out, and a layer of only such weights too. No score where no layer is left
    (official: 0).

    Args:
        batches: how many, the official code has 2.
    """

    info = ProxyInfo(
        name="zico",
        title="ZiCo",
        needs_labels=True,
        input="data",
        batchnorm="batch",
        source="Li et al., ICLR 2023; github.com/SLDGroup/ZiCo",
        init="pytorch",
    )

    def __init__(self, batches: int = 2, batchnorm: BatchNorm = "batch") -> None:
        check_whole("zico.batches", batches, 2)
        super().__init__(batchnorm)
        self.batches = batches

    def compute(self, borrowed: Borrowed) -> dict[str, float]:
        names = list(layer_weights(borrowed.network))
        if not names:
            raise UndefinedScore("the network has no layer with weights")
        collected: dict[str, list[torch.Tensor]] = {name: [] for name in names}
        for index in range(self.batches):
            gradients = borrowed.loss_gradients(self.batchnorm, index)
            for name in names:
                if name in gradients:
                    collected[name].append(gradients[name])
        score, counted = 0.0, 0
        for grads_of_layer in filter(None, collected.values()):
            g = torch.stack(grads_of_layer).double()
            std, mean = g.std(0, correction=0), g.abs().mean(0)
            ratio = float((mean / std)[std != 0].sum())
            if ratio != 0.0:  # one that is not a number stays in the score
                score, counted = score + math.log(ratio), counted + 1
        if not counted:
            raise UndefinedScore("no layer has a gradient that changes from batch to batch")
        return {"zico": score}
