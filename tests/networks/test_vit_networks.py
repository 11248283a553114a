"""The networks of ViT-Bench-101 against the published code (``tests/golden/vit_official.json`` says how)."""

import json
from pathlib import Path

import pytest
import torch
from torch import nn

from vkdnw_pl.networks.init import initialise
from vkdnw_pl.spaces import AutoFormer, PiT

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "vit_official.json").read_text(encoding="utf-8"))


def numbers(count, j):
    """The formula of the file."""
    i = torch.arange(count)
    return ((40503 * i * i + 2654435 * i + 97 * j) % 65521).double() / 65521 - 0.5


def official(space):
    """The network with the weights of the file, and its images."""
    case = GOLDEN[space.name]
    size = case["image_size"]
    network = space.build(case["arch"], num_classes=5, image_size=size).double().eval()
    with torch.no_grad():
        for j, parameter in enumerate(network.parameters()):
            parameter.copy_(0.2 * numbers(parameter.numel(), j).view(parameter.shape))
        for module in network.modules():
            if isinstance(module, nn.LayerNorm):
                module.weight.add_(1)
    return network, 2 * numbers(2 * 3 * size * size, 7).view(2, 3, size, size)


@pytest.mark.parametrize("space", [AutoFormer(), PiT()], ids=lambda space: space.name)
def test_logits_are_those_of_the_published_code(space):
    network, images = official(space)
    expected = torch.tensor(GOLDEN[space.name]["logits"], dtype=torch.float64)
    assert len(list(network.parameters())) == GOLDEN[space.name]["tensors"]
    torch.testing.assert_close(network(images), expected, rtol=1e-9, atol=1e-9)
    assert not torch.allclose(expected[0], expected[1], atol=1e-3)


def test_multiply_adds_are_those_of_thop_but_for_attention_and_norms():
    """159,665,472 of pit's first record by THOP, which counts four for each number normalised, and no attention."""
    stages = [(32, 730, 2), (64, 197, 8), (64, 50, 4)]  # width, tokens, layers
    attention = sum(2 * layers * tokens**2 * dim for dim, tokens, layers in stages)
    norms = 4 * (sum(2 * layers * tokens * dim for dim, tokens, layers in stages) + 64)
    assert PiT().cost("16|6|2-8-4|2-4-4", num_classes=100).macs - attention + norms == 159_665_472


def test_the_constructor_draws_what_the_published_networks_begin_with():
    torch.manual_seed(0)
    network = AutoFormer().build("192|" + "-".join(["4"] * 12) + "|" + "-".join(["3"] * 12), image_size=32)
    weight = network.blocks[0].attn.qkv.weight.detach()
    assert weight.std().item() == pytest.approx(0.02, rel=0.02)
    assert network.pos_embed.std().item() == pytest.approx(0.02, rel=0.1)
    assert not network.head.bias.any()
    pit = PiT().build("16|2|2-4-6|2-2-4", image_size=32)
    assert pit.stages[0][0].attn.qkv.weight.abs().max().item() == pytest.approx(32**-0.5, rel=0.01)  # PyTorch's own
    assert pit.cls_token.std().item() == pytest.approx(0.02, rel=0.4)


@pytest.mark.parametrize("init", ["kaiming_normal", "pytorch"])
def test_nothing_of_the_weights_enters_an_initialisation(init):
    first, second = (AutoFormer().build(GOLDEN["autoformer"]["arch"], image_size=32, num_classes=2) for _ in range(2))
    for network in (first, second):
        initialise(network, init, seed=3, fresh=False)
    for a, b in zip(first.parameters(), second.parameters(), strict=True):
        assert torch.equal(a, b)
    assert first.pos_embed.std().item() == pytest.approx(0.02, rel=0.1)
    weight = first.blocks[0].attn.qkv.weight.detach()
    assert weight.std().item() == pytest.approx((2 / 192) ** 0.5 if init == "kaiming_normal" else 0.02, rel=0.03)
    assert torch.equal(first.norm.weight, torch.ones(192))


def test_stochastic_depth_is_for_training():
    network = PiT().build("16|2|2-4-6|2-2-4", image_size=32, num_classes=3)
    images = torch.randn(2, 3, 32, 32)
    assert [float(layer.attn.drop_path.p) for layer in network.stages[0]] == [0.0, pytest.approx(0.1 / 12)]
    torch.manual_seed(0)
    different = [not torch.equal(network.train()(images), network(images)) for _ in range(9)]
    assert any(different)
    assert torch.equal(network.eval()(images), network(images))
