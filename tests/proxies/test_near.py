"""NEAR: a slow reference, and where the answer is known."""

import copy

import numpy as np
import pytest
import timm
import torch
from proxy_reference import ALL_CONVS, ALL_NONE, MIXED, images, small_nb201
from torch import nn

from vkdnw_pl.proxies import UndefinedScore, make_proxies
from vkdnw_pl.proxies.borrow import borrow
from vkdnw_pl.proxies.near import effective_rank


def near(network, inputs, init="keep", seed=1, **options):
    (proxy,) = make_proxies([{"name": "near", **options}])
    with borrow(network, inputs, seed, init) as borrowed:
        return borrowed.run(proxy.compute)["near"]


def test_effective_rank():
    assert effective_rank(torch.eye(5)) == pytest.approx(5)
    assert effective_rank(torch.diag(torch.tensor([2.0, 1.0, 1.0]))) == pytest.approx(2**1.5)
    assert effective_rank(-7.0 * torch.diag(torch.tensor([2.0, 1.0, 1.0]))) == pytest.approx(2**1.5)
    assert effective_rank(torch.ones(3, 4)) == pytest.approx(1)
    assert effective_rank(torch.zeros(3, 4)) == 0


def reference(network, inputs, generator):
    """In training mode, position by position, singular values by way of the Gram matrix."""
    network, total, seen = copy.deepcopy(network).train(), [], set()

    def record(module, _args, out):
        if module in seen:
            return
        seen.add(module)
        if out.dim() == 4:
            b, c, h, w = out.shape
            rows = [out[i, :, y, x].detach().numpy() for i in range(b) for x in range(w) for y in range(h)]
        elif out.dim() == 3:
            c, h = out.shape[2], 1
            rows = [out[i, n].detach().numpy() for i in range(len(out)) for n in range(out.shape[1])]
        else:
            c, h = out.shape[1], 1
            rows = [row.detach().numpy() for row in out]
        starts = [start for start in range(0, len(rows), h) if start + c <= len(rows)]
        if len(rows) > c:
            start = starts[int(torch.randint(len(starts), (), generator=generator))]
            rows = rows[start : start + c]
        rows = np.array(rows)
        sigma = np.sqrt(np.linalg.eigvalsh(rows @ rows.T).clip(0))
        if sigma.sum() > 0:
            p = sigma / sigma.sum()
            total.append(np.exp(-sum(x * np.log(x) for x in p if x > 0)))

    for module in network.modules():
        if hasattr(module, "weight") or isinstance(module, nn.ReLU | nn.GELU | nn.SiLU | nn.Tanh):
            module.register_forward_hook(record)
    network(inputs)
    return sum(total)


def vit():
    sizes = {"embed_dim": 12, "depth": 2, "num_heads": 3, "mlp_ratio": 2.0, "img_size": 32, "num_classes": 5}
    return timm.create_model("vit_tiny_patch16_224", **sizes)


NETWORKS = {
    "convolutions": (lambda: small_nb201(ALL_CONVS), (3, 3, 8, 8)),
    "pooling": (lambda: small_nb201(MIXED), (12, 3, 8, 8)),
    "tokens": (vit, (3, 3, 32, 32)),
    "vectors": (lambda: nn.Sequential(nn.Linear(6, 9), nn.Tanh(), nn.BatchNorm1d(9), nn.Linear(9, 4)), (7, 6)),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_reference(name):
    make, size = NETWORKS[name]
    network, inputs = make().double(), images(*size, seed=3)
    with borrow(network, inputs, 5) as borrowed:
        expected = reference(network, inputs, borrowed.generator("near"))
    assert expected > 5
    assert near(network, inputs, seed=5) == pytest.approx(expected, rel=1e-5)  # half of the digits of small σ
    assert near(copy.deepcopy(network).float(), inputs.float(), seed=5) == pytest.approx(expected, rel=1e-3)


def test_identity_layers_have_full_rank():
    network = nn.Sequential(nn.Linear(6, 6, bias=False), nn.ReLU(), nn.Linear(6, 6, bias=False)).double()
    for layer in (network[0], network[2]):
        layer.weight.data = 3 * torch.eye(6, dtype=torch.float64)
    assert near(network, torch.eye(6, dtype=torch.float64)) == pytest.approx(18)
    # Fewer images than channels bound the rank.
    assert near(network, torch.eye(6, dtype=torch.float64)[:2]) == pytest.approx(6)


def test_what_is_counted():
    """Modules once, activations too; not containers, pooling, and functions."""
    relu = nn.ReLU()
    network = nn.Sequential(nn.Linear(4, 4), relu, nn.Linear(4, 4), relu, nn.Sequential(nn.Identity(), nn.Dropout()))
    for layer in (network[0], network[2]):
        nn.init.eye_(layer.weight)
        nn.init.zeros_(layer.bias)
    assert near(network, torch.eye(4)) == pytest.approx(12)
    with pytest.raises(UndefinedScore, match="no layer with a weight and no activation"):
        near(nn.Flatten(), torch.randn(2, 3))


def test_a_constant_map_adds_nothing():
    """Zeros of the cells leave what the stem and the biases give."""
    full, none = (near(small_nb201(arch), images(4, 3, 8, 8).float(), "pytorch") for arch in (ALL_CONVS, ALL_NONE))
    assert 0 < none < full


def test_rows_are_drawn_from_the_seed():
    network, inputs = small_nb201(MIXED, image_size=16), images(4, 3, 16, 16).float()
    first, again, other = (near(network, inputs, seed=seed) for seed in (1, 1, 2))
    assert first == again != other
    assert near(network, inputs, seed=1, batchnorm="running") != first
