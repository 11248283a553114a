"""Kendall's tau-b as a torchmetric."""

from __future__ import annotations

from torch import Tensor

from vkdnw_pl.metrics.base import RankMetric
from vkdnw_pl.metrics.functional.kendall import kendall_tau


class KendallTau(RankMetric):
    """Kendall's tau-b of everything added (see `vkdnw_pl.metrics.functional.kendall_tau`).

    >>> metric = KendallTau()
    >>> metric.update([0.1, 0.2, 0.3], [10.0, 90.0, 80.0])
    >>> metric.compute()
    tensor(0.3333, dtype=torch.float64)
    """

    def _value(self, preds: Tensor, target: Tensor) -> Tensor:
        return kendall_tau(preds, target)
