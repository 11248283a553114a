"""Ranks that grow are, to the last bit, those of the whole table."""

import math
import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vkdnw_pl.ranking import NAMED_SETS, aggregate, parse_ranking
from vkdnw_pl.search.ranked_history import GrowingRanks

RANKINGS = ["a", "a+b+c", "a>b", "a>b>c+b", "rank_sum(a,b)+c", "a+a>b+c>a"]
VALUES = st.one_of(
    st.none(), st.integers(-3, 3).map(float), st.sampled_from([math.nan, math.inf, -math.inf, -0.0, 0.1, 1e-300, 1e300])
)
ROWS = st.lists(st.tuples(VALUES, VALUES, VALUES), min_size=1, max_size=12)


def columns(rows):
    return {name: [row[i] for row in rows] for i, name in enumerate("abc")}


def whole(rows, terms):
    table = {name: np.array(values, dtype=np.float64) for name, values in columns(rows).items()}
    return aggregate(table, terms)


@settings(max_examples=150, deadline=None)
@given(st.lists(ROWS, min_size=1, max_size=6), st.sampled_from(RANKINGS))
def test_equal_to_ranking_all_anew(parts, ranking):
    terms = parse_ranking(ranking)
    ranks = GrowingRanks(terms)
    rows = []
    for part in parts:
        rows.extend(part)
        ranks.add(columns(part))
        np.testing.assert_array_equal(ranks.scores(), whole(rows, terms))


@pytest.mark.parametrize("ranking", list(NAMED_SETS))
def test_named_rankings_in_parts_of_any_size(ranking):
    terms = NAMED_SETS[ranking]
    ranks = GrowingRanks(terms)
    rng = random.Random(0)
    table = {
        name: [rng.choice([None, float(rng.randrange(9)), rng.gauss(0, 1)]) for _ in range(3000)]
        for name in ranks.columns
    }
    begin = 0
    while begin < 3000:
        end = min(3000, begin + rng.choice([1, 2, 16, 64, 500]))
        ranks.add({name: values[begin:end] for name, values in table.items()})
        begin = end
        if rng.random() < 0.3:
            ranks.scores()
    np.testing.assert_array_equal(
        ranks.scores(), aggregate({name: np.array(values, dtype=float) for name, values in table.items()}, terms)
    )
    assert len(ranks) == 3000


def test_scores_that_were_given_do_not_change_afterwards():
    ranks = GrowingRanks(("a",))
    ranks.add({"a": [1.0, 2.0]})
    before = ranks.scores()
    kept = before.copy()
    ranks.add({"a": [0.0, 5.0, 1.5]})
    ranks.scores()
    np.testing.assert_array_equal(before, kept)


def test_nothing_is_ranked():
    assert GrowingRanks(("a", ("a", "b"))).scores().shape == (0,)
