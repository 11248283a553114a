"""Spearman's rho."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from scipy.stats import rankdata
from torch import Tensor

from vkdnw_pl.metrics.functional.checks import as_result, check_arrays, is_constant


def spearman_rho(preds: Any, target: Any) -> Tensor:
    """Spearman's rank correlation: Pearson's correlation of the ranks, ties by their average rank. O(n log n).

    In [-1, 1], higher is better. Source: Spearman, "The proof and measurement of association between two things",
    1904; VKDNW, Section 3.

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
    if is_constant(x) or is_constant(y):
        return as_result(math.nan, device)
    # Not scipy.stats.spearmanr: its sums over raw ranks round, so that a perfect ranking can miss 1. Centred average
    # ranks are multiples of 1/2, and their products add up exactly as long as n is below about 400,000.
    centre = (len(x) + 1) / 2
    a, b = rankdata(x) - centre, rankdata(y) - centre
    return as_result(float(np.dot(a, b) / np.sqrt(np.dot(a, a) * np.dot(b, b))), device)
