"""What strategies draw, by the state of the history."""

import random
from collections import Counter

import pytest

from vkdnw_pl.search.history import Candidate, RankedHistory
from vkdnw_pl.search.settings import make_strategy
from vkdnw_pl.spaces import MBV2, NB201

SPACE = NB201()
ARCHS = list(SPACE.enumerate(unique=True))


def record_of(values, failed=()):
    record = RankedHistory(("a",))
    record.add(
        Candidate(i, ARCHS[i], None, "random", 1, 1, values={"a": value}, status="failed" if i in failed else "ok")
        for i, value in enumerate(values)
    )
    return record


def parents(strategy, record, draws=400):
    draw_from = strategy.drawing(record)
    drawn = [draw_from(random.Random(i)) for i in range(draws)]
    return Counter(one.parent for one in drawn), drawn


def test_record():
    record = record_of([3.0, 1.0, 9.0, 1.0, None, 5.0], failed={2})
    assert record.best(3).tolist() == [5, 0, 1]
    assert record.best(99).tolist() == [5, 0, 1, 3, 4]
    assert record.top(3).tolist() == [0, 1, 5]
    assert record.top(5).tolist() == record.usable().tolist() == [0, 1, 3, 4, 5]
    assert record.scores()[2] == -float("inf")
    assert ARCHS[2] in record
    assert ARCHS[9] not in record
    assert (len(record), record[5].arch) == (6, ARCHS[5])


def test_evolution_begins_at_the_start():
    space = MBV2()
    start = space.validate("mbv2_initial")
    strategy = make_strategy("evolution", space, 30, start=start)
    for size in (0, 10):
        found, drawn = parents(strategy, record_of(range(size)), 50)
        assert set(found) == {None}
        assert {one.origin for one in drawn} == {"initial"}
        # One replacement changes one block, apart from channels that follow and splits.
        assert all(one.arch != start for one in drawn)
        assert [one.arch for one in drawn] == [space.mutate(start, random.Random(i), 1) for i in range(50)]


def test_evolution_then_takes_all_and_then_the_best():
    strategy = make_strategy("evolution", SPACE, 21)
    found, drawn = parents(strategy, record_of(range(19), failed={3}))
    assert set(found) == set(range(19)) - {3}  # 19 < 20: any of them that did not fail
    assert {one.origin for one in drawn} == {"mutation"}
    found, drawn = parents(strategy, record_of(range(50), failed={49}))
    assert set(found) == set(range(29, 49))
    assert max(found.values()) < 3 * min(found.values())
    for one in drawn[:50]:  # two mutations: up to two operations differ
        assert sum(a != b for a, b in zip(SPACE.parse(one.arch), SPACE.parse(ARCHS[one.parent]))) <= 2


def test_evolution_where_all_failed_or_without_a_start():
    strategy = make_strategy("evolution", SPACE, 5)
    for record in (record_of([]), record_of(range(12), failed=set(range(12)))):
        found, drawn = parents(strategy, record, 20)
        assert set(found) == {None}
        assert {one.origin for one in drawn} == {"initial"}


def test_ageing_looks_at_the_latest():
    strategy = make_strategy("ageing", SPACE, 10, tournament=4)
    found, drawn = parents(strategy, record_of(range(9)), 20)
    assert set(found) == {None}
    record = record_of([100 + i for i in range(20)] + [9, 8, 7, 6, 5, 4, 3, 2, 1, 0], failed={20})
    found, drawn = parents(strategy, record, 2000)
    assert set(found) <= set(range(21, 30))  # not the older ones, which are better, nor the failed one
    # Of nine the best is in a sample of four, with replacement, with 1 - (8/9)^4.
    assert found[21] / 2000 == pytest.approx(1 - (8 / 9) ** 4, abs=0.05)
    for one in drawn[:50]:
        assert sum(a != b for a, b in zip(SPACE.parse(one.arch), SPACE.parse(ARCHS[one.parent]))) == 1


def test_random_search_samples():
    strategy = make_strategy("random", SPACE, 2)
    found, drawn = parents(strategy, record_of(range(30)), 50)
    assert set(found) == {None}
    assert [one.arch for one in drawn] == [SPACE.sample(random.Random(i)) for i in range(50)]


def test_local_search_looks_at_the_neighbours_of_the_best():
    strategy = make_strategy("local", SPACE, 2)
    found, drawn = parents(strategy, record_of(range(9)), 20)
    assert (set(found), {one.origin for one in drawn}) == ({None}, {"initial"})
    record = record_of([*range(10), 99.0, 99.5, 5.0], failed={11})
    draw_from = strategy.drawing(record)
    rng = random.Random(0)
    drawn = [draw_from(rng) for _ in range(60)]
    assert len({one.arch for one in drawn}) == 60  # no neighbour twice
    assert not {one.arch for one in drawn} & {candidate.arch for candidate in record}
    # First all of the best one, then of the next; 11 failed.
    order = list(dict.fromkeys(one.parent for one in drawn))
    assert order[:2] == [10, 9]
    every = {SPACE.canonicalise(SPACE.neighbour(ARCHS[10], random.Random(i))) for i in range(2000)}
    assert {one.arch for one in drawn if one.parent == 10} == every - {candidate.arch for candidate in record}


def test_local_search_begins_anew_at_an_optimum_and_stays_there():
    strategy = make_strategy("local", SPACE, 2)
    every = {SPACE.canonicalise(SPACE.neighbour(ARCHS[9000], random.Random(i))) for i in range(2000)} - {ARCHS[9000]}
    others = [arch for arch in ARCHS if arch not in every][:10]
    climb = [*others[:-1], ARCHS[9000], *sorted(every)]
    record = RankedHistory(("a",))
    for i, arch in enumerate(climb):
        value = 9.0 if arch == ARCHS[9000] else 1.0
        record.add([Candidate(i, arch, 9 if i > 9 else None, "random", 1, 1, values={"a": value})])
    found, drawn = parents(strategy, record, 20)
    assert (set(found), {one.origin for one in drawn}) == ({None}, {"random"})
    # After the restart its neighbours count, not those of the better one before.
    size = len(record)
    record.add([Candidate(size, ARCHS[3000], None, "random", 1, 1, values={"a": 0.0})])
    assert set(parents(strategy, record, 20)[0]) == {size}


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"name": "evolutoin"}, "strategy='evolutoin' is not known; did you mean 'evolution'"),
        ({"population": 1}, "population=1 is not allowed: give a whole number of at least 2"),
        ({"tournament": 0}, "tournament=0 is not allowed"),
        ({"name": "random", "start": "x"}, "start='x' has no use with strategy='random'"),
        ({"name": "predictor", "pool": 1}, "pool=1 is not allowed: give a whole number of at least 2"),
    ],
)
def test_mistakes_are_named(options, text):
    with pytest.raises(ValueError, match=text):
        make_strategy(**{"name": "evolution", "space": SPACE, "population": 9, "tournament": 3, **options})
