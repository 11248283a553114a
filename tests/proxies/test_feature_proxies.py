"""Jacov, expressivity, progressivity and trainability against slow references, and where the answer is known."""

import copy
import math

import numpy as np
import pytest
import timm
import torch
import torch.nn.functional as F
from proxy_reference import ALL_CONVS, ALL_NONE, FEW_CONVS, IDENTITY, MIXED, images, small_nb201
from torch import nn

from vkdnw_pl.proxies import UndefinedScore, make_proxies
from vkdnw_pl.proxies.az_nas import block_trainability
from vkdnw_pl.proxies.borrow import borrow
from vkdnw_pl.proxies.functional.fisher import feature_entropy
from vkdnw_pl.proxies.similarity import jacov

BEHAVIOURS = ("batch", "sample", "running")


def compute(network, inputs, name, init="keep", **options):
    (proxy,) = make_proxies([{"name": name, **options}])
    with borrow(network, inputs, 1, init) as borrowed:
        return proxy.compute(borrowed)[name]


def passes(network, inputs, batchnorm):
    """Input, stages and logits of a plain forward pass; for ``sample`` a list of passes, one for each sample."""
    network = copy.deepcopy(network).double().requires_grad_(False).eval()
    for module in network.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and batchnorm != "running":
            module.train()
    found = []
    for part in inputs.split(1 if batchnorm == "sample" else len(inputs)):
        stages = []
        hooks = [
            m.register_forward_hook(lambda _m, _i, out, stages=stages: stages.append(out))
            for m in [network.stem, *network.blocks]
        ]
        x = part.clone().requires_grad_()
        found.append((x, stages, network(x)))
        for hook in hooks:
            hook.remove()
    return found


def maps(network, inputs, batchnorm):
    """Stages of the whole batch."""
    return [
        torch.cat(stage).detach().numpy()
        for stage in zip(*(stages for _, stages, _ in passes(network, inputs, batchnorm)))
    ]


@pytest.mark.parametrize("batchnorm", BEHAVIOURS)
@pytest.mark.parametrize("arch", [FEW_CONVS, MIXED, ALL_CONVS])
def test_jacov(arch, batchnorm):
    network, inputs = small_nb201(arch, 5).double(), images(6, 3, 8, 8)
    rows = []
    for x, _, logits in passes(network, inputs, batchnorm):
        rows += torch.autograd.grad(logits.sum(), x)[0].flatten(1).tolist()
    v = np.linalg.eigvalsh(np.corrcoef(rows))
    expected = -np.sum(np.log(v + 1e-5) + 1 / (v + 1e-5))
    assert compute(network, inputs, "jacov", batchnorm=batchnorm) == pytest.approx(expected, rel=1e-9)


def entropy_of_map(feature):
    """Covariance by loops over samples and positions."""
    rows = np.array([feature[b, :, i, j] for b, i, j in np.ndindex(feature.shape[0], *feature.shape[2:])])
    centred = rows - rows.mean(0)
    covariance = sum(np.outer(row, row) for row in centred) / len(rows)
    s = np.linalg.eigvalsh(covariance)
    share = s / s.sum()
    return -np.sum(share * np.log(share + 1e-8))


@pytest.mark.parametrize("batchnorm", BEHAVIOURS)
@pytest.mark.parametrize("arch", [FEW_CONVS, MIXED, ALL_CONVS])
def test_expressivity_and_progressivity(arch, batchnorm):
    network, inputs = small_nb201(arch, 5).double(), images(3, 3, 8, 8)
    entropies = [entropy_of_map(stage) for stage in maps(network, inputs, batchnorm)]
    assert len(entropies) == 6
    got = {name: compute(network, inputs, name, batchnorm=batchnorm) for name in ("expressivity", "progressivity")}
    assert got["expressivity"] == pytest.approx(sum(entropies), rel=1e-9)
    assert got["progressivity"] == pytest.approx(min(np.diff(entropies)), rel=1e-9)


def trainability_of_block(before, after, signs):
    g_in = torch.autograd.grad(after, before, signs, retain_graph=True)[0]
    stride = before.shape[2] // after.shape[2]
    matrix = np.zeros((before.shape[1] * stride**2, after.shape[1]))
    for b, i, j in np.ndindex(len(after), *after.shape[2:]):
        window = g_in[b, :, i * stride : (i + 1) * stride, j * stride : (j + 1) * stride]
        matrix += np.outer(window.flatten().numpy(), signs[b, :, i, j].numpy())
    sigma = np.linalg.svd(matrix / (len(after) * after.shape[2] * after.shape[3]), compute_uv=False)[0]
    return -sigma - 1 / (sigma + 1e-6) + 2


@pytest.mark.parametrize("batchnorm", ["batch", "running"])
@pytest.mark.parametrize("arch", [FEW_CONVS, MIXED])
def test_trainability(arch, batchnorm):
    network, inputs = small_nb201(arch, 5).double(), images(3, 3, 8, 8)
    ((_, stages, _),) = passes(network, inputs, batchnorm)
    with borrow(network, inputs, 1, "keep") as borrowed:
        generator = borrowed.generator("trainability")
    values = []
    for before, after in zip(stages[-2::-1], stages[:0:-1], strict=True):
        signs = torch.randint(0, 2, after.shape, generator=generator).double() * 2 - 1
        values.append(trainability_of_block(before, after, signs))
    assert len(values) == 5
    assert compute(network, inputs, "trainability", batchnorm=batchnorm) == pytest.approx(np.mean(values), rel=1e-9)


# Jacov where the answer is known


def score_of(eigenvalues):
    return -sum(math.log(v + 1e-5) + 1 / (v + 1e-5) for v in eigenvalues)


def test_jacov_of_uncorrelated_and_of_equal_gradients():
    rows = torch.linalg.qr(images(20, 20) - images(20, 20).mean(1, keepdim=True)).Q
    rows = torch.linalg.qr(torch.cat([torch.ones(20, 1, dtype=torch.float64), rows[:, :5]], 1)).Q[:, 1:].T
    assert jacov(rows) == pytest.approx(score_of([1.0] * 5), rel=1e-9)
    same = images(1, 30).expand(4, -1) * torch.tensor([[1.0], [2.0], [0.5], [3.0]]) + 1
    assert jacov(same) == pytest.approx(score_of([4.0, 0, 0, 0]), rel=1e-6)
    assert jacov(images(1, 30)) == pytest.approx(score_of([1.0]))


def test_jacov_does_not_see_scale_shift_and_order_of_the_gradients():
    grad = images(5, 30)
    scaled = grad.flip(0) * torch.rand(5, 1) * 10 + torch.rand(5, 1)
    assert jacov(scaled) == pytest.approx(jacov(grad), rel=1e-10)
    assert jacov(grad.float()) == pytest.approx(jacov(grad), rel=1e-5)


@pytest.mark.parametrize("value", [0.0, 0.1, -3e4])
def test_jacov_of_a_constant_gradient(value):
    grad = images(3, 107).float()
    grad[1] = value
    with pytest.raises(UndefinedScore, match="constant"):
        jacov(grad)


def test_jacov_of_a_gradient_that_is_not_finite():
    grad = images(3, 10)
    grad[1, 2] = float("inf")
    with pytest.raises(FloatingPointError, match="not finite"):
        jacov(grad)


@pytest.mark.parametrize("batchnorm", BEHAVIOURS)
def test_network_that_ignores_its_input(batchnorm):
    network, inputs = small_nb201(ALL_NONE, 5), images(3, 3, 8, 8).float()
    with pytest.raises(UndefinedScore, match="do not depend on the input"):
        compute(network, inputs, "jacov", batchnorm=batchnorm)
    for name in ("expressivity", "progressivity"):
        with pytest.raises(UndefinedScore, match="constant"):
            compute(network, inputs, name, batchnorm=batchnorm)
    # Three cells pull nothing back, two reductions do.
    value = compute(network, inputs, "trainability", batchnorm=batchnorm)
    assert value == pytest.approx(3 / 5 * -999_998, abs=10)


# Entropy of a feature map


def whitened(samples, channels, size):
    x = images(samples * size * size, channels)
    return torch.linalg.qr(x - x.mean(0)).Q.reshape(samples, size, size, channels).permute(0, 3, 1, 2)


def test_entropy_of_white_and_of_rank_one_maps():
    white = whitened(3, 6, 4)
    assert feature_entropy(white) == pytest.approx(math.log(6), abs=1e-6)
    assert feature_entropy(white[:, :1] * torch.arange(1, 7).view(1, 6, 1, 1)) == pytest.approx(0, abs=1e-6)
    assert feature_entropy(white[:, :1]) == pytest.approx(0, abs=1e-6)
    half = torch.cat([white[:, :3], torch.zeros_like(white[:, :3])], 1)
    assert feature_entropy(half) == pytest.approx(math.log(3), abs=1e-6)


def test_entropy_does_not_see_scale_shift_rotation_and_order():
    x = images(3, 6, 4, 4)
    expected = feature_entropy(x)
    rotation = torch.linalg.qr(images(6, 6, seed=1)).Q
    for other in (
        5 * x,
        x + torch.arange(6).view(1, 6, 1, 1),
        torch.einsum("cd,bdhw->bchw", rotation, x),
        x.flip(0, 1, 2),
    ):
        assert feature_entropy(other) == pytest.approx(expected, rel=1e-10)
    assert feature_entropy(x.float().contiguous(memory_format=torch.channels_last)) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("value", [0.0, 0.1, 1e-30])
def test_entropy_of_a_constant_map(value):
    with pytest.raises(UndefinedScore, match="constant"):
        feature_entropy(torch.full((3, 5, 7, 7), value) * torch.arange(1, 6).view(1, 5, 1, 1))


def test_entropy_of_one_position_in_one_sample():
    with pytest.raises(UndefinedScore):
        feature_entropy(images(1, 5, 1, 1))


# Trainability of a block


def signs_like(x):
    return torch.randint(0, 2, x.shape, generator=torch.Generator().manual_seed(0)).to(x) * 2 - 1


@pytest.mark.parametrize("factor", [0.25, 1.5, -1.0, 40.0])
def test_block_that_scales_one_channel(factor):
    before = images(2, 1, 6, 6).requires_grad_()
    after = before * factor
    expected = 2 - abs(factor) - 1 / (abs(factor) + 1e-6)
    assert block_trainability(before, after, signs_like(after)) == pytest.approx(expected, rel=1e-12, abs=1e-5)


def test_best_block():
    """Zero is the best: signs that come back with the same size."""
    before = images(2, 1, 6, 6).requires_grad_()
    assert block_trainability(before, -before, signs_like(before)) == pytest.approx(0, abs=1e-5)


def test_block_that_averages_a_window():
    """Each of four pixels gets a quarter: four entries of 1/4, norm 1/2."""
    before = images(2, 1, 6, 6).requires_grad_()
    after = F.avg_pool2d(before, 2)
    assert block_trainability(before, after, signs_like(after)) == pytest.approx(2 - 0.5 - 2, rel=1e-5)


def test_block_that_is_the_identity():
    before = images(2, 3, 6, 6).requires_grad_()
    with pytest.raises(UndefinedScore, match="identity"):
        block_trainability(before, before + 0.0, signs_like(before))
    with pytest.raises(UndefinedScore, match="identity"):
        compute(small_nb201(IDENTITY), images(2, 3, 8, 8).float(), "trainability")


@pytest.mark.parametrize("connected", [True, False])
def test_block_that_passes_nothing(connected):
    before = images(2, 3, 6, 6).requires_grad_()
    after = before * 0 if connected else torch.zeros(2, 3, 6, 6)
    assert block_trainability(before, after, signs_like(before)) == pytest.approx(-999_998)


@pytest.mark.parametrize("size", [(3, 3), (4, 4), (7, 3), (14, 14)])
def test_block_without_a_whole_stride(size):
    before = images(2, 1, 7, 7).requires_grad_()
    after = F.interpolate(before, size=size)
    with pytest.raises(ValueError, match=r"maps height and width \(7, 7\) to .*choose another input size"):
        block_trainability(before, after, signs_like(after))


# Where the features are read


def test_taps_of_a_timm_network():
    resnet = timm.create_model("resnet18", num_classes=5)
    shapes = [(2, 64, 32, 32), (2, 64, 16, 16), (2, 128, 8, 8), (2, 256, 4, 4), (2, 512, 2, 2)]
    with borrow(resnet, images(2, 3, 64, 64).float()) as borrowed:
        assert [tuple(tap.shape) for tap in borrowed.taps("batch")] == shapes
        # Tapped behind a forward pass that was made for others.
        assert [tuple(tap.shape) for tap in borrowed.taps("batch", "stages")] == shapes


FEATURES = ("expressivity", "progressivity", "trainability")


@pytest.mark.parametrize("name", FEATURES)
def test_own_module_without_named_maps(name):
    """The stem and the last map of every resolution; the same as where they are named."""
    network = nn.Sequential(
        *(nn.Conv2d(3, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU(), nn.Conv2d(6, 8, 3, 2, padding=1), nn.ReLU()),
        *(nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()),
        nn.Linear(8, 3),
    ).double()
    inputs = images(4, 3, 8, 8)
    value = compute(network, inputs, name)
    network.feature_taps = ["2", "7"]
    assert value == compute(network, inputs, name)
    network.feature_taps = ["0", "4"]
    assert value != compute(network, inputs, name)
    assert value == compute(network, inputs, name, taps="stages")


def test_forward_pass_of_several_rules():
    """One borrowed network for proxies that look elsewhere, behind one that looks nowhere."""
    network, inputs = small_nb201(MIXED).double(), images(4, 3, 8, 8)
    stages = {"name": "expressivity", "label": "stages", "taps": "stages"}
    proxies = make_proxies(["jacov", stages, "expressivity", "trainability"])
    alone = [compute(network, inputs, "jacov"), compute(network, inputs, "expressivity", taps="stages")]
    alone += [compute(network, inputs, "expressivity"), compute(network, inputs, "trainability")]
    with borrow(network, inputs, 1, "keep") as borrowed:
        assert [proxy.compute(borrowed)[proxy.name] for proxy in proxies] == alone
    assert proxies[1].record()["taps"] == "stages"
    assert proxies[2].record()["taps"] == "own"
    with pytest.raises(ValueError, match=r"expressivity\.taps='stage' is not known; did you mean 'stages'"):
        make_proxies([{**stages, "taps": "stage"}])


class ChannelsLast(nn.Module):
    """Two layers on (B, H, W, C), as timm's Swin."""

    output_fmt = "NHWC"
    feature_taps = ("one", "two")

    def __init__(self):
        super().__init__()
        self.one, self.two, self.classifier = nn.Linear(3, 4), nn.Linear(4, 6), nn.Linear(6, 2)

    def forward(self, x):
        return self.classifier(self.two(torch.tanh(self.one(x.movedim(1, -1)))).mean((1, 2)))


class ChannelsFirst(ChannelsLast):
    output_fmt = "NCHW"

    def __init__(self):
        super().__init__()
        self.one, self.two = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 6, 1)

    def forward(self, x):
        return self.classifier(self.two(torch.tanh(self.one(x))).mean((2, 3)))


@pytest.mark.parametrize("name", FEATURES)
def test_channels_last(name):
    last, first = ChannelsLast().double(), ChannelsFirst().double()
    with torch.no_grad():
        for name_, parameter in first.named_parameters():
            parameter.copy_(last.get_parameter(name_).reshape(parameter.shape))
    inputs = images(4, 3, 5, 7)
    assert compute(last, inputs, name) == pytest.approx(compute(first, inputs, name), rel=1e-12)


@pytest.mark.parametrize("name", FEATURES)
def test_networks_without_feature_maps(name):
    plain = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(16, 3))
    if name == "expressivity":
        assert math.isfinite(compute(plain, images(2, 3, 4, 4).float(), name))
    else:
        with pytest.raises(UndefinedScore, match="has one feature map, and the definition compares two"):
            compute(plain, images(2, 3, 4, 4).float(), name)
    plain.feature_taps = ("0", "2")
    with pytest.raises(ValueError, match=r"feature maps must be \(batch, channels, height, width\).*\(2, 3\)"):
        compute(plain, images(2, 3, 4, 4).float(), name)
    mlp = nn.Sequential(nn.Flatten(), nn.Linear(48, 3))
    with pytest.raises(
        ValueError, match=r"no module of the network returns a feature map .* an attribute feature_taps"
    ):
        compute(mlp, images(2, 3, 4, 4).float(), name)
    vit = timm.create_model("vit_tiny_patch16_224", img_size=32, depth=2, num_classes=3)
    with pytest.raises(ValueError, match=r"feature maps must be .*\(2, 5, 192\)"):
        compute(vit, images(2, 3, 32, 32).float(), name)
