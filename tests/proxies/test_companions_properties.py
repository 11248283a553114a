"""The companion proxies where the answer is known: closed forms, invariances, degenerate networks, wrong arguments."""

import math

import pytest
import timm
import torch
from proxy_reference import ALL_CONVS, ALL_NONE, MIXED, images, small_nb201
from torch import nn
from torch.overrides import TorchFunctionMode

from vkdnw_pl.data.batches import Batch, batches
from vkdnw_pl.networks.init import initialise
from vkdnw_pl.proxies import PROXIES, UndefinedScore, make_proxies
from vkdnw_pl.proxies.borrow import borrow
from vkdnw_pl.proxies.functional.samples import agreements
from vkdnw_pl.proxies.scoring import Images, score_network
from vkdnw_pl.proxies.similarity import epe_nas
from vkdnw_pl.proxies.te_nas import condition

OF_LOSS = ("grad_norm", "snip", "grasp", "fisher", "plain")
WITH_LABELS = (*OF_LOSS, "grad_sign", "zico", "epe_nas")
WITHOUT_LABELS = ("naswot", "linear_regions", "ntk_condition", "zen", "synflow", "l2_norm")
COMPANIONS = (*WITH_LABELS, *WITHOUT_LABELS)
LABELS = torch.tensor([2, 0, 1, 2])
LOG = math.log(1 + 1e-5)


def compute(network, given, name, samples=None, init="keep", **options):
    (proxy,) = make_proxies([{"name": name, **options}])
    with borrow(network, given, 1, init, samples) as borrowed:
        return borrowed.run(proxy.compute)[name]


def two_batches(inputs, labels=LABELS, other=None):
    """``other`` is the second batch, by default the first in another order."""
    both = [Batch(inputs, labels), Batch(inputs.flip(0) if other is None else other, labels)]
    return both.__getitem__


def chain(*layers):
    return nn.Sequential(*layers).double().eval()


def convolutions(last=True):
    """Every convolution is followed by batch norm with almost no epsilon, so that its scale does not matter."""
    head = [nn.Linear(5, 3)] if last else [nn.Linear(5, 3, bias=False), nn.BatchNorm1d(3, affine=False)]
    network = nn.Sequential(
        nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4, affine=False), nn.ReLU(),
        nn.Conv2d(4, 5, 3, bias=False), nn.BatchNorm2d(5, affine=False), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), *head,
    )  # fmt: skip
    network.final_map = "5"
    for module in network:
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.eps = 1e-14
    return initialise(network.double().eval(), seed=2)


def scaled(network, factor, which):
    for place in which:
        network[place].weight.data.mul_(factor)
    return network


# A linear model: logits = W x


X, W = images(4, 5, seed=1), images(3, 5, seed=2)
P = torch.softmax(X @ W.T, 1)
ERROR = P - nn.functional.one_hot(LABELS, 3)
GRADIENT = ERROR.T @ X / 4


def linear_model(weight=W):
    network = nn.Linear(weight.shape[1], weight.shape[0], bias=False).double()
    network.weight.data.copy_(weight)
    return network


def linear(name, **options):
    return compute(linear_model(), two_batches(X), name, **options)


@pytest.mark.parametrize("batchnorm", ["batch", "sample", "running"])
def test_loss_proxies_of_a_linear_model(batchnorm):
    def check(name, expected, **options):
        assert linear(name, batchnorm=batchnorm, **options) == pytest.approx(float(expected), rel=1e-12)

    check("grad_norm", GRADIENT.norm())
    check("grad_norm", GRADIENT.norm(), norm="layers")
    check("snip", (W * GRADIENT).abs().sum())
    check("plain", (W * GRADIENT).sum())
    check("fisher", 5 / 2 * ((X @ W.T) * ERROR / 4).square().mean(0).sum())
    curvature = torch.diag_embed(P) - P[:, :, None] * P[:, None]
    change = torch.einsum("bkl,bl,bd->kd", curvature, X @ GRADIENT.T, X) / 4
    check("grasp", -(W * change).sum())


def test_gradients_of_single_images_of_a_linear_model():
    signs = ERROR.sign()[:, :, None] * X.sign()[:, None]
    assert linear("grad_sign") == pytest.approx(float(signs.sum(0).abs().mean()), rel=1e-12)
    # The gradient of the sum of the logits is the image, once for each of them.
    spectrum = torch.linalg.eigvalsh(X @ X.T)
    for batchnorm in ("batch", "sample", "running"):
        got = linear("ntk_condition", batchnorm=batchnorm)
        assert got == pytest.approx(-float(spectrum[-1] / spectrum[0]), rel=1e-10)


def test_kernel_of_orthogonal_images():
    rows = torch.linalg.qr(images(5, 4)).Q.T
    assert compute(linear_model(), rows, "ntk_condition") == pytest.approx(-1, rel=1e-12)
    sizes = torch.tensor([1.0, 2.0, 4.0, 0.5], dtype=torch.float64)
    assert compute(linear_model(), rows * sizes[:, None], "ntk_condition") == pytest.approx(-64, rel=1e-12)
    assert compute(linear_model(), rows[:1], "ntk_condition") == -1


def test_zico_of_a_linear_model():
    other = images(4, 5, seed=3)
    g1, g2 = GRADIENT, (torch.softmax(other @ W.T, 1) - nn.functional.one_hot(LABELS, 3)).T @ other / 4
    got = compute(linear_model(), two_batches(X, other=other), "zico")
    assert got == pytest.approx(math.log(float(((g1.abs() + g2.abs()) / (g1 - g2).abs()).sum())), rel=1e-10)
    swapped = compute(linear_model(), lambda i: two_batches(X, other=other)(1 - i), "zico")
    assert swapped == pytest.approx(got, rel=1e-10)


def test_zico_of_three_batches():
    found = []
    for seed in (1, 3, 4):
        x = images(4, 5, seed=seed)
        found.append((torch.softmax(x @ W.T, 1) - nn.functional.one_hot(LABELS, 3)).T @ x / 4)
    g = torch.stack(found)
    expected = math.log(float((g.abs().mean(0) / g.std(0, correction=0)).sum()))
    batches = [Batch(images(4, 5, seed=seed), LABELS) for seed in (1, 3, 4)]
    assert compute(linear_model(), batches.__getitem__, "zico", batches=3) == pytest.approx(expected, rel=1e-10)


# SynFlow


def test_synflow_of_a_chain_of_scalars():
    """Every layer has the whole flow, so L layers have L times the product."""
    network = chain(nn.Flatten(), *(nn.Linear(1, 1, bias=False) for _ in range(4)))
    for module, weight in zip(list(network)[1:], (2.0, -3.0, 0.5, -4.0), strict=True):
        module.weight.data.fill_(weight)
    x = images(3, 1, 1, 1)
    assert compute(network, x, "synflow") == pytest.approx(4 * 12, rel=1e-12)
    assert compute(network, x, "synflow", log=True) == pytest.approx(math.log(48), rel=1e-12)


def test_synflow_of_homogeneous_layers():
    """Without biases each of three layers carries R; norms, signs, images and the batch play no part."""
    conv, head = nn.Conv2d(2, 3, 3, bias=False), nn.Linear(3, 4, bias=False)
    middle = nn.Conv2d(3, 3, 1, bias=False)
    pool = (nn.AdaptiveAvgPool2d(1), nn.Flatten())
    network = chain(conv, nn.BatchNorm2d(3), nn.ReLU(), middle, nn.BatchNorm2d(3), nn.ReLU(), *pool, head)
    plain = chain(conv, middle, *pool, head)
    ones = torch.ones(1, 2, 5, 5, dtype=torch.float64)
    w1, w2, w3 = (m.weight.detach().abs() for m in (conv, middle, head))
    flow = (w3 @ (w2[:, :, 0, 0] @ w1.sum((1, 2, 3)))).sum()
    for x in (images(2, 2, 5, 5), ones, -ones):
        assert compute(network, x, "synflow") == pytest.approx(3 * float(flow), rel=1e-12)
    assert compute(plain, images(2, 2, 5, 5), "synflow") == pytest.approx(3 * float(flow), rel=1e-12)
    assert compute(scaled(plain, -10.0, [0]), ones, "synflow") == pytest.approx(30 * float(flow), rel=1e-12)


def test_synflow_of_a_deep_network_in_single_precision():
    """Beyond the range of float32."""
    layers = [nn.Linear(10, 10, bias=False) for _ in range(60)]
    for module in layers:
        module.weight.data.fill_(1.0)
    network = nn.Sequential(nn.Flatten(), *layers)
    assert compute(network, images(2, 10).float(), "synflow") == pytest.approx(60 * 10.0**61, rel=1e-9)


def test_synflow_without_a_flow():
    network = chain(nn.Flatten(), nn.Linear(2, 3, bias=False), nn.Linear(3, 2))
    network[1].weight.data.zero_()
    assert compute(network, images(2, 2), "synflow") == 0
    with pytest.raises(UndefinedScore, match="logarithm of 0"):
        compute(network, images(2, 2), "synflow", log=True)


# Scale of the weights


def test_plain_is_that_of_the_last_layer():
    network, x = convolutions(), images(4, 2, 8, 8)
    maps = network[:8].train()(x)
    p = torch.softmax(network[8](maps), 1) - nn.functional.one_hot(LABELS, 3)
    expected = float((network[8].weight * (p.T @ maps / 4)).sum().detach())
    assert abs(expected) > 0.01
    assert compute(network, Batch(x, LABELS), "plain") == pytest.approx(expected, rel=1e-8)
    assert compute(convolutions(last=False), Batch(x, LABELS), "plain") == pytest.approx(0, abs=1e-10)


def test_grasp_of_layers_without_a_scale():
    """The gradient halves where the weights double, so ``H w = -g`` and ``-w'Hg = |g|²``."""
    network, given = convolutions(last=False), Batch(images(4, 2, 8, 8), LABELS)
    network[0].bias = None  # norms have no parameters, so the norm over all parameters is that over the weights
    norm = compute(network, given, "grad_norm")
    assert compute(network, given, "grasp") == pytest.approx(norm**2, rel=1e-8)


@pytest.mark.parametrize(
    ("name", "effect"),
    [
        ("grad_norm", lambda v: v / 2),
        ("snip", lambda v: v),
        ("grasp", lambda v: v / 4),
        ("fisher", lambda v: v),
        ("zico", lambda v: v),
        ("naswot", lambda v: v),
        ("linear_regions", lambda v: v),
        ("l2_norm", lambda v: v * 2),
        ("synflow", lambda v: v * 8),
    ],
)
def test_doubling_all_weights(name, effect):
    """Before batch norm only the sizes of gradients and weights change."""
    given = two_batches(images(4, 2, 9, 9), other=images(4, 2, 9, 9, seed=1))
    network = convolutions(last=False)
    network[0].bias = None
    value = compute(network, given, name)
    got = compute(scaled(network, 2.0, [0, 3, 8]), given, name)
    assert got == pytest.approx(effect(value), rel=1e-6)


@pytest.mark.parametrize("name", ["grad_sign", "epe_nas"])
def test_doubling_the_convolutions(name):
    """Signs and correlations do not change. A convolution's bias has a gradient of zero, up to rounding."""
    network, given = convolutions(), Batch(images(4, 2, 9, 9), LABELS)
    network[0].bias = None
    value = compute(network, given, name)
    assert compute(scaled(network, 2.0, [0, 3]), given, name) == pytest.approx(value, rel=1e-6)


def test_l2_norm():
    network = nn.Sequential(nn.Conv2d(2, 3, 2), nn.BatchNorm2d(3), nn.Flatten(), nn.Linear(3, 4), nn.LayerNorm(4))
    network[0].weight.data.fill_(0.5)
    network[3].weight.data.fill_(-2.0)
    expected = 0.5 * math.sqrt(24) + 2 * math.sqrt(12)
    assert compute(network, images(1, 2, 2, 2), "l2_norm") == pytest.approx(expected, rel=1e-6)
    zero = nn.Linear(2, 2)
    zero.weight.data.zero_()
    assert compute(zero, images(1, 2), "l2_norm") == 0


# Activation patterns


class Signs(nn.Module):
    """ReLU of the images themselves."""

    def __init__(self):
        super().__init__()
        self.head = nn.Linear(6, 3)

    def forward(self, x):
        return self.head(nn.functional.relu(x).flatten(1))


def signs(*rows):
    return torch.tensor([[1.0 if c == "+" else -1.0 for c in row] for row in rows]).reshape(len(rows), 6, 1, 1)


def test_naswot_of_two_images():
    """h units differ of n: the determinant is n² - (n - h)²."""
    for other, h in (("+----+", 2), ("-+++--", 3), ("+-----", 1)):
        got = compute(Signs(), signs("------", other), "naswot")
        assert got == pytest.approx(math.log(36 - (6 - h) ** 2), rel=1e-12)
    # All differ: no unit agrees with itself inverted.
    assert compute(Signs(), signs("++++++", "------"), "naswot") == pytest.approx(math.log(36), rel=1e-12)
    assert compute(Signs(), signs("++++++"), "naswot") == pytest.approx(math.log(6), rel=1e-12)


def test_zero_is_off():
    x = signs("++----", "++----")
    x[0, 5] = 0.0
    assert compute(Signs(), x, "linear_regions") == 1
    x[0, 5] = 1e-30
    assert compute(Signs(), x, "linear_regions") == 2


@pytest.mark.parametrize("count", [4, 8, 32, 64])
def test_naswot_of_equal_images(count):
    """Seldom an exact zero in floating point, but never a score."""
    for seed in range(5):
        x = images(count, 6, 40, 40, seed=seed).float()
        x[-1] = x[seed % (count - 1)]
        network = nn.Sequential(nn.ReLU(), nn.Flatten(), nn.Linear(9600, 3))
        with pytest.raises(UndefinedScore, match="singular"):
            compute(network, x, "naswot")
        assert compute(network, x, "linear_regions") == count - 1


def test_naswot_of_more_images_than_patterns_can_tell_apart():
    """Three units give a matrix of rank four at most."""
    rows = torch.tensor([[a, b, c] for a in (-1.0, 1) for b in (-1.0, 1) for c in (-1.0, 1)])
    network = nn.Sequential(nn.ReLU(), nn.Linear(3, 2))
    with pytest.raises(UndefinedScore, match="singular"):
        compute(network, rows[:5], "naswot")
    assert compute(network, rows[[0, 1, 2, 4]], "naswot") == pytest.approx(
        math.log(float(torch.linalg.det(agreements([rows[[0, 1, 2, 4]].relu()])[0]))), rel=1e-12
    )


def test_linear_regions_of_repeated_images():
    network, x = small_nb201(MIXED, 3), images(6, 3, 8, 8).float()
    for places in ([0, 1, 2, 3, 4, 5], [0, 0, 0, 0], [5, 1, 5, 5, 2, 1], [3]):
        assert compute(network, x[places], "linear_regions") == len(set(places))


def test_agreement_is_exact_for_large_maps():
    on = torch.ones(2, 3_000_001)
    on[1, 7] = 0
    kernel, units = agreements([on, on, on[:, :5]])
    assert units == 6_000_007
    assert kernel.tolist() == [[6_000_007, 6_000_005], [6_000_005, 6_000_007]]


def test_networks_without_relus():
    network = chain(nn.Flatten(), nn.Linear(12, 3))
    for name in ("naswot", "linear_regions"):
        with pytest.raises(UndefinedScore, match="no ReLU"):
            compute(network, images(2, 3, 2, 2), name)


def test_regions_are_those_of_feature_maps():
    """The official code looks at ReLUs of four dimensions only."""
    network = chain(nn.Flatten(), nn.Linear(12, 9), nn.ReLU(), nn.Linear(9, 3))
    assert math.isfinite(compute(network, images(2, 3, 2, 2), "naswot"))
    with pytest.raises(UndefinedScore, match="no ReLU"):
        compute(network, images(2, 3, 2, 2), "linear_regions")


# Zen


def bare(*layers, last):
    network = chain(*layers)
    network.final_map = str(last)
    return network


@pytest.mark.parametrize("gamma", [1e-3, 0.1, 2, 30.0])
def test_zen_of_a_linear_map(gamma):
    """The step goes through: its size adds a logarithm."""
    network = bare(nn.Conv2d(3, 3, 1, bias=False), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 2), last=0)
    network[0].weight.data.copy_(2 * torch.eye(3)[:, :, None, None])
    x = images(4, 3, 5, 5)
    with borrow(network, x, init="keep") as borrowed:
        noise = torch.randn(x.shape, generator=borrowed.generator("zen"))
    expected = math.log(2 * gamma * float(noise.double().abs().sum() / 4))
    assert compute(network, x, "zen", gamma=gamma) == pytest.approx(expected, rel=1e-9)


def zen_network():
    network = bare(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4, eps=1e-14), nn.ReLU(), nn.Conv2d(4, 5, 3), nn.BatchNorm2d(5, eps=1e-14),
        nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(5, 2), last=5,
    )  # fmt: skip
    return initialise(network, "gaussian", 1)


@pytest.mark.parametrize("factor", [0.2, 7.0])
def test_zen_and_scales(factor):
    x = images(4, 3, 9, 9)
    batch, running = (compute(zen_network(), x, "zen", variance=v) for v in ("batch", "running"))
    for variance, value in (("batch", batch), ("running", running)):
        # The scale of the last norm is that of the map; the classifier plays no part.
        got = compute(scaled(scaled(zen_network(), factor, [4]), 5.0, [8]), x, "zen", variance=variance)
        assert got == pytest.approx(value + math.log(factor), rel=1e-9)
    # What a norm takes away its variance gives back.
    got = compute(scaled(zen_network(), factor, [0, 3]), x, "zen", variance="batch")
    assert got == pytest.approx(batch + 2 * math.log(factor), rel=1e-9)


def test_zen_does_not_see_running_statistics():
    """They count from 1, whatever the network's own are."""
    network, x = zen_network(), images(4, 3, 9, 9)
    expected = compute(network, x, "zen")
    network(x)
    network[1].running_var.fill_(50.0)
    network[4].running_mean.fill_(3.0)
    assert compute(network, x, "zen") == expected


def test_zen_without_a_change():
    network = zen_network()
    network[4].weight.data.zero_()
    with pytest.raises(UndefinedScore, match="does not change"):
        compute(network, images(4, 3, 9, 9), "zen")


class Sides(nn.Module):
    """A map, and a norm of zeros beside it."""

    final_map = "main"

    def __init__(self):
        super().__init__()
        self.main, self.side, self.head = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3), nn.Linear(3, 2)

    def forward(self, x):
        return self.head((self.main(x) + self.side(0 * x)).mean((2, 3)))


def test_zen_of_a_norm_without_variance():
    """Its logarithm does not exist; running variances start from 1, so that they have one."""
    network, x = Sides().double(), images(4, 3, 9, 9)
    with pytest.raises(UndefinedScore, match="input of a batch norm is constant"):
        compute(network, x, "zen", variance="batch")
    with_side = compute(network, x, "zen")
    network.side = nn.Identity()
    assert with_side == pytest.approx(compute(network, x, "zen") + math.log(0.9), rel=1e-10)


def test_zen_without_a_known_map():
    with pytest.raises(ValueError, match=r"give it an attribute final_map .* or a method forward_features"):
        compute(nn.Sequential(nn.Flatten(), nn.Linear(27, 2)), images(2, 3, 3, 3).float(), "zen")


def test_zen_noise_is_of_the_seed():
    def run(seed):
        with borrow(zen_network(), images(4, 3, 9, 9), seed, "keep") as borrowed:
            return make_proxies(["zen"])[0].compute(borrowed)["zen"]

    assert run(1) == run(1) != run(2)


# ZiCo and GradSign


def test_zico_of_batches_that_are_the_same():
    network, x = small_nb201(MIXED, 3, 16), images(4, 3, 16, 16).float()
    with pytest.raises(UndefinedScore, match="changes from batch to batch"):
        compute(network, two_batches(x, other=x), "zico")
    with pytest.raises(ValueError, match="one batch of images was given; this proxy needs a second one"):
        compute(network, Batch(x, LABELS), "zico")
    assert math.isfinite(compute(network, two_batches(x, other=x + 1), "zico"))


def test_zico_leaves_out_a_layer_that_has_no_gradient():
    network = chain(nn.Flatten(), nn.Linear(12, 5), nn.ReLU(), nn.Linear(5, 3))
    x, other = images(4, 3, 2, 2), images(4, 3, 2, 2, seed=1)
    both = compute(network, two_batches(x, other=other), "zico")
    network.extra = nn.Linear(3, 3).double()  # no part of the sequence's result
    network.extra.register_forward_hook(lambda _m, args, _out: args[0])
    assert compute(network, two_batches(x, other=other), "zico") == both


def test_zico_of_gradients_that_are_not_finite():
    network, x = chain(nn.Flatten(), nn.Linear(12, 5), nn.ReLU(), nn.Linear(5, 3)), images(4, 3, 2, 2)
    other = x.clone()
    other[0, 0, 0, 0] = float("inf")
    with pytest.raises(FloatingPointError, match="images have values that are not finite"):
        compute(network, two_batches(x, other=other), "zico")


@pytest.mark.parametrize("count", [1, 2, 5])
def test_grad_sign_bounds(count):
    """At most B, and that where all images are the same."""
    network = small_nb201(MIXED, 3, 16)
    x, labels = images(count, 3, 16, 16), torch.arange(count) % 3
    value = compute(network, Batch(x, labels), "grad_sign")
    assert 0 < value <= count
    same = Batch(x[:1].expand(count, -1, -1, -1), torch.ones(count, dtype=torch.long))
    assert compute(network, same, "grad_sign") == pytest.approx(
        count * compute(network, same, "grad_sign", 1), rel=1e-12
    )


def test_grad_sign_is_in_parts():
    """More images than are taken at once."""
    network, x, labels = small_nb201(MIXED, 3, 8), images(35, 3, 8, 8), torch.arange(35) % 3
    whole = compute(network, Batch(x, labels), "grad_sign", batchnorm="running")
    backwards = compute(network, Batch(x.flip(0), labels.flip(0)), "grad_sign", batchnorm="running")
    assert whole == pytest.approx(backwards, rel=1e-3)
    assert whole <= 35


class Coupled(nn.Module):
    """Every image is compared with the mean of the batch."""

    def __init__(self):
        super().__init__()
        self.head = nn.Linear(12, 3)

    def forward(self, x):
        y = self.head(x.flatten(1))
        return (y - y.mean(0)) ** 2


def test_networks_that_couple_images():
    network, x = Coupled().double(), images(4, 3, 2, 2)
    with pytest.raises(ValueError, match="couples the images of a batch, so none has a gradient by itself"):
        compute(network, Batch(x, LABELS), "grad_sign")
    rows = []
    for b in range(4):
        rows.append(torch.autograd.grad(network(x)[b].sum(), network.head.weight)[0].flatten())
    spectrum = torch.linalg.eigvalsh(torch.stack(rows) @ torch.stack(rows).T)
    for batchnorm in ("batch", "sample", "running"):
        got = compute(network, x, "ntk_condition", batchnorm=batchnorm)
        assert got == pytest.approx(-float(spectrum[-1] / spectrum[0]), rel=1e-8)


# Neural tangent kernel


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("arch", [MIXED, ALL_CONVS])
def test_kernel_of_equal_images(arch, dtype):
    """Their gradients are equal up to rounding, which is no number to divide by."""
    x = images(5, 3, 8, 8).to(dtype)
    x[3] = x[1]
    for batchnorm in ("batch", "sample", "running"):
        with pytest.raises(UndefinedScore, match="singular to working precision"):
            compute(small_nb201(arch, 3).to(dtype), x, "ntk_condition", batchnorm=batchnorm)


def test_condition():
    g = images(4, 200_000)
    spectrum = torch.linalg.eigvalsh(g @ g.T)
    assert condition(g) == pytest.approx(float(spectrum[-1] / spectrum[0]), rel=1e-10)
    assert condition(3 * g.flip(0)) == pytest.approx(condition(g), rel=1e-10)
    with pytest.raises(UndefinedScore, match="singular"):
        condition(torch.zeros(3, 5))
    with pytest.raises(UndefinedScore, match="singular"):
        condition(images(5, 3))
    g[1, 5] = float("nan")
    with pytest.raises(FloatingPointError, match="gradient is not finite"):
        condition(g)


# EPE-NAS


def test_epe_nas_of_one_image_per_class():
    network, x = small_nb201(MIXED, 10), images(5, 3, 8, 8)
    got = compute(network, Batch(x, torch.tensor([4, 9, 0, 2, 7])), "epe_nas")
    assert got == pytest.approx(5 * LOG, rel=1e-9)
    with pytest.raises(UndefinedScore, match="no two images are of one class"):
        epe_nas(images(5, 30), torch.tensor([4, 9, 0, 2, 7]), 101)
    assert epe_nas(images(5, 30), torch.tensor([4, 9, 0, 2, 7]), 100) == pytest.approx(5 * LOG, rel=1e-9)


def test_epe_nas_of_a_linear_model():
    """All images have one gradient, so all correlations are 1: log(1 + 1e-5) for each pair of images of a class."""
    network, labels = chain(nn.Flatten(), nn.Linear(12, 4)), torch.tensor([0, 1, 1, 3, 3, 3])
    assert compute(network, Batch(images(6, 3, 2, 2), labels), "epe_nas") == pytest.approx((1 + 4 + 9) * LOG, rel=1e-6)
    many = chain(nn.Flatten(), nn.Linear(12, 150))
    # Means over the images are 2 and 3 times the logarithm; both pairs of classes, over two classes.
    assert compute(many, Batch(images(6, 3, 2, 2), labels), "epe_nas") == pytest.approx(LOG, rel=1e-6)
    one_class = Batch(images(6, 3, 2, 2), torch.tensor([0, 1, 2, 3, 3, 3]))
    assert compute(many, one_class, "epe_nas") == 0


def test_epe_nas_of_uncorrelated_gradients():
    rows = torch.linalg.qr(torch.cat([torch.ones(20, 1, dtype=torch.float64), images(20, 2)], 1)).Q[:, 1:].T
    value = epe_nas(rows, torch.tensor([0, 0]), 10)
    assert value == pytest.approx(abs(2 * LOG + 2 * math.log(1e-5)), rel=1e-6)
    # The sign, size and offset of a gradient do not matter.
    moved = epe_nas(rows * torch.tensor([[-3.0], [0.1]]) + 2, torch.tensor([5, 5]), 10)
    assert moved == pytest.approx(value, rel=1e-6)


def test_epe_nas_of_constant_gradients():
    with pytest.raises(UndefinedScore, match="constant"):
        epe_nas(torch.ones(3, 5), torch.tensor([0, 0, 1]), 10)
    with pytest.raises(UndefinedScore, match="do not depend on the input"):
        compute(small_nb201(ALL_NONE, 3), Batch(images(4, 3, 8, 8), LABELS), "epe_nas")


# Networks that are special


def test_network_whose_cells_give_zeros():
    network, given = small_nb201(ALL_NONE, 3), two_batches(images(4, 3, 8, 8).float())
    for name in ("snip", "grasp", "fisher", "plain", "grad_sign", "synflow"):
        assert compute(network, given, name) == 0
    assert compute(network, given, "grad_norm", norm="layers") == 0
    # Only the bias of the classifier has a gradient: the mean difference of the softmax of equal logits to the labels.
    difference = 1 / 3 - torch.bincount(LABELS) / 4
    assert compute(network, given, "grad_norm") == pytest.approx(float(difference.norm()), rel=1e-6)
    assert compute(network, given, "linear_regions") == 1
    for name in ("naswot", "zen", "zico", "ntk_condition", "epe_nas"):
        with pytest.raises(UndefinedScore):
            compute(network, given, name)


def test_networks_without_layers():
    network, given = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(12)), two_batches(images(4, 3, 2, 2).float())
    for name in ("snip", "grasp", "plain", "synflow"):
        with pytest.raises(UndefinedScore, match="no layer"):
            compute(network, given, name)
    for name in ("grad_sign", "zico", "l2_norm"):
        with pytest.raises(UndefinedScore, match="no layer with weights"):
            compute(network, given, name)
    with pytest.raises(UndefinedScore, match="depends on no layer"):
        compute(network, given, "fisher")


def test_networks_without_parameters():
    network, given = nn.Flatten(), two_batches(images(4, 3, 2, 2).float())
    for name in ("grad_norm", "snip", "grasp", "plain"):
        with pytest.raises(ValueError, match="no parameters that can be differentiated by"):
            compute(network, given, name)
    with pytest.raises(UndefinedScore, match="no weights"):
        compute(network, given, "ntk_condition")


@pytest.mark.parametrize("name", ["naswot", "linear_regions"])
def test_relu6_is_a_relu(name):
    inputs = images(4, 3, 6, 6)
    values = []
    for activation in (nn.ReLU(), nn.ReLU6(), nn.ReLU6(inplace=True)):
        network = chain(nn.Conv2d(3, 4, 3), activation, nn.Flatten(), nn.Linear(64, 3))
        values.append(compute(initialise(network), inputs, name))
    assert values == [values[0]] * 3


def test_fisher_of_tokens():
    """A linear layer of (images, tokens, channels) has its channels last."""
    network = initialise(nn.Sequential(nn.Linear(5, 4, bias=False), nn.Flatten(), nn.Linear(12, 3)).double())
    tokens = images(4, 3, 5)
    a = network[0](tokens).detach().requires_grad_()
    logits = network[2](a.flatten(1))
    logits.retain_grad()
    nn.functional.cross_entropy(logits, LABELS).backward()
    first, last = (x.detach() * x.grad for x in (a, logits))
    expected = 5 / 2 * first.sum(1).square().mean(0).sum() + 12 / 2 * last.square().mean(0).sum()
    assert compute(network, Batch(tokens, LABELS), "fisher") == pytest.approx(float(expected), rel=1e-10)


@pytest.mark.filterwarnings("ignore:There is a performance drop because we have not yet implemented the batching rule")
def test_attention_network():
    """Proxies that are defined for any layers give numbers for a transformer."""
    network = timm.create_model("vit_tiny_patch16_224", img_size=32, depth=1, num_classes=3)
    given = two_batches(images(4, 3, 32, 32).float())
    for name in ("grad_norm", "snip", "plain", "zico", "grad_sign", "epe_nas", "l2_norm", "ntk_condition"):
        assert math.isfinite(compute(network, given, name)), name
    with pytest.raises(UndefinedScore, match="no ReLU"):
        compute(network, given, "naswot")


# Labels


@pytest.mark.parametrize("name", WITH_LABELS)
def test_images_without_labels(name):
    assert PROXIES[name].info.needs_labels
    with pytest.raises(ValueError, match="labels of the images are not known; choose a source of images that has some"):
        compute(small_nb201(MIXED, 3), images(4, 3, 8, 8), name)


@pytest.mark.parametrize("name", WITHOUT_LABELS)
def test_labels_do_not_matter(name):
    assert not PROXIES[name].info.needs_labels
    network, x = small_nb201(MIXED, 3), images(4, 3, 8, 8)
    assert compute(network, x, name) == compute(network, Batch(x, LABELS), name)


@pytest.mark.parametrize("name", [n for n in WITH_LABELS if n != "epe_nas"])
def test_labels_beyond_the_classes(name):
    given = two_batches(images(4, 3, 8, 8), torch.tensor([0, 1, 7, 2]))
    with pytest.raises(
        ValueError, match=r"have a label 7, but the network returns 3 logits; choose other images, or a"
    ):
        compute(small_nb201(MIXED, 3), given, name)


@pytest.mark.parametrize("name", [n for n in WITH_LABELS if n != "epe_nas"])
def test_other_labels_give_another_score(name):
    network, x = small_nb201(MIXED, 3, 16), images(4, 3, 16, 16)
    assert compute(network, two_batches(x), name) != compute(network, two_batches(x, (LABELS + 1) % 3), name)


# Parameters


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"name": "grad_norm", "norm": "l1"}, r"grad_norm.norm='l1' is not known \(allowed: global, layers"),
        ({"name": "synflow", "log": 1}, r"synflow.log=1 is not allowed: give true or false"),
        ({"name": "synflow", "log": "yes"}, r"synflow.log='yes' is not allowed"),
        ({"name": "zen", "gamma": 0}, r"zen.gamma=0 is not allowed: give a number above 0"),
        ({"name": "zen", "gamma": -0.1}, r"zen.gamma=-0.1 is not allowed"),
        ({"name": "zen", "gamma": "0.1"}, r"zen.gamma='0.1' is not allowed"),
        ({"name": "zen", "gamma": True}, r"zen.gamma=True is not allowed"),
        ({"name": "zen", "gamma": math.inf}, r"zen.gamma=inf is not allowed"),
        ({"name": "zen", "gamma": math.nan}, r"zen.gamma=nan is not allowed"),
        ({"name": "zen", "variance": "sample"}, r"zen.variance='sample' is not known \(allowed: running, batch"),
        ({"name": "zico", "batches": 1}, r"zico.batches=1 is not allowed: give a whole number of at least 2"),
        ({"name": "zico", "batches": 2.0}, r"zico.batches=2.0 is not allowed"),
        ({"name": "zico", "batches": True}, r"zico.batches=True is not allowed"),
        ({"name": "zico", "batches": "2"}, r"zico.batches='2' is not allowed"),
        (
            {"name": "grad_sign", "batchnorm": "batch"},
            r"grad_sign.batchnorm='batch' is not allowed: .*sample or running",
        ),
        ({"name": "l2_norm", "batchnorm": "batch"}, r"l2_norm has no parameter 'batchnorm'"),
        ({"name": "zen", "gama": 1}, r"zen has no parameter 'gama'; did you mean 'gamma'\?"),
        (
            {"name": "synflow", "samples": 2},
            r"synflow has no parameter 'samples' ?.*\(its parameters: log, init, label\)",
        ),
    ],
)
def test_wrong_parameters(spec, message):
    with pytest.raises(ValueError, match=message):
        make_proxies([spec])


@pytest.mark.parametrize("name", [n for n in COMPANIONS if n not in ("zen", "synflow", "l2_norm")])
def test_wrong_behaviour_of_batch_norm(name):
    with pytest.raises(ValueError, match=r"batchnorm='layer' is not known \(allowed: sample, running, batch\)"):
        make_proxies([{"name": name, "batchnorm": "layer"}])


@pytest.mark.parametrize("name", COMPANIONS)
def test_records_make_the_same_proxy(name):
    (proxy,) = make_proxies([{"name": name, "label": "mine", "init": "keep"}])
    assert proxy.table_columns == ("mine",)
    record = proxy.record()
    assert record == {"name": name, "label": "mine", "init": "keep", **proxy.parameters()}
    assert make_proxies([record])[0].record() == record


# Labels of columns, and protocol


def score(specs, network=None, given=None, **options):
    network = network or small_nb201(MIXED, 3)
    scores = score_network(network, given or Batch(images(4, 3, 8, 8), LABELS), make_proxies(specs), **options)
    assert not scores.failed, scores.reasons
    return scores.values


def test_one_proxy_twice():
    values = score(["grad_norm", {"name": "grad_norm", "norm": "layers", "label": "by_layer"}, "l2_norm"])
    assert list(values) == ["grad_norm", "by_layer", "l2_norm"]
    assert values["by_layer"] != values["grad_norm"]
    assert values["grad_norm"] == score(["grad_norm"])["grad_norm"]
    assert values["by_layer"] == score([{"name": "grad_norm", "norm": "layers"}])["grad_norm"]


def test_time_of_one_proxy_twice():
    made = make_proxies(["snip", {"name": "snip", "label": "again"}])
    scores = score_network(small_nb201(MIXED, 3), Batch(images(4, 3, 8, 8), LABELS), made)
    assert set(scores.seconds) == {"snip", "again"}
    assert scores.values["snip"] == scores.values["again"]


@pytest.mark.parametrize(
    ("specs", "message"),
    [
        (["snip", "snip"], r"'snip' is given twice, or another proxy has the same column 'snip'; tell them apart with"),
        (["plain", {"name": "snip", "label": "plain"}], r"'snip' is given twice, or .* the same column 'plain'"),
        ([{"name": "snip", "label": "a"}, {"name": "fisher", "label": "a"}], r"the same column 'a'"),
        ([{"name": "snip", "label": "a b"}], r"snip: label='a b' is not allowed: letters, digits and _ only"),
        ([{"name": "snip", "label": ""}], r"snip: label='' is not allowed"),
        ([{"name": "snip", "label": 3}], r"snip: label=3 is not allowed"),
        ([{"name": "snip", "init": "xavier"}], r"snip: init='xavier' is not known \(allowed: .*keep"),
        ([{"name": "snip", "images": "random"}], r"snip: images='random' is not known \(allowed: images, data"),
        ([{"name": "snip", "samples": 0}], r"snip: samples=0 is not allowed: give a whole number of at least 1"),
        ([{"name": "snip", "samples": 2.5}], r"snip: samples=2.5 is not allowed"),
        ([{"name": "snip", "samples": True}], r"snip: samples=True is not allowed"),
        ([{"name": "l2_norm", "images": "data"}], r"l2_norm has no parameter 'images'"),
    ],
)
def test_wrong_labels_and_protocols(specs, message):
    with pytest.raises(ValueError, match=message) as error:
        make_proxies(specs)
    assert str(error.value).startswith("proxies: ")


@pytest.mark.parametrize("name", COMPANIONS)
def test_own_initialisation(name):
    """Every proxy's own, the one that is asked for, or the one that is set for all, in this order from the last."""
    network, x = small_nb201(MIXED, 3, 16), images(4, 3, 16, 16)
    network = network.double()
    given = Images(two_batches(x), two_batches(x)) if name != "naswot" else Batch(x)  # which takes 64 where it can
    own = PROXIES[name].info.init
    specs = [{"name": name, "label": f"{name}_{init}", "init": init} for init in ("kaiming_normal", "pytorch", "keep")]
    values = score([name, *specs], network, given)
    for init in ("kaiming_normal", "pytorch", "keep"):
        assert values[f"{name}_{init}"] == compute(network, two_batches(x), name, init=init)
    assert values[name] == compute(network, two_batches(x), name, init=own)
    if name != "linear_regions":
        assert len(set(values.values())) == (4 if own == "gaussian" else 3)
    assert score([name], network, given, init="keep")[name] == values[f"{name}_keep"]


def test_source_of_the_images():
    x, y = images(4, 3, 8, 8), images(4, 3, 8, 8, seed=1)
    given = Images(images=two_batches(x), data=two_batches(y))
    specs = [
        *("grad_norm", "snip"),
        {"name": "grad_norm", "images": "data", "label": "grad_norm_data"},
        {"name": "snip", "images": "images", "label": "snip_images"},
    ]
    values = score(specs, given=given, init="keep")
    network = small_nb201(MIXED, 3)
    for column, name, inputs in (
        ("grad_norm", "grad_norm", x),
        ("snip", "snip", y),
        ("grad_norm_data", "grad_norm", y),
        ("snip_images", "snip", x),
    ):
        assert values[column] == compute(network, Batch(inputs.float(), LABELS), name)


@pytest.mark.parametrize("name", [n for n in COMPANIONS if n not in ("synflow", "l2_norm")])
def test_samples(name):
    """The first of every batch."""
    network, x, y = small_nb201(MIXED, 3, 16).double(), images(6, 3, 16, 16), images(6, 3, 16, 16, seed=1)
    labels = torch.tensor([0, 1, 1, 0, 2, 2])
    few = score([{"name": name, "samples": 3}], network, Images(*[two_batches(x, labels, y)] * 2), init="keep")[name]
    if name != "zen":  # draws its noise for all images at once, so that more would change it
        assert few == compute(network, two_batches(x[:3], labels[:3], y[:3]), name)
    assert few == compute(network, two_batches(x, labels, y), name, samples=3)


def test_more_samples_than_images():
    given, message = Batch(images(4, 3, 8, 8), LABELS), "samples=5 is more than the 4 images of the batch"
    with pytest.raises(ValueError, match=message):
        compute(small_nb201(MIXED, 3), given, "snip", samples=5)


# Sharing


class Calls(TorchFunctionMode):
    """Counts convolutions."""

    def __init__(self):
        super().__init__()
        self.convolutions = 0

    def __torch_function__(self, func, types, args=(), kwargs=None):
        self.convolutions += func is nn.functional.conv2d or func is torch.conv2d
        return func(*args, **(kwargs or {}))


def test_proxies_share_the_forward_pass():
    network, given = small_nb201(MIXED, 3), Batch(images(4, 3, 8, 8), LABELS)
    shared = ["grad_norm", "snip", "fisher", "plain", "naswot", "linear_regions", "epe_nas", "ntk_condition"]
    with Calls() as one, borrow(network, given, init="keep") as borrowed:
        alone = make_proxies(["snip"])[0].compute(borrowed)
    with Calls() as all_of_them, borrow(network, given, init="keep") as borrowed:
        values = [proxy.compute(borrowed) for proxy in make_proxies(shared)]
    assert one.convolutions == all_of_them.convolutions > 0
    assert values[1] == alone


@pytest.mark.parametrize("batchnorm", ["batch", "sample", "running"])
def test_values_do_not_depend_on_the_order(batchnorm):
    """No proxy leaves a trace that another one sees."""
    network, given = small_nb201(MIXED, 3, 16), two_batches(images(4, 3, 16, 16))
    names = [n for n in COMPANIONS if n not in ("zen", "synflow", "l2_norm")]
    specs = [{"name": n, "batchnorm": "running" if n == "grad_sign" else batchnorm} for n in names]
    runs = []
    for order in (specs, specs[::-1]):
        with borrow(network, given, init="keep") as borrowed:
            runs.append({spec["name"]: make_proxies([spec])[0].compute(borrowed)[spec["name"]] for spec in order})
    assert runs[0] == runs[1]


def test_naswot_takes_64_real_images_whatever_the_batch():
    network = small_nb201(MIXED, 5)
    random, real = two_batches(images(4, 3, 8, 8).float()), batches("digits", 24, (3, 8, 8), 3)
    joined = torch.cat([real(i).images for i in range(3)])[:64]
    got = score_network(network, Images(random, real), make_proxies(["naswot"]), init="keep").values["naswot"]
    assert got == pytest.approx(compute(network, joined, "naswot"), rel=1e-9)
    few = make_proxies([{"name": "naswot", "samples": 16, "images": "data"}])
    got = score_network(network, Images(random, real), few, init="keep").values["naswot"]
    assert got == pytest.approx(compute(network, joined[:16], "naswot"), rel=1e-9)
