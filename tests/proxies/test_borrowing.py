"""A network is borrowed: after scoring nothing of the caller's has changed, for every registered proxy."""

import copy
import itertools
import math
import random

import numpy as np
import pytest
import timm
import torch
from proxy_reference import (
    ALL_CONVS,
    FEW_CONVS,
    MIXED,
    all_scalars,
    images,
    labelled,
    reference_fisher,
    reference_jacobian,
    small_nb201,
)
from torch import nn
from torch.nn import functional
from torch.nn.utils import parametrizations
from torchvision.ops import FrozenBatchNorm2d

from vkdnw_pl.api.networks import score
from vkdnw_pl.networks.init import initialise
from vkdnw_pl.proxies import PROXIES, Proxy, UndefinedScore, make_proxies
from vkdnw_pl.proxies.borrow import _stream, borrow
from vkdnw_pl.proxies.functional.fisher import quantiles
from vkdnw_pl.proxies.scoring import score_network

NETWORKS = {
    "nb201": lambda: small_nb201(MIXED, 5, 16),
    "mobilenetv2_050": lambda: timm.create_model("mobilenetv2_050", num_classes=5),
}
WITHOUT_ATTENTION = [name for name in PROXIES if name != "dss"]
"""Those that have a value for networks of convolutions."""
SIZES = {"nb201": 16, "mobilenetv2_050": 64}


def batch(name, size=4, seed=0):
    return images(size, 3, SIZES[name], SIZES[name], seed=seed).float()


class Counter:
    def __init__(self):
        self.calls = 0

    def __call__(self, module, args, output=None):
        self.calls += 1


class Raises(Proxy):
    """Uses the shared passes, meddles with its copy, and fails."""

    info = PROXIES["jacov"].info

    @property
    def graph(self):
        return "batch"

    def compute(self, borrowed):
        borrowed.graph("batch").logits.sum().backward(retain_graph=True)
        borrowed.trace("running")
        for p in borrowed.network.parameters():
            p.data.zero_()
        borrowed.network.train().requires_grad_(True)
        torch.randn(3)
        raise RuntimeError("no score today")


def lived_in(name):
    """A network in an unusual state: buffers, modes, flags, gradients and hooks of its own."""
    torch.manual_seed(0)
    network = NETWORKS[name]()
    for i, module in enumerate(network.modules()):
        module.train(i % 3 == 0) if not list(module.children()) else None
        module.training = i % 2 == 0
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2)
            module.num_batches_tracked.fill_(i)
    for i, p in enumerate(network.parameters()):
        p.requires_grad_(i % 4 != 0)
    first = next(m for m in network.modules() if isinstance(m, nn.Conv2d))
    first.register_forward_hook(Counter())
    first.register_forward_pre_hook(Counter())
    network.register_full_backward_hook(lambda *_: None)
    return network


def portrait(network):
    """Everything of the network that a caller could see."""
    hooks = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks", "_state_dict_hooks")
    return {
        "state": {name: (t.data_ptr(), t.stride(), t.clone()) for name, t in network.state_dict().items()},
        "modes": [m.training for m in network.modules()],
        "modules": [id(m) for m in network.modules()],
        "flags": [(id(p), p.requires_grad, p.grad, p._version) for p in network.parameters()],
        "buffers": [(id(b), b._version) for b in network.buffers()],
        "hooks": [[list(getattr(m, h).items()) for h in hooks] for m in network.modules()],
        "inplace": [getattr(m, "inplace", None) for m in network.modules()],
        "attributes": [sorted(vars(m)) for m in network.modules()],
    }


def assert_same(before, after):
    states = before.pop("state"), after.pop("state")
    assert before == after
    assert states[0].keys() == states[1].keys()
    for name, (pointer, stride, tensor) in states[0].items():
        assert (pointer, stride) == states[1][name][:2], name
        assert torch.equal(tensor, states[1][name][2]), name


def random_states():
    return random.getstate(), np.random.get_state(), torch.get_rng_state()


@pytest.mark.filterwarnings("ignore:Full backward hook is firing")
@pytest.mark.parametrize("proxy", [*PROXIES, "one that raises"])
@pytest.mark.parametrize("name", NETWORKS)
def test_nothing_changes(name, proxy):
    network, inputs = lived_in(name), batch(name)
    kept = inputs.clone()
    random.seed(1), np.random.seed(2), torch.manual_seed(3)
    (python, (_, numpy_keys, *numpy_rest), torch_state), before = random_states(), portrait(network)
    modes = torch.is_grad_enabled(), torch.is_inference_mode_enabled(), torch.get_default_dtype()

    scores = score_network(network, labelled(inputs), [Raises() if proxy not in PROXIES else make_proxies([proxy])[0]])

    assert scores.failed == (proxy not in PROXIES)
    assert_same(before, portrait(network))
    python_after, (_, numpy_keys_after, *numpy_rest_after), torch_after = random_states()
    assert python == python_after
    assert np.array_equal(numpy_keys, numpy_keys_after)
    assert numpy_rest == numpy_rest_after
    assert torch.equal(torch_state, torch_after)
    assert modes == (torch.is_grad_enabled(), torch.is_inference_mode_enabled(), torch.get_default_dtype())
    assert torch.equal(inputs, kept)
    assert not inputs.requires_grad
    assert inputs.grad is None


@pytest.mark.filterwarnings("ignore:Full backward hook is firing")
def test_nothing_changes_for_all_at_once_by_the_short_function():
    network = lived_in("nb201")
    before, state = portrait(network), torch.get_rng_state()
    score(network, (3, 16, 16), 5, list(PROXIES), batch_size=3, data="random")
    assert_same(before, portrait(network))
    assert torch.equal(state, torch.get_rng_state())


@pytest.mark.filterwarnings("ignore:Full backward hook is firing")
@pytest.mark.parametrize("proxy", PROXIES)
@pytest.mark.parametrize("init", ["kaiming_normal", "keep"])
def test_repeatable_in_any_state_of_the_network(proxy, init):
    """Modes, flags and gradients have no say; with a fresh initialisation neither have weights and buffers."""
    inputs = batch("nb201")
    plain, used = small_nb201(MIXED, 5, 16), lived_in("nb201")
    if init == "kaiming_normal":
        for p in used.parameters():
            p.data.normal_()
    else:
        used.load_state_dict(plain.state_dict())
    used.classifier.weight.grad = torch.ones_like(used.classifier.weight)
    first = score_network(plain, labelled(inputs), make_proxies([proxy]), init=init)
    torch.randn(7)
    for network in (plain, used):
        again = score_network(network, labelled(inputs), make_proxies([proxy]), init=init)
        assert again.values == first.values
        assert again.reasons == first.reasons


@pytest.mark.parametrize("proxy", WITHOUT_ATTENTION)
def test_seed(proxy):
    """Another seed is another initialisation (and other random signs); same images."""
    network, inputs = small_nb201(MIXED, 5, 16), batch("nb201")
    values = {
        seed: score_network(network, labelled(inputs), make_proxies([proxy]), seed=seed).values[proxy]
        for seed in (1, 2, 3)
    }
    # Four images fall into four regions, and units show all 16 patterns, whatever the weights.
    assert len(set(values.values())) == (
        1 if proxy in ("aleph", "layers", "log_width", "macs", "params", "linear_regions", "swap") else 3
    )


def test_seed_of_the_random_signs():
    network, inputs = small_nb201(MIXED, 5, 16), batch("nb201")
    values = [
        score_network(network, labelled(inputs), make_proxies(["trainability"]), s, "keep").values["trainability"]
        for s in (1, 2)
    ]
    assert values[0] != values[1]
    jacov = [
        score_network(network, labelled(inputs), make_proxies(["jacov"]), s, "keep").values["jacov"] for s in (1, 2)
    ]
    assert jacov[0] == jacov[1]


def test_streams_of_a_seed():
    """Every seed and every purpose has a stream of its own."""
    network, inputs = small_nb201(MIXED, 5, 16), batch("nb201")
    draws = {}
    for seed, purpose in itertools.product([0, 1, 2, 3, 1000, 2**31, 2**32 - 1], ["weights", "trainability"]):
        with borrow(network, inputs, seed) as borrowed:
            draws[seed, purpose] = tuple(torch.randn(4, generator=borrowed.generator(purpose)).tolist())
    assert len(set(draws.values())) == len(draws)


@pytest.mark.parametrize("seed", [-1, 2**32])
def test_seed_out_of_range(seed):
    with pytest.raises(ValueError, match=rf"seed={seed} is not allowed: give a whole number from 0 to"):
        score_network(small_nb201(FEW_CONVS), batch("nb201"), make_proxies(["params"]), seed=seed)


@pytest.mark.parametrize(
    ("name", "num_orders"), [("nb201", 3), pytest.param("mobilenetv2_050", 1, marks=pytest.mark.slow)]
)
def test_values_do_not_depend_on_the_company(name, num_orders):
    network, inputs = NETWORKS[name](), batch(name)
    alone = {}
    for proxy in PROXIES:
        alone |= score_network(network, labelled(inputs), make_proxies([proxy])).values
    names = list(PROXIES)
    for order in (random.Random(0).sample(names, len(names)), names, names[::-1])[:num_orders]:
        together = score_network(network, labelled(inputs), make_proxies(order))
        assert together.values == alone
        columns = [column for proxy in make_proxies(order) for column in proxy.columns]
        assert list(together.values) == columns


def test_mixed_behaviours_of_batch_norm_do_not_disturb_each_other():
    network, inputs = small_nb201(MIXED, 5, 16), batch("nb201")
    specs = [
        {"name": "jacov", "batchnorm": "running"},
        {"name": "expressivity", "batchnorm": "sample"},
        "progressivity",
        {"name": "trainability", "batchnorm": "running"},
        {"name": "vkdnw", "batchnorm": "batch"},
    ]
    together = score_network(network, labelled(inputs), make_proxies(specs)).values
    for spec in specs:
        alone = score_network(network, labelled(inputs), make_proxies([spec])).values
        assert alone.items() <= together.items()


@pytest.mark.parametrize("proxy", WITHOUT_ATTENTION)
def test_batch_of_one(proxy):
    scores = score_network(small_nb201(MIXED, 5, 16), labelled(batch("nb201", 1)), make_proxies([proxy]))
    assert not scores.failed
    assert all(math.isfinite(value) for value in scores.values.values())


@pytest.mark.parametrize("proxy", WITHOUT_ATTENTION)
@pytest.mark.parametrize("arch", [MIXED, ALL_CONVS])
def test_double_precision_gives_nearly_the_same(arch, proxy):
    inputs = images(8, 3, 16, 16).float()
    single = score_network(small_nb201(arch, 5, 16), labelled(inputs), make_proxies([proxy])).values
    double = score_network(small_nb201(arch, 5, 16).double(), labelled(inputs), make_proxies([proxy])).values
    assert double[proxy] == pytest.approx(single[proxy], rel=5e-3)


def test_half_precision_networks_are_scored_in_single():
    network = small_nb201(MIXED, 5, 16)
    inputs = batch("nb201")
    expected = score_network(network, labelled(inputs), make_proxies(list(PROXIES))).values
    for dtype in (torch.bfloat16, torch.float16):
        half = small_nb201(MIXED, 5, 16).to(dtype)
        got = score_network(half, labelled(inputs), make_proxies(list(PROXIES)))
        assert not got.failed
        assert next(half.parameters()).dtype == dtype
        assert got.values["jacov"] == pytest.approx(expected["jacov"], rel=0.2)


@pytest.mark.parametrize(
    ("around", "channels_last"),
    [
        (torch.no_grad, True),
        (torch.inference_mode, False),
        (lambda: torch.autocast("cpu", torch.bfloat16), True),
    ],
)
def test_surroundings_do_not_matter(around, channels_last):
    """Where Lightning predicts, and within autocast."""
    network = small_nb201(MIXED, 5, 16)
    inputs = batch("nb201").contiguous(memory_format=torch.channels_last if channels_last else torch.contiguous_format)
    expected = score_network(network, labelled(inputs), make_proxies(list(PROXIES))).values
    with around():
        assert score_network(network, labelled(inputs * 1.0), make_proxies(list(PROXIES))).values == expected
        built = small_nb201(MIXED, 5, 16)
        assert score_network(built, labelled(inputs), make_proxies(list(PROXIES))).values == expected
    flat = nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 3))
    expected = score_network(flat, images(4, 6).float(), make_proxies(["vkdnw", "jacov", "macs"])).values
    with around():
        assert score_network(flat, images(4, 6).float(), make_proxies(["vkdnw", "jacov", "macs"])).values == expected


class OldStyle(nn.Module):
    """Flattens by ``view``, which needs the usual memory order."""

    def __init__(self, view):
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.norm, self.head, self.view = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Linear(16, 3), view
        self.feature_taps = ("conv", "norm")
        self.final_map = "norm"

    def forward(self, x):
        x = torch.relu(self.norm(self.conv(x)))
        return self.head(x.view(len(x), -1) if self.view else x.reshape(len(x), -1))


def test_networks_that_need_the_usual_memory_order():
    inputs = images(4, 3, 4, 4).float()
    proxies = [name for name in PROXIES if name != "trainability"]
    expected = score_network(OldStyle(False), labelled(inputs), make_proxies(proxies))
    got = score_network(OldStyle(True), labelled(inputs), make_proxies(proxies))
    assert not got.failed
    undefined = {"dss", "meco", "wrcor"}  # no attention, maps of 16 positions, no blocks
    assert {name for name, value in got.values.items() if value is None} == undefined
    defined = {name: value for name, value in expected.values.items() if name not in undefined}
    assert {name: got.values[name] for name in defined} == pytest.approx(defined, rel=1e-3)
    assert set(score(OldStyle(True), (3, 4, 4), 3)) == set(score(OldStyle(False), (3, 4, 4), 3))


class Spectral(nn.Module):
    """Filters in the Fourier domain (as GFNet): a parameter with four dimensions that is no convolution's."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.head = nn.Conv2d(3, 8, 3, padding=1), nn.Linear(8, 3)
        self.filters = nn.Parameter(torch.randn(8, 5, 8, 2))

    def forward(self, x):
        spectrum = torch.fft.rfft2(self.conv(x)) * torch.view_as_complex(self.filters).transpose(1, 2)
        return self.head(torch.fft.irfft2(spectrum, s=(8, 8)).relu().mean((2, 3)))


@pytest.mark.parametrize("init", ["kaiming_normal", "keep"])
def test_only_convolutions_are_reordered(init):
    """The value is that of the definition in the usual memory order."""
    network, inputs = Spectral(), images(4, 3, 8, 8).float()
    scores = score_network(network, inputs, make_proxies(["vkdnw", "jacov", "macs"]), init=init)
    assert scores.reasons == {}
    usual = initialise(copy.deepcopy(network), init, _stream(1, "weights"), fresh=False)
    jac, logits = reference_jacobian(usual, inputs, all_scalars(usual), "sample")
    deciles = quantiles(torch.linalg.eigvalsh(reference_fisher(jac, logits, 0.05))).tolist()
    for k, decile in enumerate(deciles, 1):
        assert scores.values[f"vkdnw_decile_{k}"] == pytest.approx(decile, rel=1e-3, abs=1e-6 * deciles[-1])


class Noisy(nn.Module):
    """Random in evaluation mode, out of all three global streams."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.head = nn.Conv2d(3, 8, 3), nn.Linear(8, 3)
        self.feature_taps = ("conv", "head")

    def forward(self, x):
        x = functional.dropout(self.conv(x).relu(), 0.3)
        x = x * (1 + np.random.rand()) + random.random()
        return self.head(x.mean((2, 3)))


@pytest.mark.filterwarnings("ignore::vkdnw_pl.proxies.functional.jacobian.GenericFallback")
def test_the_global_random_state_does_not_enter():
    names = ["vkdnw", "jacov", "zico", "zen", "grad_norm", "synflow", "macs"]
    values, network = [], Noisy()
    network.final_map = "conv"
    for seed in (0, 5):
        torch.manual_seed(seed), np.random.seed(seed), random.seed(seed)
        state = random_states()
        values.append(score(network, (3, 8, 8), proxies=names, batch_size=4, data="random"))
        assert torch.equal(state[2], torch.get_rng_state())
        assert random.getstate() == state[0]
        assert np.array_equal(np.random.get_state()[1], state[1][1])
    assert values[0] == values[1]
    assert values[0].reasons == {}
    # Nor what was computed before.
    for name in names:
        alone = score(network, (3, 8, 8), proxies=[name], batch_size=4, data="random")
        assert alone[name] == values[0][name]
    assert score(network, (3, 8, 8), proxies=["jacov"], batch_size=4, data="random", seed=2) != values[0]


class Parts(nn.Module):
    """Layers whose weights are no convolution's, linear layer's or batch norm's."""

    def __init__(self):
        super().__init__()
        self.stem = parametrizations.weight_norm(nn.Conv2d(3, 8, 2, stride=2))
        self.frozen, self.act, self.norm = FrozenBatchNorm2d(8), nn.PReLU(8), nn.RMSNorm(8)
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.scale, self.rms = timm.layers.LayerScale(8, 1e-2), timm.layers.RmsNorm(8)
        self.recurrent, self.head = nn.GRU(8, 8, batch_first=True), nn.Linear(8, 3)
        self.token = nn.Parameter(torch.randn(1, 1, 8))

    def forward(self, x):
        x = self.norm(self.act(self.frozen(self.stem(x))).flatten(2).mT) + self.token
        x = x + self.scale(self.attention(x, x, x, need_weights=False)[0])
        return self.head(self.recurrent(self.rms(x))[0][:, -1])


@pytest.mark.filterwarnings("ignore::vkdnw_pl.proxies.functional.jacobian.GenericFallback")
@pytest.mark.parametrize("init", ["auto", "zennas", "pytorch"])
def test_no_weight_of_the_caller_enters(init):
    values = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        network = Parts()
        with torch.no_grad():
            for tensor in network.state_dict().values():
                tensor.add_(seed * torch.rand(tensor.shape))
        names = ["vkdnw", "synflow", "l2_norm", "grad_norm"]
        values.append(score(network, (3, 8, 8), proxies=names, batch_size=2, init=init, data="random", details=True))
    assert values[0].reasons == {}
    assert values[0] == values[1]


def test_copy_in_hand():
    """What a proxy gets."""
    network = lived_in("mobilenetv2_050")
    with borrow(network, batch("mobilenetv2_050"), seed=3) as borrowed:
        assert borrowed.network is not network
        assert not any(m.training for m in borrowed.network.modules())
        assert not any(p.requires_grad for p in borrowed.network.parameters())
        assert not any(getattr(m, "inplace", False) for m in borrowed.network.modules())
        assert borrowed.graph("batch") is borrowed.graph("batch")
        assert borrowed.trace("sample") is borrowed.trace("sample")
        first = borrowed.graph("batch")
        assert borrowed.graph("sample") is not first
        assert borrowed.feature_entropies("sample") is borrowed.feature_entropies("sample")
        assert borrowed.feature_entropies("sample") != borrowed.feature_entropies("running")


def test_an_undefined_score_is_an_exception_of_its_own():
    assert not issubclass(UndefinedScore, ValueError | RuntimeError)
