"""Agreement of a ranking with accuracies among networks of equal size: what it knows beyond the size."""

from __future__ import annotations

import numpy as np

from vkdnw_pl.ranking import rank_values
from vkdnw_pl.scoring.bootstrap import agreement, centred_ranks, dense_ranks, untied_pairs
from vkdnw_pl.scoring.evaluation import Array

SIZE = "macs"
"""The ranking that is held fixed."""
GROUPS = 5
"""So many groups of equal numbers of networks, by size."""


class FixedSizeMeasure:
    """Measures rankings of networks with their size held fixed, on samples of these networks.

    Args:
        size: shape (n,).
        accuracies: shape (n,), higher = better.
    """

    def __init__(self, size: Array, accuracies: Array) -> None:
        self._size = size
        self._accuracies = accuracies
        groups = size_groups(size)
        self.num_groups = int(groups.max()) + 1
        self._members = [np.flatnonzero(groups == group) for group in range(self.num_groups)]

    def partial_spearman(self, score: Array, draws: Array) -> Array:
        """Partial rank correlation of score (n,) and accuracy given the size, shape (samples,), higher = better.

        rho(s, a | m) = (rho(s, a) - rho(s, m) rho(a, m)) / sqrt((1 - rho(s, m)^2) (1 - rho(a, m)^2)), the correlation of
        what a linear regression on the ranks of the size leaves of the ranks of both. NaN where it leaves nothing of one.
        Source: Kendall & Gibbons, Rank Correlation Methods, 1990, Chapter 8, for Spearman's rho.

        ``draws`` says how often each network is in each sample, shape (samples, n).
        """
        s, a, m = (centred_ranks(values, draws) for values in (score, self._accuracies, self._size))
        of_score, of_accuracy, both = (_correlation(x, y, draws) for x, y in ((s, m), (a, m), (s, a)))
        with np.errstate(invalid="ignore", divide="ignore"):
            rest = (1 - of_score**2) * (1 - of_accuracy**2)
            return np.where(rest > 0, (both - of_score * of_accuracy) / np.sqrt(rest), np.nan)

    def within_kendall(self, score: Array, draws: Array) -> Array:
        """Kendall's tau-b over the pairs of networks in the same group of size, shape (samples,), higher = better.

        (concordant - discordant) / sqrt(pairs untied in the score x pairs untied in the accuracy), each the sum over the
        groups; NaN where there is no such pair. ``draws`` as of `partial_spearman`.
        """
        pairs = np.zeros((3, len(draws)))
        for members in self._members:
            x, y = dense_ranks(score[members]), dense_ranks(self._accuracies[members])
            drawn = draws[:, members]
            pairs += [agreement(x, y, drawn), untied_pairs(x, drawn), untied_pairs(y, drawn)]
        with np.errstate(invalid="ignore", divide="ignore"):
            return pairs[0] / np.sqrt(pairs[1] * pairs[2])


def size_groups(size: Array, groups: int = GROUPS) -> Array:
    """Group 0, 1, ... of each network, from small to large; networks of equal size are in one group."""
    place = (rank_values(size) - 0.5) / len(size)
    return np.unique(np.floor(place * groups), return_inverse=True)[1].reshape(-1)


def _correlation(x: Array, y: Array, draws: Array) -> Array:
    with np.errstate(invalid="ignore", divide="ignore"):
        return (draws * x * y).sum(axis=1) / np.sqrt((draws * x**2).sum(axis=1) * (draws * y**2).sum(axis=1))
