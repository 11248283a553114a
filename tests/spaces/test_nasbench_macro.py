import json
import random
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vkdnw_pl.spaces import NASBenchMacro

SPACE = NASBenchMacro()
TABLE = Path(__file__).parents[3] / "shared" / "data" / "nasbench_macro" / "nas-bench-macro_cifar10.json"
archs = st.text("012", min_size=8, max_size=8)

PUBLISHED = {
    "00000000": (387_882, 7_713_280),
    "11111111": (1_588_874, 53_246_464),
    "22222222": (2_932_586, 105_660_928),
    "22212220": (1_985_514, 85_164_544),
    "01201201": (1_283_434, 46_109_184),
}
"""Parameters and multiply-adds as published."""


@pytest.fixture(scope="module")
def records():
    if not TABLE.is_file():
        pytest.skip(f"needs the published table {TABLE.name}")
    return json.loads(TABLE.read_text())


def test_enumeration_has_every_string_once():
    everything, unique = list(SPACE.enumerate()), list(SPACE.enumerate(unique=True))
    assert (len(set(everything)), len(set(unique))) == (3**8, 3_969)
    assert everything == sorted(everything)
    assert unique == sorted(set(map(SPACE.canonicalise, everything)))
    assert everything[:2] == ["00000000", "00000001"]


@given(archs)
def test_canonical_form_moves_identities_to_the_end_of_their_stage(arch):
    canonical = SPACE.canonicalise(arch)
    for stage in (slice(0, 2), slice(2, 5), slice(5, 8)):
        (first, *rest), (here, *there) = arch[stage], canonical[stage]
        assert here == first
        assert [op for op in there if op != "0"] == [op for op in rest if op != "0"]
        assert sorted(there, key=lambda op: op == "0") == there
    assert SPACE.canonicalise(canonical) == canonical


@given(archs)
def test_round_trip(arch):
    assert SPACE.format(SPACE.parse(arch)) == SPACE.validate(f" {arch}\n") == arch


@given(archs, st.integers())
def test_a_neighbour_differs_in_one_layer_and_is_another_network(arch, seed):
    neighbour = SPACE.neighbour(arch, random.Random(seed))
    assert sum(a != b for a, b in zip(arch, neighbour, strict=True)) == 1
    assert SPACE.canonicalise(neighbour) != SPACE.canonicalise(arch)


def test_mutation_reaches_every_neighbour_and_sampling_every_network():
    rng = random.Random(0)
    assert len({SPACE.mutate("01201201", rng) for _ in range(500)}) == 16
    unique = set(SPACE.enumerate(unique=True))
    assert {SPACE.sample(rng, unique=True) for _ in range(500)} < unique
    assert not {SPACE.sample(rng) for _ in range(500)} <= unique


@pytest.mark.parametrize("arch", PUBLISHED)
def test_costs_are_the_published_ones(arch):
    params, flops = PUBLISHED[arch]
    published, cost = SPACE.reference_cost(arch), SPACE.cost(arch)
    assert (published.num_params, published.macs) == (params, flops)
    assert (cost.num_params, cost.macs) == (params, flops + 10)  # the classifier's biases


def test_costs_of_every_architecture_are_the_tables(records):
    costs = {arch: SPACE.reference_cost(arch) for arch in SPACE.enumerate()}
    assert {arch: (cost.num_params, cost.macs) for arch, cost in costs.items()} == {
        arch: (record["params"], record["flops"]) for arch, record in records.items()
    }


def test_what_is_the_same_network_has_the_same_record(records):
    copies = [arch for arch in records if SPACE.canonicalise(arch) != arch]
    assert len(copies) == 2_592
    assert all(records[arch] == records[SPACE.canonicalise(arch)] for arch in copies)


def test_figures_find_the_choices_of_each_stage():
    patterns = [pattern for pattern, _ in SPACE.decisions.values()]
    assert [re.findall(pattern, "01201201") for pattern in patterns] == [list("01"), list("201"), list("201")]


@pytest.mark.parametrize(
    ("arch", "words"),
    [
        ("0120120", ["'0120120' has 7 characters", "needs 8", "1=mb3_k3"]),
        ("", ["has 0 characters"]),
        ("01201203", ["layer 7 is '3'", "2=mb6_k5"]),
        ("0120１201", ["layer 4 is '１'"]),
        (1201201, ["1201201 is a number", "'01201201'"]),
    ],
)
def test_wrong_architectures_are_told_where_and_what_is_allowed(arch, words):
    with pytest.raises(ValueError) as caught:
        SPACE.validate(arch)
    for word in words:
        assert word in str(caught.value)
