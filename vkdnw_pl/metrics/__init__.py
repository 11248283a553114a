"""Rank metrics as torchmetrics: states over batches and processes around `vkdnw_pl.metrics.functional`."""

from vkdnw_pl.metrics.kendall import KendallTau
from vkdnw_pl.metrics.ndcg import NDCG
from vkdnw_pl.metrics.spearman import SpearmanRho

__all__ = ["NDCG", "KendallTau", "SpearmanRho"]
