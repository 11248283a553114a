"""Progressivity (AZ-NAS)."""

from __future__ import annotations

from itertools import pairwise

from vkdnw_pl.proxies.base import Proxy, ProxyInfo
from vkdnw_pl.proxies.borrow import Borrowed
from vkdnw_pl.proxies.functional.batchnorm import BatchNorm, check_batch_norm


class Progressivity(Proxy):
    """Smallest increase of the feature entropy from one stage to the next. Higher is better.

    No score where a feature map is constant (the official code: NaN, then -inf).

    Args:
        batchnorm: ``batch`` as in the official code, or ``sample`` or ``running``.
    """

    info = ProxyInfo(
        name="progressivity",
        title="Progressivity",
        higher_is_better=True,
        needs_labels=False,
        input="images",
        batchnorm="batch",
        source="Lee & Ham, CVPR 2024 (AZ-NAS), section 3.2",
    )

    def __init__(self, batchnorm: BatchNorm = "batch") -> None:
        self.batchnorm = check_batch_norm(batchnorm)

    @property
    def graph(self) -> str:
        return self.batchnorm

    def compute(self, borrowed: Borrowed) -> dict[str, float]:
        entropies = borrowed.feature_entropies(self.batchnorm)
        return {"progressivity": min(after - before for before, after in pairwise(entropies))}
