import random
import re
from collections import Counter

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from vkdnw_pl.networks.cost import flop_counter_macs
from vkdnw_pl.networks.features import feature_taps
from vkdnw_pl.proxies.functional.scalars import layer_weights
from vkdnw_pl.spaces import SPACES, NatsSSS, resolve
from vkdnw_pl.spaces.nats_sss import CHANNELS

SPACE = NatsSSS()
archs = st.tuples(*[st.sampled_from(CHANNELS)] * 5).map(SPACE.format)
DATASETS = ({}, {"num_classes": 100}, {"num_classes": 120, "image_size": 16})
PUBLISHED = {
    "8:8:8:8:8": (0, (11_714, 4_481_114), (12_524, 4_481_924), (12_704, 1_121_336)),
    "8:8:8:16:32": (11, (49_202, 6_840_650), (52_172, 6_843_620), (52_832, 1_714_040)),
    "8:8:40:32:40": (284, (144_834, 21_827_994), (148_524, 21_831_684), (149_344, 5_461_816)),
}
"""Index, and (params, MACs) for CIFAR-10, CIFAR-100 and ImageNet16-120, as the benchmark's records have them."""


def test_enumeration_is_the_benchmarks_order():
    listed = list(SPACE.enumerate())
    assert len(listed) == len(set(listed)) == 32_768
    assert listed[:2] == ["8:8:8:8:8", "8:8:8:8:16"]
    assert listed[-1] == "64:64:64:64:64"
    assert [SPACE.index(arch) for arch in listed[::997]] == list(range(0, 32_768, 997))
    assert list(SPACE.enumerate(unique=True)) == listed


@given(archs)
def test_round_trip(arch):
    assert SPACE.format(SPACE.parse(arch)) == SPACE.validate(f" {arch}\n") == arch


@given(archs, st.integers())
def test_mutation_changes_one_number(arch, seed):
    mutant = SPACE.mutate(arch, random.Random(seed))
    assert sum(a != b for a, b in zip(SPACE.parse(arch), SPACE.parse(mutant), strict=True)) == 1


def test_mutation_reaches_every_neighbour_and_samples_every_number():
    rng = random.Random(0)
    assert len({SPACE.mutate("8:16:24:32:64", rng) for _ in range(1000)}) == 5 * 7
    samples = [SPACE.parse(SPACE.sample(rng)) for _ in range(300)]
    for numbers in zip(*samples, strict=True):
        assert set(Counter(numbers)) == set(CHANNELS)


@pytest.mark.parametrize("arch", PUBLISHED)
def test_costs_are_the_published_ones(arch):
    index, *costs = PUBLISHED[arch]
    assert SPACE.index(arch) == index
    for dataset, (params, macs) in zip(DATASETS, costs, strict=True):
        cost = SPACE.cost(arch, **dataset)
        assert (cost.num_params, cost.macs) == (params, macs)


@pytest.mark.parametrize("seed", range(6))
def test_costs_are_those_of_the_network(seed):
    rng = random.Random(seed)
    arch = SPACE.sample(rng)
    network = {
        "width": rng.choice([0.125, 0.25, 1.5]),
        "num_classes": rng.choice([2, 120]),
        "image_size": rng.choice([8, 16]),
        "in_channels": rng.choice([1, 3]),
        "bn_affine": rng.random() < 0.5,
    }
    net, cost = SPACE.build(arch, **network).eval(), SPACE.cost(arch, **network)
    images = torch.randn(2, *SPACE.input_size(**network))
    assert net(images).shape == (2, network["num_classes"])
    assert cost.num_params == sum(p.numel() for p in net.parameters())
    assert cost.macs == flop_counter_macs(net, images) + network["num_classes"]
    assert SPACE.aleph(arch, **network) == len(layer_weights(net))


@pytest.mark.parametrize("arch", ["8:8:8:8:8", "8:16:16:8:64", "8:16:8:8:8", "64:64:8:64:8"])
def test_number_of_parameter_tensors(arch):
    _, c1, c2, c3, c4 = SPACE.parse(arch)
    assert len(list(SPACE.build(arch).parameters())) == 66 + 3 * (c1 != c2) + 3 * (c3 != c4)


def test_every_number_stands_where_the_benchmark_has_it():
    net = SPACE.build("8:16:24:32:40", width=0.5, image_size=16)
    shapes = []
    for name in ("stem", *(f"blocks.{i}" for i in range(5)), "head"):
        net.get_submodule(name).register_forward_hook(lambda _m, _i, out: shapes.append(tuple(out.shape[1:])))
    net(torch.randn(2, 3, 16, 16))
    assert shapes == [(4, 16, 16), (4, 16, 16), (8, 8, 8), (12, 8, 8), (16, 4, 4), (20, 4, 4), (20, 4, 4)]
    assert net.final_map == "head"


def test_a_cell_that_widens_projects_what_leaves_its_input():
    """The second cell, edge by edge: 0→1, 0→2, 1→2, 0→3 (the skip), 1→3, 2→3."""
    torch.manual_seed(0)
    net = SPACE.build("8:8:16:8:8", width=0.5, image_size=8).eval()
    cell, x = net.blocks[2], torch.randn(2, 4, 4, 4)

    def conv(edge, value):
        return cell.edges[edge][2](torch.conv2d(value.relu(), cell.edges[edge][1].weight, padding=1))

    skip = cell.edges[3]
    assert [type(part).__name__ for part in skip] == ["Conv2d", "BatchNorm2d"]  # no ReLU before it
    one = conv(0, x)
    two = conv(1, x) + conv(2, one)
    torch.testing.assert_close(
        cell(x), skip[1](torch.conv2d(x, skip[0].weight)) + conv(4, one) + conv(5, two), atol=1e-5, rtol=1e-5
    )


def test_taps_are_the_stem_and_the_last_map_of_every_resolution():
    net, images = SPACE.build("8:16:24:32:40", width=0.25, image_size=16), torch.randn(2, 3, 16, 16)
    taps = feature_taps(net, images)
    shapes = []
    for name in taps:
        net.get_submodule(name).register_forward_hook(lambda _m, _i, out: shapes.append(tuple(out.shape[1:])))
    net(images)
    assert taps == ("stem.1", "blocks.1.conv_a.0", "blocks.3.conv_a.0", "head")  # a cell's map behind the next ReLU
    assert shapes == [(2, 16, 16), (2, 16, 16), (6, 8, 8), (10, 4, 4)]


def test_decisions_find_every_number():
    found = [re.findall(pattern, "8:16:24:32:64") for pattern, _ in SPACE.decisions.values()]
    assert found == [["8"], ["16"], ["24"], ["32"], ["64"]]


def test_the_space_is_known_by_its_name():
    assert SPACES["nats_sss"].key == "nats_sss"
    assert resolve.resolve_arch("64:8:24:32:40").space == "nats_sss"


@pytest.mark.parametrize(
    ("arch", "words"),
    [
        ("8:8:8:8", ["'8:8:8:8' has 4 part(s)", "needs 5", "such as 64:8:24:32:40"]),
        ("", ["1 part(s)"]),
        ("8:8:12:8:8", ["c2 is '12'", "allowed: 8, 16"]),
        ("8:8:8:8:72", ["c4 is '72'"]),
        ("8: 8:8:8:8", ["c1 is ' 8'"]),
        ("08:8:8:8:8", ["c0 is '08'"]),
        ("-8:8:8:8:8", ["c0 is '-8'"]),
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
        ({"widht": 0.5}, ["'widht'", "did you mean 'width'"]),
        ({"width": 0}, ["network.width=0", "above 0"]),
        ({"width": True}, ["network.width=True"]),
        ({"width": float("nan")}, ["network.width=nan"]),
        ({"width": 0.3}, ["network.width=0.3", "multiple of 1/8"]),
        ({"width": 1e9}, ["network.width=1000000000.0", "memory"]),
        ({"width": float("inf")}, ["network.width=inf"]),
        ({"channels": 16}, ["'channels'"]),
        ({"image_size": 30}, ["network.image_size=30", "multiple of 4"]),
    ],
)
def test_wrong_network_options_are_named(network, words):
    for call in (SPACE.build, SPACE.cost):
        with pytest.raises(ValueError) as caught:
            call("8:8:8:8:8", **network)
        for word in words:
            assert word in str(caught.value)
