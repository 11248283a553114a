"""Rank metrics as torchmetrics: states over batches and processes around `vkdnw_pl.metrics.functional`."""

from vkdnw_pl.metrics.rank_metrics import NDCG, KendallTau, SpearmanRho

__all__ = ["NDCG", "KendallTau", "SpearmanRho"]
