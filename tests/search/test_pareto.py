"""Several objectives: against sorting by brute force, and as a strategy."""

import builtins
import itertools
import math
import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vkdnw_pl.ranking import parse_ranking
from vkdnw_pl.search.history import Candidate, RankedHistory
from vkdnw_pl.search.pareto import ParetoSearch, check_objectives, crowding_distance, fittest
from vkdnw_pl.search.settings import make_strategy
from vkdnw_pl.spaces import NB201

pytest.importorskip("moocore", reason="needs vkdnw_pl[pareto]")

NUMBERS = st.one_of(st.integers(-3, 3).map(float), st.floats(-1e9, 1e9), st.sampled_from([math.nan, math.inf]))
NAMES = ("score", "macs", "latency_ms", "vkdnw")


@st.composite
def tables(draw, at_least=0):
    count, names = draw(st.integers(at_least, 14)), NAMES[: draw(st.integers(1, 4))]
    return {name: draw(st.lists(NUMBERS, min_size=count, max_size=count)) for name in names}


def beats(table, i, j):
    """Whether candidate i dominates candidate j; score and vkdnw are to be large, the others small."""
    signs = [1 if name in ("score", "vkdnw") else -1 for name in table]
    one, other = ([sign * table[name][k] for sign, name in zip(signs, table)] for k in (i, j))
    return all(a >= b for a, b in zip(one, other)) and any(a > b for a, b in zip(one, other))


def brute_fronts(table):
    count = len(next(iter(table.values())))
    left = [i for i in range(count) if all(math.isfinite(column[i]) for column in table.values())]
    fronts = []
    while left:
        fronts.append([j for j in left if not any(beats(table, i, j) for i in left)])
        left = [i for i in left if i not in fronts[-1]]
    return fronts


@given(tables())
def test_front_is_what_nothing_beats(table):
    fronts = brute_fronts(table)
    pool = fittest(table, 1000)
    assert sorted(pool.indices[pool.ranks == 0]) == (fronts[0] if fronts else [])


@given(tables(at_least=1), st.integers(2, 16))
def test_the_population_is_filled_front_by_front_and_by_room(table, size):
    fronts = brute_fronts(table)
    found = fittest(table, size)
    assert len(found) == min(size, sum(map(len, fronts)))
    assert list(found.ranks) == sorted(found.ranks)
    place = {i: rank for rank, members in enumerate(fronts) for i in members}
    assert [place[i] for i in found.indices] == found.ranks.tolist()
    for rank, members in enumerate(fronts):
        there = found.indices[found.ranks == rank].tolist()
        room = dict(zip(members, brute_room(table, members)))
        assert found.room[found.ranks == rank] == pytest.approx([room[i] for i in there])
        assert rank == max(found.ranks, default=0) or len(there) in (0, len(members))
        out = [i for i in members if i not in there]
        if there and out:
            assert min(room[i] for i in there) >= max(room[i] for i in out) - 1e-9


def brute_room(table, members):
    """Crowding distances, the gaps found by searching for neighbours; equal values in the order given."""
    room = [0.0] * len(members)
    for name, column in table.items():
        sign = -1 if name in ("score", "vkdnw") else 1
        ordered = sorted(members, key=lambda i: sign * column[i])
        extent = abs(column[ordered[-1]] - column[ordered[0]])
        for before, here, after in zip([None, *ordered], ordered, [*ordered[1:], None]):
            if extent > 0:
                ends = before is None or after is None
                room[members.index(here)] += math.inf if ends else abs(column[after] - column[before]) / extent
    return room


def test_crowding_distance_by_hand():
    costs = np.array([[0.0, 10.0], [1.0, 4.0], [4.0, 1.0], [10.0, 0.0]])
    assert crowding_distance(costs).tolist() == [math.inf, 0.4 + 0.9, 0.9 + 0.4, math.inf]
    assert crowding_distance(np.array([[2.0, 3.0]] * 3)).tolist() == [0, 0, 0]
    assert crowding_distance(np.array([[2.0, 3.0]])).tolist() == [0]


def test_the_better_of_two_becomes_a_parent():
    table = {"score": [3.0, 2.0, 1.0, 0.0], "macs": [1.0, 2.0, 3.0, 4.0]}  # four fronts of one
    population, rng = fittest(table, 3), random.Random(0)
    drawn = [population.draw(rng) for _ in range(9000)]
    shares = [drawn.count(i) / 9000 for i in range(4)]
    assert shares == pytest.approx([5 / 9, 3 / 9, 1 / 9, 0], abs=0.02)


def test_room_decides_within_a_front():
    table = {"score": [0.0, 1.0, 1.1, 9.0, 10.0], "macs": [0.0, 1.0, 1.1, 9.0, 10.0]}  # one front
    population, rng = fittest(table, 5), random.Random(0)
    drawn = [population.draw(rng) for _ in range(5000)]
    assert drawn.count(3) > 1.5 * drawn.count(1)
    assert fittest(table, 3).indices.tolist() == [0, 4, 3]


def record_of(count, latency=False):
    rng, space, record = random.Random(5), NB201(), RankedHistory(parse_ranking("vkdnw"))
    for i, arch in enumerate(itertools.islice(space.enumerate(), 700, 700 + count)):
        cost = space.cost(arch)
        values = {"vkdnw": rng.random(), "jacov": rng.random()}
        latency_ms = rng.random() if latency else None
        record.add([Candidate(i, arch, None, "random", cost.macs, cost.num_params, None, latency_ms, values=values)])
    return record


def test_strategy_mutates_members_of_the_fronts():
    record, strategy = record_of(60), ParetoSearch(NB201(), population=12)
    draw_from = strategy.drawing(record)
    drawn = [draw_from(random.Random(i)) for i in range(300)]
    again = [ParetoSearch(NB201(), population=12).drawing(record)(random.Random(i)) for i in range(3)]
    assert drawn[:3] == again
    scores, macs = record.scores(), [candidate.macs for candidate in record]
    expected = set(fittest({"score": scores, "macs": macs}, 12).indices.tolist())
    assert {draw.parent for draw in drawn} <= expected
    assert len({draw.parent for draw in drawn}) > 6
    for draw in drawn[:20]:
        differing = sum(a != b for a, b in zip(NB201().parse(draw.arch), NB201().parse(record[draw.parent].arch)))
        assert draw.origin == "mutation"
        assert differing <= 2


def test_strategy_begins_with_samples_or_the_start():
    space, start = NB201(), "|none~0|+|none~0|none~1|+|none~0|none~1|none~2|"
    assert ParetoSearch(space, 100).drawing(record_of(99))(random.Random(0)).origin == "initial"
    assert ParetoSearch(space, 100).drawing(record_of(100))(random.Random(0)).origin == "mutation"
    from_start = ParetoSearch(space, 100, start=start).drawing(record_of(10))(random.Random(0))
    assert (from_start.origin, from_start.parent) == ("initial", None)
    assert sum(a != 0 for a in space.parse(from_start.arch)) == 1
    assert ParetoSearch(space, 100, start=start).drawing(record_of(11))(random.Random(0)).origin == "mutation"


def test_objectives_may_be_measurements_and_proxies():
    record = record_of(40, latency=True)
    strategy = ParetoSearch(NB201(), 20, ["vkdnw", "jacov", "latency_ms"])
    assert strategy.drawing(record)(random.Random(0)).parent is not None
    assert list(strategy.values(record)) == ["vkdnw", "jacov", "latency_ms"]
    with pytest.raises(ValueError, match=r"'latency_ms' has no numbers; .* where a bound is given"):
        strategy.drawing(record_of(40))
    with pytest.raises(ValueError, match=r"objective='snip' is not known \(allowed: score, macs, .*vkdnw, jacov\)"):
        ParetoSearch(NB201(), 20, ["score", "snip"]).drawing(record)


def test_objectives_can_be_checked_before_the_search():
    check_objectives(["score", "latency_ms", "vkdnw"], ["vkdnw"])
    with pytest.raises(ValueError, match=r"objective='num_param' is not known; did you mean 'num_params'\?"):
        check_objectives(["score", "num_param"], [])


@pytest.mark.parametrize("objectives", [[], ["score"], "score", ["macs", "macs"]])
def test_wrong_objectives_are_refused(objectives):
    with pytest.raises(ValueError, match=r"objectives=.* is not allowed: give two or more different ones"):
        ParetoSearch(NB201(), 20, objectives)


@pytest.mark.parametrize("population", [1, 2.0, True])
def test_wrong_population_is_refused(population):
    with pytest.raises(ValueError, match="give a whole number of at least 2"):
        make_strategy("pareto", NB201(), population)


@pytest.mark.parametrize("table", [{}, {"score": [1, 2], "macs": [1]}, {"score": [[1]], "macs": [[1]]}])
def test_unequal_columns_are_refused(table):
    with pytest.raises(ValueError, match="one number for each candidate"):
        fittest(table, 3)


def test_without_the_library_the_text_says_what_to_install(monkeypatch):
    real = builtins.__import__

    def without(name, *args, **kwargs):
        if name == "moocore":
            raise ModuleNotFoundError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ImportError, match=r"pip install 'vkdnw_pl\[pareto\]'"):
        ParetoSearch(NB201(), 20)
