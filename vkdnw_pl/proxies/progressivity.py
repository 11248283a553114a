"""Progressivity (AZ-NAS)."""

from __future__ import annotations

from itertools import pairwise

from vkdnw_pl.proxies.base import GraphProxy, ProxyInfo
from vkdnw_pl.proxies.borrow import Borrowed


class Progressivity(GraphProxy):
    """Smallest increase of the feature entropy from one stage to the next. Higher is better.

    No score where a feature map is constant (the official code: NaN, then -inf).
    """

    info = ProxyInfo(
        name="progressivity",
        title="Progressivity",
        input="images",
        batchnorm="batch",
        source="Lee & Ham, CVPR 2024 (AZ-NAS), section 3.2",
    )

    def compute(self, borrowed: Borrowed) -> dict[str, float]:
        entropies = borrowed.feature_entropies(self.batchnorm)
        return {"progressivity": min(after - before for before, after in pairwise(entropies))}
