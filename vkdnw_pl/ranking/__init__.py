"""Aggregations of several proxies into one ranking."""

from vkdnw_pl.ranking.log_rank import (
    NAMED_SETS,
    RankSum,
    Term,
    aggregate,
    available_rankings,
    columns_of,
    parse_ranking,
    rank_values,
)

__all__ = [
    "NAMED_SETS",
    "RankSum",
    "Term",
    "aggregate",
    "available_rankings",
    "columns_of",
    "parse_ranking",
    "rank_values",
]
