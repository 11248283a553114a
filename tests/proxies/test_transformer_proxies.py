"""Proxies on vision transformers: values by definition, by the published code, and refusals."""

import json
import math
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from torch import nn

from vkdnw_pl.data.batches import Batch
from vkdnw_pl.networks.autoformer import AutoFormerNetwork
from vkdnw_pl.networks.pit import PiTNetwork
from vkdnw_pl.proxies import UndefinedScore, make_proxies
from vkdnw_pl.proxies.az_nas import Identity, block_trainability
from vkdnw_pl.proxies.borrow import borrow
from vkdnw_pl.proxies.functional.fisher import feature_entropy
from vkdnw_pl.proxies.scoring import Images, score_network
from vkdnw_pl.spaces import AutoFormer

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "vit_official.json").read_text(encoding="utf-8"))
DEFINED = [
    "aleph",
    "dextr",
    "dss",
    "epe_nas",
    "expressivity",
    "fisher",
    "grad_norm",
    "grad_sign",
    "grasp",
    "jacov",
    "l2_norm",
    "layers",
    "macs",
    "near",
    "ntk_condition",
    "params",
    "plain",
    "progressivity",
    "snip",
    "synflow",
    "trainability",
    "vkdnw",
    "vkdnw_official",
    "zico",
]
REFUSED = {
    "naswot": "no ReLU",
    "linear_regions": "no ReLU",
    "swap": "no ReLU",
    "wrcor": "ReLU",
    "meco": "defined for maps",
    "zen": "layer norms take out the scale",
}


def small_vit():
    return AutoFormerNetwork(24, (2.0, 1.5), (2, 3), num_classes=3, image_size=32)


def small_pit():
    return PiTNetwork(4, 2, (1, 2, 1), (1, 2, 2), num_classes=3, image_size=32)


def images(batch, size=32, seed=0):
    return torch.randn(batch, 3, size, size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def numbers(count, j):
    """The formula of the file."""
    i = torch.arange(count)
    return ((40503 * i * i + 2654435 * i + 97 * j) % 65521).double() / 65521 - 0.5


def compute(network, inputs, name, init="keep", **options):
    (proxy,) = make_proxies([{"name": name, **options}])
    with borrow(network, inputs, 1, init) as borrowed:
        return proxy.compute(borrowed)[name]


def tokens(network, inputs):
    """The tokens behind each residual sum, written out."""
    found = []
    network = network.double().eval()

    def layer(module, x):
        for branch in (module.attn, module.mlp):
            x = branch(x)
            found.append(x)
        return x

    if isinstance(network, AutoFormerNetwork):
        x = network.patch_embed(inputs).flatten(2).transpose(1, 2)
        x = torch.cat([network.cls_token.repeat(len(x), 1, 1), x], 1) + network.pos_embed
        for module in network.blocks:
            x = layer(module, x)
        return found, network.head(network.norm(x)[:, 1:].mean(1))
    x = (network.patch_embed(inputs) + network.pos_embed).flatten(2).transpose(1, 2)
    x = torch.cat([network.cls_token.repeat(len(x), 1, 1), x], 1)
    for number, stage in enumerate(network.stages):
        for module in stage:
            x = layer(module, x)
        x = network.pools[number](x) if number < 2 else x
    return found, network.head(network.norm(x[:, 0]))


def entropy_of(x):
    """Covariance by loops over images and tokens."""
    rows = x.detach().reshape(-1, x.shape[-1]).numpy()
    covariance = sum(np.outer(row - rows.mean(0), row - rows.mean(0)) for row in rows) / len(rows)
    s = np.linalg.eigvalsh(covariance)
    share = s / s.sum()
    return -np.sum(share * np.log(share + 1e-8))


@pytest.mark.parametrize("make", [small_vit, small_pit])
def test_the_two_that_read_entropies(make):
    network, inputs = make(), images(3)
    found, logits = tokens(network, inputs)
    assert torch.equal(logits, network(inputs))
    assert len(found) == len(network.feature_taps) == 2 * network.space_layers
    entropies = [entropy_of(x) for x in found]
    assert compute(network, inputs, "expressivity") == pytest.approx(sum(entropies), rel=1e-9)
    assert compute(network, inputs, "progressivity") == pytest.approx(min(np.diff(entropies)), rel=1e-9)


@pytest.mark.parametrize("make", [small_vit, small_pit])
def test_trainability_leaves_out_what_is_pooled(make):
    network, inputs = make(), images(3)
    found, _ = tokens(network, inputs)
    with borrow(network, inputs, 1, "keep") as borrowed:
        generator = borrowed.generator("trainability")
    values = []
    for before, after in reversed(list(pairwise(found))):
        if before.shape != after.shape:
            continue
        signs = torch.randint(0, 2, after.shape, generator=generator).double() * 2 - 1
        pulled = torch.autograd.grad(after, before, signs, retain_graph=True)[0]
        matrix = sum(np.outer(pulled[b, n], signs[b, n]) for b, n in np.ndindex(*after.shape[:2]))
        sigma = np.linalg.svd(matrix / (len(after) * after.shape[1]), compute_uv=False)[0]
        values.append(-sigma - 1 / (sigma + 1e-6) + 2)
    assert len(values) == (3 if make is small_vit else 5)
    assert compute(network, inputs, "trainability") == pytest.approx(np.mean(values), rel=1e-9)


def test_the_published_code_of_az_nas():
    case = GOLDEN["autoformer"]
    network = AutoFormer().build(case["arch"], num_classes=5, image_size=case["image_size"]).double().eval()
    with torch.no_grad():
        for j, parameter in enumerate(network.parameters()):
            parameter.copy_(0.2 * numbers(parameter.numel(), j).view(parameter.shape))
        for module in network.modules():
            if isinstance(module, nn.LayerNorm):
                module.weight.add_(1)
    inputs = 2 * numbers(2 * 3 * 32 * 32, 7).view(2, 3, 32, 32)
    assert compute(network, inputs, "expressivity") == pytest.approx(GOLDEN["az_nas"]["expressivity"], rel=1e-9)
    found, _ = tokens(network, inputs)
    values = []
    for call, (before, after) in enumerate(reversed(list(pairwise(found)))):
        signs = torch.where(numbers(after.numel(), call) > 0, 1.0, -1.0).double().view(after.shape)
        values.append(block_trainability(before, after, signs))
    assert np.mean(values) == pytest.approx(GOLDEN["az_nas"]["trainability"], rel=1e-9)


def test_entropy_of_white_tokens_is_the_logarithm_of_their_width():
    white = torch.linalg.qr(images(1, 8).reshape(-1, 6) - images(1, 8).reshape(-1, 6).mean(0)).Q
    assert feature_entropy(white.reshape(4, 8, 6)) == pytest.approx(math.log(6), abs=1e-6)
    assert feature_entropy(white.reshape(8, 4, 6)) == pytest.approx(math.log(6), abs=1e-6)


def test_a_sub_block_that_is_the_identity_is_left_out():
    network, inputs = small_vit().double(), images(2)
    whole = compute(network, inputs, "trainability")
    for parameter in (network.blocks[1].mlp.fc2.weight, network.blocks[1].mlp.fc2.bias):
        nn.init.zeros_(parameter)
    x = images(2).reshape(2, -1, 24).requires_grad_()
    signs = torch.ones_like(x)
    with pytest.raises(Identity):
        block_trainability(x, network.blocks[1].mlp(x), signs)
    left = compute(network, inputs, "trainability")
    assert math.isfinite(left)
    assert left != whole
    for layer in network.blocks:
        for linear in (layer.attn.proj, layer.mlp.fc2):
            nn.init.zeros_(linear.weight)
            nn.init.zeros_(linear.bias)
    with pytest.raises(UndefinedScore, match="no sub-block of the transformer"):
        compute(network, inputs, "trainability")


def test_trainability_at_the_published_initialisation_is_the_noise_of_its_signs():
    """Next to the identity, σ is the edge (1 + √(d/n))² of the spectrum of n random signs in d dimensions."""
    dim, batch = 48, 60
    network = AutoFormerNetwork(dim, (2.0,) * 3, (3,) * 3, num_classes=3, image_size=32)
    value = compute(network, images(batch).float(), "trainability")
    edge = (1 + math.sqrt(dim / (5 * batch))) ** 2
    assert value == pytest.approx(2 - edge - 1 / edge, abs=0.1)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:generic Jacobian")  # of the official VKDNW, which takes tokens for weights
@pytest.mark.filterwarnings("ignore:There is a performance drop")
@pytest.mark.parametrize("make", [small_vit, small_pit])
def test_every_proxy_has_a_value_or_says_why_not(make):
    labels = torch.tensor([0, 1, 2, 0, 1, 2])

    def numbered(index):
        return Batch(images(6, seed=index).float(), labels)

    given = Images(numbered, numbered)
    scores = score_network(make(), given, make_proxies([*DEFINED, *REFUSED]), 1)
    assert {name: text for name, text in scores.reasons.items() if name in DEFINED} == {}
    assert all(math.isfinite(scores.values[name]) for name in DEFINED)
    for name, words in REFUSED.items():
        assert scores.values[name] is None
        assert words in scores.reasons[name]


def test_tokens_count_only_where_the_network_itself_names_them():
    vit = timm.create_model("vit_tiny_patch16_224", img_size=32, depth=2, num_classes=3)
    with pytest.raises(ValueError, match=r"feature maps must be .*\(2, 5, 192\)"):
        compute(vit, images(2).float(), "expressivity")
    network = small_vit()
    network.feature_taps = ("patch_embed", "blocks.0.attn")
    with pytest.raises(ValueError, match=r"feature maps must be .*\(2, 5, 24\)"):
        compute(network, images(2).float(), "expressivity")
    with pytest.raises(ValueError, match="no module of the network returns a feature map"):
        compute(small_vit(), images(2).float(), "expressivity", taps="stages")
