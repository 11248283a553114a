import random

import pytest
import torch
import torch.nn.functional as F

from vkdnw_pl.networks.cost import flop_counter_macs
from vkdnw_pl.networks.features import first_stage_at, stage_ends
from vkdnw_pl.proxies.functional.scalars import layer_weights
from vkdnw_pl.spaces import NASBenchMacro

SPACE = NASBenchMacro()


@pytest.mark.parametrize("seed", range(4))
def test_costs_are_those_of_the_network(seed):
    rng = random.Random(seed)
    arch, options = SPACE.sample(rng), {"num_classes": rng.choice([2, 10, 100])}
    options |= {"image_size": rng.choice([17, 24, 32]), "in_channels": rng.choice([1, 3])}
    network, cost = SPACE.build(arch, **options).eval(), SPACE.cost(arch, **options)
    images = torch.randn(2, *SPACE.input_size(**options))
    assert network(images).shape == (2, options["num_classes"])
    assert sum(p.numel() for p in network.parameters()) == cost.num_params
    assert flop_counter_macs(network, images) + options["num_classes"] == cost.macs  # torch leaves the bias out
    assert len(layer_weights(network)) == SPACE.aleph(arch, **options)


@pytest.mark.parametrize(
    ("arch", "count"),
    [("00000000", 17), ("11111111", 80), ("22222222", 80), ("22212220", 71), ("01201201", 56)],
)
def test_number_of_parameter_tensors(arch, count):
    assert len(list(SPACE.build(arch).parameters())) == count


def test_the_network_is_the_benchmarks():
    """Its forward pass in one's own words, with the parameters taken in the order in which they are used."""
    torch.manual_seed(0)
    network = SPACE.build("21000210").eval()
    weights = iter(network.parameters())

    def conv(x, stride=1, groups=1, relu=True):
        kernel = next(weights)
        x = F.conv2d(x, kernel, stride=stride, padding=kernel.shape[-1] // 2, groups=groups)
        x = F.batch_norm(x, torch.zeros(x.shape[1]), torch.ones(x.shape[1]), next(weights), next(weights))
        return F.relu(x) if relu else x

    def mobile(x, expansion, stride=1):
        hidden = expansion * x.shape[1]
        return conv(conv(conv(x), stride, groups=hidden), relu=False)

    images = torch.randn(2, 3, 32, 32)
    x = mobile(conv(images), 6, 2)
    x = x + mobile(x, 3)
    x = conv(x, 2, relu=False)
    x = mobile(x, 6, 2)
    x = x + mobile(x, 3)
    logits = F.linear(conv(x).mean((2, 3)), next(weights), next(weights))
    assert next(weights, None) is None
    torch.testing.assert_close(network(images), logits)


@pytest.mark.parametrize("arch", ["00000000", "01201201", "22222222"])
def test_features_are_read_at_the_stem_and_at_the_end_of_each_stage(arch):
    network, images = SPACE.build(arch), torch.randn(2, 3, 32, 32)
    assert stage_ends(network, images) == ("stem", *network.stages)
    assert network(images).shape == (2, 10)
    assert [first_stage_at(network, (3, 32, 32), reduction).channels for reduction in (2, 4, 8)] == [64, 128, 256]
