import random
import re

import pytest
import torch

from vkdnw_pl.networks.cost import flop_counter_macs
from vkdnw_pl.proxies.functional.scalars import layer_weights
from vkdnw_pl.spaces import AutoFormer, PiT

TINY = AutoFormer()
PIT = PiT()

AF_FIRST = "192|3.5-4-3.5-4-3.5-3.5-4-3.5-4-4-4-3.5|4-4-3-4-3-3-4-4-3-3-3-4"
AF_SECOND = "240|4-3.5-3.5-4-4-4-4-3.5-3.5-3.5-3.5-3.5-4-4|3-3-3-4-4-3-3-3-4-3-3-4-3-4"
AF_LAST = "216|3.5-3.5-3.5-3.5-4-4-4-4-4-4-4-4-3.5-3.5|4-4-4-4-4-3-3-3-4-3-4-4-3-3"
CLASSES = (100, 102, 4, 1000)
# Counted on the networks of the records (lilujunai/Auto-Prox-AAAI24, 90ed458), for so many classes.
PARAMS = {
    (TINY, AF_FIRST): (5_321_956, 5_322_342, 5_303_428, 5_495_656),
    (TINY, AF_SECOND): (9_573_100, 9_573_582, 9_549_964, 9_790_000),
    (TINY, AF_LAST): (7_827_940, 7_828_374, 7_807_108, 8_023_240),
    (PIT, "16|6|2-8-4|2-4-4"): (893_828, 893_958, 887_588, 952_328),
    (PIT, "32|4|1-6-6|2-8-8"): (9_736_804, 9_737_318, 9_712_132, 9_968_104),
    (PIT, "16|2|2-6-6|4-8-8"): (1_793_188, 1_793_446, 1_780_804, 1_909_288),
}
SMALLEST = {TINY: {"image_size": 32, "num_classes": 7}, PIT: {"image_size": 32, "num_classes": 7}}


@pytest.mark.parametrize(("space", "arch"), PARAMS, ids=lambda value: getattr(value, "name", value))
def test_parameters_are_those_of_the_trained_networks(space, arch):
    assert space.validate(arch) == arch
    assert tuple(space.cost(arch, num_classes=k).num_params for k in CLASSES) == PARAMS[space, arch]


def test_all_of_pit_and_none_of_autoformer_are_listed():
    archs = list(PIT.enumerate())
    assert len(set(archs)) == 1_600
    assert (archs[0], archs[-1]) == ("16|2|1-6-6|2-2-2", "40|8|3-8-2|8-8-8")
    assert [PIT.validate(arch) for arch in archs] == archs
    with pytest.raises(ValueError, match=r"8e\+08 architectures, too many"):
        TINY.enumerate()


@pytest.mark.parametrize("space", [TINY, PIT], ids=lambda space: space.name)
def test_samples_and_neighbours_are_of_the_space(space):
    rng = random.Random(0)
    arch = space.sample(rng)
    seen = set()
    for _ in range(500):
        mutated = space.mutate(arch, rng)
        assert mutated != arch
        assert space.validate(mutated) == mutated
        arch = mutated
        seen.add((len(arch.split("|")[1]), arch.split("|")[0]))
    assert len(seen) > 2
    assert space.sample(random.Random(3)) == space.sample(random.Random(3))
    for title, (pattern, values) in space.decisions.items():
        found = re.findall(pattern, arch)
        assert found, title
        assert set(found) <= set(values)


def test_neighbours_of_autoformer_differ_in_one_decision():
    rng = random.Random(1)
    kinds = {"width": 0, "depth": 0, "layer": 0}
    for _ in range(200):
        (dim, ratios, heads), (other, new_ratios, new_heads) = (
            TINY.parse(AF_FIRST),
            TINY.parse(TINY.neighbour(AF_FIRST, rng)),
        )
        if other != dim:
            kinds["width"] += 1
            assert (ratios, heads) == (new_ratios, new_heads)
        elif len(new_ratios) != len(ratios):
            kinds["depth"] += 1
            assert len(new_ratios) == 13
        else:
            kinds["layer"] += 1
            changed = [a != b for a, b in zip(ratios + heads, new_ratios + new_heads, strict=True)]
            assert sum(changed) == 1
    assert min(kinds.values()) > 20


@pytest.mark.parametrize(
    ("space", "arch", "words"),
    [
        (TINY, "192|4-4|3-3", "ratios for 2 and heads for 2 layers.*allowed: 12, 13, 14"),
        (TINY, "200|4-4|3-3", "width: number 1 is '200'.*192, 216, 240"),
        (TINY, AF_FIRST.replace("192|3.5", "192|3"), "MLP ratios: number 1 is '3'.*3.5, 4"),
        (TINY, AF_FIRST + "-5", "heads: number 13 is '5'"),
        (TINY, "192", r"has 1 part\(s\), it needs 3"),
        (PIT, "16|6|2-8-4", r"has 3 part\(s\), it needs 4"),
        (PIT, "16|6|2-8-5|2-4-4", "layers of the stages '2-8-5' is not allowed; did you mean"),
        (PIT, "16|6|2-8-4|4-2-4", "heads of the stages '4-2-4'"),
    ],
)
def test_wrong_architectures_are_told_where(space, arch, words):
    with pytest.raises(ValueError, match=words):
        space.parse(arch)


@pytest.mark.parametrize("space", [TINY, PIT], ids=lambda space: space.name)
def test_costs_are_those_of_the_network(space):
    rng = random.Random(0)
    for size in (32, 48):
        arch, options = space.sample(rng), {"image_size": size, "num_classes": 7, "in_channels": 2}
        cost = space.cost(arch, **options)
        with torch.device("meta"):
            network = space.build(arch, **options).eval()
        images = torch.empty(2, *space.input_size(**options), device="meta")
        assert network(images).shape == (2, 7)
        assert cost.num_params == sum(p.numel() for p in network.parameters())
        assert space.aleph(arch, **options) == len(layer_weights(network))
        assert cost.macs == flop_counter_macs(network, images)
        assert network.space_layers == space.layers(arch)
        assert len(network.feature_taps) == 2 * space.layers(arch)


@pytest.mark.parametrize(("space", "size"), [(TINY, 40), (PIT, 8), (PIT, 20)])
def test_images_that_patches_do_not_cover_are_refused(space, size):
    with pytest.raises(ValueError, match=f"image_size={size} is not allowed: give a multiple of"):
        space.cost(space.sample(random.Random(0)), image_size=size)


def test_options_outside_of_the_published_networks_are_refused():
    with pytest.raises(ValueError, match="'patch' is not known"):
        PIT.build("16|2|1-6-6|2-2-2", patch=8)
