"""The ranks of a history that grows are, to the last bit, those of the whole table."""

import math
import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import rankdata

from vkdnw_pl.ranking import NAMED_SETS, ByAgreement, RankSum, columns_of, parse_ranking
from vkdnw_pl.ranking.agreement import agreement_weights
from vkdnw_pl.search.history import Candidate, RankedHistory

RANKINGS = ["a", "a+b+c", "a>b", "a>b>c+b", "rank_sum(a,b)+c", "a+a>b+c>a", "agreement(a>b+c+rank_sum(b,c)+a)"]
VALUES = st.one_of(
    st.none(), st.integers(-3, 3).map(float), st.sampled_from([math.nan, math.inf, -math.inf, -0.0, 0.1, 1e-300, 1e300])
)
ROWS = st.lists(st.tuples(VALUES, VALUES, VALUES), min_size=1, max_size=12)


def add(history, columns):
    history.add(
        Candidate(len(history) + i, f"arch{len(history) + i}", None, "random", 1, 1, values=row)
        for i, row in enumerate(dict(zip(columns, values)) for values in zip(*columns.values(), strict=True))
    )


def columns(rows):
    return {name: [row[i] for row in rows] for i, name in enumerate("abc")}


def rank(values):
    return rankdata(np.where(np.isfinite(values), values, -np.inf))


def naive(table, terms):
    """Rank sums with SciPy, tuples of columns by the sorted rows of the table of their ranks."""
    arrays = {name: np.array(values, dtype=np.float64) for name, values in table.items()}
    of_terms = []
    known = np.zeros(len(next(iter(arrays.values()))), dtype=bool)
    for term in terms:
        names = (term,) if isinstance(term, str) else term
        ranks = np.stack([rank(arrays[name]) for name in names], axis=1)
        finite = np.all([np.isfinite(arrays[name]) for name in names], axis=0)
        known |= finite
        if isinstance(term, RankSum):
            of_terms.append(rank(ranks.sum(axis=1)))
            continue
        place = np.unique(ranks, axis=0, return_inverse=True)[1].reshape(-1)
        of_terms.append(rank(np.where(finite, place, np.nan)))
    weights = agreement_weights(np.array(of_terms)[:, known]) if isinstance(terms, ByAgreement) else np.ones(len(terms))
    return sum(weight * np.log(ranks / len(known)) for weight, ranks in zip(weights, of_terms))


@settings(max_examples=150, deadline=None)
@given(st.lists(ROWS, min_size=1, max_size=6), st.sampled_from(RANKINGS))
def test_equal_to_ranking_all_anew(parts, ranking):
    terms = parse_ranking(ranking)
    history = RankedHistory(terms)
    rows = []
    for part in parts:
        rows.extend(part)
        add(history, columns(part))
        np.testing.assert_array_equal(history.scores(), naive(columns(rows), terms))


@pytest.mark.parametrize("ranking", list(NAMED_SETS))
def test_named_rankings_in_parts_of_any_size(ranking):
    terms = NAMED_SETS[ranking]
    history = RankedHistory(terms)
    rng = random.Random(0)
    table = {
        name: [rng.choice([None, float(rng.randrange(9)), rng.gauss(0, 1)]) for _ in range(3000)]
        for name in columns_of(terms)
    }
    begin = 0
    while begin < 3000:
        end = min(3000, begin + rng.choice([1, 2, 16, 64, 500]))
        add(history, {name: values[begin:end] for name, values in table.items()})
        begin = end
        if rng.random() < 0.3:
            history.scores()
    np.testing.assert_array_equal(history.scores(), naive(table, terms))
    assert len(history) == 3000


def test_scores_that_were_given_do_not_change_afterwards():
    history = RankedHistory(("a",))
    add(history, {"a": [1.0, 2.0]})
    before = history.scores()
    kept = before.copy()
    add(history, {"a": [0.0, 5.0, 1.5]})
    history.scores()
    np.testing.assert_array_equal(before, kept)


def test_nothing_is_ranked():
    assert RankedHistory(("a", ("a", "b"))).scores().shape == (0,)
