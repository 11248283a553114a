"""GradSign: agreement of the signs of single images' gradients."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from vkdnw_pl.proxies.base import Proxy, ProxyInfo, UndefinedScore
from vkdnw_pl.proxies.borrow import Borrowed
from vkdnw_pl.proxies.functional.batchnorm import BatchNorm, check_batch_norm
from vkdnw_pl.proxies.functional.calls import is_finite
from vkdnw_pl.proxies.functional.samples import per_sample_gradients
from vkdnw_pl.proxies.functional.scalars import layer_weights
from vkdnw_pl.proxies.graph import check_classes


class GradSign(Proxy):
    """Mean over the weights w of convolution and linear layers of ``|Σ_b sign(∂L_b/∂w)|``, L_b the cross-entropy of
    image b alone. Higher is better by the paper.

    The official code passes one image at a time through batch norm in training mode, which normalises it by its own
    statistics: ``sample``. Its authors' published table quotes another paper's numbers; on NAS-Bench-201 the value
    correlates negatively with accuracy when it is computed this way.

    Args:
        batchnorm: ``sample`` as in the official code, or ``running``.
    """

    info = ProxyInfo(
        name="grad_sign",
        title="GradSign",
        needs_labels=True,
        input="data",
        batchnorm="sample",
        source="Zhang & Jia, ICLR 2022; github.com/ondratybl/VKDNW, compute_gradsign_score.py",
        init="pytorch",
    )

    def __init__(self, batchnorm: BatchNorm = "sample") -> None:
        self.batchnorm = check_batch_norm(batchnorm)
        if batchnorm == "batch":
            raise ValueError(
                "grad_sign.batchnorm='batch' is not allowed: images are taken alone; give sample or running"
            )

    def compute(self, borrowed: Borrowed) -> dict[str, float]:
        network, labels = borrowed.network, borrowed.labels
        weights = layer_weights(network)
        if not weights:
            raise UndefinedScore("the network has no layer with weights")
        if (trace := borrowed.trace(self.batchnorm)).coupled:
            raise ValueError("the network couples the images of a batch, so none has a gradient by itself")
        check_classes(labels, trace.num_logits)
        sums = {name: torch.zeros_like(w) for name, w in weights.items()}
        for gradients in per_sample_gradients(
            network, list(weights), borrowed.inputs, F.cross_entropy, trace, (labels,), self.batchnorm
        ):
            if not all(map(is_finite, gradients.values())):
                raise FloatingPointError("a gradient is not finite")
            for name, g in gradients.items():
                sums[name] += g.sign().sum(0)
        total = sum(float(s.abs().sum(dtype=torch.float64)) for s in sums.values())
        return {"grad_sign": total / sum(s.numel() for s in sums.values())}
