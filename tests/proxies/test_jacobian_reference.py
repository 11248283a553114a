"""Jacobian and Fisher matrix of whole networks against plain autograd in float64."""

import functools
import warnings

import pytest
import timm
import torch
from proxy_reference import (
    ALL_CONVS,
    FEW_CONVS,
    MIXED,
    UNREACHABLE,
    all_scalars,
    images,
    lend,
    reference_fisher,
    reference_jacobian,
    relative_error,
    small_nb201,
)

from vkdnw_pl.networks.init import initialise
from vkdnw_pl.proxies.functional.fisher import fisher_root, smoothed_probabilities
from vkdnw_pl.proxies.functional.jacobian import GenericFallback, jacobian

NB201_CASES = {
    "mixed, 10 classes": (MIXED, 10, 8, 3),
    "few convolutions, 2 classes": (FEW_CONVS, 2, 16, 3),
    "all convolutions, 2 classes": (ALL_CONVS, 2, 12, 2),
    "unreachable convolution, 10 classes": (UNREACHABLE, 10, 12, 2),
    "few convolutions, 120 classes": (FEW_CONVS, 120, 16, 2),
    "all convolutions, 120 classes": (ALL_CONVS, 120, 16, 2),
}
# Timm's small networks for tests have the layers of their families, few of each; mobilenetv2_050 is of full depth.
TIMM_CASES = ("mobilenetv2_050", "test_resnet", "test_efficientnet", "test_vit")
ENGINES = (
    ("sample", "reverse"),
    ("sample", "forward"),
    ("running", "reverse"),
    ("running", "forward"),
    ("batch", "forward"),
)
TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-4}


@functools.cache
def case(name):
    if name in TIMM_CASES:
        options = {"img_size": 64} if name == "test_vit" else {}
        torch.manual_seed(0)
        network = timm.create_model(name, num_classes=4, **options)
        return initialise(network, seed=5), images(2, 3, 64, 64, seed=6).float()
    arch, num_classes, image_size, batch = NB201_CASES[name]
    return small_nb201(arch, num_classes, image_size, seed=5), images(batch, 3, image_size, image_size, seed=6).float()


@functools.cache
def expected(name, batchnorm):
    network, inputs = case(name)
    jac, logits = reference_jacobian(network, inputs, all_scalars(network), batchnorm)
    return jac, logits, reference_fisher(jac, logits, 0.05)


def compare(name, batchnorm, engine, dtype):
    network, inputs = case(name)
    jac, logits, fisher = expected(name, batchnorm)
    assert jac.abs().amax((0, 1)).count_nonzero() >= jac.shape[2] // 2
    with warnings.catch_warnings():
        warnings.simplefilter("error", GenericFallback)
        result = jacobian(lend(network, dtype), inputs.to(dtype), all_scalars(network), batchnorm, engine)
    assert result.fallback is None
    assert result.engine == engine or engine == "auto"
    assert result.jac_BCP.dtype == result.logits_BC.dtype == dtype
    assert not result.jac_BCP.requires_grad
    root = fisher_root(result.jac_BCP, smoothed_probabilities(result.logits_BC, 0.05))
    assert relative_error(result.logits_BC, logits) < TOLERANCE[dtype]
    assert relative_error(result.jac_BCP, jac) < TOLERANCE[dtype]
    assert relative_error(root.T @ root, fisher) < TOLERANCE[dtype]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
@pytest.mark.parametrize(("batchnorm", "engine"), ENGINES)
@pytest.mark.parametrize("name", NB201_CASES)
def test_nb201_networks(name, batchnorm, engine, dtype):
    compare(name, batchnorm, engine, dtype)


@pytest.mark.parametrize("engine", ["reverse", "forward"])
@pytest.mark.parametrize("name", TIMM_CASES)
def test_timm_networks(name, engine):
    compare(name, "sample", engine, torch.float64)


@pytest.mark.parametrize("engine", ["reverse", "forward"])
@pytest.mark.parametrize(
    ("name", "batchnorm"),
    [
        ("test_resnet", "sample"),
        ("test_vit", "sample"),
        ("mobilenetv2_050", "running"),
        ("test_efficientnet", "running"),
    ],
)
def test_timm_networks_in_single_precision(name, batchnorm, engine):
    compare(name, batchnorm, engine, torch.float32)


def test_ill_conditioned_network_loses_no_more_than_plain_autograd():
    """Small maps normalised by their own statistics amplify rounding a lot here, whoever differentiates."""
    network, inputs = case("mobilenetv2_050")
    scalars = all_scalars(network)
    jac, _, _ = expected("mobilenetv2_050", "sample")
    plain, _ = reference_jacobian(network, inputs, scalars, "sample", torch.float32)
    got = jacobian(lend(network, torch.float32), inputs, scalars, "sample", "reverse").jac_BCP
    assert 1e-4 < relative_error(got, jac) < 20 * relative_error(plain, jac)  # either is luck of rounding


@pytest.mark.parametrize(("name", "batchnorm", "engine"), [
    ("mobilenetv2_050", "batch", "forward"),
    ("mixed, 10 classes", "sample", "generic"),
    ("mixed, 10 classes", "running", "generic"),
    ("all convolutions, 2 classes", "batch", "generic"),
    ("few convolutions, 120 classes", "sample", "auto"),
    ("all convolutions, 2 classes", "running", "auto"),
    ("mixed, 10 classes", "batch", "auto"),
    ("test_vit", "sample", "generic"),
])  # fmt: skip
def test_other_engines(name, batchnorm, engine):
    compare(name, batchnorm, engine, torch.float64)
