"""Rank metrics as functions: how well scores (``preds``) order what is true (``target``).

``preds`` are scores of shape (n,), higher = predicted to be better, with ``inf`` and ``-inf`` as extremes; ``target``
are true values of shape (n,), higher = better. All metrics are float64 tensors without dimensions, and raise
``ValueError`` if there are no items, the shapes differ, ``preds`` holds NaN or ``target`` a value that is not finite.
"""

from __future__ import annotations

import math
from typing import Any, Literal, get_args

import numpy as np
import torch
from scipy.stats import kendalltau, rankdata
from torch import Tensor

from vkdnw_pl.errors import check_choice, check_whole

__all__ = ["kendall_tau", "ndcg", "spearman_rho"]

Array = np.ndarray[Any, np.dtype[np.float64]]
Ties = Literal["average", "random", "arbitrary"]


def kendall_tau(preds: Any, target: Any) -> Tensor:
    """Kendall's rank correlation tau-b, by scipy's O(n log n) algorithm.

    tau_b = (concordant - discordant) / sqrt((pairs - ties in preds) (pairs - ties in target)), in [-1, 1], higher is
    better; NaN where ``preds`` or ``target`` is constant, as a single item always is. Source: Kendall, "The treatment
    of ties in ranking problems", Biometrika 1945; VKDNW, Section 3.
    """
    x, y, device = _arrays(preds, target)
    if _is_constant(x) or _is_constant(y):
        return _result(math.nan, device)
    # Of the ranks, since older versions of scipy do not take infinities.
    return _result(float(kendalltau(rankdata(x), rankdata(y)).statistic), device)


def spearman_rho(preds: Any, target: Any) -> Tensor:
    """Spearman's rank correlation: Pearson's correlation of the ranks, ties by their average rank. O(n log n).

    In [-1, 1], higher is better; NaN where ``preds`` or ``target`` is constant, as a single item always is. Source:
    Spearman, "The proof and measurement of association between two things", 1904; VKDNW, Section 3.
    """
    x, y, device = _arrays(preds, target)
    if _is_constant(x) or _is_constant(y):
        return _result(math.nan, device)
    # Not scipy.stats.spearmanr: its sums over raw ranks round, so that a perfect ranking can miss 1. Centred average
    # ranks are multiples of 1/2, and their products add up exactly as long as n is below about 400,000.
    centre = (len(x) + 1) / 2
    a, b = rankdata(x) - centre, rankdata(y) - centre
    return _result(float(np.dot(a, b) / np.sqrt(np.dot(a, a) * np.dot(b, b))), device)


def ndcg(
    preds: Any, target: Any, top_k: int = 1000, ties: Ties = "average", seed: int = 0, places: float = 1.0
) -> Tensor:
    """nDCG of the first ``top_k`` items: DCG = sum over j = 1..k of (2^acc_j - 1) / log2(1 + j), over the ideal one.

    With accuracies in percent one point doubles the gain, so only the best networks count. In [0, 1], higher is better;
    NaN (undefined) where all accuracies are 0. Source: VKDNW, Equation 14 (with P = ``top_k``).

    Args:
        preds: scores (n,).
        target: accuracies in percent (0..100), shape (n,).
        top_k: how many places from the top count; all of them where there are fewer.
        ties: what happens to items of equal score. ``average``: the exact expectation over random orders of them
            (McSherry & Najork, ECIR 2008). ``random``: one random order, drawn from ``seed``, whatever order the items
            come in. ``arbitrary``: the order in which numpy's unstable sort leaves them, reversed; it depends on the
            order of the items and on numpy's version (the paper's rule, ``ignore_ties=True`` in scikit-learn).
        seed: of ``ties="random"``.
        places: how many places each item takes. A random sample of n of N items with ``places=N/n`` estimates the nDCG
            of all N: its discounts are those of the places that the sampled items stand for.

    Raises:
        ValueError: also if ``target`` has a negative value, ``top_k`` is not a positive whole number, ``ties`` is
            unknown, or ``places`` is below 1.
    """
    check_options(top_k, ties)
    x, acc, device = _arrays(preds, target)
    if (worst := acc.min()) < 0:
        raise ValueError(f"target has a value of {worst:g}; nDCG needs accuracies in percent, not negative")
    top = acc.max()
    # Divided by 2^max, which leaves the ratio as it is: nothing overflows, whatever the unit.
    gains = np.exp2(acc - top) - np.exp2(-top)
    discounts = np.diff(discount_sums(len(x), top_k, places))
    ideal = float(np.dot(np.sort(gains)[::-1], discounts))
    if ideal == 0:
        return _result(math.nan, device)
    if ties == "arbitrary":
        ranked = gains[np.argsort(x)[::-1]]
    else:
        order = np.lexsort((acc, -x))  # one order of equal scores, so that the items' order does not matter
        ranked, x = gains[order], x[order]
        if ties == "random":
            ranked = ranked[np.lexsort((np.random.default_rng(seed).random(len(x)), -x))]
        else:
            ranked = _group_means(ranked, x)
    return _result(float(np.dot(ranked, discounts)) / ideal, device)


def discount_sums(n: int, top_k: int, places: float = 1.0) -> Array:
    """Sums of nDCG's discounts of the first 0..n items, shape (n + 1,), each item taking ``places`` places."""
    if not 1 <= places < math.inf:
        raise ValueError(f"places={places!r} is not allowed: an item takes at least 1 place")
    if places == 1:
        return np.r_[0.0, np.cumsum(np.where(np.arange(n) < top_k, 1 / np.log2(np.arange(2, n + 2)), 0.0))]
    whole = np.r_[0.0, np.cumsum(1 / np.log2(np.arange(2, top_k + 2)))]
    return np.interp(np.arange(n + 1) * places, np.arange(top_k + 1), whole)  # parts of a place count in proportion


def check_options(top_k: int, ties: str) -> None:
    """Refuse options that `ndcg` does not know."""
    check_whole("top_k", top_k, 1)
    check_choice("ties", ties, get_args(Ties))


def check_pair(preds: Any, target: Any) -> tuple[Tensor, Tensor]:
    """Predictions and targets as float64 tensors of shape (n,), detached, on the device of the predictions."""
    preds = _double(preds)
    target = _double(target).to(preds.device)
    if preds.ndim != 1 or preds.shape != target.shape:
        raise ValueError(f"preds has shape {tuple(preds.shape)} and target {tuple(target.shape)}; both must be (n,)")
    if num_nan := int(preds.isnan().sum()):
        raise ValueError(f"preds has {num_nan} NaN among {len(preds)} values; drop these items or give -inf")
    if num_bad := int((~target.isfinite()).sum()):
        raise ValueError(f"target has {num_bad} value(s) of {len(target)} that are not finite; drop these items")
    return preds, target


def _arrays(preds: Any, target: Any) -> tuple[Array, Array, torch.device]:
    preds, target = check_pair(preds, target)
    if len(preds) == 0:
        raise ValueError("preds and target are empty; a rank metric needs at least one item")
    return preds.cpu().numpy(), target.cpu().numpy(), preds.device


def _double(values: Any) -> Tensor:
    if not isinstance(values, Tensor):
        # Not torch.as_tensor(values): it would round a list of Python floats to float32.
        return torch.from_numpy(np.array(values, dtype=np.float64))
    values = values.detach()
    return (values.cpu() if values.device.type == "mps" else values).double()


def _is_constant(values: Array) -> bool:
    return bool((values == values[0]).all())


def _result(value: float, device: torch.device) -> Tensor:
    return torch.tensor(value, dtype=torch.float64, device=device)


def _group_means(gains: Array, scores: Array) -> Array:
    """Replace each gain by the mean over its run of equal ``scores`` (sorted), the expectation at that place."""
    starts = np.flatnonzero(np.r_[True, scores[1:] != scores[:-1]])
    counts = np.diff(np.r_[starts, len(scores)])
    return np.repeat(np.add.reduceat(gains, starts) / counts, counts)
