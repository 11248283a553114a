"""How well scores agree with accuracies, as the numbers that every table of metrics has."""

from __future__ import annotations

import math
from typing import Any

METRICS = ("kendall", "spearman", "ndcg")


def rank_agreement(score: Any, accuracy: Any, top_k: int, ties: str, places: float = 1.0) -> dict[str, float | None]:
    """Kendall's tau-b, Spearman's rho and nDCG of scores (n,) for accuracies (n,), by `METRICS`; None where undefined.

    See ``metrics.functional.ndcg`` for the other arguments.
    """
    from vkdnw_pl.metrics.functional import kendall_tau, ndcg, spearman_rho

    values = (
        float(kendall_tau(score, accuracy)),
        float(spearman_rho(score, accuracy)),
        float(ndcg(score, accuracy, top_k=top_k, ties=ties, places=places)),  # type: ignore[arg-type]
    )
    return {name: None if math.isnan(value) else value for name, value in zip(METRICS, values)}
