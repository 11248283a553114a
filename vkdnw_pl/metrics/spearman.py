"""Spearman's rho as a torchmetric."""

from __future__ import annotations

from torch import Tensor

from vkdnw_pl.metrics.base import RankMetric
from vkdnw_pl.metrics.functional.spearman import spearman_rho


class SpearmanRho(RankMetric):
    """Spearman's rho of everything added (see `vkdnw_pl.metrics.functional.spearman_rho`).

    >>> metric = SpearmanRho()
    >>> metric.update([0.1, 0.2, 0.3], [10.0, 90.0, 80.0])
    >>> metric.compute()
    tensor(0.5000, dtype=torch.float64)
    """

    def _value(self, preds: Tensor, target: Tensor) -> Tensor:
        return spearman_rho(preds, target)
