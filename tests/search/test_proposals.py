"""Proposals are new, within the budget, and a pure function of the history and the seed."""

from types import SimpleNamespace

import pytest

from vkdnw_pl.search.constraints import Budget, CostCheck, HowToMeasure, Measurements
from vkdnw_pl.search.history import Candidate, RankedHistory
from vkdnw_pl.search.proposals import Proposer
from vkdnw_pl.search.settings import make_strategy
from vkdnw_pl.search.strategies import Draw
from vkdnw_pl.spaces import MBV2, NB201

NONE = Budget()
SMALL = {"image_size": 32, "num_classes": 10}


def proposer(space, budget=NONE, seed=0, network=SMALL, measure=None, **options):
    start = space.validate("mbv2_initial") if space.name == "mbv2" else None
    strategy = make_strategy("evolution", space, 40, start=start)
    return Proposer(strategy, CostCheck(budget, space, network), budget, measure, seed, **options)


def evaluated(proposals):
    for one in proposals:
        yield Candidate(
            one.index,
            one.arch,
            one.parent,
            one.origin,
            one.macs,
            one.num_params,
            one.layers,
            values={"a": float(len(one.arch))},
        )


def grown(space, count, batch, **options):
    """A history of proposals alone."""
    record = RankedHistory(("a", "macs"))
    made = proposer(space, **options)
    while len(record) < count:
        record.add(evaluated(made.propose(record, batch)))
    return record, made


@pytest.mark.parametrize("seed", [0, 1])
def test_of_mbv2_within_a_budget(seed):
    space, budget = MBV2(), Budget(max_macs=6_000_000, min_macs=2_000_000, max_layers=12, max_params=2_000_000)
    record, made = grown(space, 300, 16, budget=budget, seed=seed)
    archs = [one.arch for one in record]
    assert len(set(archs)) == len(archs)
    for one in record:
        assert one.arch == space.validate(one.arch)
        cost = space.cost(one.arch, **SMALL)
        assert (one.macs, one.num_params, one.layers) == (cost.macs, cost.num_params, space.layers(one.arch))
        assert 2_000_000 <= one.macs <= 6_000_000
        assert one.num_params <= 2_000_000
        assert one.layers <= 12
        assert one.parent is None or one.parent < one.index // 16 * 16  # of an earlier batch
    assert made.counts.accepted == len(record)
    assert set(made.counts.refused) <= {"max_macs", "min_macs", "max_layers", "max_params"}
    assert 0 < made.counts.acceptance < 1


def test_of_nb201_are_canonical_and_never_one_network_twice():
    space = NB201()
    record, _ = grown(space, 400, 7, network={})
    archs = [one.arch for one in record]
    assert len(set(archs)) == len(archs)
    assert all(space.canonicalise(arch) == arch for arch in archs)
    assert all(one.layers == one.arch.count("nor_conv") for one in record)


def test_a_pure_function_of_history_and_seed():
    space = NB201()
    record, _ = grown(space, 64, 8, network={})
    again = proposer(space, network={})
    first = again.propose(record, 8)
    assert proposer(space, network={}).propose(record, 8) == first == again.propose(record, 8)
    assert first[:3] == proposer(space, network={}).propose(record, 3)  # a shorter batch begins alike
    assert first != proposer(space, network={}, seed=1).propose(record, 8)


def test_gives_up_where_nothing_is_within_the_budget():
    made = proposer(MBV2(), Budget(max_macs=10), max_tries=50)
    assert made.propose(RankedHistory(("a",)), 4) == []
    assert made.last.reasons() == "of 50 draws 50 break max_macs"


def test_gives_up_where_nothing_is_new():
    class Four(NB201):
        """A space of four networks."""

        def sample(self, rng, unique=False):
            return self.format((3, 3, 3, 3, 3, rng.randrange(4)))

        mutate = None

    space = Four()
    strategy = SimpleNamespace(space=space, drawing=lambda record: lambda rng: Draw(space.sample(rng), None, "random"))
    made = Proposer(strategy, CostCheck(Budget(), space, {}), Budget(), None, 0, max_tries=200)
    found = made.propose(RankedHistory(("a",)), 10)
    assert len({one.arch for one in found}) == len(found) == 4
    assert made.last.reasons() == "of 200 draws none breaks a bound, 200 are in the history already"


def test_measured_bounds_come_last():
    asked = []

    def measure(arch):
        asked.append(arch)
        return float(len(arch) % 3), None

    space, budget = MBV2(), Budget(max_macs=6_000_000, max_latency_ms=1.0)
    record, made = grown(space, 24, 8, budget=budget, measure=measure)
    assert all(one.latency_ms is None for one in record)  # `evaluated` drops it; the proposals have it
    assert all(one.latency_ms <= 1 and one.peak_mb is None for one in made.propose(record, 8))
    assert made.counts.refused["max_latency_ms"] > 0
    assert all(space.cost(arch, **SMALL).macs <= 6_000_000 for arch in asked)


def test_measurements_are_kept(tmp_path, monkeypatch):
    from vkdnw_pl.networks import cost

    calls = []
    monkeypatch.setattr(cost, "measure_latency", lambda *args: calls.append(args) or 1.5)
    monkeypatch.setattr(cost, "measure_peak_memory", lambda *args: calls.append(args) or 2.25)
    space, path = NB201(), tmp_path / "measured.csv"
    budget = Budget(max_latency_ms=9.0, max_peak_mb=9.0)
    how = HowToMeasure(batch_size=2, warmup=1, repeats=3)
    archs = list(space.enumerate())[-3:]
    measured = Measurements(path, space, {"channels": 4, "cells": 1}, budget, how)
    assert [measured(arch) for arch in [*archs[:2], archs[0]]] == [(1.5, 2.25)] * 3
    assert len(calls) == 4
    assert calls[0][1:] == ((3, 32, 32), 2, "cpu")
    assert calls[1][1:] == ((3, 32, 32), 2, "cpu", 1, 3, 1)
    path.write_bytes(path.read_bytes() + b"|torn~0")
    again = Measurements(path, space, {"channels": 4, "cells": 1}, budget, how)
    assert [again(arch) for arch in archs[:2]] == [(1.5, 2.25)] * 2
    assert len(calls) == 4
    again(archs[2])
    assert path.read_text().splitlines() == ["arch,latency_ms,peak_mb", *(f"{arch},1.5,2.25" for arch in archs)]

    too_large = Measurements(None, space, {"channels": 4, "cells": 1}, Budget(max_latency_ms=9.0, max_peak_mb=1.0), how)
    assert too_large(archs[0]) == (None, 2.25)  # too much memory: its latency does not matter


def test_latencies_of_a_table(tmp_path, monkeypatch):
    from vkdnw_pl.networks import cost

    monkeypatch.setattr(cost, "measure_peak_memory", lambda *args: 2.25)
    space, path = NB201(), tmp_path / "measured.csv"
    slow, fast, unknown = list(space.enumerate())[-3:]
    latencies, network, how = {slow: 8.0, fast: 2.0}, {"channels": 4, "cells": 1}, HowToMeasure()
    known = Measurements(path, space, network, Budget(max_latency_ms=5.0), how, latencies)
    assert [known(slow), known(fast)] == [(8.0, None), (2.0, None)]
    assert known(unknown) == "max_latency_ms (not in latency_table)"
    assert not path.exists()
    both = Measurements(path, space, network, Budget(max_latency_ms=5.0, max_peak_mb=9.0), how, latencies)
    assert [both(slow), both(fast)] == [(8.0, None), (2.0, 2.25)]
    assert path.read_text().splitlines() == ["arch,latency_ms,peak_mb", f"{fast},,2.25"]


def test_really_measured():
    space = NB201()
    measured = Measurements(
        None,
        space,
        {"channels": 2, "cells": 0},
        Budget(max_latency_ms=1e6, max_peak_mb=1e6),
        HowToMeasure(batch_size=1, repeats=1),
    )
    latency_ms, peak_mb = measured(next(space.enumerate()))
    assert latency_ms > 0
    assert peak_mb > 0
    with pytest.raises(ValueError, match="measure_repeats=0 is not allowed"):
        HowToMeasure(repeats=0)
