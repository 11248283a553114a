import random

import pytest
import torch
import torch.nn.functional as F
from torch.utils.flop_counter import FlopCounterMode

from vkdnw_pl.networks.nb201_cell import OPS
from vkdnw_pl.spaces import NB201

SPACE = NB201()
DENSE = "|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_3x3~1|+|skip_connect~0|nor_conv_1x1~1|nor_conv_3x3~2|"


@pytest.mark.parametrize("seed", range(6))
def test_costs_are_those_of_the_network(seed):
    rng = random.Random(seed)
    arch = SPACE.sample(rng)
    network = {
        "channels": rng.choice([4, 8, 16]),
        "cells": rng.choice([0, 1, 5]),
        "num_classes": rng.choice([2, 10, 120]),
    }
    network |= {
        "image_size": rng.choice([8, 16, 32]),
        "in_channels": rng.choice([1, 3]),
        "bn_affine": rng.random() < 0.5,
    }
    net = SPACE.build(arch, **network).eval()
    cost = SPACE.cost(arch, **network)
    assert sum(p.numel() for p in net.parameters()) == cost.num_params
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        logits = net(torch.zeros(1, *SPACE.input_size(**network)))
    assert counter.get_total_flops() // 2 + network["num_classes"] == cost.macs  # torch leaves the bias out
    assert logits.shape == (1, SPACE.num_classes(**network))


@pytest.mark.parametrize("k", range(7))
def test_number_of_parameter_tensors(k):
    arch = SPACE.format([3] * k + [1] * (6 - k))
    assert len(list(SPACE.build(arch).parameters())) == 21 + 45 * k


def test_cell_is_the_sum_over_edges():
    """The cell of the benchmark, node by node, in its own words."""
    torch.manual_seed(0)
    net = SPACE.build("index:3,1,4,0,2,3", channels=4, cells=1, image_size=8).eval()
    cell, x = net.blocks[0], torch.randn(2, 4, 8, 8)

    def conv(edge, value, padding):
        weight, norm = cell.edges[edge][1].weight, cell.edges[edge][2]
        return norm(F.conv2d(F.relu(value), weight, padding=padding))

    one = conv(0, x, 1)
    two = x + F.avg_pool2d(one, 3, stride=1, padding=1, count_include_pad=False)
    three = conv(4, one, 0) + conv(5, two, 1)
    torch.testing.assert_close(cell(x), three)


def test_a_cell_without_path_gives_zeros():
    net = SPACE.build("index:0,0,0,0,0,0", channels=4, cells=1, image_size=8).eval()
    assert not net.blocks[0](torch.randn(2, 4, 8, 8)).any()
    logits = net(torch.randn(3, 3, 8, 8))
    torch.testing.assert_close(logits, net.classifier.bias.expand(3, -1))


def test_feature_taps_are_the_stem_and_all_blocks():
    net = SPACE.build(DENSE)
    assert len(net.feature_taps) == 18
    shapes = []
    for name in net.feature_taps:
        net.get_submodule(name).register_forward_hook(lambda _m, _i, out: shapes.append(tuple(out.shape[1:])))
    net(torch.randn(2, 3, 32, 32))
    assert shapes == [(16, 32, 32)] * 6 + [(32, 16, 16)] * 6 + [(64, 8, 8)] * 6


def test_batch_norm_options_reach_every_layer():
    net = SPACE.build(DENSE, bn_affine=False, bn_track_running_stats=False)
    norms = [m for m in net.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    assert len(norms) == 1 + 15 * 5 + 2 * 2 + 1
    assert all(norm.weight is None and norm.running_mean is None for norm in norms)


def test_operations_of_space_and_network_are_the_same():
    for op in range(len(OPS)):
        SPACE.build(SPACE.format([op] * 6), channels=2, cells=1, image_size=4)(torch.randn(2, 3, 4, 4))
