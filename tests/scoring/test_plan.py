import pytest
from hypothesis import given
from hypothesis import strategies as st

from vkdnw_pl.oracles import Oracle
from vkdnw_pl.oracles.nb201_tables import NETWORKS
from vkdnw_pl.scoring.plan import ScoreOptions, Shard, parse_seeds, plan_scoring


@pytest.mark.parametrize(
    ("seeds", "expected"),
    [(1, (1,)), (0, (0,)), ("3", (3,)), ("1..5", (1, 2, 3, 4, 5)), (" 2 .. 2 ", (2,)), ([3, 1], (3, 1))],
)
def test_seeds(seeds, expected):
    assert parse_seeds(seeds) == expected


@pytest.mark.parametrize("seeds", ["", "x", "1..", "5..1", "-1", -1, [], [1, -2], True, [True], "1,2"])
def test_seeds_that_are_refused(seeds):
    with pytest.raises(ValueError, match=r"seeds=.* is not allowed: give a whole number"):
        parse_seeds(seeds)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (
            {"seeds": "1..99999999999"},
            "seeds='1..99999999999' is not allowed: a table of 99,999,999,999 rows would take",
        ),
        ({"seeds": 2**63}, "seeds=9223372036854775808 is not allowed"),
        ({"workers": 10**9}, "workers=1000000000 is not allowed: give a whole number of at least 1 and at most 1,024"),
        ({"network": {"cells": 10**9}}, "network.cells=1000000000 is not allowed: the modules of three stages"),
        (
            {"network": {"channels": 10**7}},
            "network.channels=10000000 is not allowed: the reductions' weights would take",
        ),
        ({"network": {"image_size": 10**9}}, "network.image_size=1000000000 is not allowed: one image would take"),
        ({"network": {"in_channels": 10**9}}, "network.in_channels=1000000000 is not allowed: one image would take"),
        ({"network": {"num_classes": 10**11}}, "network.num_classes=100000000000 is not allowed: the logits"),
        (
            {"space": "mbv2", "archs": "sample:1000000000000"},
            "archs='sample:1000000000000' is not allowed: a table of 1,000",
        ),
        ({"batch_size": 10**11}, r"batch_size=100000000000 is not allowed: a batch of images of size \(1, 16, 16\)"),
    ],
)
def test_what_no_machine_can_hold_is_refused_before_it_is_made(options, text):
    with pytest.raises(ValueError, match=text) as error:
        plan_scoring(ScoreOptions(**{"archs": "sample:2", "proxies": ["params"], "progress": False, **options}))
    assert "\n" not in str(error.value)


def planned(**options):
    return plan_scoring(ScoreOptions(**{"archs": "sample:2", "proxies": ["params"], "progress": False, **options}))


DIGITS = {"channels": 8, "cells": 1, "image_size": 16, "in_channels": 1}


@pytest.mark.parametrize(
    ("options", "network", "why"),
    [
        ({}, DIGITS, "those of the accuracies on digits"),
        ({"shard": "1/2"}, DIGITS, "those of the accuracies on digits"),
        ({"network": "digits"}, DIGITS, "those of the accuracies on digits"),
        ({"network": {}}, {}, "as given"),
        ({"network": None}, {}, "as given"),  # the default of earlier versions, which their run folders hold
        ({"network": {"image_size": 16}}, {"image_size": 16}, "as given"),
        ({"oracle": None}, {}, "no known accuracies are of others"),
        ({"space": "mbv2", "archs": "sample:1"}, {}, "no known accuracies are of others"),
    ],
)
def test_networks_are_those_of_the_accuracies_unless_given(options, network, why):
    plan = planned(**{"oracle": "auto" if options.get("space") else "digits", **options})
    assert (plan.settings.network, plan.settings.record()["network"]) == (network, network)
    assert plan.why_network.startswith(why)


def test_each_data_set_of_the_public_tables_has_its_networks(monkeypatch):
    tables = {dataset: {"x": 1.0} for dataset in NETWORKS}
    public = Oracle("nb201", "", dict.fromkeys(tables, "test"), tables, networks=NETWORKS)
    monkeypatch.setattr(ScoreOptions, "find_oracle", lambda self, space: public)
    assert planned().settings.network == planned(network="cifar10").settings.network == {}
    assert "--network cifar100 or ImageNet16-120 or '{...}'" in planned().why_network
    assert planned(network="ImageNet16-120").settings.network == {"image_size": 16, "num_classes": 120}


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"oracle": "digits"}, "'digits' give auto, digits, or options such as '{"),
        ({"oracle": None}, "not allowed without known accuracies"),
    ],
)
def test_networks_that_no_accuracies_are_of(options, text):
    with pytest.raises(ValueError, match=f"network='cifar' is .*{text}"):
        planned(network="cifar", **options)


def test_a_seed_twice_is_refused():
    with pytest.raises(ValueError, match=r"seeds=\[1, 2, 1\] is not allowed: a seed repeats"):
        parse_seeds([1, 2, 1])


@given(st.lists(st.text(max_size=3), max_size=20), st.integers(1, 6))
def test_shards_are_a_partition_by_place(items, count):
    parts = [Shard.parse(f"{i}/{count}").of(items) for i in range(count)]
    assert [parts[j % count][j // count] for j in range(len(items))] == items
    assert sum(map(len, parts)) == len(items)


@pytest.mark.parametrize("shard", ["1", "2/2", "0/0", "-1/2", "a/b", "1/2/3", ""])
def test_shards_that_are_refused(shard):
    with pytest.raises(ValueError, match=r"shard=.* is not allowed: give i/n"):
        Shard.parse(shard)


@pytest.mark.parametrize("option", ["workers", "batch_size", "top_k"])
@pytest.mark.parametrize("number", [0, -1, "two", True, 1.5])
def test_numbers_that_are_refused(option, number):
    with pytest.raises(ValueError, match=rf"{option}=.* is not allowed: give a whole number of at least 1"):
        ScoreOptions(**{option: number})


@pytest.mark.parametrize(
    ("option", "what"), [("max_macs", "a whole number of at least 1, such as"), ("row_timeout", "a number above 0")]
)
@pytest.mark.parametrize("number", [0, -1.0, True, float("nan")])
def test_limits_that_are_none(option, what, number):
    with pytest.raises(ValueError, match=rf"{option}=.* is not allowed: give {what}"):
        ScoreOptions(**{option: number})


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"seeds": "5..1"}, "seeds='5..1' is not allowed"),
        ({"shard": "2/2"}, "shard='2/2' is not allowed"),
        ({"archs_seed": -1}, "archs_seed=-1 is not allowed"),
        ({"network": {"chanels": 3}}, "did you mean 'channels'"),
    ],
)
def test_options_are_checked_when_they_are_made(options, text):
    with pytest.raises(ValueError, match=text):
        ScoreOptions(**options)
