"""SWAP, MeCo and WRCor: a slow reference, known answers, and numbers of the published codes (``tests/golden``)."""

import copy
import json
import math
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from proxy_reference import ALL_NONE, MIXED, UNREACHABLE, images, small_nb201
from test_companions_golden import CASES, FULL_SIZE, NONE, build, draw, numbered
from torch import nn

from vkdnw_pl.data.batches import Batch
from vkdnw_pl.networks.init import initialise
from vkdnw_pl.proxies import UndefinedScore, make_proxies
from vkdnw_pl.proxies.borrow import borrow
from vkdnw_pl.proxies.meco import smallest_eigenvalue
from vkdnw_pl.proxies.swap import distinct_patterns

PATH = Path(__file__).parents[1] / "golden" / "swap_meco_wrcor_official.json"
OFFICIAL = {case["note"]: case for case in json.loads(PATH.read_text())["cases"]}
LABELS = torch.tensor([3, 0, 1, 3, 2])


def compute(network, given, name, init="keep", seed=1, **options):
    (proxy,) = make_proxies([{"name": name, **options}])
    with borrow(network, given, seed, init) as borrowed:
        return borrowed.run(proxy.compute)[name]


# The published codes

GOLDEN = {
    "swap": {"name": "swap"},
    "swap_mu40_sigma2500": {"name": "swap", "mu": 40, "sigma": 2500},
    "meco": {"name": "meco", "modules": "all"},
    "meco_batch": {"name": "meco", "modules": "all", "batchnorm": "batch"},
    "meco_opt_first_channels": {"name": "meco", "modules": "all", "channels": 8},
    "meco_foresight": {"name": "meco", "modules": "all", "noise": 64},
    "act_grad_cor_weighted": {"name": "wrcor", "hooks": "official"},
    "act_grad_cor": {"name": "wrcor", "hooks": "official", "weights": "none"},
}


WHERE = [
    *((key, note, torch.float64) for key in GOLDEN for note in CASES if note != FULL_SIZE),
    *((key, note, torch.float32) for key in GOLDEN for note in (NONE, "k=1", "k=3, two cells, 16 pixels, batch 16")),
    *((key, FULL_SIZE, torch.float64) for key in ("swap", "meco", "meco_opt_first_channels")),
]


@pytest.mark.parametrize(("key", "note", "dtype"), WHERE, ids=str)
def test_number_of_the_published_code(key, note, dtype, monkeypatch):
    tolerance = 1e-12 if dtype == torch.float64 else 1e-5
    expected = OFFICIAL[note][str(dtype).removeprefix("torch.")].get(key)
    if expected is None:
        assert key == "meco_opt_first_channels"
        assert min(CASES[note]["channels"], CASES[note]["num_classes"]) < 8
        return
    seed = CASES[note]["zen_noise_seed"]
    noise = torch.from_numpy(np.random.default_rng(seed).standard_normal((1, 3, 64, 64)).astype(np.float32))
    monkeypatch.setattr(torch, "randperm", lambda count, generator: torch.arange(count))
    monkeypatch.setattr(torch, "randn", lambda shape, generator: noise)
    network = build(note, dtype, "zen_weight_seed" if key.startswith("swap") else "weight_seed")
    given = numbered(note, dtype) if key.startswith("act") else draw(note, dtype)
    (proxy,) = make_proxies([GOLDEN[key]])
    with borrow(network, given, init="keep") as borrowed:
        if isinstance(expected, str):
            assert (note, expected) == (NONE, "-inf")
            with pytest.raises(UndefinedScore, match="constant for an image"):
                proxy.compute(borrowed)
        else:
            assert proxy.compute(borrowed)[proxy.name] == pytest.approx(expected, rel=tolerance)


# Slow references


def small(which):
    if which == "mobilenet":
        network, size = timm.create_model("mobilenetv2_050", num_classes=4), 32
    else:
        network, size = small_nb201({"mixed": MIXED, "unreachable": UNREACHABLE}[which], 4, 16), 16
    return initialise(network, seed=3).double().eval(), images(5, 3, size, size, seed=5)


def training(network):
    return copy.deepcopy(network).train().requires_grad_(True)


def is_relu(module):
    return isinstance(module, nn.ReLU | nn.ReLU6)


def patterns(network, inputs):
    found = set()
    for module in filter(is_relu, network.modules()):
        module.register_forward_hook(lambda _m, _args, out: found.update(map(tuple, (out > 0).flatten(1).T.tolist())))
    network(inputs)
    return found


@pytest.mark.parametrize("which", ["mixed", "unreachable"])
def test_swap(which):
    network, inputs = small(which)[0], images(12, 3, 16, 16)
    (proxy,) = make_proxies([{"name": "swap", "inits": 3}])
    with borrow(network, inputs, 1, "gaussian") as borrowed:
        got = proxy.compute(borrowed)["swap"]
        counts = []
        for number in range(3):
            counts.append(len(patterns(training(borrowed.redrawn(number).network), inputs)))
    assert got == pytest.approx(np.mean(counts), rel=1e-12)
    assert len(set(counts)) > 1


@pytest.mark.parametrize("modules", ["leaves", "all"])
@pytest.mark.parametrize("which", ["mixed", "unreachable", "mobilenet"])
def test_meco(which, modules):
    network, inputs = small(which)
    expected = []

    def see(module, _args, out):
        if out.dim() != 4 or (modules == "leaves" and list(module.children())):
            return
        with np.errstate(invalid="ignore", divide="ignore"):
            rows = out[0].detach().flatten(1).numpy()
            if rows.shape[1] > rows.shape[0]:
                expected.append(np.linalg.eigvalsh(np.nan_to_num(np.corrcoef(rows)))[0])

    reference = training(network)
    for module in reference.modules():
        module.register_forward_hook(see)
    reference(inputs)
    got = compute(network, inputs, "meco", modules=modules, batchnorm="batch")
    assert got == pytest.approx(sum(expected), rel=1e-9)
    assert compute(network, inputs, "meco") == pytest.approx(compute(network, inputs[:1], "meco"), rel=1e-9)


@pytest.mark.parametrize("weights", ["blocks", "none"])
@pytest.mark.parametrize("which", ["mixed", "unreachable", "mobilenet"])
def test_wrcor(which, weights):
    network, inputs = small(which)
    reference, found = training(network), []

    class Noted(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x, place, top):
            ctx.save_for_backward(x)
            ctx.place, ctx.top = place, top
            found.append((place, x.detach()))
            return x.clamp(0, top)

        @staticmethod
        def backward(ctx, grad):
            (x,) = ctx.saved_tensors
            found.append((ctx.place, grad * ((x > 0) & (x < ctx.top))))
            return found[-1][1], None, None

    blocks = len(network.blocks)
    for name, module in reference.named_modules():
        if is_relu(module):
            before_blocks = name.startswith(("stem", "bn1"))
            place = int(name.split(".")[1]) if name.startswith("blocks.") else 0 if before_blocks else blocks
            top = 6.0 if isinstance(module, nn.ReLU6) else math.inf
            module.forward = lambda x, place=place, top=top: Noted.apply(x, place, top)
    nn.functional.cross_entropy(reference(inputs), LABELS).backward()
    kernel = np.zeros((5, 5))
    with np.errstate(invalid="ignore", divide="ignore"):
        for place, rows in found:
            matrix = np.abs(np.corrcoef(rows.flatten(1).numpy()))
            if not np.isnan(matrix).any():
                kernel += matrix * (2**place if weights == "blocks" else 1)
    got = compute(network, Batch(inputs, LABELS), "wrcor", weights=weights)
    assert got == pytest.approx(np.linalg.slogdet(kernel)[1], rel=1e-9)


# Known answers


def test_patterns_of_four_units():
    assert distinct_patterns([torch.tensor([[0.0, 0, 0, 1], [0, 1, 1, 1]])]) == 3


@pytest.mark.parametrize("count", [2, 5, 20, 21, 48, 49, 100])
def test_patterns_of_any_number_of_images(count):
    generator = torch.Generator().manual_seed(count)
    base = torch.rand(count, 40, generator=generator) > 0.5
    units = base[:, torch.randint(40, (300,), generator=generator)].float()
    units[-1, :50] = 1 - units[-1, :50]  # such as differ in the last image alone
    expected = len({tuple(column) for column in units.T.tolist()})
    maps = [units[:, :100].unflatten(1, (4, 5, 5)), units[:, 100:]]
    assert distinct_patterns(maps) == expected
    assert expected > 40 or count < 6


def test_smallest_eigenvalue_of_two_channels():
    a, b = torch.randn(2, 50, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    correlation = np.corrcoef(a, b)[0, 1]
    both = torch.stack([a, 3 - 2 * b]).unflatten(1, (5, 10))
    assert smallest_eigenvalue(both) == pytest.approx(1 - abs(correlation), rel=1e-12)
    assert smallest_eigenvalue(torch.stack([both[0], torch.ones(5, 10)])) == 0.0
    assert smallest_eigenvalue(both[:, :1, :2]) is None
    six = both.repeat(3, 1, 1)
    drawn = {smallest_eigenvalue(six, 2, torch.Generator().manual_seed(seed)) for seed in range(20)}
    assert max(drawn) == pytest.approx(3 * (1 - abs(correlation)), rel=1e-12)
    assert min(drawn) == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize(("place", "weight"), [(0, 1), (1, 2)])
def test_wrcor_of_one_relu_and_two_images(place, weight):
    inputs, labels = images(2, 6, seed=1), torch.tensor([0, 2])
    linear = nn.Linear(6, 3).double()
    layers = [nn.Identity(), linear]
    layers.insert(place, nn.ReLU())
    network = nn.Sequential(*layers)
    network.stages = ["0"] if place else ["1"]
    error = torch.softmax(linear(inputs.relu()), 1) - nn.functional.one_hot(labels, 3)
    r = abs(np.corrcoef(inputs)[0, 1])
    q = abs(np.corrcoef(((error @ linear.weight) * (inputs > 0)).detach())[0, 1])
    expected = math.log(weight**2 * (4 - (r + q) ** 2))
    assert compute(network, Batch(inputs, labels), "wrcor") == pytest.approx(expected, rel=1e-10)


def test_regularised_swap_is_largest_at_mu():
    network = small_nb201(MIXED).double()
    thousands = sum(p.numel() for p in network.parameters()) / 1e3
    given = images(4, 3, 8, 8)
    plain = compute(network, given, "swap")
    assert compute(network, given, "swap", mu=thousands, sigma=1) == plain
    assert compute(network, given, "swap", mu=thousands + 2, sigma=4) == pytest.approx(plain / math.e)
    with pytest.raises(UndefinedScore, match="too far from mu=900"):
        compute(network, given, "swap", mu=900, sigma=1)


def test_draws_are_those_of_the_seed():
    network, given = small_nb201(MIXED), images(12, 3, 8, 8).float()
    counts = [compute(network, given, "swap", "gaussian", seed, inits=2) for seed in (1, 1, 2)]
    assert counts[0] == counts[1] != counts[2]
    noisy = [compute(network, given, "meco", seed=seed, noise=16, channels=2) for seed in (1, 1, 2)]
    assert noisy[0] == noisy[1] != noisy[2]


@pytest.mark.parametrize(
    ("name", "options", "reason"),
    [
        ("swap", {}, "no ReLU"),
        ("wrcor", {"weights": "none"}, "no ReLU"),
        ("wrcor", {}, "weighted by their blocks"),
        ("meco", {}, "more positions than channels"),
    ],
)
def test_networks_without_a_score(name, options, reason):
    act = nn.ReLU() if reason.startswith("weighted") else nn.GELU()
    linear = nn.Sequential(nn.Flatten(), nn.Linear(12, 4), act, nn.Linear(4, 4)).double()
    with pytest.raises(UndefinedScore, match=reason):
        compute(linear, Batch(images(5, 3, 2, 2), LABELS), name, **options)


def test_more_networks_without_a_score():
    vector = nn.Sequential(nn.Flatten(), nn.Linear(12, 4), nn.ReLU(), nn.Linear(4, 4)).double()
    with pytest.raises(UndefinedScore, match="no ReLU of feature maps"):
        compute(vector, images(5, 3, 2, 2), "swap", units="maps")
    vit = timm.create_model("vit_tiny_patch16_224", img_size=32, depth=1, num_classes=4).double()
    with pytest.raises(UndefinedScore, match="a linear layer works on others"):
        compute(vit, images(1, 3, 32, 32), "meco")
    with pytest.raises(UndefinedScore, match="constant for an image"):
        compute(small_nb201(ALL_NONE, 4, 16).double(), Batch(images(5, 3, 16, 16), LABELS), "wrcor")


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"name": "swap", "mu": 40}, "mu=40 and sigma=None are not allowed: give both, or none"),
        ({"name": "swap", "mu": 40, "sigma": 0}, "sigma"),
        ({"name": "swap", "inits": 0}, "inits"),
        ({"name": "swap", "units": "map"}, "units"),
        ({"name": "meco", "modules": "leaf"}, "modules"),
        ({"name": "meco", "channels": 1}, "channels"),
        ({"name": "meco", "noise": 0}, "noise"),
        ({"name": "wrcor", "weights": "depth"}, "weights"),
        ({"name": "wrcor", "hooks": "both"}, "hooks"),
    ],
)
def test_values_that_are_not_allowed(spec, message):
    with pytest.raises(ValueError, match=message):
        make_proxies([spec])
