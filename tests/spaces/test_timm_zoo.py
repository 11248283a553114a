import random
import subprocess
import sys

import pytest
import torch
from torch import nn

from vkdnw_pl.spaces import SPACES

ZOO = SPACES["timm_zoo"]


def test_names():
    assert ZOO.validate("mobilenetv2_100") == "mobilenetv2_100"
    assert ZOO.validate("mobilenetv2_100.ra_in1k") == "mobilenetv2_100.ra_in1k", "the tag names weights for training"
    assert ZOO.architecture("mobilenetv2_100.ra_in1k") == "mobilenetv2_100", "weights are not scored"
    names = list(ZOO.enumerate())
    assert len(names) == len(set(names)) > 1000
    assert ZOO.sample(random.Random(3)) == ZOO.sample(random.Random(3)) in names


@pytest.mark.parametrize(
    ("arch", "text"),
    [
        ("mobilnetv2_100", "timm has no model 'mobilnetv2_100'; did you mean 'mobilenetv2_100'"),
        ("mobilenetv2_100.ra_in2k", r"mobilenetv2_100 has no tag 'ra_in2k' \(its tags: ra_in1k\)"),
        ("", "timm has no model ''"),
        (".ra_in1k", "timm has no model"),
    ],
)
def test_names_that_timm_does_not_know(arch, text):
    with pytest.raises(ValueError, match=text):
        ZOO.build(arch)


def test_networks_are_as_asked_for():
    network = ZOO.build("test_resnet", num_classes=7, in_channels=2, image_size=40)
    assert ZOO.input_size(in_channels=2, image_size=40) == (2, 40, 40)
    assert ZOO.num_classes(num_classes=7) == 7
    assert ZOO.num_classes() == 1000
    assert network.eval()(torch.randn(3, 2, 40, 40)).shape == (3, 7)


def test_a_model_of_one_image_size_is_built_for_that_of_the_images():
    with pytest.raises(AssertionError, match="Input height"):
        ZOO.build("vit_tiny_patch16_224").eval()(torch.randn(1, 3, 64, 64))
    assert ZOO.build("vit_tiny_patch16_224", image_size=64).eval()(torch.randn(1, 3, 64, 64)).shape == (1, 1000)


@pytest.mark.parametrize("size", [64, 96])
def test_cost_is_that_of_the_layers(size):
    """Counted a second time by hooks on every layer."""
    network = ZOO.build("mobilenetv3_small_050", image_size=size).eval()
    macs = 0

    def count(module, inputs, output):
        nonlocal macs
        macs += output.numel() * module.weight[0].numel()

    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            module.register_forward_hook(count)
    with torch.no_grad():
        network(torch.zeros(1, 3, size, size))
    cost = ZOO.cost("mobilenetv3_small_050", image_size=size)
    assert (cost.macs, cost.num_params) == (macs, sum(p.numel() for p in network.parameters()))


def test_cost_of_a_network_whose_parameters_enter_modules():
    """The flop counter follows modules, and stumbles over parameters that require gradients."""
    assert ZOO.cost("test_vit3").macs > 1e6


def test_cost_where_the_model_cannot_take_such_images():
    with pytest.raises(ValueError, match=r"timm's crossvit_9_240 cannot take images of size \(3, 224, 224\): Runtime"):
        ZOO.cost("crossvit_9_240")


@pytest.mark.parametrize(
    ("network", "text"),
    [
        ({"imagesize": 64}, "network: timm's test_resnet refuses the options .*did you mean 'image_size'"),
        ({"drop_paths": 0.1}, "refuses the options"),
        ({"image_size": "64px"}, "network.image_size='64px' is not allowed: give a whole number"),
        ({"num_classes": 0}, "network.num_classes=0 is not allowed"),
        ({"in_channels": True}, "network.in_channels=True is not allowed"),
    ],
)
def test_options_that_are_refused(network, text):
    with pytest.raises(ValueError, match=text):
        ZOO.build("test_resnet", **network)


def test_options_of_timm_reach_the_model():
    assert ZOO.build("test_resnet", drop_rate=0.25).drop_rate == 0.25


def test_has_no_neighbours():
    with pytest.raises(ValueError, match="timm_zoo has no neighbours"):
        ZOO.mutate("test_resnet", random.Random(0))


def test_the_space_is_there_without_torch():
    code = "import sys; from vkdnw_pl.spaces import SPACES; SPACES['timm_zoo'].num_classes(); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
