import collections
import hashlib
import itertools
import json
import random
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vkdnw_pl.networks.mbv2_blocks import EXPANSIONS, KERNELS, NAMED, OPERATORS, ConvBlock, ResBlock, name_of, round8
from vkdnw_pl.spaces import SPACES
from vkdnw_pl.spaces.mbv2 import MBV2, OPERATOR_WEIGHTS, channel_choices, mutate_blocks, sub_layer_choices

SPACE = MBV2()
GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "mbv2_official.json").read_text(encoding="utf-8"))
INITIAL, FOUND = NAMED["mbv2_initial"].arch, NAMED["mbv2_480m"].arch

sizes = st.integers(1, 400)


@st.composite
def architectures(draw):
    width = draw(sizes)
    stem = ConvBlock(3, 3, width, draw(st.integers(1, 2)), draw(st.integers(1, 3)))
    blocks = [stem]
    for _ in range(draw(st.integers(0, 4))):
        expansion, kernel = draw(st.sampled_from(EXPANSIONS)), draw(st.sampled_from(KERNELS))
        after, stride = draw(sizes), draw(st.integers(1, 2))
        blocks.append(ResBlock(expansion, kernel, width, after, stride, draw(sizes), draw(st.integers(1, 12))))
        width = after
    return (*blocks, ConvBlock(1, width, draw(sizes), draw(st.integers(1, 2)), draw(st.integers(1, 3))))


def test_the_space_is_registered():
    assert isinstance(SPACES["mbv2"], MBV2)


def test_typed_form_of_a_published_string():
    stem, first, *_, last = SPACE.parse("mbv2_480m")
    assert stem == ConvBlock(kernel=3, in_channels=3, out_channels=48, stride=2, sub_layers=1)
    assert first == ResBlock(
        expansion=1, kernel=7, in_channels=48, out_channels=40, stride=2, bottleneck_channels=40, sub_layers=1
    )
    assert last == ConvBlock(kernel=1, in_channels=224, out_channels=2048, stride=1, sub_layers=1)


@given(architectures())
def test_round_trip_of_both_forms(blocks):
    text = SPACE.format(blocks)
    assert SPACE.parse(text) == SPACE.parse(blocks) == blocks
    assert SPACE.validate(text) == text


def test_other_spellings_become_the_canonical_one():
    assert SPACE.validate(INITIAL.replace("(", "(uuid0|", 3)) == INITIAL
    assert SPACE.validate(INITIAL.replace(")", " )\n").replace(",", ", ")) == INITIAL


@pytest.mark.parametrize("name", NAMED)
def test_names_stand_for_their_strings(name):
    assert SPACE.validate(name) == NAMED[name].arch == SPACE.validate(NAMED[name].arch)
    cost = SPACE.cost(name)
    assert (cost.macs, cost.num_params) == (NAMED[name].macs, NAMED[name].num_params)


@pytest.mark.parametrize(
    ("arch", "words"),
    [
        ("mbv2_48m", ["'mbv2_48m'", "did you mean 'mbv2_480m'", "zico_450m"]),
        (
            FOUND.replace("E1K3", "E3K3"),
            ["block 3 at character 57", "'SuperResIDWE3K3'", "did you mean 'SuperResIDWE", "SuperConvK1BNRELU"],
        ),
        (FOUND.replace("SuperRes", "SuprRes", 1), ["block 2", "did you mean 'SuperResIDWE1K7'"]),
        (
            FOUND.replace("(48,40,2,40,1)", "(48,40,2,40)"),
            ["block 2 at character 28", "4 number(s)", "bottleneck_channels"],
        ),
        (
            FOUND.replace("(3,48,2,1)", "(3,48,2,1,1)"),
            ["block 1 at character 1", "5 number(s), it needs ['in_channels', 'out_channels', 'stride', 'sub_layers']"],
        ),
        (FOUND.replace("(48,40,2,40,1)", "(48,4x,2,40,1)"), ["block 2", "out_channels='4x'", "at least 1"]),
        (FOUND.replace("(48,40,2,40,1)", "(48,40,-2,40,1)"), ["stride='-2'"]),
        (FOUND.replace("(48,40,2,40,1)", "(48,40,2,0,1)"), ["block 2 at", "bottleneck_channels=0", "at least 1"]),
        (FOUND.replace("(48,40,2,40,1)", "(48,40,3,40,1)"), ["block 2 at", "stride=3", "allowed: 1, 2"]),
        (FOUND.replace("(40,96,2,96,2)", "(48,96,2,96,2)"), ["block 3 of 6", "in_channels=48", "gives 40"]),
        (
            FOUND.removesuffix("SuperConvK1BNRELU(224,2048,1,1)"),
            ["block 5 of 5 is SuperResIDWE2K7", "one SuperConvK1BNRELU"],
        ),
        (FOUND.removeprefix("SuperConvK3BNRELU(3,48,2,1)"), ["block 1 of 5 is SuperResIDWE1K7"]),
        (
            FOUND.replace("SuperResIDWE1K3(40,96,2,96,2)", "SuperConvK3BNRELU(40,96,2,2)"),
            ["block 3 of 6 is SuperConvK3"],
        ),
        (FOUND + ";", ["block 7 at character", "found ';'"]),
        (FOUND[:-1], ["block 6 at character 146", "found 'SuperConvK1BNRELU(224,2048,1,1'", "Name(number,number,...)"]),
        ("SuperConvK3BNRELU(3,48,2,1)", ["1 block(s)"]),
        ("", ["''", "known names"]),
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
        ({"use_es": True}, ["'use_es'", "did you mean 'use_se'", "bn_eps"]),
        ({"use_se": 1}, ["network.use_se=1", "true or false"]),
        ({"num_classes": 0}, ["network.num_classes=0", "at least 1"]),
        ({"bn_eps": 0}, ["network.bn_eps=0", "above 0 and below 1"]),
        ({"in_channels": 1}, ["network.in_channels=1", "SuperConvK3BNRELU(1,48,2,1)SuperResIDWE1K7(48,40"]),
    ],
)
def test_wrong_network_options_are_named(network, words):
    for call in (SPACE.build, SPACE.cost, SPACE.reference_cost):
        with pytest.raises(ValueError) as caught:
            call("mbv2_480m", **network)
        for word in words:
            assert word in str(caught.value)


@pytest.mark.parametrize("row", GOLDEN["costs"], ids=lambda row: f"{row['flops']:.0f}")
def test_reference_counting_is_that_of_the_official_code(row):
    network = {key: row[key] for key in ("use_se", "num_classes", "image_size")}
    cost = SPACE.reference_cost(row["arch"], **network)
    # The official count has a fraction where a projection of stride 2 has no multiple of 8 channels.
    assert (cost.macs, cost.num_params) == (int(row["flops"]), row["model_size"])
    assert SPACE.layers(row["arch"]) == row["layers"]


def test_enumeration_says_what_else_there_is():
    with pytest.raises(ValueError, match=r"unbounded.*sample.*file.*mbv2_480m"):
        SPACE.enumerate()


def neighbours(block):
    if isinstance(block, ConvBlock):
        widths = channel_choices(block.out_channels) if block.kernel == 3 else [block.out_channels]
        return [f"{name_of(block)}({block.in_channels},{width},{block.stride},1)" for width in widths]
    choices = (
        OPERATORS,
        channel_choices(block.out_channels),
        channel_choices(block.bottleneck_channels),
        sub_layer_choices(block.sub_layers),
    )
    return [
        f"SuperResIDWE{e}K{k}({block.in_channels},{out},{block.stride},{narrow},{depth})"
        for (e, k), out, narrow, depth in itertools.product(*choices)
    ]


@pytest.mark.parametrize("row", GOLDEN["mutation"], ids=lambda row: f"{row['block']}-{row['total']}")
def test_candidates_are_those_of_the_official_code(row):
    block = SPACE.parse(row["arch"])[row["block"]]
    found = neighbours(block)
    assert len(set(found)) == len(found) == row["distinct"]
    assert hashlib.sha256("\n".join(sorted(found)).encode()).hexdigest() == row["sha256"]
    if isinstance(block, ResBlock):  # how often each type is repeated
        each = len(found) // len(OPERATORS)
        weights = tuple(row["per_type"][f"SuperResIDWE{e}K{k}"] / each for e, k in OPERATORS)
        assert weights == OPERATOR_WEIGHTS["reference"]


@pytest.mark.parametrize("operators", OPERATOR_WEIGHTS)
def test_mutation_reaches_every_candidate_as_often_as_stated(operators):
    own = (6, 3)
    blocks = SPACE.parse("SuperConvK3BNRELU(3,8,2,1)SuperResIDWE6K3(8,8,2,8,1)SuperConvK1BNRELU(8,64,1,1)")
    rng = random.Random(0)
    mutants = [mutate_blocks(blocks, rng, operators) for _ in range(30_000)]
    drawn = [after for stem, after, _ in mutants if stem == blocks[0] and after != blocks[1]]
    assert len(set(drawn)) == len(neighbours(blocks[1])) - 1 == 12 * 2 * 2 * 3 - 1
    # One in twelve of the block's own type is the block itself, which cannot be told from a draw of another block.
    weights = [w * (11 / 12 if o == own else 1) for o, w in zip(OPERATORS, OPERATOR_WEIGHTS[operators], strict=True)]
    seen = collections.Counter((block.expansion, block.kernel) for block in drawn)
    for operator, weight in zip(OPERATORS, weights, strict=True):
        expected = len(drawn) * weight / sum(weights)
        assert abs(seen[operator] - expected) < 5 * expected**0.5, operator


def test_published_channel_and_depth_choices():
    assert channel_choices(8) == (16, 8)
    assert channel_choices(48) == (120, 96, 72, 64, 48, 40, 32, 24, 16)
    assert sub_layer_choices(1) == (3, 2, 1)
    assert sub_layer_choices(4) == (6, 5, 4, 3, 2)
    assert [round8(x) for x in (1, 12, 20, 28, 19.2)] == [8, 16, 16, 32, 16]  # halves to the even multiple


def test_deep_blocks_are_split_as_in_the_official_code():
    blocks = SPACE.parse(GOLDEN["split"]["arch"])

    class OnlyTheLast(random.Random):
        def randrange(self, n):
            return n - 1

    assert SPACE.format(mutate_blocks(blocks, OnlyTheLast(), "uniform")) == GOLDEN["split"]["twice"]


def test_ten_thousand_mutations_are_valid_and_written_one_way():
    """A random walk that begins anew where it leaves what a search would look at."""
    rng = random.Random(0)
    arch, restarts = INITIAL, 0
    for step in range(10_000):
        mutant = SPACE.mutate(arch, rng, num_replaced=1 + step % 3)
        assert mutant != arch
        blocks = SPACE.parse(mutant)
        assert SPACE.format(blocks) == mutant
        assert len(blocks) >= len(SPACE.parse(arch))  # no block is removed
        assert max(b.sub_layers for b in blocks) < 6
        assert all(b.out_channels % 8 == 0 for b in blocks)
        assert [b.stride for b in blocks if b.stride == 2] == [2] * 5
        assert blocks[-1].out_channels == 2048
        arch = mutant
        if SPACE.layers(arch) > 16 or SPACE.cost(arch).macs > 1e9:
            arch, restarts = INITIAL, restarts + 1
    assert restarts > 100


def test_one_mutation_replaces_one_block():
    rng = random.Random(3)
    before = SPACE.parse(INITIAL)
    for _ in range(300):
        after = SPACE.parse(SPACE.mutate(INITIAL, rng))
        assert len(after) == len(before)  # from depth 1 nothing gets deep enough to be split
        own = [
            [getattr(b, f) for f in b.__slots__ if f != "in_channels"]
            != [getattr(a, f) for f in a.__slots__ if f != "in_channels"]
            for b, a in zip(before, after, strict=True)
        ]
        assert sum(own) == 1


def test_samples_are_repeatable_valid_and_different():
    assert len({SPACE.sample(random.Random(7)) for _ in range(3)}) == 1
    rng = random.Random(1)
    samples = {SPACE.sample(rng) for _ in range(100)}
    assert len(samples) > 95
    assert all(SPACE.validate(arch) == arch for arch in samples)
    assert SPACE.sample(rng, num_mutations=0) == INITIAL


def test_arguments_are_checked():
    with pytest.raises(ValueError, match=r"operator_sampling='biased'.*uniform, reference"):
        MBV2("biased")
    with pytest.raises(ValueError, match="num_replaced=0"):
        SPACE.mutate(INITIAL, random.Random(0), num_replaced=0)
    with pytest.raises(ValueError, match=r"kernel=4 is not allowed; allowed: 3, 5, 7"):
        ResBlock(1, 4, 8, 8, 1, 8, 1)


def test_no_torch_is_needed():
    code = (
        "import random, sys; from vkdnw_pl.spaces.mbv2 import MBV2; s = MBV2(); "
        "s.cost(s.mutate('mbv2_480m', random.Random(0))); sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
