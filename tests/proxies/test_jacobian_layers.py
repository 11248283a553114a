"""Derivatives with respect to the scalars of single layers, in every variant of them."""

import warnings

import pytest
import torch
import torch.nn.functional as F
from proxy_reference import all_scalars, images, lend, reference_jacobian, relative_error
from torch import nn

from vkdnw_pl.proxies.functional.batchnorm import sample_norm, sample_norm_composite
from vkdnw_pl.proxies.functional.jacobian import GenericFallback, jacobian
from vkdnw_pl.proxies.functional.pooling import avg_pool2d
from vkdnw_pl.proxies.functional.scalars import Scalar, layer_weights
from vkdnw_pl.spaces import SPACES


class Pooled(nn.Module):
    """A layer under test between smooth layers, then the mean over positions and a linear head."""

    def __init__(self, layer, in_channels=4, out_channels=4, dims=2, head_bias=True):
        super().__init__()
        torch.manual_seed(1)
        conv = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[dims - 1]
        self.first = conv(3, in_channels, 3, padding=1)
        self.layer = layer
        self.last = conv(out_channels, 5, 1)
        self.head = nn.Linear(5, 3, bias=head_bias)

    def forward(self, x):
        x = torch.tanh(self.first(x))
        x = F.silu(self.layer(x))
        return self.head(torch.sigmoid(self.last(x)).flatten(2).mean(2))


def randomised(network):
    """No parameter or buffer at a special value."""
    torch.manual_seed(2)
    for name, tensor in network.state_dict().items():
        if tensor.is_floating_point():
            tensor.copy_(
                torch.rand(tensor.shape) + 0.5 if name.endswith("running_var") else torch.randn(tensor.shape) / 2
            )
    return network


def check(network, inputs, batchnorm="running", engines=("reverse", "forward"), scalars=None, fallback=False):
    network = randomised(network).double()
    scalars = all_scalars(network, "all", per_tensor=7) if scalars is None else scalars
    jac, logits = reference_jacobian(network, inputs, scalars, batchnorm)
    assert jac.abs().amax((0, 1)).count_nonzero() > 0.9 * len(scalars)
    for engine in engines:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore" if fallback else "error", GenericFallback)
            result = jacobian(lend(network, torch.float64), inputs, scalars, batchnorm, engine)
        assert result.engine == ("generic" if fallback else engine)
        assert relative_error(result.logits_BC, logits) < 1e-12
        assert relative_error(result.jac_BCP, jac) < 1e-12, engine


CONV2D = {
    "kernel 1": {"kernel_size": 1},
    "kernel 3, no padding": {"kernel_size": 3},
    "padding": {"kernel_size": 3, "padding": 1},
    "wide padding": {"kernel_size": 3, "padding": 4},
    "unequal padding": {"kernel_size": (3, 1), "padding": (2, 0)},
    "same": {"kernel_size": 3, "padding": "same"},
    "same, even kernel": {"kernel_size": 4, "padding": "same"},
    "same, even kernel, dilated": {"kernel_size": (2, 4), "padding": "same", "dilation": (3, 1)},
    "valid": {"kernel_size": 3, "padding": "valid"},
    "reflect": {"kernel_size": 3, "padding": 1, "padding_mode": "reflect"},
    "circular": {"kernel_size": 5, "padding": 2, "padding_mode": "circular"},
    "same, replicate": {"kernel_size": 4, "padding": "same", "padding_mode": "replicate"},
    "stride": {"kernel_size": 3, "stride": 2},
    "stride, padding": {"kernel_size": 3, "stride": 2, "padding": 1},
    "stride larger than the kernel": {"kernel_size": 2, "stride": 3},
    "unequal stride": {"kernel_size": 3, "stride": (1, 3), "padding": (0, 1)},
    "dilation": {"kernel_size": 3, "dilation": 2},
    "dilation, stride, padding": {"kernel_size": 3, "dilation": (2, 3), "stride": (2, 1), "padding": (1, 2)},
    "groups": {"kernel_size": 3, "groups": 2},
    "depthwise": {"kernel_size": 3, "groups": 4, "padding": 1},
    "depthwise, stride, dilation": {"kernel_size": 3, "groups": 4, "stride": 2, "dilation": 2, "padding": 2},
    "no bias": {"kernel_size": 3, "bias": False},
}


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")
@pytest.mark.parametrize("batchnorm", ["running", "batch"])
@pytest.mark.parametrize("variant", CONV2D)
def test_conv2d(variant, batchnorm):
    network = Pooled(nn.Conv2d(4, 8, **CONV2D[variant]), out_channels=8)
    engines = ("reverse", "forward") if batchnorm == "running" else ("forward",)
    check(network, images(3, 3, 9, 8), batchnorm, engines)


def test_conv2d_every_entry_of_the_weight():
    network = Pooled(nn.Conv2d(4, 4, (2, 3), stride=(2, 1), padding=(1, 0), dilation=(1, 2), groups=2))
    scalars = [Scalar("layer.weight", i) for i in range(network.layer.weight.numel())]
    check(network, images(2, 3, 7, 6), scalars=scalars)


def test_a_tap_that_sees_padding_only_has_derivative_zero():
    network = Pooled(nn.Conv2d(4, 4, 3, padding=1), out_channels=4).double()
    scalars = [Scalar("layer.weight", 0), Scalar("layer.weight", 4)]
    inputs = images(2, 3, 1, 1)
    jac, _ = reference_jacobian(network, inputs, scalars, "running")
    for engine in ("reverse", "forward"):
        got = jacobian(lend(network, torch.float64), inputs, scalars, "running", engine).jac_BCP
        assert relative_error(got, jac) < 1e-12
        assert not got[..., 0].any()


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv1d(4, 4, 3, stride=2, padding=1, dilation=2),
        nn.Conv1d(4, 4, 4, padding="same", groups=2),
        nn.Conv1d(4, 4, 3, padding=1, padding_mode="reflect"),
    ],
)
def test_conv1d(layer):
    check(Pooled(layer, dims=1), images(3, 3, 11))


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv3d(4, 4, 3, stride=(1, 2, 1), padding=(1, 0, 2)),
        nn.Conv3d(4, 4, (1, 2, 3), dilation=(1, 2, 1), groups=4, padding="same"),
    ],
)
def test_conv3d(layer):
    check(Pooled(layer, dims=3), images(2, 3, 4, 5, 6))


def test_functional_calls_with_keywords_and_short_arguments():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.head = nn.Conv2d(3, 4, 3), nn.Linear(4, 3)

        def forward(self, x):
            x = F.conv2d(input=x, weight=self.conv.weight, stride=(2,), padding=1, bias=self.conv.bias)
            x = F.avg_pool2d(input=torch.tanh(x), kernel_size=2)
            return F.linear(bias=self.head.bias, weight=self.head.weight, input=x.mean((2, 3)))

    check(Net(), images(3, 3, 8, 8))


class Tokens(nn.Module):
    def __init__(self, norm):
        super().__init__()
        self.embed, self.norm, self.mix, self.head = nn.Linear(3, 8), norm, nn.Linear(8, 8), nn.Linear(8, 4)

    def forward(self, x):
        x = self.embed(x)
        return self.head(F.gelu(self.mix(self.norm(x)) + x).mean(1))


@pytest.mark.parametrize("norm", [nn.LayerNorm(8), nn.LayerNorm(8, elementwise_affine=False), nn.Identity()])
def test_linear_layers_over_tokens(norm):
    check(Tokens(norm), images(3, 6, 3))


def test_linear_layers_over_two_token_dimensions():
    class Grid(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.norm, self.b, self.head = nn.Linear(3, 6), nn.LayerNorm(6), nn.Linear(6, 5), nn.Linear(5, 4)

        def forward(self, x):
            return self.head(torch.tanh(self.b(self.norm(self.a(x.permute(0, 2, 3, 1))))).mean((1, 2)))

    check(Grid(), images(3, 3, 4, 5))


def test_plain_mlp_with_batch_norm_of_vectors():
    network = nn.Sequential(nn.Linear(6, 9), nn.BatchNorm1d(9), nn.Tanh(), nn.Linear(9, 9), nn.SiLU(), nn.Linear(9, 4))
    check(network, images(4, 6), "running")
    check(network, images(4, 6), "batch", ("forward", "generic"))


@pytest.mark.parametrize(
    ("batchnorm", "engines"),
    [("running", ("reverse", "forward")), ("sample", ("reverse", "forward")), ("batch", ("forward",))],
)
@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("dims", [1, 2, 3])
def test_batch_norm_weights_and_biases(dims, affine, batchnorm, engines):
    norm = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)[dims - 1](4, affine=affine, eps=1e-2)
    check(Pooled(norm, dims=dims), images(3, 3, *(5, 4, 3)[:dims]), batchnorm, (*engines, "generic"))


def test_batch_norm_without_running_statistics():
    network = Pooled(nn.BatchNorm2d(4, track_running_stats=False))
    check(network, images(3, 3, 5, 4), "sample", ("reverse", "forward", "generic"))
    check(network, images(3, 3, 5, 4), "batch", ("forward", "generic"))


def test_sample_normalises_inputs_without_positions_by_running_statistics():
    """One value per channel has no statistics of its own."""
    network = Pooled(nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.BatchNorm2d(4)))
    randomised(network).double()
    scalars = all_scalars(network, "all")
    jac, _ = reference_jacobian(network, images(3, 3, 5, 4), scalars, "running")
    for engine in ("reverse", "forward", "generic"):
        got = jacobian(lend(network, torch.float64), images(3, 3, 5, 4), scalars, "sample", engine)
        assert relative_error(got.jac_BCP, jac) < 1e-12


@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("shape", [(2, 3, 5), (2, 3, 5, 4)])
def test_sample_norm_has_the_derivatives_of_its_definition(affine, shape):
    x = images(*shape)
    weight, bias = (images(3, seed=seed).requires_grad_() if affine else None for seed in (2, 3))
    wanted, got = [], []
    for norm, values in ((sample_norm_composite, wanted), (sample_norm, got)):
        leaves = [x.clone().requires_grad_(), *([weight, bias] if affine else [])]
        out = norm(leaves[0], weight, bias, 1e-5)
        values += [out, *torch.autograd.grad((out * images(*shape, seed=4)).sum(), leaves)]
    assert max(relative_error(a, b) for a, b in zip(got, wanted, strict=True)) < 1e-12


@pytest.mark.parametrize("settings", [(3, 1, 1, False, False), (2, 2), ((3, 2), (2, 1), (1, 0)), (3, 1, 1, True, True)])
def test_average_pooling_by_convolution(settings):
    x = images(8, 16, 32, 32).float().contiguous(memory_format=torch.channels_last)
    wanted, got = [], []
    for pool, values in ((F.avg_pool2d, wanted), (avg_pool2d, got)):
        leaf = x.clone().requires_grad_()
        out = pool(leaf, *settings)
        values += [out, torch.autograd.grad(out.square().sum(), leaf)[0]]
    assert max(relative_error(a, b) for a, b in zip(got, wanted, strict=True)) < 1e-6
    assert got[0].is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("norm", [nn.GroupNorm(2, 4), nn.GroupNorm(4, 4), nn.GroupNorm(1, 4, affine=False)])
def test_group_norm_weights_and_biases(norm):
    check(Pooled(norm), images(3, 3, 5, 4))


@pytest.mark.parametrize("layer", [nn.LayerNorm((4, 5, 4)), nn.InstanceNorm2d(4, affine=True), nn.PReLU(4)])
def test_other_parameters_fall_back(layer):
    """Weights that are neither of a convolution, a linear layer nor a norm over channels."""
    check(Pooled(layer), images(3, 3, 5, 4), fallback=True)


def test_other_layers_do_not_disturb_where_their_parameters_are_not_asked_for():
    network = Pooled(nn.Sequential(nn.LayerNorm((4, 5, 4)), nn.PReLU(4), nn.InstanceNorm2d(4, affine=True)))
    check(network, images(3, 3, 5, 4), scalars=[*all_scalars(network, "weights", 3)[:1], Scalar("last.weight", 3)])


def test_columns_stand_in_the_order_asked_for():
    network = Pooled(nn.Conv2d(4, 4, 3))
    scalars = all_scalars(network, "all", 3)
    shuffled = [scalars[i] for i in torch.randperm(len(scalars)).tolist()] + scalars[:2]
    check(network, images(2, 3, 6, 6), scalars=shuffled)


def test_head_with_more_classes_than_features():
    """Reverse mode goes through the features then; a bias-free head and a head of which every entry is asked for."""
    for bias in (True, False):
        network = Pooled(nn.Conv2d(4, 4, 3), head_bias=bias)
        network.head = nn.Linear(5, 40, bias=bias)
        scalars = all_scalars(network, "all", 2) + [Scalar("head.weight", i) for i in range(200)]
        jac, _ = reference_jacobian(network.double(), images(2, 3, 6, 6), scalars, "running")
        for engine in ("reverse", "forward"):
            got = jacobian(lend(network, torch.float64), images(2, 3, 6, 6), scalars, "running", engine)
            assert got.fallback is None
            assert relative_error(got.jac_BCP, jac) < 1e-12


def test_only_scalars_of_the_head():
    network = Pooled(nn.Conv2d(4, 4, 3))
    check(network, images(2, 3, 6, 6), scalars=[Scalar("head.weight", 3), Scalar("head.bias", 1)])


def test_no_scalars():
    network = lend(Pooled(nn.Conv2d(4, 4, 3)), torch.float64)
    for engine in ("reverse", "forward", "generic", "auto"):
        result = jacobian(network, images(2, 3, 6, 6), [], "running", engine)
        assert result.jac_BCP.shape == (2, 3, 0)
        assert torch.allclose(result.logits_BC, network(images(2, 3, 6, 6)))


def test_a_parameter_that_the_network_never_uses():
    network = Pooled(nn.Conv2d(4, 4, 3)).double()
    network.idle = nn.Linear(3, 3).double()
    scalars = [Scalar("idle.weight", 2), Scalar("layer.weight", 5)]
    jac, _ = reference_jacobian(network, images(2, 3, 6, 6), scalars, "running")
    for engine in ("reverse", "forward", "generic"):
        result = jacobian(lend(network, torch.float64), images(2, 3, 6, 6), scalars, "running", engine)
        assert relative_error(result.jac_BCP, jac) < 1e-12
        assert not result.jac_BCP[..., 0].any()


def test_only_a_parameter_that_is_never_used():
    class Constant(nn.Module):
        def __init__(self):
            super().__init__()
            self.idle = nn.Linear(3, 3)

        def forward(self, x):
            return x

    network = lend(Constant(), torch.float64)
    for engine in ("reverse", "forward", "generic", "auto"):
        result = jacobian(network, images(2, 3), [Scalar("idle.weight", 0)], "running", engine)
        assert result.jac_BCP.shape == (2, 3, 1)
        assert not result.jac_BCP.any()


def test_layers_that_run_in_another_order_than_their_parameters_stand_in():
    network = SPACES["pit"].build("16|2|1-6-6|2-2-2", image_size=32, num_classes=3).double()
    scalars = [Scalar(name, index) for name in layer_weights(network) for index in (0, 7)]
    check(network.eval(), images(2, 3, 32, 32, seed=3).double(), scalars=scalars)
