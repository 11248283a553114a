"""Aggregations of several proxies into one ranking."""

from vkdnw_pl.ranking.log_rank import (
    NAMED_SETS,
    RankSum,
    Term,
    aggregate,
    available_rankings,
    count_non_finite,
    parse_ranking,
    rank_values,
)

__all__ = [
    "NAMED_SETS",
    "RankSum",
    "Term",
    "aggregate",
    "available_rankings",
    "count_non_finite",
    "parse_ranking",
    "rank_values",
]
