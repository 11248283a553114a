"""Dextr: a slow reference, and where the answer is known."""

import copy
import math

import numpy as np
import pytest
import timm
import torch
from proxy_reference import ALL_CONVS, ALL_NONE, MIXED, images, small_nb201
from torch import nn

from vkdnw_pl.proxies import UndefinedScore, make_proxies
from vkdnw_pl.proxies.borrow import borrow
from vkdnw_pl.proxies.dextr import condition, curvature, derivatives


def dextr(network, inputs, init="keep", seed=1, **options):
    (proxy,) = make_proxies([{"name": "dextr", **options}])
    with borrow(network, inputs, seed, init) as borrowed:
        return borrowed.run(proxy.compute)


def vit():
    sizes = {"embed_dim": 12, "depth": 2, "num_heads": 3, "mlp_ratio": 2.0, "img_size": 32, "num_classes": 5}
    return timm.create_model("vit_tiny_patch16_224", **sizes)


NETWORKS = {
    "convolutions": (lambda: small_nb201(ALL_CONVS), 8),
    "pooling": (lambda: small_nb201(MIXED), 8),
    "tokens": (vit, 32),
}


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("batchnorm", ["sample", "running"])
def test_reference(name, batchnorm):
    """One image after another through plain modules; derivatives by double backward of every logit."""
    make, side = NETWORKS[name]
    network, inputs = make().double(), images(2, 3, side, side, seed=3)
    got = dextr(network, inputs, batchnorm=batchnorm, seed=4)
    with borrow(network, inputs, 4) as borrowed:
        draw = torch.randn(3 * side**2, 2, generator=borrowed.generator("dextr circle"), dtype=torch.float64)
    u, w = torch.linalg.svd(draw, full_matrices=False).U.T.reshape(2, 1, 3, side, side)
    slow = copy.deepcopy(network).train(batchnorm == "sample")
    for module in slow.modules():
        if hasattr(module, "fused_attn"):
            module.fused_attn = False

    theta = torch.zeros((), dtype=torch.float64, requires_grad=True)
    first, second = [], []
    for logit in slow(u * theta.cos() + w * theta.sin())[0]:
        (v,) = torch.autograd.grad(logit, theta, create_graph=True)
        first.append(v.item())
        second.append(torch.autograd.grad(v, theta, retain_graph=True)[0].item())
    v, a = np.array(first), np.array(second)
    kappa = math.sqrt((v @ v) * (a @ a) - (v @ a) ** 2) / (v @ v) ** 1.5
    assert got["dextr_curvature"] == pytest.approx(math.log1p(kappa), rel=1e-7)

    ratios = []

    def record(module, _args, out):
        same = isinstance(module, nn.Identity | nn.Dropout) or "Identity" in type(module).__name__
        if not list(module.children()) and out.dim() > 2 and not same:
            matrix = out[0].detach().reshape(out.shape[1], -1).numpy()
            if min(matrix.shape) > 1:
                sigma = np.linalg.svd(matrix, compute_uv=False)
                ratios.append(sigma.min() / sigma.max() if sigma.max() > 0 else 0.0)

    for module in slow.modules():
        module.register_forward_hook(record)
    for image in inputs.split(1):
        slow(image)
    condition_sum = sum(ratios) / 2
    assert len(ratios) > 20
    assert got["dextr_condition"] == pytest.approx(math.log1p(condition_sum), rel=1e-7)
    a, b = math.log1p(condition_sum), math.log1p(kappa)
    assert got["dextr"] == pytest.approx(1 / (1 / a + 1 / b), rel=1e-7)


def test_condition():
    assert condition(torch.diag(torch.tensor([1.0, 2.0])).unsqueeze(0)) == 0.5
    assert condition(torch.zeros(1, 3, 4)) == 0
    assert condition(torch.stack([torch.diag(torch.tensor([1.0, 2.0])), torch.eye(2)])) == 0.75
    assert condition(torch.tensor([[[1.0], [5.0]]])) == pytest.approx(1)  # a vector's ratio, whatever it is


def test_curvature():
    v, a = torch.tensor([3.0, 0.0, 4.0]).double(), torch.tensor([0.0, 2.0, 0.0]).double()
    assert curvature(v, a) == pytest.approx(2 / 25)
    assert curvature(v, a + 7 * v) == pytest.approx(2 / 25), "acceleration along the curve does not bend it"
    assert curvature(v, 7 * v) == pytest.approx(0, abs=1e-15)
    with pytest.raises(UndefinedScore, match="do not move"):
        curvature(0 * v, a)
    with pytest.raises(UndefinedScore, match="not finite"):
        curvature(v, a / 0)


class Scaled(nn.Module):
    """Logits are the input times a number: the circle's image is one of this radius."""

    def __init__(self, radius):
        super().__init__()
        self.radius, self.layer = radius, nn.Conv2d(2, 2, 1)

    def forward(self, x):
        return (x + 0 * self.layer(x)).flatten(1) * self.radius


@pytest.mark.parametrize("radius", [0.5, 1.0, 4.0])
def test_a_circle_has_the_curvature_of_its_radius(radius):
    network, inputs = Scaled(radius).double(), images(1, 2, 3, 3)
    got = dextr(network, inputs)
    assert got["dextr_curvature"] == pytest.approx(math.log1p(1 / radius))
    out = network.layer(inputs)[0].flatten(1).detach().numpy()
    ratio = 1 / np.linalg.cond(out)
    assert got["dextr_condition"] == pytest.approx(math.log1p(ratio))


def test_equal_terms_give_half_of_one():
    """The one map of a 1×1 convolution of equal weights for orthonormal channels has ratio 1."""
    network = Scaled(1.0).double()
    nn.init.dirac_(network.layer.weight)
    nn.init.zeros_(network.layer.bias)
    image = torch.eye(2, 4, dtype=torch.float64).reshape(1, 2, 2, 2)
    got = dextr(network, image)
    assert got["dextr_condition"] == pytest.approx(math.log(2)) == got["dextr_curvature"]
    assert got["dextr"] == pytest.approx(math.log(2) / 2)


def test_a_network_of_relus_alone_is_linear_along_the_circle():
    """f' = J w and f'' = -J u: the curvature says nothing but the sizes and the angle of two products with J."""
    network, (u, w) = small_nb201(MIXED).double(), images(2, 1, 3, 8, 8)
    first, second = derivatives(network.eval(), u, w, "running")
    jacobian = torch.autograd.functional.jacobian(lambda x: network(x)[0], u).flatten(1)
    torch.testing.assert_close(first, jacobian @ w.flatten(), rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(second, -jacobian @ u.flatten(), rtol=1e-9, atol=1e-12)


SECOND = {
    "layer norm": nn.LayerNorm(6),
    "layer norm of maps": nn.LayerNorm([4, 6, 6], elementwise_affine=False),
    "instance norm": nn.InstanceNorm2d(4, affine=True),
    "group norm": nn.GroupNorm(2, 4),
    "batch norm": nn.BatchNorm2d(4),
    "GELU": nn.GELU(),
    "SiLU": nn.SiLU(),
    "softmax": nn.Softmax(-1),
    "attention": nn.Sequential(nn.Flatten(2), nn.TransformerEncoderLayer(36, 2, 8, batch_first=True), nn.Flatten()),
    "pooling": nn.Sequential(nn.MaxPool2d(2), nn.AdaptiveAvgPool2d(2)),
    "hard sigmoid": nn.Hardsigmoid(),
    "only backward derivatives": nn.GLU(1),
}


@pytest.mark.parametrize("batchnorm", ["sample", "batch"])
@pytest.mark.parametrize("name", SECOND)
def test_second_derivatives_of_layers(name, batchnorm):
    """Against differences of θ; some of PyTorch's nested forward derivatives are wrong, others missing."""
    network = nn.Sequential(nn.Conv2d(2, 4, 1), copy.deepcopy(SECOND[name]), nn.Flatten()).double().eval()
    u, w = images(2, 1, 2, 6, 6)
    first, second = derivatives(network.requires_grad_(False), u, w, batchnorm)
    network[1].train(name == "batch norm")
    h = 1e-4
    below, at, above = (network(u * math.cos(t) + w * math.sin(t))[0] for t in (-h, 0.0, h))
    torch.testing.assert_close(first, (above - below) / (2 * h), rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(second, (above - 2 * at + below) / h**2, rtol=1e-3, atol=1e-5)
    assert second.norm() > 0.1 * first.norm() > 0.01


def test_options():
    network, inputs = small_nb201(MIXED), images(1, 3, 8, 8).float()
    default = dextr(network, inputs)
    assert dextr(network, inputs, outputs=10) == dextr(network, inputs, outputs=10) != default
    assert dextr(network, inputs, seed=2)["dextr_curvature"] != default["dextr_curvature"]
    assert dextr(network, inputs, seed=2)["dextr_condition"] == default["dextr_condition"]
    everything = dextr(network, inputs, modules="all")
    assert everything["dextr_condition"] > default["dextr_condition"]
    assert everything["dextr_curvature"] == default["dextr_curvature"]
    with pytest.raises(ValueError, match=r"dextr\.modules='some'"):
        dextr(network, inputs, modules="some")
    with pytest.raises(ValueError, match=r"dextr\.outputs=0"):
        dextr(network, inputs, outputs=0)


def test_no_score():
    with pytest.raises(UndefinedScore, match="do not move"):
        dextr(small_nb201(ALL_NONE), images(1, 3, 8, 8).float())
    with pytest.raises(UndefinedScore, match="no module returns a map"):
        dextr(nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3)), images(1, 4).float())
    with pytest.raises(UndefinedScore, match="whole numbers"):
        dextr(nn.Sequential(nn.Embedding(9, 4), nn.Flatten(), nn.Linear(12, 3)), torch.tensor([[1, 2, 3]]))
