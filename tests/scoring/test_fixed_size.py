import numpy as np
import pytest
import scipy.stats

from vkdnw_pl.scoring.fixed_size import FixedSizeMeasure, size_groups


def test_partial_correlation_is_that_of_residuals_of_ranks():
    rng = np.random.default_rng(0)
    size, accuracy = rng.integers(0, 9, 60).astype(float), rng.normal(size=60)
    accuracy += size
    score = accuracy + size + rng.normal(size=60)
    ranks = [scipy.stats.rankdata(values) for values in (size, accuracy, score)]
    line = np.stack([np.ones(60), ranks[0]], axis=1)
    rest = [values - line @ np.linalg.lstsq(line, values, rcond=None)[0] for values in ranks[1:]]
    found = FixedSizeMeasure(size, accuracy).partial_spearman(score, np.ones((1, 60)))
    assert found[0] == pytest.approx(np.corrcoef(*rest)[0, 1], abs=1e-12)


def test_size_says_nothing_at_equal_size():
    rng = np.random.default_rng(1)
    size = rng.permutation(400).astype(float)
    accuracy = size + rng.normal(0, 100, 400)
    measure, once = FixedSizeMeasure(size, accuracy), np.ones((1, 400))
    assert np.isnan(measure.partial_spearman(size, once)[0])
    assert np.isnan(measure.partial_spearman(np.exp(size / 400), once)[0])  # the same order
    noisy = measure.partial_spearman(size + rng.normal(0, 100, 400), once)[0]
    assert abs(noisy) < 0.15 < scipy.stats.spearmanr(size, accuracy).statistic
    assert measure.partial_spearman(accuracy, once)[0] == pytest.approx(1, abs=1e-9)
    assert measure.partial_spearman(-accuracy, once)[0] == pytest.approx(-1, abs=1e-9)


def test_within_groups_are_the_pairs_of_each_group():
    size = np.array([1.0, 1, 1, 2, 2, 2])
    accuracy = np.array([1.0, 2, 3, 30, 20, 10])
    measure, once = FixedSizeMeasure(size, accuracy), np.ones((1, 6))
    assert measure.num_groups == 2
    assert measure.within_kendall(np.array([5.0, 6, 7, 3, 2, 1]), once)[0] == 1  # though the groups are reversed
    assert measure.within_kendall(np.array([5.0, 6, 7, 1, 2, 3]), once)[0] == 0
    assert np.isnan(measure.within_kendall(size, once)[0])
    # Of one group tau-b, and of a sample that of the networks as often as they were drawn.
    score, values = np.array([1.0, 2, 2, 5, 4, 3]), np.array([1.0, 3, 2, 4, 4, 9])
    measure = FixedSizeMeasure(np.zeros(6), values)
    draws = np.array([[1.0, 1, 1, 1, 1, 1], [0, 2, 1, 3, 0, 0]])
    for draw, found in zip(draws, measure.within_kendall(score, draws)):
        chosen = np.repeat(np.arange(6), draw.astype(int))
        assert found == pytest.approx(scipy.stats.kendalltau(score[chosen], values[chosen]).statistic, abs=1e-12)


def test_networks_of_equal_size_are_in_one_group():
    assert list(size_groups(np.array([3.0, 1, 3, 2]), 2)) == [1, 0, 1, 0]
    assert list(size_groups(np.full(7, 5.0))) == [0] * 7
    counts = np.bincount(size_groups(np.random.default_rng(0).permutation(100).astype(float)))
    assert list(counts) == [20] * 5
