"""DSS: a slow reference, and where the answer is known."""

import copy
import random

import numpy as np
import pytest
import timm
import torch
from proxy_reference import MIXED, images, small_nb201
from torch import nn

from vkdnw_pl.proxies import UndefinedScore, make_proxies
from vkdnw_pl.proxies.borrow import borrow
from vkdnw_pl.proxies.dss import attention_weights
from vkdnw_pl.spaces import SPACES


def dss(network, inputs, init="keep"):
    (proxy,) = make_proxies(["dss"])
    with borrow(network, inputs, init=init) as borrowed:
        return borrowed.run(proxy.compute)["dss"]


class Block(nn.Module):
    """Attention among the one token that there is, so that only values count."""

    def __init__(self, separate):
        super().__init__()
        self.separate = separate
        if separate:
            self.q, self.k, self.v = (nn.Linear(4, 4, bias=False) for _ in range(3))
        else:
            self.qkv = nn.Linear(4, 12, bias=False)
        self.proj = nn.Linear(4, 4, bias=False)

    def forward(self, x):
        q, k, v = (self.q(x), self.k(x), self.v(x)) if self.separate else self.qkv(x).chunk(3, -1)
        return self.proj(nn.functional.scaled_dot_product_attention(q, k, v))


class OneToken(nn.Module):
    def __init__(self, separate=False):
        super().__init__()
        self.block, self.head = Block(separate), nn.Linear(4, 3, bias=False)

    def forward(self, x):
        return self.head(self.block(x.unsqueeze(1))[:, 0])


def nuclear(matrix):
    return np.linalg.svd(matrix, compute_uv=False).sum()


@pytest.mark.parametrize("separate", [False, True])
def test_one_token(separate):
    """Gradients of rank one, whose nuclear norm is the product of two lengths; queries and keys have none."""
    network = OneToken(separate).double()
    x = np.ones(4)
    weights = {name: p.detach().abs().numpy() for name, p in network.named_parameters()}
    v = weights["block.v.weight"] if separate else weights["block.qkv.weight"][8:]
    p, h = weights["block.proj.weight"], weights["head.weight"]
    by_out = np.ones(3) @ h
    expected = np.linalg.norm(by_out) * np.linalg.norm(v @ x) * nuclear(p)
    values = v if separate else weights["block.qkv.weight"]
    expected += np.linalg.norm(by_out @ p) * np.linalg.norm(x) * nuclear(values)
    expected += (h @ (p @ v @ x)).sum()
    assert dss(network, images(2, 4)) == pytest.approx(expected, rel=1e-12)


class WithTorchs(nn.Module):
    def __init__(self):
        super().__init__()
        self.attention, self.head = nn.MultiheadAttention(8, 2, batch_first=True), nn.Linear(8, 3)

    def forward(self, x):
        return self.head(self.attention(x, x, x, need_weights=False)[0].mean(1))


def timms(name, **sizes):
    return timm.create_model(name, img_size=32, num_classes=5, embed_dim=12, depth=2, num_heads=3, **sizes)


NETWORKS = {
    "vit": (lambda: timms("vit_tiny_patch16_224", mlp_ratio=2.0), (3, 32, 32)),
    "distilled": (lambda: timms("deit_tiny_distilled_patch16_224"), (3, 32, 32)),
    "torch": (WithTorchs, (5, 8)),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_reference(name):
    make, size = NETWORKS[name]
    network = make().double()
    slow = copy.deepcopy(network).eval()
    with torch.no_grad():
        for tensor in slow.state_dict().values():
            tensor.abs_()
    slow(torch.ones(1, *size, dtype=torch.float64)).sum().backward()
    expected, attention = 0.0, 0
    for module_name, module in slow.named_modules():
        if isinstance(module, nn.MultiheadAttention):
            expected += nuclear(module.in_proj_weight.grad.numpy()) * nuclear(module.in_proj_weight.detach().numpy())
            attention += 1
        if isinstance(module, nn.Linear) and module.weight.grad is not None:
            weight, grad = module.weight.detach().numpy(), module.weight.grad.numpy()
            if module_name.endswith(("qkv", "proj")):
                expected += nuclear(grad) * nuclear(weight)
                attention += 1
            else:
                expected += abs(grad * weight).sum()
    assert attention == (2 if name == "torch" else 4)
    assert len(attention_weights(network)) == attention
    assert dss(network, images(2, *size)) == pytest.approx(expected, rel=1e-10)
    assert dss(copy.deepcopy(network).float(), images(2, *size).float()) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("name", ["autoformer", "pit"])
def test_attention_of_the_spaces(name):
    """The class-token layers of PiT, square where two stages are of one width, are none."""
    space = SPACES[name]
    network = space.build(space.sample(random.Random(0)), num_classes=4, image_size=32)
    names = attention_weights(network)
    assert len(names) == 2 * sum(isinstance(module, nn.GELU) for module in network.modules())
    assert all(each.endswith(("qkv.weight", "proj.weight")) for each in names)


def test_signs_and_images_do_not_matter():
    network = OneToken()
    value = dss(network, images(2, 4).float())
    with torch.no_grad():
        network.block.proj.weight.neg_()
    assert dss(network, images(3, 4, seed=5).float()) == value


def test_no_score_without_attention():
    message = (
        r"no attention: no module with linear layers qkv \(or q, k, v\) and proj, and no torch.nn.MultiheadAttention"
    )
    with pytest.raises(UndefinedScore, match=message):
        dss(small_nb201(MIXED), images(2, 3, 8, 8).float())
    with pytest.raises(UndefinedScore, match=message):
        dss(nn.Sequential(nn.Linear(4, 8), nn.GELU(), nn.Linear(8, 3)), images(2, 4).float())
    network = nn.Sequential(nn.Embedding(9, 4), nn.Flatten(), OneToken())
    network[2].block.qkv = nn.Linear(4, 12)
    with pytest.raises(UndefinedScore, match="whole numbers"):
        dss(network, torch.tensor([[1], [2]]))
