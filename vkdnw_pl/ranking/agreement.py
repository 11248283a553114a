"""Weights of a ranking's terms without labels: by how far they agree with one another in the population at hand.

Source: the spectral meta-learner, which weighs classifiers by the leading eigenvector of their covariances (Parisi et al.,
"Ranking and combining multiple predictors without labeled data", PNAS 2014); here of proxies' rank correlations.
"""

from __future__ import annotations

from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[np.float64]]

POWER = 0.5
"""Of the eigenvector's entries; below 1 the weights are more alike than the agreement."""
_FEWEST = 3
_TIED = 1e-8
_DIGITS = 9


def agreement_weights(ranks: Array) -> Array:
    """Weights (k,) of terms, at least 0 and with the sum 1, from the average ranks (k, n) of a population under each.

    They are max(0, v) to the power `POWER`, divided by their sum, where v is the leading eigenvector of Spearman's rank
    correlations of the terms, of the sign that makes its sum positive. A term that is constant has the weight 0: it takes
    part in nothing. So has one that goes against what the others agree on.

    Where there is no such majority, all terms that are not constant have the same weight: for fewer than three rows; for one
    or two terms, also if they order oppositely; and where the leading eigenvalue is double, or the eigenvector's sum is 0,
    within `_TIED`, as of terms that are all uncorrelated. If every term is constant, all have the same weight.

    The correlations are exact up to one rounding for up to 300,000 rows, and weights are rounded to nine digits: neither
    the order of the rows and terms nor the linear-algebra library decides about them.
    """
    count, rows = ranks.shape
    whole = np.rint(2 * ranks) - np.rint(2 * ranks.mean(axis=1, keepdims=True)) if rows else ranks  # ranks are halves
    sums = whole.sum(axis=1)
    products = rows * (whole @ whole.T) - np.outer(sums, sums)
    varies = np.diag(products) > 0
    if rows < _FEWEST or not varies.any():
        return np.full(count, 1 / count)
    products = products[np.ix_(varies, varies)]
    scale = np.sqrt(np.diag(products))
    weights = np.zeros(count)
    weights[varies] = _leading(products / np.outer(scale, scale))
    return np.round(weights / weights.sum(), _DIGITS)


def _leading(correlations: Array) -> Array:
    """Weights (k,) of correlations (k, k), not yet normalised; all 1 where no direction leads."""
    count = len(correlations)
    values, vectors = np.linalg.eigh(correlations)
    leading = vectors[:, -1]
    total = leading.sum()
    if count < 3 or values[-1] - values[-2] < _TIED or abs(total) < _TIED:
        return np.ones(count)
    leading = np.sign(total) * leading
    return np.where(leading > _TIED, leading, 0.0) ** POWER  # the root would make much of rounding
