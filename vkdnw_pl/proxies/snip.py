"""SNIP: connection sensitivity."""

from __future__ import annotations

from vkdnw_pl.proxies.base import GraphProxy, ProxyInfo
from vkdnw_pl.proxies.borrow import Borrowed
from vkdnw_pl.proxies.functional.gradients import total, weights_and_gradients


class Snip(GraphProxy):
    """Sum over the weights w of convolution and linear layers of ``|w ∂L/∂w|``, L the mean cross-entropy.

    Higher is better. The gradient with respect to a mask of ones, as the official code has it, is the same product.
    """

    info = ProxyInfo(
        name="snip",
        title="SNIP",
        needs_labels=True,
        input="data",
        batchnorm="batch",
        source="Lee et al., ICLR 2019; Abdelfattah et al., ICLR 2021",
    )

    def compute(self, borrowed: Borrowed) -> dict[str, float]:
        pairs = weights_and_gradients(borrowed.network, borrowed.loss_gradients(self.batchnorm))
        return {"snip": total([(w * g).abs().sum() for w, g in pairs])}
