"""MACs, parameters, aleph and widths against independent counters and counts by hand."""

import math
import random

import pytest
import timm
import torch
import torchvision
from proxy_reference import images
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from vkdnw_pl.proxies import make_proxies
from vkdnw_pl.proxies.functional.scalars import layer_weights
from vkdnw_pl.proxies.scoring import score_network
from vkdnw_pl.spaces import MBV2, NB201, make_space


def cost(network, inputs):
    scores = score_network(network, inputs.float(), make_proxies(["macs", "params", "aleph"]))
    assert not scores.failed
    return scores.values


def counted(network, inputs):
    """Multiply-adds by torch's counter, and the outputs that get a bias, by hooks."""
    biased = []
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear) and module.bias is not None:
            module.register_forward_hook(lambda _m, _i, out: biased.append(out.numel()))
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network.eval()(inputs.float())
    return counter.get_total_flops() // 2, sum(biased)


@pytest.mark.parametrize(
    "name", ["resnet18", "mobilenetv2_050", "efficientnet_b0", "mobilenetv3_small_050", "regnetx_002"]
)
def test_macs_of_convolutional_networks(name):
    network = timm.create_model(name, num_classes=7)
    macs, biases = counted(timm.create_model(name, num_classes=7), images(1, 3, 64, 64))
    values = cost(network, images(3, 3, 64, 64))
    assert values["macs"] == macs + biases
    assert values["params"] == sum(p.numel() for p in network.parameters())


def test_macs_of_a_vision_transformer():
    """By hand: D = 192, 17 tokens of 16 patches, 12 blocks, biases left out."""
    network = timm.create_model("vit_tiny_patch16_224", img_size=64, num_classes=10)
    dim, tokens = 192, 17
    block = tokens * (3 * dim * dim + dim * dim + 2 * 4 * dim * dim) + 2 * tokens * tokens * dim
    assert cost(network, images(2, 3, 64, 64))["macs"] == 16 * dim * 3 * 16 * 16 + 12 * block + dim * 10


@pytest.mark.parametrize(
    "layer",
    [
        nn.MultiheadAttention(8, 2, batch_first=True),
        nn.TransformerEncoderLayer(8, 2, 16, batch_first=True),
    ],
)
def test_macs_of_attention_modules_with_a_fused_path(layer):
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed, self.layer, self.head = nn.Linear(8, 8), layer, nn.Linear(8, 3)

        def forward(self, x):
            x = self.embed(x)
            x = self.layer(x, x, x)[0] if isinstance(self.layer, nn.MultiheadAttention) else self.layer(x)
            return self.head(x.mean(1))

    tokens = 5
    attention = tokens * (3 * 8 * 8 + 8 * 8) + 2 * tokens * tokens * 8
    mlp = 0 if isinstance(layer, nn.MultiheadAttention) else tokens * 2 * 8 * 16
    assert cost(Net(), images(2, tokens, 8))["macs"] == tokens * 8 * 8 + attention + mlp + 8 * 3


def test_macs_of_torchvision_vit():
    network = torchvision.models.VisionTransformer(32, 8, 2, 4, 16, 32, num_classes=5)
    tokens = 17
    block = tokens * (4 * 16 * 16 + 2 * 16 * 32) + 2 * tokens * tokens * 16
    assert cost(network, images(2, 3, 32, 32))["macs"] == 16 * 16 * 3 * 64 + 2 * block + 16 * 5


@pytest.mark.parametrize(
    ("layer", "size", "macs"),
    [
        (nn.Conv2d(3, 4, 3), (3, 8, 8), 6 * 6 * 4 * 28),
        (nn.Conv2d(3, 4, 3, bias=False), (3, 8, 8), 6 * 6 * 4 * 27),
        (nn.Conv2d(4, 6, (3, 1), stride=(2, 1), padding=(1, 0), groups=2), (4, 9, 5), 5 * 5 * 6 * 7),
        (nn.Conv2d(4, 4, 3, padding="same", dilation=2, groups=4, bias=False), (4, 7, 5), 7 * 5 * 4 * 9),
        (nn.Conv2d(2, 2, 3, padding=1, padding_mode="reflect"), (2, 5, 5), 5 * 5 * 2 * 19),
        (nn.Conv1d(2, 3, 4, stride=3), (2, 11), 3 * 3 * 9),
        (nn.Conv3d(1, 2, 2, bias=False), (1, 3, 4, 5), 2 * 3 * 4 * 2 * 8),
        (nn.Linear(6, 5), (7, 6), 7 * 5 * 7),
        (nn.Sequential(nn.BatchNorm2d(3), nn.ReLU(), nn.MaxPool2d(2)), (3, 4, 4), 0),
    ],
    ids=str,
)
def test_macs_of_layers(layer, size, macs):
    """They do not depend on the batch."""
    network = nn.Sequential(layer, nn.Flatten())
    for batch in (1, 2, 5):
        assert cost(network, images(batch, *size))["macs"] == macs


@pytest.mark.parametrize("options", [{}, {"channels": 4, "cells": 2, "num_classes": 120, "image_size": 16}], ids=str)
def test_nas_bench_201(options):
    """The space counts from the string; k convolutions in the cell give 8 + 3 N k layers with weights."""
    space, rng = NB201(), random.Random(0)
    for _ in range(20 if options else 3):
        arch = space.sample(rng)
        values = cost(space.build(arch, **options), images(2, *space.input_size(**options)))
        expected = space.cost(arch, **options)
        assert values["macs"] == expected.macs
        assert values["params"] == expected.num_params
        assert values["aleph"] == 8 + 3 * options.get("cells", 5) * arch.count("nor_conv")


def test_numbers_of_the_benchmark():
    arch = "|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_3x3~1|+|skip_connect~0|nor_conv_1x1~1|nor_conv_3x3~2|"
    values = cost(NB201().build(arch), images(2, 3, 32, 32))
    assert values == {"macs": 153_272_970, "params": 1_073_466, "aleph": 8 + 15 * 5}


@pytest.mark.parametrize(
    ("name", "layers"),
    [
        ("resnet18", 1 + 16 + 3 + 1),
        ("mobilenetv2_050", 1 + 2 + 16 * 3 + 1 + 1),
        ("vit_tiny_patch16_224", 1 + 12 * 4 + 1),
    ],
)
def test_aleph_of_known_networks(name, layers):
    assert len(layer_weights(timm.create_model(name))) == layers


def test_aleph_of_a_network_with_one_of_everything():
    class Zoo(nn.Module):
        def __init__(self):
            super().__init__()
            self.token = nn.Parameter(torch.zeros(1, 4, 8))
            self.position_bias_table = nn.Parameter(torch.zeros(9, 2))
            self.embedding = nn.Embedding(10, 8)
            self.bag = nn.EmbeddingBag(10, 8)
            self.norms = nn.ModuleList(
                [nn.BatchNorm2d(3), nn.LayerNorm((3, 3)), nn.GroupNorm(1, 3), nn.RMSNorm((3, 3))]
            )
            self.conv = nn.utils.parametrizations.weight_norm(nn.Conv2d(3, 4, 3))
            self.spectral = nn.utils.parametrizations.spectral_norm(nn.Conv2d(3, 4, 3))
            self.bias_only = nn.Linear(3, 4)
            nn.utils.parametrize.register_parametrization(self.bias_only, "bias", nn.Identity())
            self.attention = nn.MultiheadAttention(8, 2)
            self.cross_attention = nn.MultiheadAttention(8, 2, kdim=6, vdim=4)
            self.first, self.second = nn.Linear(8, 8), nn.Linear(8, 8)
            self.second.weight = self.first.weight
            self.again = self.first
            self.up = nn.ConvTranspose2d(3, 3, 2)
            self.lstm, self.cell = nn.LSTM(3, 4, num_layers=2), nn.GRUCell(3, 4)
            self.weight = nn.Parameter(torch.zeros(2, 2))

    assert set(layer_weights(Zoo())) == {
        "weight",
        "conv.parametrizations.weight.original1",
        "spectral.parametrizations.weight.original",
        "bias_only.weight",
        "attention.in_proj_weight",
        "attention.out_proj.weight",
        "cross_attention.q_proj_weight",
        "cross_attention.k_proj_weight",
        "cross_attention.v_proj_weight",
        "cross_attention.out_proj.weight",
        "first.weight",
        "up.weight",
        "lstm.weight_ih_l0",
        "lstm.weight_hh_l0",
        "lstm.weight_ih_l1",
        "lstm.weight_hh_l1",
        "cell.weight_ih",
        "cell.weight_hh",
    }


def test_aleph_of_a_layer_alone():
    assert list(layer_weights(nn.Linear(2, 2))) == ["weight"]
    weight_norm = torch.nn.utils.parametrizations.weight_norm(nn.Linear(2, 3))
    assert list(layer_weights(weight_norm)) == ["parametrizations.weight.original1"]
    assert layer_weights(nn.BatchNorm2d(3)) == {}


def test_shared_parameters_count_once():
    network = nn.Sequential(nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 4, bias=False))
    network[2].weight = network[0].weight
    values = cost(network, images(2, 4))
    assert values == {"macs": 20 + 16, "params": 20, "aleph": 1}


@pytest.mark.parametrize("space", [NB201(), MBV2()], ids=lambda space: space.name)
def test_layers_are_those_of_the_space(space):
    rng = random.Random(3)
    for _ in range(3):
        arch = space.sample(rng)
        with torch.device("meta"):
            network = space.build(arch)
        assert network.space_layers == space.layers(arch) > 0
    small = NB201().build("index:3,2,0,1,4,3", channels=2, cells=1)
    values = score_network(small, images(2, 3, 8, 8).float(), make_proxies(["layers"])).values
    assert values == {"layers": 3.0}


def test_layers_of_other_networks_are_those_with_weights():
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(16, 5), nn.Linear(5, 2))
    values = score_network(network, images(2, 3, 4, 4).float(), make_proxies(["layers", "aleph"])).values
    assert values == {"layers": 3.0, "aleph": 3.0}


def log_width(network, inputs):
    scores = score_network(network, inputs.float(), make_proxies(["log_width"]))
    assert not scores.failed
    return scores.values["log_width"]


@pytest.mark.parametrize("space", ["nb201", "nasbench_macro", "nats_sss", "mbv2"])
def test_log_width_of_spaces(space):
    """Slowly: the channels that come out of each layer, seen by hooks, multiplied as whole numbers."""
    space = make_space(space)
    with torch.device("meta"):
        network = space.build(space.sample(random.Random(1)))
    product = [1]

    def multiply(_module, _inputs, out):
        product[0] *= out.shape[1]

    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            module.register_forward_hook(multiply)
    with torch.no_grad():
        network.eval()(torch.empty(1, *space.input_size(), device="meta"))
    borrowed = type("Lent", (), {"network": network})
    assert make_proxies(["log_width"])[0].compute(borrowed)["log_width"] == pytest.approx(
        math.log(product[0]), rel=1e-12
    )


def test_log_width_orders_nas_bench_201_as_aleph():
    """Ties stay ties, to the last bit."""
    space, rng = NB201(), random.Random(5)
    by_aleph = {}
    for _ in range(40):
        with torch.device("meta"):
            network = space.build(space.sample(rng))
        proxy = make_proxies(["log_width"])[0]
        value = proxy.compute(type("Lent", (), {"network": network}))["log_width"]
        by_aleph.setdefault(len(layer_weights(network)), set()).add(value)
    assert all(len(values) == 1 for values in by_aleph.values())
    assert len(by_aleph) > 3
    values = [min(by_aleph[aleph]) for aleph in sorted(by_aleph)]
    assert values == sorted(values)
    convs = {aleph: (aleph - 8) // 15 for aleph in by_aleph}
    for aleph, found in by_aleph.items():
        stages = 5 * sum(map(math.log, (16, 32, 64)))
        fixed = math.log(16) + 3 * math.log(32) + 3 * math.log(64) + math.log(10)
        assert min(found) == pytest.approx(fixed + convs[aleph] * stages, rel=1e-12)


def test_log_width_does_not_depend_on_the_order_of_widths():
    rng = random.Random(0)
    widths = [rng.randrange(2, 99) for _ in range(30)]

    x = images(2, 4)
    layers = [nn.Linear(a, b) for a, b in zip([4, *widths], widths)]
    first = log_width(nn.Sequential(*layers), x)
    for _ in range(5):
        rng.shuffle(widths)
        again = [nn.Linear(a, b) for a, b in zip([4, *widths], widths)]
        assert log_width(nn.Sequential(*again), x) == first
    assert first == pytest.approx(math.log(math.prod(widths)), rel=1e-12)


@pytest.mark.parametrize(
    ("layer", "size", "outputs"),
    [
        (nn.Conv2d(4, 6, 3, groups=2), (4, 5, 5), [6]),
        (nn.ConvTranspose2d(4, 6, 3, groups=2), (4, 5, 5), [6]),
        (torch.nn.utils.parametrizations.weight_norm(nn.ConvTranspose1d(5, 2, 3)), (5, 7), [2]),
        (torch.jit.script(nn.Sequential(nn.ConvTranspose1d(5, 2, 3))), (5, 7), [2]),
        (nn.Linear(3, 1), (3,), [1]),
        (nn.Sequential(nn.Linear(3, 7), nn.LayerNorm(7), nn.Linear(7, 2)), (3,), [7, 2]),
        (nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), (5, 8), [24, 8, 16, 8]),
        (nn.Flatten(), (3,), []),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, nn.Module) else str(value),
)
def test_log_width_of_layers(layer, size, outputs):
    network = nn.Sequential(layer, nn.Flatten())
    assert log_width(network, images(2, *size)) == pytest.approx(math.log(math.prod(outputs)), rel=1e-12)
