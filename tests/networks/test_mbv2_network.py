import json
import math
import random
from pathlib import Path

import pytest
import torch
from torch import nn

from vkdnw_pl import score
from vkdnw_pl.networks.cost import flop_counter_macs
from vkdnw_pl.networks.mbv2 import InvertedResidual, MBV2Network, SqueezeExcitation
from vkdnw_pl.networks.mbv2_blocks import ResBlock
from vkdnw_pl.spaces.mbv2 import MBV2

SPACE = MBV2()
GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "mbv2_official.json").read_text(encoding="utf-8"))
TINY = "SuperConvK3BNRELU(3,8,2,1)SuperResIDWE2K5(8,16,2,8,2)SuperResIDWE1K3(16,16,1,16,1)SuperConvK1BNRELU(16,32,1,1)"


def u(k, shape):
    """The recipe's numbers in (-1, 1), which need no random stream."""
    i = torch.arange(math.prod(shape), dtype=torch.int64)
    return (((31 * i * i + 17 * i + 7 * k * k + 3 * k) % 10007).double() / 5003.5 - 1).view(shape)


@torch.no_grad()
def fill(network):
    k = 0
    for name, value in network.state_dict().items():
        if name.endswith("num_batches_tracked"):
            continue
        k += 1
        draw = u(k, value.shape)
        if name.endswith("running_mean"):
            value.copy_(0.1 * draw)
        elif name.endswith("running_var"):
            value.copy_(1 + 0.5 * draw)
        elif value.dim() >= 2:
            value.copy_(draw * math.sqrt(6 / value[0].numel()))
        else:
            value.copy_(1 + 0.2 * draw if name.endswith("weight") else 0.1 * draw)
    return k


@pytest.mark.parametrize("case", GOLDEN["forward"], ids=lambda case: f"{case['num_params']}-{case['use_se']}")
def test_outputs_are_those_of_the_official_network(case):
    network = {key: case[key] for key in ("use_se", "num_classes", "image_size")}
    net = SPACE.build(case["arch"], **network).double()
    assert fill(net) == case["num_state"]
    assert sum(p.numel() for p in net.parameters()) == case["num_params"]
    maps = []
    for tap in net.feature_taps:
        net.get_submodule(tap).register_forward_hook(lambda _m, _i, out: maps.append(float(out.mean())))
    images = 1.5 * u(0, (case["batch"], *SPACE.input_size(**network)))

    def close(found, expected):
        torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float64), rtol=1e-9, atol=1e-9)

    with torch.no_grad():
        close(net.eval()(images), case["logits_eval"])
        close(torch.tensor(maps, dtype=torch.float64), case["tap_means"])
        close(net.train()(images), case["logits_train"])


@pytest.mark.parametrize("seed", range(8))
def test_costs_are_those_of_the_network(seed):
    rng = random.Random(seed)
    arch = SPACE.sample(rng, num_mutations=6) if seed else "mbv2_480m"
    network = {
        "num_classes": rng.choice([2, 10, 120]),
        "image_size": rng.choice([17, 32, 50, 224]),
        "use_se": seed % 2 == 1,
    }
    with torch.device("meta"):
        net = SPACE.build(arch, **network).eval()
        counted = flop_counter_macs(net, torch.empty(1, *SPACE.input_size(**network)))
        biases = []
        for module in net.modules():
            if isinstance(module, nn.Conv2d | nn.Linear) and module.bias is not None:
                module.register_forward_hook(lambda _m, _i, out: biases.append(out.numel()))
        logits = net(torch.empty(1, *SPACE.input_size(**network)))
    cost = SPACE.cost(arch, **network)
    assert cost.macs == counted + sum(biases)
    assert cost.num_params == sum(p.numel() for p in net.parameters())
    assert logits.shape == (1, SPACE.num_classes(**network))


@pytest.mark.parametrize(("arch", "tensors"), [("mbv2_initial", 112), ("zico_450m", 244), ("mbv2_480m", 258)])
def test_number_of_parameter_tensors(arch, tensors):
    """Counts of the official networks."""
    with torch.device("meta"):
        assert len(list(SPACE.build(arch).parameters())) == tensors


def test_stages_and_taps():
    net = SPACE.build(TINY, num_classes=4, image_size=32).eval()
    shapes = {}
    for name in [*net.stages, *net.feature_taps, net.final_map]:
        net.get_submodule(name).register_forward_hook(
            lambda _m, _i, out, n=name: shapes.update({n: tuple(out.shape[1:])})
        )
    net(torch.randn(2, 3, 32, 32))
    assert [shapes[name] for name in net.stages] == [(8, 16, 16), (16, 8, 8), (16, 8, 8), (32, 8, 8)]
    blocks = SPACE.parse(TINY)
    assert len(net.feature_taps) == sum((2 if isinstance(b, ResBlock) else 1) * b.sub_layers for b in blocks) == 8
    assert [shapes[name][0] for name in net.feature_taps] == [8, 8, 16, 8, 16, 16, 16, 32]
    assert shapes[net.final_map] == shapes[net.stages[-1]]


def test_zero_init_last_leaves_the_shortcut():
    torch.manual_seed(0)
    net = SPACE.build(TINY, num_classes=4, use_se=True).eval()
    residuals = [m for m in net.modules() if isinstance(m, InvertedResidual)]
    assert len(residuals) == 6
    for residual in residuals:
        x = torch.randn(2, residual.main[0][0].in_channels, 6, 6)
        assert not torch.equal(residual(x), torch.relu(residual.shortcut(x)))
        residual.zero_init_last()
        torch.testing.assert_close(residual(x), torch.relu(residual.shortcut(x)))
    weights = [m.weight for m in net.modules() if isinstance(m, nn.BatchNorm2d)]
    assert sum(not w.any() for w in weights) == len(residuals)


def test_the_first_shortcut_of_a_block_always_projects():
    net = SPACE.build(TINY)
    shortcuts = [isinstance(m.shortcut, nn.Identity) for m in net.modules() if isinstance(m, InvertedResidual)]
    # bottleneck 8 -> 16 differs everywhere in the first block; the second has equal widths
    assert shortcuts == [False, False, False, False, False, True]
    projection = net.blocks[2][0].shortcut[0]
    assert projection.bias is not None
    assert sum(m.bias is not None for m in net.modules() if isinstance(m, nn.Conv2d)) == 5


def test_options_reach_every_layer():
    net = SPACE.build(TINY, bn_eps=1e-4, use_se=True)
    norms = [m for m in net.modules() if isinstance(m, nn.BatchNorm2d)]
    assert all(norm.eps == 1e-4 for norm in norms)
    assert sum(isinstance(m, SqueezeExcitation) for m in net.modules()) == 6
    for plain in (SPACE.build(TINY), MBV2Network(SPACE.parse(TINY))):
        assert all(m.eps == 1e-3 for m in plain.modules() if isinstance(m, nn.BatchNorm2d))
        assert plain.num_classes == 1000
    assert not any(isinstance(m, SqueezeExcitation) for m in SPACE.build(TINY).modules())


def test_gradients_reach_every_parameter():
    torch.manual_seed(0)
    arch = TINY.replace("(3,", "(1,", 1)
    net = SPACE.build(arch, num_classes=3, in_channels=1, image_size=16, use_se=True)
    net(torch.randn(4, 1, 16, 16)).square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in net.parameters())
    assert sum(bool(p.grad.any()) for p in net.parameters()) > 0.8 * len(list(net.parameters()))


def test_proxies_read_it():
    network = {"num_classes": 10, "image_size": 64}
    names = ["vkdnw", "aleph", "macs", "params", "jacov", "expressivity", "progressivity", "trainability"]
    names += ["synflow", "zen", "naswot", "zico"]
    net = SPACE.build(TINY, **network)
    values = score(net, SPACE.input_size(**network), network["num_classes"], names, batch_size=8)
    assert set(names) <= set(values)
    assert all(value is not None for value in values.values()), values
    cost = SPACE.cost(TINY, **network)
    assert (values["macs"], values["params"]) == (cost.macs, cost.num_params)
    assert values["aleph"] == sum(isinstance(m, nn.Conv2d | nn.Linear) for m in net.modules())
