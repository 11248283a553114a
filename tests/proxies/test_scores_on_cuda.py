"""Scores of one network on CUDA against those on CPU; `benchmarks/gpu` does the same for 50 networks of full size."""

import pytest
import torch

import vkdnw_pl
from vkdnw_pl.proxies import PROXIES, make_proxies
from vkdnw_pl.proxies.functional.jacobian import jacobian
from vkdnw_pl.proxies.functional.scalars import Scalar, layer_weights
from vkdnw_pl.proxies.scoring import score_network
from vkdnw_pl.spaces import SPACES

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")]

DEVICE = "cuda"
CELL = "|nor_conv_3x3~0|+|nor_conv_1x1~0|avg_pool_3x3~1|+|skip_connect~0|nor_conv_3x3~1|nor_conv_1x1~2|"
BLOCKS = (
    "SuperConvK3BNRELU(3,16,2,1)SuperResIDWE1K3(16,24,1,16,1)SuperResIDWE4K5(24,32,2,24,2)SuperConvK1BNRELU(32,64,1,1)"
)
NETWORKS = {
    "nb201": ("nb201", CELL, {"channels": 8, "cells": 1, "image_size": 32}),
    "mbv2": ("mbv2", BLOCKS, {"image_size": 32, "num_classes": 10, "use_se": True}),
}
# A sum whose parts cancel (plain, grasp), and a condition number: rounding is a larger share of what is left.
TOLERANCE = {"plain": 0.5, "grasp": 0.1, "ntk_condition": 0.1}


def build(name, device="cpu"):
    space, arch, options = NETWORKS[name]
    torch.manual_seed(0)
    return SPACES[space].build(arch, **options).to(device)


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("proxy", PROXIES)
def test_every_proxy_agrees_with_cpu(name, proxy):
    pixels = NETWORKS[name][2]["image_size"]
    cpu, cuda = (
        vkdnw_pl.score(build(name, device), (3, pixels, pixels), 10, [proxy], batch_size=8, seed=1)
        for device in ("cpu", DEVICE)
    )
    assert cuda.reasons == cpu.reasons
    assert cuda == pytest.approx(cpu, rel=TOLERANCE.get(proxy, 1e-2), abs=1e-6, nan_ok=False)


@pytest.mark.parametrize("engine", ["reverse", "forward", "generic"])
def test_engines_agree_with_cpu_in_double_precision(engine):
    found = []
    for device in ("cpu", DEVICE):
        network = build("nb201", device).double().eval().requires_grad_(False)
        images = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
        scalars = [Scalar(weight, 0) for weight in layer_weights(network)]
        found.append(jacobian(network, images.to(device), scalars, "sample", engine).jac_BCP)
    assert found[1].device.type == DEVICE
    torch.testing.assert_close(found[1].cpu(), found[0], rtol=1e-9, atol=1e-12)


def test_a_score_repeats_and_nothing_of_the_caller_changes():
    network = build("nb201", DEVICE).train()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    state = torch.cuda.get_rng_state()
    torch.set_float32_matmul_precision("high")
    try:
        images = torch.randn(8, 3, 32, 32, generator=torch.Generator().manual_seed(1))
        proxies = make_proxies(["vkdnw", "expressivity", "trainability", "synflow"])
        first, second = (score_network(network, images, proxies).values for _ in range(2))
    finally:
        assert torch.get_float32_matmul_precision() == "high"
        torch.set_float32_matmul_precision("highest")
    assert first == pytest.approx(second, rel=1e-6)
    assert score_network(network, images, proxies).values == pytest.approx(first, rel=1e-6)  # without TensorFloat-32
    assert torch.equal(torch.cuda.get_rng_state(), state)
    assert network.training
    for name, value in network.state_dict().items():
        assert torch.equal(value, before[name])
