"""Normalised discounted cumulative gain as a torchmetric."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from vkdnw_pl.metrics.base import RankMetric
from vkdnw_pl.metrics.functional.ndcg import Ties, check_options, ndcg


class NDCG(RankMetric):
    """nDCG of everything added, gains 2^accuracy - 1 (see `vkdnw_pl.metrics.functional.ndcg`).

    ``ties="arbitrary"`` depends on the order of the items: with ids that is the order of the ids, without them the
    order of the updates.

    >>> metric = NDCG(top_k=2)
    >>> metric.update([0.1, 0.2, 0.3], [1.0, 3.0, 2.0])
    >>> metric.compute()
    tensor(0.8340, dtype=torch.float64)

    Args:
        top_k: how many items from the top count; all of them where there are fewer.
        ties: ``average`` (exact expectation over random orders of items of equal score), ``random`` (one order, drawn
            from ``seed``) or ``arbitrary`` (numpy's unstable sort, as in the paper).
        seed: of ``ties="random"``.
        kwargs: options of `torchmetrics.Metric`.

    Raises:
        ValueError: if ``top_k`` is not a positive whole number or ``ties`` is unknown.
    """

    plot_lower_bound: float = 0.0

    def __init__(self, top_k: int = 1000, ties: Ties = "average", seed: int = 0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        check_options(top_k, ties)
        self.top_k = top_k
        self.ties: Ties = ties
        self.seed = seed

    def _value(self, preds: Tensor, target: Tensor) -> Tensor:
        return ndcg(preds, target, self.top_k, self.ties, self.seed)
