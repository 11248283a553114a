"""Expressivity (AZ-NAS)."""

from __future__ import annotations

from vkdnw_pl.proxies.base import Proxy, ProxyInfo
from vkdnw_pl.proxies.borrow import Borrowed
from vkdnw_pl.proxies.functional.batchnorm import BatchNorm, check_batch_norm


class Expressivity(Proxy):
    """Sum over the feature maps of the entropy of their channel covariance's spectrum. Higher is better.

    No score where a feature map is constant (the official code: NaN, then -inf).

    Args:
        batchnorm: ``batch`` as in the official code, or ``sample`` or ``running``.
    """

    info = ProxyInfo(
        name="expressivity",
        title="Expressivity",
        higher_is_better=True,
        needs_labels=False,
        input="images",
        batchnorm="batch",
        source="Lee & Ham, CVPR 2024 (AZ-NAS), section 3.1",
    )

    def __init__(self, batchnorm: BatchNorm = "batch") -> None:
        self.batchnorm = check_batch_norm(batchnorm)

    @property
    def graph(self) -> str:
        return self.batchnorm

    def compute(self, borrowed: Borrowed) -> dict[str, float]:
        return {"expressivity": sum(borrowed.feature_entropies(self.batchnorm))}
