"""Kendall, Spearman and nDCG against scipy, scikit-learn and definitions written out."""

import itertools
import math
import time

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import kendalltau, spearmanr
from sklearn.metrics import ndcg_score

from vkdnw_pl.metrics.functional import kendall_tau, ndcg, spearman_rho

METRICS = [kendall_tau, spearman_rho, ndcg]

# Few distinct values, so that ties are common; accuracies on a grid, so that targets tie too.
SCORES = st.integers(-4, 4).map(float) | st.sampled_from([math.inf, -math.inf, 0.5])
ACCURACIES = st.integers(0, 12).map(lambda i: i * 100 / 12)
PAIRS = st.lists(st.tuples(SCORES, ACCURACIES), min_size=1, max_size=12)


def tau_b_by_definition(x, y):
    concordant = discordant = tied_x = tied_y = 0
    for (a, b), (c, d) in itertools.combinations(zip(x, y), 2):
        sign_x, sign_y = (a > c) - (a < c), (b > d) - (b < d)
        concordant += sign_x * sign_y == 1
        discordant += sign_x * sign_y == -1
        tied_x += sign_x == 0
        tied_y += sign_y == 0
    pairs = len(x) * (len(x) - 1) // 2
    norm = math.sqrt((pairs - tied_x) * (pairs - tied_y))
    return (concordant - discordant) / norm if norm else math.nan


def average_ranks(x):
    return [sum(b < a for b in x) + (sum(b == a for b in x) + 1) / 2 for a in x]


def dcg(accuracies, k):
    return sum((2.0**acc - 1) / math.log2(2 + j) for j, acc in enumerate(accuracies[:k]))


def close(a, b, tolerance=1e-12):
    return (math.isnan(a) and math.isnan(b)) or a == pytest.approx(b, rel=tolerance, abs=tolerance)


@given(PAIRS)
def test_kendall_is_tau_b(pairs):
    x, y = map(list, zip(*pairs))
    assert close(float(kendall_tau(x, y)), tau_b_by_definition(x, y))


@given(PAIRS)
def test_spearman_is_pearson_of_average_ranks(pairs):
    x, y = map(list, zip(*pairs))
    expected = math.nan
    if len(set(x)) > 1 and len(set(y)) > 1:
        expected = float(np.corrcoef(average_ranks(x), average_ranks(y))[0, 1])
    assert close(float(spearman_rho(x, y)), expected)


@given(PAIRS, st.integers(1, 15))
def test_ndcg_average_is_the_mean_over_all_orders_of_ties(pairs, k):
    pairs = pairs[:6]
    x, y = map(list, zip(*pairs))
    orders = [o for o in itertools.permutations(range(len(x))) if all(x[a] >= x[b] for a, b in itertools.pairwise(o))]
    ideal = dcg(sorted(y, reverse=True), k)
    expected = np.mean([dcg([y[i] for i in o], k) for o in orders]) / ideal if ideal else math.nan
    assert close(float(ndcg(x, y, top_k=k)), float(expected), 1e-9)


@pytest.mark.filterwarnings("ignore:invalid value encountered in cast")
@given(PAIRS.filter(lambda pairs: len(pairs) > 1), st.integers(1, 15))
def test_ndcg_equals_scikit_learn(pairs, k):
    x, y = (np.array(v) for v in zip(*pairs))
    if y.max() == 0:
        return
    x = np.clip(x, -9, 9)  # scikit-learn refuses infinities
    gains = (2.0**y - 1)[None]
    for ties in ("average", "arbitrary"):
        expected = ndcg_score(gains, x[None], k=k, ignore_ties=ties == "arbitrary")
        assert close(float(ndcg(x, y, k, ties)), expected, 1e-9)


@pytest.mark.filterwarnings("ignore:invalid value encountered in cast")
def test_large_with_many_ties_against_scipy_and_scikit_learn():
    rng = np.random.default_rng(0)
    y = rng.normal(80, 8, 5000).clip(0, 100).round(1)
    x = (y + rng.normal(0, 6, 5000)).round()
    assert float(kendall_tau(x, y)) == pytest.approx(kendalltau(x, y).statistic, rel=1e-12)
    assert float(spearman_rho(x, y)) == pytest.approx(spearmanr(x, y).statistic, rel=1e-12)
    gains = (2.0**y - 1)[None]
    for k in (10, 1000, 9999):
        assert float(ndcg(x, y, k)) == pytest.approx(ndcg_score(gains, x[None], k=k), rel=1e-9)
        arbitrary = ndcg_score(gains, x[None], k=k, ignore_ties=True)
        assert float(ndcg(x, y, k, "arbitrary")) == pytest.approx(arbitrary, rel=1e-9)
    assert abs(ndcg_score(gains, x[None], k=10) - ndcg_score(gains, x[None], k=10, ignore_ties=True)) > 1e-3


# -- the paper's toy example (Section 3): accuracies 100, 90, ..., 10 ---------------------------------------------------

ACC = np.arange(100.0, 0, -10)
DAMAGED_TOP = np.array([8, 7, 10, 9, 6, 5, 4, 3, 2, 1.0])  # the two best and the third and fourth change places
PERFECT_TOP = np.array([10, 9, 8, 7, 6, 5, 1, 2, 3, 4.0])  # the four worst are reversed


@pytest.mark.parametrize("ties", ["average", "random", "arbitrary"])
def test_toy_example_ndcg(ties):
    assert float(ndcg(DAMAGED_TOP, ACC, 5, ties)) == pytest.approx(0.5001, abs=5e-5)
    assert float(ndcg(PERFECT_TOP, ACC, 5, ties)) == 1


def test_toy_example_correlations_prefer_the_damaged_top():
    assert float(kendall_tau(DAMAGED_TOP, ACC)) == pytest.approx(1 - 2 * 4 / 45)  # 4 discordant pairs of 45
    assert float(kendall_tau(PERFECT_TOP, ACC)) == pytest.approx(1 - 2 * 6 / 45)  # 6 of 45
    assert float(spearman_rho(DAMAGED_TOP, ACC)) == pytest.approx(1 - 6 * 16 / 990)  # 4 differences of 2
    assert float(spearman_rho(PERFECT_TOP, ACC)) == pytest.approx(1 - 6 * 20 / 990)  # 3, 1, 1, 3
    # Footnotes: the correlation of the damaged top is significant, its nDCG is about the 75th percentile of chance.
    assert kendalltau(DAMAGED_TOP, ACC).pvalue < 0.005
    rng = np.random.default_rng(0)
    chance = [float(ndcg(rng.permutation(10), ACC, 5)) for _ in range(1000)]
    assert 0.65 < np.mean(np.array(chance) < float(ndcg(DAMAGED_TOP, ACC, 5))) < 0.85


# -- ties ---------------------------------------------------------------------------------------------------------------


def test_random_ties_average_to_the_average_and_depend_on_the_seed_only():
    rng = np.random.default_rng(1)
    y = rng.uniform(85, 95, 60)
    x = rng.integers(0, 4, 60)
    draws = [float(ndcg(x, y, 20, "random", seed)) for seed in range(2000)]
    error = np.std(draws) / math.sqrt(len(draws))
    assert np.std(draws) > 0.01
    assert np.mean(draws) == pytest.approx(float(ndcg(x, y, 20)), abs=4 * error)
    order = rng.permutation(60)
    assert float(ndcg(x[order], y[order], 20, "random", 7)) == draws[7]


@given(PAIRS, st.randoms(use_true_random=False))
def test_values_do_not_depend_on_the_order_of_the_items(pairs, rng):
    x, y = map(list, zip(*pairs))
    rng.shuffle(pairs)
    a, b = map(list, zip(*pairs))
    for metric in METRICS:  # bitwise
        np.testing.assert_array_equal(metric(x, y).numpy(), metric(a, b).numpy())


@given(PAIRS)
def test_values_depend_on_the_order_of_the_scores_only(pairs):
    x, y = map(list, zip(*pairs))
    for metric in METRICS:
        np.testing.assert_array_equal(metric(x, y).numpy(), metric(np.arctan(x) * 1e-200, y).numpy())


# -- extremes and mistakes ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("metric", METRICS)
def test_perfect_is_one_in_float64(metric):
    for n in (2, 5, 10, 333):
        value = metric(range(n), np.linspace(10, 90, n))
        assert value.dtype == torch.float64
        assert value.shape == ()
        assert float(value) == pytest.approx(1, abs=1e-15)


@pytest.mark.parametrize("metric", METRICS)
def test_infinities_are_the_extremes(metric):
    y = [50.0, 60, 70, 80, 90]
    assert float(metric([3, -math.inf, 2, -math.inf, math.inf], y)) == float(metric([3, 1, 2, 1, 4], y))


@pytest.mark.parametrize("metric", METRICS)
def test_scores_that_float32_cannot_tell_apart_stay_apart(metric):
    x = [1.0 + i * 1e-12 for i in range(6)]
    assert float(metric(x, [10, 20, 30, 40, 50, 60])) == pytest.approx(1, abs=1e-15)


@pytest.mark.parametrize("metric", [kendall_tau, spearman_rho])
@pytest.mark.parametrize(("x", "y"), [([1, 1, 1], [1, 2, 3]), ([1, 2, 3], [5, 5, 5]), ([1], [2])])
@pytest.mark.filterwarnings("error")
def test_correlations_with_a_constant_are_undefined(metric, x, y):
    assert math.isnan(metric(x, y))


def test_ndcg_of_one_item_of_constant_scores_and_without_any_gain():
    assert float(ndcg([3.0], [94.0])) == 1
    y = np.array([80.0, 90.0])
    g1, g2 = 2.0**y - 1
    expected = (g1 + g2) / 2 * (1 + 1 / math.log2(3)) / (g2 + g1 / math.log2(3))
    assert float(ndcg([1, 1], y)) == pytest.approx(expected)
    assert math.isnan(ndcg([1, 2], [0, 0]))


def test_gains_neither_overflow_nor_vanish():
    assert float(ndcg([2, 1], [3000, 2999])) == 1
    assert float(ndcg([1, 2], [3000, 2999])) == pytest.approx((0.5 + 1 / math.log2(3)) / (1 + 0.5 / math.log2(3)))
    assert float(ndcg([1, 2], [0.5, 0.1])) == pytest.approx(
        ndcg_score(np.exp2([[0.5, 0.1]]) - 1, np.array([[1, 2]])), rel=1e-12
    )


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.int64])
def test_tensors_of_other_dtypes_are_taken_to_float64(dtype):
    x, y = torch.tensor([3, 1, 2, 5]).to(dtype), torch.tensor([70, 60, 90, 80]).to(dtype)
    for metric in METRICS:
        assert float(metric(x, y)) == float(metric([3, 1, 2, 5], [70, 60, 90, 80]))
    assert kendall_tau(x.requires_grad_() if x.is_floating_point() else x, y).requires_grad is False


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize(
    ("x", "y", "text"),
    [
        ([1, math.nan, math.nan], [1, 2, 3], "preds has 2 NaN among 3"),
        ([1, 2, 3], [1, math.nan, 3], "target has 1 value.s. of 3 that are not finite"),
        ([1, 2, 3], [1, math.inf, 3], "target has 1 value"),
        ([1, 2, 3], [1, 2], r"preds has shape \(3,\) and target \(2,\)"),
        ([[1, 2]], [[1, 2]], r"must be \(n,\)"),
        ([], [], "empty"),
    ],
)
def test_mistakes_are_named(metric, x, y, text):
    with pytest.raises(ValueError, match=text):
        metric(x, y)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"top_k": 0}, "top_k=0"),
        ({"top_k": 2.5}, "top_k=2.5"),
        ({"ties": "avrage"}, "did you mean 'average'"),
    ],
)
def test_ndcg_options_are_checked(options, text):
    with pytest.raises(ValueError, match=text):
        ndcg([1, 2], [1, 2], **options)


def test_ndcg_refuses_negative_accuracies():
    with pytest.raises(ValueError, match="value of -1;"):
        ndcg([1, 2], [-1, 2])


@pytest.mark.parametrize("metric", METRICS)
def test_nas_bench_201_takes_well_under_a_second(metric):
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=15_625), rng.uniform(10, 95, 15_625)
    metric(x, y)
    start = time.process_time()
    metric(x, y)
    assert time.process_time() - start < 0.3


def test_ndcg_of_a_sample_that_stands_for_all():
    """Each sampled item takes the places of those that it stands for, so that samples estimate nDCG of the whole."""
    rng = np.random.default_rng(0)
    accuracy = 94 - rng.gamma(2.0, 4.0, 9000)
    score = accuracy + rng.normal(0, 4, 9000)
    whole = float(ndcg(score, accuracy, top_k=1000))
    estimates, cut_only = [], []
    for _ in range(200):
        some = rng.choice(9000, 900, replace=False)
        estimates.append(float(ndcg(score[some], accuracy[some], top_k=1000, places=10)))
        cut_only.append(float(ndcg(score[some], accuracy[some], top_k=100)))
    assert abs(np.mean(estimates) - whole) < 0.5 * abs(np.mean(cut_only) - whole)
    assert abs(np.mean(estimates) - whole) < 0.01
    assert float(ndcg([3.0, 2, 1], [90.0, 80, 85], top_k=6, places=2)) == pytest.approx(
        float(ndcg([3.0, 3, 2, 2, 1, 1], [90.0, 90, 80, 80, 85, 85], top_k=6))
    )
    with pytest.raises(ValueError, match=r"places=0.5 is not allowed"):
        ndcg([1.0, 2], [50.0, 60], places=0.5)
