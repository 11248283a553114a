"""Derivatives are autograd's in every engine: declared ones, none where gradients are off, and limits that it masks."""

import copy
import random
import warnings

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from generated_networks import CUSTOM, FUNCTIONS, Generated
from proxy_reference import all_scalars, images, labelled, lend, plain_jacobian
from torch import nn

from vkdnw_pl.networks.streams import kept_streams
from vkdnw_pl.proxies.base import make_proxies
from vkdnw_pl.proxies.borrow import borrow
from vkdnw_pl.proxies.functional.calls import as_autograd, is_smooth
from vkdnw_pl.proxies.functional.jacobian import GenericFallback, jacobian
from vkdnw_pl.proxies.grad_sign import GradSign
from vkdnw_pl.proxies.scoring import score_network

CONV = ("conv", {"kernel_size": 3, "padding": 1})
RELU = ("activation", ("relu", False))
REGIONS = ("no_grad", "set_grad_enabled", "inference_mode", "detach", "data")
BLOCKS = {
    **{f"custom: {name}": [CONV, ("custom", name), CONV] for name in CUSTOM},
    "custom with a weight": [CONV, ("quantised",), RELU, CONV],
    "custom before any weight": [("custom", "straight through"), CONV],
    **{f"without gradient: {how}": [CONV, ("without gradient", how, (CONV, RELU)), CONV] for how in REGIONS},
    "only without gradient": [("without gradient", "no_grad", (CONV,))],
    "custom function where gradients are off": [("without gradient", "no_grad", (("custom", "reversal"),)), CONV],
    **{f"function: {name}": [CONV, ("function", name), CONV, RELU] for name in FUNCTIONS},
    "LPPool of ReLU": [CONV, RELU, ("pool", "lp 2"), CONV, RELU],
    "LPPool of signs": [CONV, ("pool", "lp 3"), CONV],
    "PReLU at 0": [CONV, RELU, ("activation", ("prelu", False)), CONV],
    "checkpointed": [CONV, ("checkpointed", False, (CONV, ("norm", "batch"), RELU)), CONV],
    "checkpointed, re-entrant": [CONV, ("checkpointed", True, (CONV, ("norm", "batch"), RELU)), CONV],
    "checkpointed twice": [CONV, ("checkpointed", False, (("checkpointed", True, (CONV,)),))],
    "checkpointed custom": [CONV, ("checkpointed", False, (("custom", "straight through"), CONV)), RELU],
    "cached weight and kept activation": [CONV, ("cached",), CONV],
    "block that freezes its weight": [CONV, ("frozen",), RELU, CONV],
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("blocks", BLOCKS)
def test_every_engine_gives_autograds_derivative(blocks):
    network, inputs = Generated(BLOCKS[blocks], 2, seed=4).double(), images(2, 3, 6, 6)
    scalars = all_scalars(network)
    for batchnorm in ("sample", "batch"):
        expected, _ = plain_jacobian(network, inputs, scalars, batchnorm)
        for engine in ("auto", "forward", "reverse", "generic") if batchnorm == "sample" else ("auto", "generic"):
            got = jacobian(lend(network, torch.float64), inputs, scalars, batchnorm, engine).jac_BCP
            if torch.isfinite(expected).all():
                torch.testing.assert_close(got, expected, rtol=1e-9, atol=1e-10)
            else:
                assert not torch.isfinite(got).all(), "autograd has no derivative here"


def test_some_of_these_networks_have_an_infinite_point():
    """Else nothing is tested: autograd's own derivative of the masked root is not a number."""
    network, inputs = Generated(BLOCKS["function: root of zero, masked"], 2, seed=4).double(), images(2, 3, 6, 6)
    assert plain_jacobian(network, inputs, all_scalars(network), "running")[0].isnan().any()
    network = Generated(BLOCKS["LPPool of ReLU"], 2, seed=4).double()
    assert plain_jacobian(network, inputs, all_scalars(network), "running")[0].isfinite().all()


def outcome(blocks, engine, batchnorm="running"):
    network = lend(Generated(BLOCKS[blocks], 2, seed=4), torch.float64)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        result = jacobian(network, images(2, 3, 6, 6), all_scalars(network), batchnorm, engine)
    return result, [str(w.message) for w in caught if issubclass(w.category, GenericFallback)]


def test_a_custom_function_is_left_to_reverse_mode_and_else_to_plain_autograd():
    assert outcome("custom: straight through", "auto")[0].engine == "reverse"
    assert not outcome("custom: straight through", "auto")[1]
    for engine, batchnorm in (("forward", "running"), ("auto", "batch")):
        result, messages = outcome("custom: straight through", engine, batchnorm)
        assert result.engine == "generic"
        assert messages == ["generic Jacobian: StraightThrough is a custom autograd function"]


@pytest.mark.parametrize(
    ("blocks", "engine", "reason"),
    [
        ("custom with a weight", "reverse", "layer.weight is used"),
        ("checkpointed, re-entrant", "auto", r"a checkpointed block \(use_reentrant=True\) hides its layers"),
        ("LPPool of ReLU", "forward", "not finite"),
        ("function: hook", "forward", "register_hook changes gradients"),
        ("block that freezes its weight", "auto", "layer.weight"),
    ],
)
def test_why_the_generic_engine_takes_over(blocks, engine, reason):
    network = lend(Generated(BLOCKS[blocks], 2, seed=4), torch.float64)
    with pytest.warns(GenericFallback, match=reason):
        jacobian(network, images(2, 3, 6, 6), all_scalars(network), "running", engine)


@pytest.mark.parametrize(
    "blocks",
    [
        *("without gradient: no_grad", "without gradient: data", "PReLU at 0"),
        pytest.param(
            "checkpointed",
            marks=pytest.mark.skipif(
                torch.__version__.startswith("2.8."), reason="left to plain backward: the same value, slower"
            ),
        ),
    ],
)
def test_the_fast_engines_follow_what_autograd_does(blocks):
    for engine in ("forward", "reverse"):
        result, messages = outcome(blocks, engine)
        assert result.engine == engine
        assert not messages


def test_nothing_of_a_pass_is_left_in_the_network():
    network = lend(Generated(BLOCKS["cached weight and kept activation"], 2, seed=4), torch.float64)
    before = {name: dict(vars(module)) for name, module in network.named_modules()}
    for engine in ("auto", "generic"):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            jacobian(network, images(2, 3, 6, 6), all_scalars(network), "running", engine)
    assert not network.body.blocks[1].cache
    for name, module in network.named_modules():
        assert vars(module).keys() == before[name].keys()
    assert not any(p.requires_grad or p.grad is not None for p in network.parameters())


# Functions at the points where they have no derivative

POINTS = torch.tensor([[0.0, -0.0, 0.0, 1.0, 1.0, -1.0], [3.0, -3.0, 6.0, 0.5, -0.5, 0.5], [0, 0, 0, 0, 0, 0]]).double()
IMAGE = torch.tensor([[1.0, 1, 0, 0], [2, 2, -1, -1], [0, 0, 3, 3], [1, 1, 1, 1]]).double().repeat(1, 2, 1, 1)
ELEMENTWISE = """
    relu relu6 hardtanh leaky_relu elu selu celu silu gelu mish hardswish hardsigmoid sigmoid tanh softplus softsign
"""
AT_POINTS = {
    **{name: (getattr(F, name), POINTS) for name in ELEMENTWISE.split()},
    "abs": (torch.abs, POINTS), "clamp": (lambda x: torch.clamp(x, 0, 1), POINTS), "square": (torch.square, POINTS),
    "prelu": (lambda x: as_autograd(F.prelu)(x, torch.full((1,), 0.25).double()), POINTS),
    "softmax": (lambda x: torch.softmax(x, 1), POINTS), "logsumexp": (lambda x: torch.logsumexp(x, 1), POINTS),
    "max": (lambda x: torch.max(x, 1).values, POINTS), "amax": (lambda x: torch.amax(x, 1), POINTS),
    "amin": (lambda x: torch.amin(x, (0, 1), keepdim=True), POINTS), "sort": (lambda x: torch.sort(x, 1)[0], POINTS),
    "topk": (lambda x: torch.topk(x, 3, 1).values, POINTS), "where": (lambda x: torch.where(x > 0, x, -x), POINTS),
    "glu": (lambda x: F.glu(x, 1), POINTS), "cumsum": (lambda x: torch.cumsum(x, 1), POINTS),
    "max_pool2d": (lambda x: F.max_pool2d(x, 3, 1, 1), IMAGE), "interpolate": (lambda x: F.interpolate(x, (3, 5)), IMAGE),
    "adaptive_max_pool2d": (lambda x: F.adaptive_max_pool2d(x, 3), IMAGE), "layer_norm": (lambda x: F.layer_norm(x, (6,)), POINTS),
    "group_norm": (lambda x: F.group_norm(x, 2), IMAGE), "instance_norm": (F.instance_norm, IMAGE),
}  # fmt: skip


@pytest.mark.parametrize("name", AT_POINTS)
def test_forward_derivatives_at_kinks_and_ties_are_autograds(name):
    """What ``calls.is_smooth`` promises of the functions whose derivatives are not looked at."""
    function, x = AT_POINTS[name]
    assert name == "prelu" or any(is_smooth(f) for f in (getattr(F, name, None), getattr(torch, name, None)) if f)
    backward = torch.autograd.functional.jacobian(function, x).reshape(-1, x.numel())
    directions = torch.eye(x.numel()).double().view(-1, *x.shape)
    forward = torch.func.vmap(lambda t: torch.func.jvp(function, (x,), (t,))[1])(directions).flatten(1).T
    assert torch.isfinite(backward).all()
    torch.testing.assert_close(forward, backward, rtol=1e-12, atol=1e-12)


# Proxies of single images' gradients


def gradients_of_images(network, inputs, labels, names):
    for image, label in zip(inputs.split(1), labels.split(1), strict=True):
        fresh = copy.deepcopy(network).eval().requires_grad_(True)
        F.cross_entropy(fresh(image), label).backward()
        yield {n: p.grad for n, p in fresh.named_parameters() if n in names and p.grad is not None}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "blocks",
    ["custom: straight through", "custom with a weight", "without gradient: no_grad", "without gradient: data",
     "checkpointed, re-entrant", "checkpointed", "LPPool of ReLU", "cached weight and kept activation"],
)  # fmt: skip
def test_grad_sign_and_ntk_condition_of_any_network(blocks):
    network, inputs = Generated(BLOCKS[blocks], 3, seed=4).double(), images(5, 3, 6, 6)
    batch = labelled(inputs)(0)
    names = [n for n, p in network.named_parameters() if p.dim() > 1]
    sums = {n: torch.zeros_like(p) for n, p in network.named_parameters() if n in names}
    for gradients in gradients_of_images(network, inputs, batch.labels, names):
        for name, gradient in gradients.items():
            sums[name] += gradient.sign()
    expected = sum(float(s.abs().sum()) for s in sums.values()) / sum(s.numel() for s in sums.values())
    with borrow(network, batch, init="keep") as borrowed:
        assert borrowed.run(GradSign("running").compute)["grad_sign"] == pytest.approx(expected, rel=1e-12)
        (ntk,) = make_proxies([{"name": "ntk_condition", "batchnorm": "running"}])
        rows = []
        for image in inputs.split(1):
            fresh = copy.deepcopy(network).eval().requires_grad_(True)
            fresh(image).sum().backward()
            weights = [p for n, p in fresh.named_parameters() if n.endswith("weight")]
            rows.append(torch.cat([torch.zeros(p.numel()) if p.grad is None else p.grad.flatten() for p in weights]))
        eigenvalues = torch.linalg.eigvalsh(torch.stack(rows) @ torch.stack(rows).T)
        got = borrowed.run(ntk.compute)["ntk_condition"]
        assert got == pytest.approx(-float(eigenvalues[-1] / eigenvalues[0]), rel=1e-6)


def test_a_network_that_cannot_be_vectorised_is_taken_image_by_image():
    """It looks at its values, which ``vmap`` refuses."""

    class Looking(nn.Module):
        def __init__(self):
            super().__init__()
            torch.manual_seed(0)
            self.linear, self.head = nn.Linear(6, 6), nn.Linear(6, 3)

        def forward(self, x):
            x = self.linear(x.flatten(1))
            return self.head(torch.tanh(x) if x.abs().sum().item() > 0 else x)

    network, inputs = Looking().double(), images(4, 6)
    batch = labelled(inputs)(0)
    expected = 0.0
    for name in ("linear.weight", "head.weight"):
        signs = [g[name].sign() for g in gradients_of_images(network, inputs, batch.labels, [name])]
        expected += float(torch.stack(signs).sum(0).abs().sum()) / (36 + 18)
    with borrow(network, batch, init="keep") as borrowed:
        assert borrowed.run(GradSign("running").compute)["grad_sign"] == pytest.approx(expected, rel=1e-12)


# What a pass may leave behind: each begins with the inputs, the buffers and the random streams of the first


class Passing(nn.Module):
    """Four linear layers, and what the forward pass does beside them."""

    def __init__(self, what):
        super().__init__()
        torch.manual_seed(0)
        self.a, self.b, self.c, self.o = nn.Linear(12, 16), nn.Linear(16, 16), nn.Linear(16, 16), nn.Linear(16, 7)
        self.register_buffer("calls", torch.ones(()))
        self.what, self.nested, self.kept, self.array = what, {"calls": [1]}, torch.ones(2), np.ones(1)

    def forward(self, x):
        return self.o(torch.tanh(self.c(torch.tanh(self.b(torch.tanh(PASSING[self.what](self, x)))))))


def _writes_into_its_input(net, x):
    return net.a(x.sub_(0.5).div_(0.25))


def _hooks(net, x):
    y = net.a(x)
    y.register_hook(lambda g: -g * torch.linspace(0, 3, 16, dtype=g.dtype))
    return y


def _hooks_where_it_can(net, x):
    y = net.a(x)
    if y.requires_grad:
        y.register_hook(lambda g: -g * torch.linspace(0, 3, 16, dtype=g.dtype))
    return y


def _hooks_a_node(net, x):
    y = net.a(x)
    if y.grad_fn is not None:
        y.grad_fn.register_hook(lambda into, out: tuple(None if g is None else 4 * g for g in into))
    return y


def _counts(net, x):
    net.calls.add_(1)
    net.nested["calls"][0] += 1
    net.kept.mul_(2)
    net.array += 1
    return net.a(x) * net.calls * net.nested["calls"][0] * net.kept[0] * net.array[0] / 10


def _draws(net, x):
    y = net.a(x)
    y = y + net.b(y) if np.random.rand() < 0.5 else y - net.b(y) * random.random()
    return y + net.b(y) * torch.rand(())


def _drops(net, x):
    return F.dropout(net.a(x), 0.3)


def _takes_a_gradient(net, x):
    with torch.enable_grad():
        x = x.detach().clone().requires_grad_()
        energy = torch.tanh(net.a(x)).square().sum()
        return F.pad(torch.autograd.grad(energy, x, create_graph=True)[0], (2, 2))


def _packs(net, x):
    with torch.autograd.graph.saved_tensors_hooks(lambda t: 1.5 * t, lambda t: t):
        return torch.sin(net.a(x))


PASSING = {
    "packs": _packs,
    "writes into its input": _writes_into_its_input,
    "hook": _hooks,
    "hook where it can": _hooks_where_it_can,
    "hook of a node": _hooks_a_node,
    "counts": _counts,
    "draws": _draws,
    "drops": _drops,
    "takes a gradient": _takes_a_gradient,
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("what", PASSING)
def test_every_pass_begins_as_the_first(what):
    network, inputs = Passing(what).double(), images(6, 12)
    scalars, rows = all_scalars(network), []
    for sample in range(6):
        with kept_streams(3):
            # All samples share one draw, of dropout's mask for the batch.
            batch = inputs.clone() if what == "drops" else inputs[sample : sample + 1].clone()
            jac, _ = plain_jacobian(network, batch, scalars, "batch")
        rows.append(jac[sample] if what == "drops" else jac[0])
    before = inputs.clone()
    for engine in ("auto", "forward", "reverse", "generic"):
        for memory in (1, 2**27):
            if what == "drops" and engine == "reverse":
                continue
            lent = lend(network, torch.float64)
            with kept_streams(3):
                got = jacobian(lent, inputs, scalars, "sample", engine, memory).jac_BCP
            torch.testing.assert_close(got, torch.stack(rows), rtol=1e-9, atol=1e-12)
    assert torch.equal(inputs, before)


@pytest.mark.parametrize("what", ["writes into its input", "counts", "draws", "hook"])
def test_a_score_does_not_depend_on_its_company(what):
    network, batch = Passing(what), labelled(images(6, 12).float())(0)
    before = batch.images.clone()
    names = (
        ["jacov", "grad_norm", "naswot", "vkdnw", "grad_sign"] if what != "hook" else ["jacov", "grad_norm", "vkdnw"]
    )
    network.b = nn.Sequential(network.b, nn.ReLU())
    together = score_network(network, batch, make_proxies(names), init="keep")
    assert not together.failed, together.reasons
    for name in names:
        alone = score_network(network, batch, make_proxies([name]), init="keep")
        assert alone.values[name] == together.values[name]
    assert torch.equal(batch.images, before)
