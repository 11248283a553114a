"""Rank metrics as torchmetrics: states over batches and processes around `vkdnw_pl.metrics.functional`."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vkdnw_pl.metrics.rank_metrics import NDCG, KendallTau, SpearmanRho

__all__ = ["NDCG", "KendallTau", "SpearmanRho"]


def __getattr__(name: str) -> Any:
    # Importing torchmetrics takes seconds; the functions do without.
    if name in __all__:
        from vkdnw_pl.metrics import rank_metrics

        return getattr(rank_metrics, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
