"""Rank metrics as functions: how well scores (``preds``) order what is true (``target``)."""

from vkdnw_pl.metrics.functional.kendall import kendall_tau
from vkdnw_pl.metrics.functional.ndcg import ndcg
from vkdnw_pl.metrics.functional.spearman import spearman_rho

__all__ = ["kendall_tau", "ndcg", "spearman_rho"]
