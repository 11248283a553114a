"""L2 norm of the weights."""

from __future__ import annotations

from vkdnw_pl.proxies.base import Proxy, ProxyInfo, UndefinedScore
from vkdnw_pl.proxies.borrow import Borrowed
from vkdnw_pl.proxies.functional.gradients import total
from vkdnw_pl.proxies.functional.scalars import layer_weights


class L2Norm(Proxy):
    """Sum over convolution and linear layers of the Euclidean norm of their weight. Higher is better."""

    info = ProxyInfo(
        name="l2_norm",
        title="L2 norm",
        source="Abdelfattah et al., ICLR 2021 (zero-cost-nas); NASLib, l2_norm.py",
        init="pytorch",
    )

    def compute(self, borrowed: Borrowed) -> dict[str, float]:
        weights = layer_weights(borrowed.network)
        if not weights:
            raise UndefinedScore("the network has no layer with weights")
        return {"l2_norm": total([w.detach().norm() for w in weights.values()])}
