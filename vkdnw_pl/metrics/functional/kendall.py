"""Kendall's tau-b."""

from __future__ import annotations

import math
from typing import Any

from scipy.stats import kendalltau
from torch import Tensor

from vkdnw_pl.metrics.functional.checks import as_result, check_arrays, is_constant


def kendall_tau(preds: Any, target: Any) -> Tensor:
    """Kendall's rank correlation tau-b, by scipy's O(n log n) algorithm.

    tau_b = (concordant - discordant) / sqrt((pairs - ties in preds) (pairs - ties in target)), in [-1, 1], higher is
    better. Source: Kendall, "The treatment of ties in ranking problems", Biometrika 1945; VKDNW, Section 3.

    Args:
        preds: scores of shape (n,), higher = predicted to be better; ``inf`` and ``-inf`` are extremes.
        target: true values of shape (n,), higher = better.

    Returns:
        A float64 tensor without dimensions; NaN (undefined, as in scipy) where ``preds`` or ``target`` is constant,
        which a single item always is.

    Raises:
        ValueError: if there are no items, the shapes differ, ``preds`` holds NaN or ``target`` a non-finite value.
    """
    x, y, device = check_arrays(preds, target)
    undefined = is_constant(x) or is_constant(y)
    return as_result(math.nan if undefined else float(kendalltau(x, y).statistic), device)
