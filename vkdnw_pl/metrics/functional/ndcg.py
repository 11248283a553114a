"""Normalised discounted cumulative gain with the exponential gain of accuracies."""

from __future__ import annotations

import difflib
import math
from typing import Any, Literal, get_args

import numpy as np
from torch import Tensor

from vkdnw_pl.metrics.functional.checks import Array, as_result, check_arrays

Ties = Literal["average", "random", "arbitrary"]
TIES: tuple[str, ...] = get_args(Ties)


def ndcg(
    preds: Any, target: Any, top_k: int = 1000, ties: Ties = "average", seed: int = 0, places: float = 1.0
) -> Tensor:
    """nDCG of a ranking's first ``top_k`` items: DCG = sum over j = 1..k of (2^acc_j - 1) / log2(1 + j), over the ideal.

    With accuracies in percent one point doubles the gain, so only the best networks count. Source: VKDNW, Equation 14
    (with P = ``top_k``).

    Args:
        preds: scores of shape (n,), higher = predicted to be better; ``inf`` and ``-inf`` are extremes.
        target: accuracies in percent (0..100), shape (n,).
        top_k: how many places from the top count; all of them where there are fewer.
        ties: what happens to items of equal score. ``average``: the exact expectation over random orders of them
            (McSherry & Najork, ECIR 2008). ``random``: one random order, drawn from ``seed``, whatever order the items
            come in. ``arbitrary``: the order in which numpy's unstable sort leaves them, reversed; it depends on the
            order of the items and on numpy's version (the paper's rule, ``ignore_ties=True`` in scikit-learn).
        seed: of ``ties="random"``.
        places: how many places each item takes. A random sample of n of N items with ``places=N/n`` estimates the nDCG
            of all N: its discounts are those of the places that the sampled items stand for.

    Returns:
        A float64 tensor without dimensions, in [0, 1], higher is better; NaN (undefined) where all accuracies are 0.

    Raises:
        ValueError: if there are no items, the shapes differ, ``preds`` holds NaN, ``target`` a negative or non-finite
            value, ``top_k`` is not a positive whole number, ``ties`` is unknown, or ``places`` is below 1.
    """
    check_options(top_k, ties)
    x, acc, device = check_arrays(preds, target)
    if (worst := acc.min()) < 0:
        raise ValueError(f"target has a value of {worst:g}; nDCG needs accuracies in percent, not negative")
    top = acc.max()
    # Divided by 2^max, which leaves the ratio as it is: nothing overflows, whatever the unit.
    gains = np.exp2(acc - top) - np.exp2(-top)
    discounts = np.diff(discount_sums(len(x), top_k, places))
    ideal = float(np.dot(np.sort(gains)[::-1], discounts))
    if ideal == 0:
        return as_result(math.nan, device)
    if ties == "arbitrary":
        ranked = gains[np.argsort(x)[::-1]]
    else:
        order = np.lexsort((acc, -x))  # one order of equal scores, so that the items' order does not matter
        ranked, x = gains[order], x[order]
        if ties == "random":
            ranked = ranked[np.lexsort((np.random.default_rng(seed).random(len(x)), -x))]
        else:
            ranked = _group_means(ranked, x)
    return as_result(float(np.dot(ranked, discounts)) / ideal, device)


def discount_sums(n: int, top_k: int, places: float = 1.0) -> Array:
    """Sums of the discounts of the first 0..n items, shape (n + 1,), each item taking ``places`` places.

    Raises:
        ValueError: if ``places`` is below 1.
    """
    if not 1 <= places < math.inf:
        raise ValueError(f"places={places!r} is not allowed: an item takes at least 1 place")
    whole = np.r_[0.0, np.cumsum(1 / np.log2(np.arange(2, top_k + 2)))] if places != 1 else None
    if whole is None:
        return np.r_[0.0, np.cumsum(np.where(np.arange(n) < top_k, 1 / np.log2(np.arange(2, n + 2)), 0.0))]
    return np.interp(np.arange(n + 1) * places, np.arange(top_k + 1), whole)  # parts of a place count in proportion


def check_options(top_k: int, ties: str) -> None:
    """Refuse options that `ndcg` does not know.

    Raises:
        ValueError: naming the option, its value and what is allowed.
    """
    if isinstance(top_k, bool) or not isinstance(top_k, int) or top_k < 1:
        raise ValueError(f"top_k={top_k!r} is not allowed: give a whole number of at least 1")
    if ties not in TIES:
        near = difflib.get_close_matches(str(ties), TIES, 1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"ties={ties!r} is not known{hint} (allowed: {', '.join(TIES)})")


def _group_means(gains: Array, scores: Array) -> Array:
    """Replace each gain by the mean over its run of equal ``scores`` (sorted), the expectation at that place."""
    starts = np.flatnonzero(np.r_[True, scores[1:] != scores[:-1]])
    counts = np.diff(np.r_[starts, len(scores)])
    return np.repeat(np.add.reduceat(gains, starts) / counts, counts)
