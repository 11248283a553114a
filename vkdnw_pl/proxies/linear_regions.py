"""Linear regions that the images fall into (TE-NAS)."""

from __future__ import annotations

from vkdnw_pl.proxies.base import GraphProxy, ProxyInfo
from vkdnw_pl.proxies.borrow import Borrowed
from vkdnw_pl.proxies.functional.similarity import agreements


class LinearRegions(GraphProxy):
    """Number of different on-off patterns of the ReLUs of feature maps among the images, at most B. Higher is better.

    One half of TE-NAS, whose ranking adds the ranks of this and of ``ntk_condition``.
    """

    info = ProxyInfo(
        name="linear_regions",
        title="Linear regions",
        input="images",
        batchnorm="batch",
        source="Chen et al., ICLR 2021 (TE-NAS); github.com/ondratybl/VKDNW, compute_te_nas_score.py",
        init="pytorch",
    )

    def compute(self, borrowed: Borrowed) -> dict[str, float]:
        maps = borrowed.derived(
            self.batchnorm, "map agreement", lambda graph: agreements([r for r in graph.relus if r.dim() == 4])
        )
        same = maps.kernel == maps.units
        # Images of one pattern share one region: each of m such counts 1 / m.
        return {"linear_regions": float((1.0 / same.sum(1)).sum().round())}
