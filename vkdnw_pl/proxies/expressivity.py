"""Expressivity (AZ-NAS)."""

from __future__ import annotations

import math

from vkdnw_pl.proxies.base import GraphProxy, ProxyInfo
from vkdnw_pl.proxies.borrow import Borrowed


class Expressivity(GraphProxy):
    """Sum over the feature maps of the entropy of their channel covariance's spectrum. Higher is better.

    No score where a feature map is constant (the official code: NaN, then -inf).
    """

    info = ProxyInfo(
        name="expressivity",
        title="Expressivity",
        input="images",
        batchnorm="batch",
        source="Lee & Ham, CVPR 2024 (AZ-NAS), section 3.1",
    )

    def compute(self, borrowed: Borrowed) -> dict[str, float]:
        return {"expressivity": math.fsum(borrowed.feature_entropies(self.batchnorm))}
