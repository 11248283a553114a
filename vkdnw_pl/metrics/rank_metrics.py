"""Rank metrics as torchmetrics: predictions, targets and optional ids, gathered over batches and processes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities.data import dim_zero_cat

from vkdnw_pl.metrics.functional import Ties, check_options, check_pair, kendall_tau, ndcg, spearman_rho

_NO_ID = -1.0
_LARGEST_ID = 2**53


class RankMetric(Metric, ABC):
    """How well ``preds`` orders ``target``, over all batches and processes.

    Give every item a whole number as its id where a sampler may repeat items (Lightning's distributed sampler fills
    up uneven shards with copies): each id then counts once. The result does not depend on the order of the batches,
    nor on the number of processes.
    """

    is_differentiable: bool = False
    higher_is_better: bool = True
    full_state_update: bool = False
    plot_lower_bound: float = -1.0
    plot_upper_bound: float = 1.0

    preds: list[Tensor]
    target: list[Tensor]
    ids: list[Tensor]

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        # All states are float64, so that a process without data, for which torchmetrics invents an empty tensor of
        # the metric's dtype, can be gathered with the others.
        self.set_dtype(torch.float64)
        for name in ("preds", "target", "ids"):
            self.add_state(name, default=[], dist_reduce_fx="cat")

    def update(self, preds: Any, target: Any, ids: Any = None) -> None:
        """Add scores, true values (percent for nDCG) and perhaps ids, all of shape (n,).

        ``ids`` are whole numbers from 0 that tell the items apart; for all updates or for none.
        """
        preds, target = check_pair(preds, target)
        ids = torch.full_like(preds, _NO_ID) if ids is None else _check_ids(ids, preds)
        for state, values in ((self.preds, preds), (self.target, target), (self.ids, ids)):
            state.append(values)

    def compute(self) -> Tensor:
        """The metric over everything added, a float64 tensor without dimensions; nothing added is a ``ValueError``."""
        return self._value(*self._items())

    def plot(self, val: Tensor | Sequence[Tensor] | None = None, ax: Any = None) -> Any:
        """Plot ``val`` (a value or a list of values; without it: what `compute` gives) and return (figure, axes)."""
        return self._plot(val, ax)

    @abstractmethod
    def _value(self, preds: Tensor, target: Tensor) -> Tensor:
        """The metric of all items."""

    def _items(self) -> tuple[Tensor, Tensor]:
        # A gathered state is one tensor, a local one a list.
        states = [dim_zero_cat(s) if len(s) else torch.empty(0) for s in (self.preds, self.target, self.ids)]
        preds, target, ids = states
        if len(preds) == 0:
            raise ValueError(f"{type(self).__name__} has no data: call update(preds, target) before compute()")
        with_id = int((ids != _NO_ID).sum())
        if with_id == 0:
            return preds, target
        if with_id < len(ids):
            raise ValueError(f"{with_id} of {len(ids)} items have an id; give ids to every update or to none")
        order = np.lexsort([s.cpu().numpy() for s in (preds, target, ids)])
        preds, target, ids = (s[torch.from_numpy(order).to(s.device)] for s in states)
        repeated = ids[1:] == ids[:-1]
        # Copies of an item agree but for rounding (another batch, another device); anything else is a mistake.
        differ = repeated & ((target[1:] != target[:-1]) | ~torch.isclose(preds[1:], preds[:-1], rtol=1e-3))
        if differ.any():
            i = int(differ.nonzero()[0])
            raise ValueError(
                f"id {int(ids[i])} came with (preds, target) = ({preds[i]:g}, {target[i]:g}) and ({preds[i + 1]:g}, "
                f"{target[i + 1]:g}); an id stands for one item: call reset() between runs, or use other ids"
            )
        first = torch.cat([repeated.new_ones(1), ~repeated])
        return preds[first], target[first]


class KendallTau(RankMetric):
    """Kendall's tau-b of everything added (see `vkdnw_pl.metrics.functional.kendall_tau`).

    >>> metric = KendallTau()
    >>> metric.update([0.1, 0.2, 0.3], [10.0, 90.0, 80.0])
    >>> metric.compute()
    tensor(0.3333, dtype=torch.float64)
    """

    def _value(self, preds: Tensor, target: Tensor) -> Tensor:
        return kendall_tau(preds, target)


class SpearmanRho(RankMetric):
    """Spearman's rho of everything added (see `vkdnw_pl.metrics.functional.spearman_rho`).

    >>> metric = SpearmanRho()
    >>> metric.update([0.1, 0.2, 0.3], [10.0, 90.0, 80.0])
    >>> metric.compute()
    tensor(0.5000, dtype=torch.float64)
    """

    def _value(self, preds: Tensor, target: Tensor) -> Tensor:
        return spearman_rho(preds, target)


class NDCG(RankMetric):
    """nDCG of everything added, gains 2^accuracy - 1; for the arguments see `vkdnw_pl.metrics.functional.ndcg`.

    ``ties="arbitrary"`` depends on the order of the items: with ids that is the order of the ids, without them the
    order of the updates.

    >>> metric = NDCG(top_k=2)
    >>> metric.update([0.1, 0.2, 0.3], [1.0, 3.0, 2.0])
    >>> metric.compute()
    tensor(0.8340, dtype=torch.float64)
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


def _check_ids(ids: Any, preds: Tensor) -> Tensor:
    ids = torch.as_tensor(ids)
    if ids.is_floating_point() or ids.is_complex() or ids.dtype == torch.bool:
        raise ValueError(f"ids has dtype {ids.dtype}; ids are whole numbers")
    if ids.shape != preds.shape:
        raise ValueError(f"ids has shape {tuple(ids.shape)} and preds {tuple(preds.shape)}; give one id per item")
    if len(ids) and (int(ids.min()) < 0 or int(ids.max()) > _LARGEST_ID):
        raise ValueError(f"ids range from {int(ids.min())} to {int(ids.max())}; allowed are 0 to 2**53")
    return ids.to(preds.device, torch.float64)
