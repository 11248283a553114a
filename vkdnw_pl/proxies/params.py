"""Number of parameters."""

from __future__ import annotations

from vkdnw_pl.proxies.base import Proxy, ProxyInfo
from vkdnw_pl.proxies.borrow import Borrowed


class Params(Proxy):
    """Number of learnable scalars; a shared tensor counts once. Higher is better."""

    info = ProxyInfo(name="params", title="#params", source="Dong & Yang, ICLR 2020 (NAS-Bench-201)")

    def compute(self, borrowed: Borrowed) -> dict[str, float]:
        return {"params": float(sum(p.numel() for p in borrowed.network.parameters()))}
