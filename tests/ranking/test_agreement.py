"""Rankings whose terms are weighted by their agreement: weights by hand, what falls out, and where there is no majority."""

import json
import math
import random

import numpy as np
import pytest
from scipy.stats import spearmanr

from vkdnw_pl.ranking import (
    NAMED_SETS,
    ByAgreement,
    RankSum,
    aggregate,
    available_rankings,
    columns_of,
    parse_ranking,
    rank_values,
    term_text,
    term_weights,
    weights_text,
)
from vkdnw_pl.ranking.agreement import agreement_weights
from vkdnw_pl.scoring.evaluation import seeds_with_values


def table(n=60, **noise):
    """Columns that follow one hidden order up to noise of the given size."""
    rng = np.random.default_rng(3)
    truth = rng.normal(size=n)
    return {name: truth + size * rng.normal(size=n) for name, size in noise.items()}


def test_by_hand():
    """a and b are uncorrelated, and c agrees with both by r: the leading eigenvector is (1, 1, sqrt 2) / 2."""
    a, b = np.array([1.0, 1, 4, 4, 2.5]), np.array([1.0, 4, 1, 4, 2.5])
    c = np.array([1.0, 2.5, 2.5, 4, 2.5])
    ranks = np.stack([rank_values(values) for values in (a, b, c)])
    assert spearmanr(a, b).statistic == pytest.approx(0)
    assert spearmanr(a, c).statistic == pytest.approx(spearmanr(b, c).statistic)
    expected = np.array([1, 1, math.sqrt(2)]) ** 0.5
    np.testing.assert_allclose(agreement_weights(ranks), expected / expected.sum(), atol=1e-8)


def slow_weights(columns, names):
    """Power iteration on SciPy's correlations."""
    matrix = np.array([[spearmanr(columns[a], columns[b]).statistic for b in names] for a in names])
    v = np.ones(len(names))
    for _ in range(5000):
        v = matrix @ v
        v /= np.linalg.norm(v)
    w = np.maximum(v, 0) ** 0.5
    return w / w.sum()


def test_slow_reference():
    columns = table(a=0.3, b=0.5, c=2.0, d=9.0)
    columns["e"] = -columns["a"]
    columns["f"] = np.round(columns["b"])
    weights = term_weights(columns, ByAgreement("abcdef"))
    np.testing.assert_allclose(list(weights.values()), slow_weights(columns, "abcdef"), atol=1e-7)
    assert weights["a"] > weights["c"] > 0
    assert weights["e"] == 0
    score = sum(weights[name] * np.log(rank_values(columns[name]) / 60) for name in "abcdef")
    np.testing.assert_allclose(aggregate(columns, ByAgreement("abcdef")), score, rtol=1e-12)


def test_what_is_constant_or_missing_takes_no_part():
    columns = table(a=0.3, b=0.5, c=1.0)
    plain = aggregate(columns, ByAgreement("abc"))
    columns |= {"constant": np.full(60, 2.0), "missing": np.full(60, math.nan)}
    terms = ByAgreement(("a", "constant", "b", "missing", ("missing", "a"), "c"))
    weights = term_weights(columns, terms)
    assert weights["constant"] == weights["missing"] == weights["missing>a"] == 0
    assert sum(weights.values()) == pytest.approx(1)
    np.testing.assert_allclose(aggregate(columns, terms), plain, rtol=1e-9)


def test_noise_weighs_little():
    rng = np.random.default_rng(0)
    columns = {**table(2000, a=0.3, b=0.5, c=0.4), "noise": rng.normal(size=2000)}
    weights = term_weights(columns, ByAgreement(("a", "b", "c", "noise")))
    assert weights["noise"] < 0.07
    assert min(weights[name] for name in "abc") > 0.29


def test_neither_the_order_of_rows_nor_of_terms_decides():
    columns = table(a=0.3, b=0.5, c=1.0, d=1.5)
    order = list(range(60))
    random.Random(0).shuffle(order)
    permuted = {name: values[order] for name, values in columns.items()}
    terms = ByAgreement("abcd")
    assert term_weights(permuted, terms) == term_weights(columns, terms)
    np.testing.assert_array_equal(aggregate(permuted, terms), aggregate(columns, terms)[order])
    assert term_weights(columns, ByAgreement("dbca")) == term_weights(columns, terms)
    np.testing.assert_allclose(aggregate(columns, ByAgreement("dbca")), aggregate(columns, terms), rtol=1e-12)


def test_equal_networks_stay_tied():
    columns = {name: np.append(values, values[:2]) for name, values in table(a=0.3, b=0.5, c=1.0).items()}
    score = aggregate(columns, ByAgreement("abc"))
    assert score[0] == score[60]
    assert score[1] == score[61]


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        ({"a": [1, 2, 3, 4]}, [1]),
        ({"a": [1, 2, 3, 4], "b": [4, 3, 2, 1]}, [0.5, 0.5]),
        ({"a": [1, 2, 3, 4], "b": [1, 3, 2, 4]}, [0.5, 0.5]),
        ({"a": [1, 1, 2, 2], "b": [1, 2, 1, 2], "c": [1, 2, 2, 1]}, [1 / 3] * 3),
        ({"a": [1, 1, 2, 2], "b": [1, 2, 1, 2], "c": [5, 5, 5, 5]}, [0.5, 0.5, 0]),
        ({"a": [3, 3, 3], "b": [1, 1, 1], "c": [None] * 3}, [1 / 3] * 3),
        ({"a": [1, 2], "b": [2, 1], "c": [1, 2]}, [1 / 3] * 3),
        ({"a": [1], "b": [2], "c": [3]}, [1 / 3] * 3),
        ({"a": [], "b": [], "c": []}, [1 / 3] * 3),
        ({"a": [1, 2, 3], "b": [1, 2, 3], "c": [1, 2, 3]}, [1 / 3] * 3),
    ],
    ids=["one", "opposite", "two", "uncorrelated", "two and a constant", "all constant", *"210", "equal"],
)
def test_without_a_majority_all_weigh_the_same(columns, expected):
    arrays = {name: np.array(values, dtype=np.float64) for name, values in columns.items()}
    terms = ByAgreement(columns)
    assert list(term_weights(arrays, terms).values()) == pytest.approx(expected, abs=1e-8)
    assert np.isfinite(aggregate(arrays, terms)).all()


def test_networks_that_failed_do_not_make_terms_agree():
    columns = table(30, a=0.5, b=0.7, c=2.0)
    failed = {name: np.append(values, [math.nan] * 20) for name, values in columns.items()}
    assert term_weights(failed, ByAgreement("abc")) == pytest.approx(term_weights(columns, ByAgreement("abc")))
    assert aggregate(failed, ByAgreement("abc"))[30:].max() < aggregate(failed, ByAgreement("abc"))[:30].max()


@pytest.mark.parametrize(
    ("text", "terms"),
    [
        ("agreement(a>b+c+d)", (("a", "b"), "c", "d")),
        (" agreement( a > b + rank_sum(c,d) ) ", (("a", "b"), RankSum(("c", "d")))),
        ("agreement(vkdnw_agg)", NAMED_SETS["vkdnw_agg"]),
        ("vkdnw_robust", NAMED_SETS["vkdnw_robust"]),
        ("agreement(vkdnw_robust)", NAMED_SETS["vkdnw_robust"]),
    ],
)
def test_parsing_and_back(text, terms):
    parsed = parse_ranking(text)
    assert isinstance(parsed, ByAgreement)
    assert tuple(parsed) == tuple(terms)
    assert [type(term) for term in parsed] == [type(term) for term in terms]
    again = parse_ranking(f"agreement({'+'.join(map(term_text, parsed))})")
    assert (type(again), again) == (ByAgreement, parsed)
    assert parse_ranking(parsed) == parsed
    assert isinstance(parse_ranking(parsed), ByAgreement)


@pytest.mark.parametrize(
    "text", ["agreement(a+b)+c", "vkdnw_robust+macs", "agreement(a)+agreement(b)", "macs+ vkdnw_robust"]
)
def test_nothing_may_stand_beside_it(text):
    with pytest.raises(ValueError, match="are a whole ranking"):
        parse_ranking(text)


def test_mistakes_are_named():
    with pytest.raises(ValueError, match="empty name"):
        parse_ranking("agreement()")
    with pytest.raises(ValueError, match="column 'jacof' is not in the score table; did you mean 'jacov'"):
        aggregate({"jacov": [1.0]}, parse_ranking("agreement(jacof)"))


def test_available_with_all_columns_alone():
    columns = columns_of(NAMED_SETS["vkdnw_robust"])
    assert "vkdnw_robust" in available_rankings(columns)
    for name in columns:
        assert "vkdnw_robust" not in available_rankings([other for other in columns if other != name])


def test_weights_as_text():
    text = weights_text("x", {"a>b": 0.625, "c": 0.375, "d": 0.0})
    assert ": a>b 0.62, c 0.38, d 0 (0: constant" in text
    assert weights_text("x", {"a": 0.5, "b": 0.5}).endswith(": a 0.50, b 0.50")
    assert json.loads(json.dumps(term_weights({"a": [1.0, 2]}, ByAgreement("a")))) == {"a": 1}


def test_a_column_without_values_hides_no_seed():
    nan, one = np.full(2, math.nan), np.ones(2)
    scores = {1: {"a": one, "b": nan, "c": one}, 2: {"a": nan, "b": nan, "c": one}}
    assert seeds_with_values(scores, ["a", "b"]) == [1]
    assert seeds_with_values(scores, ["b"]) == [1, 2]
    assert seeds_with_values(scores, ["b", "c"]) == [1, 2]
