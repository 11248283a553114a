"""Plain: first-order change of the loss when weights are removed."""

from __future__ import annotations

from vkdnw_pl.proxies.base import GraphProxy, ProxyInfo
from vkdnw_pl.proxies.borrow import Borrowed
from vkdnw_pl.proxies.functional.gradients import total, weights_and_gradients


class Plain(GraphProxy):
    """Sum over the weights w of convolution and linear layers of ``w ∂L/∂w``, L the mean cross-entropy.

    Higher is better. Where every layer is followed by batch norm the sum is that of the last linear layer alone, since
    the loss does not change with the scale of any other weight.
    """

    info = ProxyInfo(
        name="plain",
        title="Plain",
        needs_labels=True,
        input="data",
        batchnorm="batch",
        source="Mozer & Smolensky 1988; Abdelfattah et al., ICLR 2021 (zero-cost-nas)",
        init="pytorch",
    )

    def compute(self, borrowed: Borrowed) -> dict[str, float]:
        pairs = weights_and_gradients(borrowed.network, borrowed.loss_gradients(self.batchnorm))
        return {"plain": total([(w * g).sum() for w, g in pairs])}
