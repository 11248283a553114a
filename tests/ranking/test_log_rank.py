"""Log-rank aggregation against examples by hand, scipy and its invariances."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import rankdata

from vkdnw_pl.ranking import (
    NAMED_SETS,
    RankSum,
    aggregate,
    available_rankings,
    parse_ranking,
    rank_values,
)

COLUMNS = {
    "aleph": [23, 38, 38, 8, 38],
    "vkdnw": [1.9, 1.2, 1.4, 2.1, 1.4],
    "jacov": [-50.0, -20.0, math.nan, -90.0, -30.0],
    "macs": [40e6, 80e6, 60e6, 8e6, 60e6],
}
TABLES = st.integers(1, 12).flatmap(
    lambda n: st.fixed_dictionaries(
        {name: st.lists(st.integers(-5, 5).map(float), min_size=n, max_size=n) for name in ("a", "b", "c")}
    )
)
TERMS = (("a", "b"), "c")


def test_by_hand():
    log = np.log
    assert rank_values(COLUMNS["aleph"]).tolist() == [2, 4, 4, 1, 4]
    assert rank_values(COLUMNS["jacov"]).tolist() == [3, 5, 1, 2, 4]
    pair = [2, 3, 4.5, 1, 4.5]  # 38 layers: 1.2 below the two of 1.4
    np.testing.assert_allclose(aggregate(COLUMNS, [("aleph", "vkdnw")]), log(np.divide(pair, 5)))
    expected = log(np.divide(pair, 5)) + log(np.divide([3, 5, 1, 2, 4], 5)) + log(np.divide([2, 5, 3.5, 1, 3.5], 5))
    np.testing.assert_allclose(aggregate(COLUMNS, [("aleph", "vkdnw"), "jacov", "macs"]), expected)


def test_a_bad_rank_weighs_more_than_a_good_one():
    columns = {"a": [1.0, 2, 3], "b": [3.0, 2, 1]}
    assert np.argmax(aggregate(columns, ["a", "b"])) == 1


@given(st.lists(st.integers(-9, 9).map(float), min_size=1, max_size=20))
def test_finite_values_rank_as_in_scipy(values):
    assert rank_values(values).tolist() == rankdata(values).tolist()
    assert rank_values(values, higher_is_better=False).tolist() == rankdata(np.negative(values)).tolist()


@pytest.mark.parametrize("higher_is_better", [True, False])
def test_values_that_are_not_finite_rank_last_and_tied(higher_is_better):
    ranks = rank_values([math.inf, 5, math.nan, -math.inf, 7], higher_is_better)
    assert ranks[[0, 2, 3]].tolist() == [2, 2, 2]
    assert ranks[[1, 4]].tolist() == ([4, 5] if higher_is_better else [5, 4])


def test_any_missing_part_of_a_pair_ranks_last():
    columns = {"a": [3, 2, math.inf, 1], "b": [math.nan, 1, 5, 1]}
    np.testing.assert_allclose(np.exp(aggregate(columns, [("a", "b")])) * 4, [1.5, 4, 1.5, 3])


@given(TABLES)
def test_pairs_are_lexicographic(table):
    score = aggregate(table, [("a", "b", "c")])
    rows = list(zip(table["a"], table["b"], table["c"]))
    expected = [sum(r < row for r in rows) + (sum(r == row for r in rows) + 1) / 2 for row in rows]
    np.testing.assert_allclose(np.exp(score) * len(rows), expected)


@given(TABLES)
def test_invariant_under_increasing_maps(table):
    mapped = {name: np.exp(np.array(values)) * 1e-3 for name, values in table.items()}
    np.testing.assert_array_equal(aggregate(table, TERMS), aggregate(mapped, TERMS))


@given(TABLES, st.randoms(use_true_random=False))
def test_follows_a_permutation_of_the_architectures(table, rng):
    order = list(range(len(table["a"])))
    rng.shuffle(order)
    permuted = {name: [values[i] for i in order] for name, values in table.items()}
    np.testing.assert_array_equal(aggregate(permuted, TERMS), aggregate(table, TERMS)[order])


@given(TABLES, st.tuples(st.booleans(), st.booleans(), st.booleans()))
def test_direction_is_a_change_of_sign(table, flips):
    directions = {name: not flip for name, flip in zip("abc", flips)}
    signed = {name: np.array(v) * (1 if directions[name] else -1) for name, v in table.items()}
    np.testing.assert_array_equal(aggregate(table, TERMS, directions), aggregate(signed, TERMS))


def test_no_architectures_give_no_scores():
    assert aggregate({"a": [], "b": []}, [("a", "b"), "a"]).shape == (0,)


def test_named_sets_of_the_paper():
    rng = np.random.default_rng(0)
    names = ["aleph", "vkdnw", "jacov", "expressivity", "progressivity", "trainability", "macs"]
    columns = {name: rng.normal(size=30) for name in names}
    columns["aleph"] = rng.integers(0, 3, 30)
    ranks = {name: rankdata(columns[name]) for name in names}
    single = rankdata(columns["aleph"] * 1000 + columns["vkdnw"])
    np.testing.assert_allclose(aggregate(columns, NAMED_SETS["vkdnw_single"]), np.log(single / 30))
    agg = np.log(single / 30) + sum(np.log(ranks[k] / 30) for k in ("jacov", "expressivity", "trainability", "macs"))
    np.testing.assert_allclose(aggregate(columns, NAMED_SETS["vkdnw_agg"]), agg)
    az = sum(np.log(ranks[k] / 30) for k in ("expressivity", "progressivity", "trainability", "macs"))
    np.testing.assert_allclose(aggregate(columns, NAMED_SETS["az_nas"]), az)


def test_available_rankings():
    assert available_rankings(["aleph", "vkdnw", "vkdnw_decile_1", "macs"]) == [
        "aleph",
        "vkdnw",
        "macs",
        "vkdnw_single",
    ]
    everything = {c for terms in NAMED_SETS.values() for t in terms for c in ([t] if isinstance(t, str) else t)}
    assert available_rankings(everything)[-len(NAMED_SETS) :] == list(NAMED_SETS)
    assert "az_nas" not in available_rankings(everything - {"progressivity"})
    assert available_rankings([]) == []


@pytest.mark.parametrize(
    ("ranking", "terms"),
    [
        ("macs", ("macs",)),
        ("vkdnw_agg", NAMED_SETS["vkdnw_agg"]),
        ("vkdnw + jacov", ("vkdnw", "jacov")),
        ("aleph>vkdnw+jacov", (("aleph", "vkdnw"), "jacov")),
        ("vkdnw_single+macs", (("aleph", "vkdnw"), "macs")),
        (
            ["aleph>vkdnw", ("aleph", "macs"), ["aleph", "jacov"]],
            (("aleph", "vkdnw"), ("aleph", "macs"), ("aleph", "jacov")),
        ),
    ],
)
def test_parse_ranking(ranking, terms):
    assert parse_ranking(ranking) == terms


@pytest.mark.parametrize("ranking", ["", "macs+", "aleph>", [()]])
def test_parse_ranking_names_an_empty_name(ranking):
    with pytest.raises(ValueError, match="empty name"):
        parse_ranking(ranking)


def test_mistakes_are_named():
    with pytest.raises(
        ValueError, match=r"column 'jacof' is not in the score table; did you mean 'jacov'\? .there: aleph"
    ):
        aggregate(COLUMNS, ["jacof"])
    with pytest.raises(ValueError, match="terms="):
        aggregate(COLUMNS, [])
    with pytest.raises(ValueError, match="terms='macs'"):
        aggregate(COLUMNS, "macs")
    with pytest.raises(ValueError, match="differ in shape"):
        aggregate({"a": [1, 2], "b": [1]}, ["a", "b"])
    with pytest.raises(ValueError, match="one value per architecture"):
        rank_values([[1, 2]])


def test_rank_sum():
    """TE-NAS: the ranks are added, not their logarithms; a value that does not exist has the lowest rank."""
    columns = {"a": [1.0, 2, 3, math.nan], "b": [30.0, 10, 20, 40], "c": [1.0, 1, 2, 2]}
    assert parse_ranking("rank_sum(a, b)+c") == (RankSum(("a", "b")), "c")
    ranks = rankdata([2 + 3, 3 + 1, 4 + 2, 1 + 4])
    np.testing.assert_allclose(aggregate(columns, parse_ranking("rank_sum(a,b)")), np.log(ranks / 4))
    both = aggregate(columns, parse_ranking("rank_sum(a,b)+c"))
    np.testing.assert_allclose(both, np.log(ranks / 4) + np.log(rankdata(columns["c"]) / 4))
    with pytest.raises(ValueError, match=r"rank_sum\(a,\)' has an empty name"):
        parse_ranking("rank_sum(a,)")
    with pytest.raises(ValueError, match="column 'd' is not in the score table"):
        aggregate(columns, parse_ranking("rank_sum(a,d)"))


def test_te_nas_is_available_with_its_two_columns():
    assert "te_nas" in available_rankings(["ntk_condition", "linear_regions"])
    assert "te_nas" not in available_rankings(["ntk_condition"])
