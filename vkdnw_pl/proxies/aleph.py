"""Aleph: the number of layers with weights."""

from __future__ import annotations

from vkdnw_pl.proxies.base import Proxy, ProxyInfo
from vkdnw_pl.proxies.borrow import Borrowed
from vkdnw_pl.proxies.functional.scalars import layer_weights


class Aleph(Proxy):
    """ℵ, the number of layers with weights (convolutions and linear layers, no normalisation). Higher is better.

    The official code counts parameter tensors instead (``vkdnw_official_dim``); on NAS-Bench-201 both order alike.
    """

    info = ProxyInfo(name="aleph", title="ℵ", source="Tybl & Neumann, CVPR 2025, section 2.3 and eq. 12")

    def compute(self, borrowed: Borrowed) -> dict[str, float]:
        return {"aleph": float(len(layer_weights(borrowed.network)))}
