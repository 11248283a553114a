import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vkdnw_pl.networks.nb201_cell import EDGES, OPS
from vkdnw_pl.spaces import NB201

SPACE = NB201()
DENSE = "|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_3x3~1|+|skip_connect~0|nor_conv_1x1~1|nor_conv_3x3~2|"
genotypes = st.tuples(*[st.integers(0, 4)] * 6)


@pytest.fixture(scope="module")
def unique():
    return list(SPACE.enumerate(unique=True))


def test_enumeration_has_every_string_once():
    archs = list(SPACE.enumerate())
    assert len(archs) == len(set(archs)) == 15_625
    assert archs[0] == "|none~0|+|none~0|none~1|+|none~0|none~1|none~2|"
    assert archs[1].endswith("skip_connect~2|")  # the last edge varies fastest
    assert (
        archs[-1] == "|avg_pool_3x3~0|+|avg_pool_3x3~0|avg_pool_3x3~1|+|avg_pool_3x3~0|avg_pool_3x3~1|avg_pool_3x3~2|"
    )


def test_unique_nets_are_those_of_the_paper(unique):
    assert len(unique) == len(set(unique)) == 9_445
    convolutions = [arch.count("nor_conv") for arch in unique]
    assert [convolutions.count(k) for k in range(7)] == [291, 1370, 2704, 2840, 1664, 512, 64]


def reachable_by_walking(genotype):
    """Definition, written out: an edge stays if some path of live edges from node 0 to node 3 uses it."""
    live = {edge for edge, op in zip(EDGES, genotype, strict=True) if op != 0}
    used = set()

    def walk(node, path):
        if node == 3:
            used.update(path)
        for source, target in live:
            if source == node:
                walk(target, [*path, (source, target)])

    walk(0, [])
    return tuple(op if edge in used else 0 for edge, op in zip(EDGES, genotype, strict=True))


@given(genotypes)
def test_canonical_form_keeps_exactly_the_edges_on_paths(genotype):
    canonical = SPACE.canonicalise(SPACE.format(genotype))
    assert SPACE.parse(canonical) == reachable_by_walking(genotype)
    assert SPACE.canonicalise(canonical) == canonical


@given(genotypes)
def test_round_trip_of_both_forms(genotype):
    text = SPACE.format(genotype)
    assert SPACE.parse(text) == SPACE.parse(f"index:{genotype}") == genotype
    assert SPACE.validate("index: " + ", ".join(map(str, genotype))) == SPACE.validate(text) == text


NASLIB_OPS = {"skip_connect": 0, "none": 1, "nor_conv_3x3": 2, "nor_conv_1x1": 3, "avg_pool_3x3": 4}


def naslib_tuple(arch):
    """The edges in NASLib's order, by the node that they leave."""
    edges = {
        (int(edge[-1]), target): edge[:-2]
        for target, node in enumerate(arch.split("+"), start=1)
        for edge in node.strip("|").split("|")
    }
    return tuple(NASLIB_OPS[edges[edge]] for edge in sorted(edges))


def test_naslibs_coding_of_every_architecture():
    published = "|avg_pool_3x3~0|+|skip_connect~0|none~1|+|nor_conv_1x1~0|avg_pool_3x3~1|nor_conv_1x1~2|"
    assert naslib_tuple(published) == (4, 0, 3, 1, 4, 3)
    assert SPACE.validate("naslib:(4, 0, 3, 1, 4, 3)") == published
    archs = list(SPACE.enumerate())
    assert [SPACE.validate(f"naslib:{naslib_tuple(arch)}") for arch in archs] == archs


@pytest.mark.parametrize("arch", ["(4, 0, 3, 1, 4, 3)", "4,0,3,1,4,3", "[4,0,3,1,4,3]", (4, 0, 3, 1, 4, 3)])
def test_integers_alone_are_refused_with_both_readings(arch):
    ours = "|avg_pool_3x3~0|+|none~0|nor_conv_3x3~1|+|skip_connect~0|avg_pool_3x3~1|nor_conv_3x3~2|"
    with pytest.raises(ValueError) as caught:
        SPACE.validate(arch)
    text = str(caught.value)
    assert f"write index:(4, 0, 3, 1, 4, 3) for {ours} or naslib:(4, 0, 3, 1, 4, 3) for |avg_pool_3x3~0|+|skip" in text


@given(genotypes, st.integers())
def test_mutation_changes_one_edge(genotype, seed):
    mutant = SPACE.parse(SPACE.mutate(SPACE.format(genotype), random.Random(seed)))
    assert sum(a != b for a, b in zip(genotype, mutant, strict=True)) == 1


def test_mutation_reaches_every_neighbour():
    rng = random.Random(0)
    assert len({SPACE.mutate(DENSE, rng) for _ in range(2_000)}) == len(EDGES) * (len(OPS) - 1)


def test_samples_are_repeatable_valid_and_unique_where_asked(unique):
    known = set(unique)
    draw = [SPACE.sample(random.Random(7), unique=True) for _ in range(3)]
    assert len(set(draw)) == 1
    rng = random.Random(1)
    assert all(SPACE.sample(rng, unique=True) in known for _ in range(300))
    assert any(SPACE.sample(rng) not in known for _ in range(300))


def test_cost_is_that_of_the_benchmark():
    cost = SPACE.cost(DENSE)
    assert (cost.macs, cost.num_params) == (153_272_970, 1_073_466)


@pytest.mark.parametrize(
    ("arch", "words"),
    [
        (
            DENSE.replace("nor_conv_1x1", "nor_cov_1x1"),
            ["edge 1→3", "'nor_cov_1x1'", "did you mean 'nor_conv_1x1'", "none"],
        ),
        (DENSE.replace("nor_conv_3x3~2", "nor_conv_3x3~1"), ["edge 2 of node 3", "op~2"]),
        (DENSE.replace("|+|nor_conv_3x3~0|nor_conv_3x3~1|", ""), ["2 part(s)", "needs 3"]),
        (DENSE.replace("|nor_conv_1x1~1", ""), ["node 3 has 2 edge(s)", "needs 3"]),
        (DENSE[1:], ["node 1", "begin and end with '|'"]),
        ("", ["1 part(s)"]),
        ("3,3,3,1,2", ["5 integers", "needs 6"]),
        ("3,3,3,1,2,5", ["edge 2→3 has 5", "4=avg_pool_3x3"]),
        ("naslib:3,3,5,1,2,2", ["edge 0→3 has 5", "0=skip_connect"]),
        ("naslab:3,3,3,1,2,2", ["the coding='naslab' is not known; did you mean 'naslib'", "allowed: index, naslib"]),
        ("-1,3,3,1,2,2", ["edge 0→1 has -1"]),
    ],
)
def test_wrong_architectures_are_told_where_and_what_is_allowed(arch, words):
    with pytest.raises(ValueError) as caught:
        SPACE.parse(arch)
    for word in words:
        assert word in str(caught.value)


@pytest.mark.parametrize(
    ("network", "words"),
    [
        ({"chanels": 16}, ["'chanels'", "did you mean 'channels'"]),
        ({"channels": 0}, ["network.channels=0", "at least 1"]),
        ({"channels": 2.5}, ["network.channels=2.5"]),
        ({"cells": True}, ["network.cells=True"]),
        ({"bn_affine": 1}, ["network.bn_affine=1", "true or false"]),
        ({"image_size": 30}, ["network.image_size=30", "multiple of 4"]),
    ],
)
def test_wrong_network_options_are_named(network, words):
    for call in (SPACE.build, SPACE.cost):
        with pytest.raises(ValueError) as caught:
            call(DENSE, **network)
        for word in words:
            assert word in str(caught.value)
