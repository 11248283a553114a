"""GradNorm: size of the loss gradient."""

from __future__ import annotations

import math
from typing import Literal

from vkdnw_pl.errors import check_choice
from vkdnw_pl.proxies.base import GraphProxy, ProxyInfo, UndefinedScore
from vkdnw_pl.proxies.borrow import Borrowed
from vkdnw_pl.proxies.functional.batchnorm import BatchNorm
from vkdnw_pl.proxies.functional.gradients import total, weights_and_gradients


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
