"""NASWOT: how differently the ReLUs see different images."""

from __future__ import annotations

import torch

from vkdnw_pl.proxies.base import GraphProxy, ProxyInfo, UndefinedScore
from vkdnw_pl.proxies.borrow import Borrowed
from vkdnw_pl.proxies.functional.similarity import agreements


class Naswot(GraphProxy):
    """``log |det K|`` where K_ij counts the ReLU units that are on for both of the images i and j, or off for both.

    Higher is better. No score where K is singular, as it is where two images switch the same units on or there are fewer
    units than images less one (official: -inf, or what round-off makes of it).
    """

    info = ProxyInfo(
        name="naswot",
        title="NASWOT",
        input="images",
        batchnorm="batch",
        source="Mellor et al., ICML 2021",
    )

    def compute(self, borrowed: Borrowed) -> dict[str, float]:
        agreement = borrowed.derived(self.batchnorm, "agreement", lambda graph: agreements(graph.relus))
        # The elimination behind a determinant seldom ends in an exact zero, so the rank is what tells.
        if int(torch.linalg.matrix_rank(agreement.kernel, hermitian=True)) < len(agreement.kernel):
            raise UndefinedScore("the kernel of the activation patterns is singular")
        return {"naswot": float(torch.linalg.slogdet(agreement.kernel).logabsdet)}
