"""What the fast engines are not exact for goes to the generic one and says so; ordinary networks do not."""

import warnings

import pytest
import timm
import torch
import torch.nn.functional as F
import torchvision
from proxy_reference import all_scalars, images, lend, reference_jacobian, relative_error
from torch import nn

from vkdnw_pl.proxies.functional.jacobian import GenericFallback, jacobian


class Net(nn.Module):
    """A network whose forward pass is given as a function of (network, images)."""

    def __init__(self, run, **modules):
        super().__init__()
        torch.manual_seed(3)
        self.a, self.b, self.head = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1), nn.Linear(4, 3)
        self.run = run
        for name, module in modules.items():
            setattr(self, name, module)

    def forward(self, x):
        return self.run(self, x)


def end(net, x):
    return net.head(F.silu(net.b(x)).mean((2, 3)))


def outcome(network, inputs, engine, batchnorm="running", dtype=torch.float64):
    """Result, and the fallback's warnings."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        result = jacobian(lend(network, dtype), inputs.to(dtype), all_scalars(network), batchnorm, engine)
    return result, [str(w.message) for w in caught if issubclass(w.category, GenericFallback)]


def check(network, inputs, falls_back, engines=("reverse", "forward"), batchnorm="running"):
    network = network.double()
    jac, logits = reference_jacobian(network, inputs, all_scalars(network), batchnorm)
    for engine in engines:
        result, messages = outcome(network, inputs, engine, batchnorm)
        assert relative_error(result.logits_BC, logits) < 1e-12
        assert relative_error(result.jac_BCP, jac) < 1e-11, engine
        if falls_back:
            assert result.engine == "generic"
            assert len(messages) == 1
            assert result.fallback in messages[0]
            assert falls_back in messages[0]
        else:
            assert result.engine == engine
            assert result.fallback is None
            assert not messages


# Weights that the fast engines cannot watch


def test_same_layer_twice():
    def run(net, x):
        return net.head(torch.tanh(net.twice(torch.tanh(net.twice(net.a(x).mean((2, 3)))))))

    check(Net(run, twice=nn.Linear(4, 4)), images(2, 3, 5, 5), "shared weights")


def test_parameter_tied_between_two_layers():
    network = Net(lambda net, x: end(net, torch.tanh(net.c(torch.tanh(net.a(x))))), c=nn.Conv2d(4, 4, 3, padding=1))
    network.c.weight = network.b.weight
    check(network, images(2, 3, 5, 5), "shared weights")


def test_layer_called_twice_whose_weight_is_not_asked_for():
    network = Net(lambda net, x: end(net, net.norm(torch.tanh(net.norm(net.a(x))))), norm=nn.GroupNorm(2, 4))
    check(network, images(2, 3, 5, 5), None)


def test_weight_in_a_matrix_product():
    def run(net, x):
        return net.head(torch.tanh(torch.matmul(net.a(x).mean((2, 3)), net.extra.weight)))

    check(Net(run, extra=nn.Linear(4, 4, bias=False)), images(2, 3, 5, 5), "extra.weight is used by matmul")


def test_weight_changed_before_use():
    def run(net, x):
        weight = net.b.weight / net.b.weight.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
        return net.head(torch.tanh(F.conv2d(net.a(x), weight)).mean((2, 3)))

    check(Net(run), images(2, 3, 5, 5), "b.weight is used by")


def test_weight_as_the_input_of_a_layer():
    """``F.linear(weight, x)``: prototypes that are compared with features; their number need not differ from 2."""

    def run(net, x):
        features = torch.tanh(net.a(x).mean((2, 3)))
        return F.linear(net.prototypes.weight, features).T

    network = Net(run, prototypes=nn.Linear(4, 2, bias=False))
    del network.b, network.head
    check(network, images(2, 3, 5, 5), "prototypes.weight")


def test_multihead_attention():
    def run(net, x):
        tokens = net.a(x).flatten(2).transpose(1, 2)
        return net.head((tokens + net.attention(tokens, tokens, tokens, need_weights=False)[0]).mean(1))

    network = Net(run, attention=nn.MultiheadAttention(4, 2, batch_first=True))
    del network.b
    check(network, images(2, 3, 4, 4), "attention.in_proj_weight")


def test_parametrised_weight():
    conv = torch.nn.utils.parametrizations.weight_norm(nn.Conv2d(4, 4, 3))
    network = Net(lambda net, x: end(net, torch.tanh(net.c(net.a(x)))), c=conv)
    check(network, images(2, 3, 5, 5), "c.parametrizations.weight.original1")


def test_weight_of_a_transposed_convolution():
    network = Net(lambda net, x: end(net, torch.tanh(net.up(net.a(x)))), up=nn.ConvTranspose2d(4, 4, 2, stride=2))
    check(network, images(2, 3, 4, 4), "up.weight")


@pytest.mark.filterwarnings("ignore:.*torch.jit.script.*")
def test_scripted_module():
    scripted = torch.jit.script(nn.Sequential(nn.Conv2d(4, 4, 3), nn.Tanh(), nn.Conv2d(4, 4, 3)).double())
    network = Net(lambda net, x: net.head(net.scripted(net.a(x)).mean((2, 3))), scripted=scripted).double()
    del network.b
    inputs, scalars = images(2, 3, 7, 7), all_scalars(network)
    names = dict(network.named_parameters())
    logits = network(inputs)
    expected = torch.stack(
        [
            torch.stack(
                [
                    torch.stack([g.flatten()[0] for g in torch.autograd.grad(z, [names[s.parameter] for s in scalars], retain_graph=True)])
                    for z in row
                ]
            )
            for row in logits
        ]
    )  # fmt: skip
    network.requires_grad_(False)
    for engine in ("reverse", "forward"):
        with pytest.warns(GenericFallback, match="scripted"):
            got = jacobian(network, inputs, scalars, "running", engine)
        assert relative_error(got.jac_BCP, expected) < 1e-12


# Layers whose first dimension is not the batch


def test_windows_in_the_first_dimension():
    def run(net, x):
        x = net.a(x)
        batch, channels, height, width = x.shape
        windows = (
            x.view(batch, channels, height // 2, 2, width // 2, 2).permute(0, 2, 4, 3, 5, 1).reshape(-1, 4, channels)
        )
        mixed = torch.tanh(net.mix(windows) + windows.mean(1, keepdim=True))
        return net.head(mixed.reshape(batch, -1, channels).mean(1))

    network = Net(run, mix=nn.Linear(4, 4))
    del network.b
    check(network, images(3, 3, 4, 6), "first dimension")


@pytest.mark.parametrize("length", [2, 3, 5])
def test_sequence_first(length):
    """A sequence of two stands where a batch of two would."""

    def run(net, x):
        x = net.a(x).flatten(2).permute(2, 0, 1)
        return net.head(torch.tanh(net.mix(x)).square().mean(0))

    network = Net(run, mix=nn.Linear(4, 4))
    del network.b
    check(network, images(2, 3, 1, length), "first dimension")


# Writing in place


def scribble(how):
    def run(net, x):
        x = net.a(x)
        x = how(x)
        return end(net, x)

    return Net(run)


def add_to_view(x):
    x[:, :2].add_(x[:, 2:].exp().clone())
    return x


def set_item(x):
    x[:, 0] = x[:, 1].exp().clone()
    return x


def fill_buffer(x):
    out = x.new_zeros(x.shape)
    out[:, 0] = x[:, 1].exp()
    return out + 0.1 * x


def add_to_view_of_fresh_buffer(x):
    out = torch.zeros(x.shape, dtype=x.dtype)
    out[:, :2].add_(x[:, :2].exp())
    return out + 0.1 * x


def add_through_an_alias(x):
    flat = x.flatten(1)
    x += 1.5 * x.detach()
    return x * flat.view(x.shape)


def copy_in(x):
    out = torch.empty(x.shape, dtype=x.dtype)
    out.copy_(x.exp())
    return out


def clamp_in_place(x):
    return x.clone().clamp_(-0.3, 0.4)


@pytest.mark.parametrize(
    "how",
    [add_to_view, set_item, fill_buffer, add_to_view_of_fresh_buffer, add_through_an_alias, copy_in, clamp_in_place],
)
def test_in_place_surprises(how):
    """Forward mode hands them on; reverse mode leaves them to autograd, which knows them."""
    network = scribble(how)
    check(network, images(2, 3, 5, 5), "in place", engines=("forward",))
    check(network, images(2, 3, 5, 5), None, engines=("reverse",))


def test_in_place_change_of_what_backward_needs():
    """Autograd refuses; forward derivatives are not harmed."""

    def run(net, x):
        x = net.a(x)
        y = x.exp()
        z = y.square()
        y.mul_(0.5)
        return end(net, y + z)

    network = Net(run).double()
    inputs = images(2, 3, 5, 5)
    with pytest.raises(RuntimeError, match="inplace"):
        reference_jacobian(network, inputs, all_scalars(network), "running")
    generic, _ = outcome(network, inputs, "generic")
    forward, _ = outcome(network, inputs, "forward")
    reverse, messages = outcome(network, inputs, "reverse")
    assert reverse.engine == "generic"
    assert "inplace" in messages[0]
    for result in (forward, reverse):
        assert relative_error(result.jac_BCP, generic.jac_BCP) < 1e-12


HARMLESS = {
    "x += shortcut": lambda x: x.__iadd__(torch.tanh(x)),
    "x *= gate": lambda x: x.__imul__(torch.sigmoid(x).clone()),
    "x -= mean": lambda x: x.__isub__(x.mean((2, 3), keepdim=True)),
    "add_ of a plain tensor": lambda x: x.add_(torch.ones(x.shape, dtype=x.dtype), alpha=0.5),
    "add_ of a number": lambda x: x.add_(0.5).mul_(2.0).sub_(0.1),
    "add_ with alpha": lambda x: x.add_(torch.tanh(x), alpha=0.3),
    "add into a fresh tensor": lambda x: torch.ones(x.shape, dtype=x.dtype).add_(x),
    "relu in place": lambda x: F.relu(x, inplace=True),
    "relu in place by position": lambda x: F.relu(x, True),
    "relu_": lambda x: torch.relu_(x),
    "nn.ReLU": nn.ReLU(inplace=True),
    "nn.ReLU6": nn.ReLU6(inplace=True),
    "nn.Hardtanh": nn.Hardtanh(-0.2, 0.3, inplace=True),
    "leaky relu": lambda x: F.leaky_relu(x, 0.3, True),
    "elu": lambda x: F.elu(x, alpha=1.7, inplace=True),
    "selu": nn.SELU(inplace=True),
    "silu": nn.SiLU(inplace=True),
    "hardswish": nn.Hardswish(inplace=True),
    "hardsigmoid": nn.Hardsigmoid(inplace=True),
    "mish": nn.Mish(inplace=True),
    "dropout": nn.Dropout(0.5, inplace=True).eval(),
    "dropout by position": lambda x: F.dropout(x, 0.5, False, True),
    "dropout2d": nn.Dropout2d(0.5, inplace=True).eval(),
}


@pytest.mark.parametrize("how", HARMLESS)
def test_ordinary_writes_in_place_are_followed(how):
    def run(net, x):
        return end(net, HARMLESS[how](net.a(x).clone() if how == "x *= gate" else net.a(x)))

    check(Net(run), images(2, 3, 5, 5), None, engines=("forward",))
    check(Net(run), images(2, 3, 5, 5), None, engines=("reverse",))


def test_residual_in_place_with_a_branch_that_holds_no_chosen_weight():
    def run(net, x):
        out = F.avg_pool2d(x, 3, 1, 1).repeat(1, 2, 1, 1)[:, :4].contiguous()
        out += net.a(x)
        return end(net, F.relu(out, inplace=True))

    check(Net(run), images(2, 3, 5, 5), None)


# Ordinary networks


ORDINARY = {
    "cat": lambda x: torch.cat([x[:, :3], torch.tanh(x[:, 1:3])], 1)[:, :4],
    "stack": lambda x: torch.stack([x, x.exp()], 0).sum(0),
    "chunk": lambda x: torch.cat([part.sin() for part in reversed(x.chunk(2, 1))], 1),
    "split": lambda x: torch.cat([x.split([1, 3], 1)[1], x.split([1, 3], dim=1)[0]], 1),
    "unbind": lambda x: torch.stack([part * (i + 1) for i, part in enumerate(x.unbind(1))], 1),
    "permute": lambda x: x.permute(0, 2, 3, 1).cos().permute(0, 3, 1, 2),
    "channel shuffle": lambda x: x.view(len(x), 2, 2, *x.shape[2:]).transpose(1, 2).reshape(x.shape),
    "flatten": lambda x: x.flatten(1).softmax(1).unflatten(1, x.shape[1:]),
    "pad, roll, flip": lambda x: F.pad(x, (1, 0, 2, 1)).roll(1, 2).flip(3),
    "index": lambda x: x[:, [3, 1, 0, 2]] * x[:, :1],
    "expand": lambda x: x[:, :1].expand(-1, 4, -1, -1) + x,
    "max pool": lambda x: F.max_pool2d(x, 3, 2, 1),
    "max pool with indices": lambda x: F.max_pool2d(x, 2, return_indices=True)[0],
    "avg pool without padding": nn.AvgPool2d(3, 1, 1, count_include_pad=False),
    "adaptive avg pool": lambda x: F.adaptive_avg_pool2d(x, (2, 3)) ** 2,
    "adaptive max pool": lambda x: F.adaptive_max_pool2d(x, 2),
    "interpolate": lambda x: F.interpolate(x, scale_factor=2, mode="bilinear"),
    "gelu": F.gelu,
    "tanh gelu": nn.GELU(approximate="tanh"),
    "silu": F.silu,
    "hardswish": F.hardswish,
    "hardsigmoid": lambda x: x * F.hardsigmoid(x),
    "sigmoid gate": lambda x: x * torch.sigmoid(x.mean((2, 3), keepdim=True)),
    "softmax": lambda x: F.softmax(x, 1) * x,
    "softplus, exp, log": lambda x: torch.log(F.softplus(x) + x.exp()),
    "clamp, abs, minimum": lambda x: torch.minimum(x.clamp(-0.5, 0.5).abs(), x**2),
    "where": lambda x: torch.where(x > 0, x * 2, x.sin()),
    "boolean mask": lambda x: x * (x > 0.1),
    "division, rsub, rdiv": lambda x: (1 - x) / (2 + x.abs()) + 1 / (1 + x * x),
    "norm": lambda x: F.normalize(x, dim=1),
    "std, var": lambda x: (x - x.mean((2, 3), keepdim=True)) / (x.std((2, 3), keepdim=True) + 1),
    "max over positions": lambda x: x * x.flatten(2).max(2).values[..., None, None],
    "topk": lambda x: x + x.flatten(2).topk(3, dim=2).values.sum(2)[..., None, None],
    "einsum": lambda x: torch.einsum("bchw,bdhw->bcd", x, x)[..., None].sum(1).unsqueeze(2) * x,
    "matmul": lambda x: (x.flatten(2).transpose(1, 2) @ x.flatten(2)).mean(1)[:, :4, None, None] * x,
    "attention": lambda x: F.scaled_dot_product_attention(*[x.flatten(2)] * 3).unflatten(2, x.shape[2:]),
    "local response norm": nn.LocalResponseNorm(2),
    "pixel shuffle": lambda x: F.pixel_unshuffle(F.pixel_shuffle(x, 2), 2),
    "detached factor": lambda x: x * x.detach(),
    "straight through": lambda x: (x.round() - x).detach() + x,
    "add with alpha": lambda x: torch.add(x, x.sin(), alpha=0.5),
    "same shape, other columns": lambda x: x + x.new_ones(x.shape) * x.sum(),
    "cumsum": lambda x: x.cumsum(2),
    "contiguous, to, float": lambda x: x.contiguous().to(x.dtype).clone(),
}  # fmt: skip


@pytest.mark.parametrize("how", ORDINARY)
def test_ordinary_functions_do_not_fall_back(how):
    network = Net(lambda net, x: end(net, torch.tanh(net.c(ORDINARY[how](net.a(x))))), c=nn.Conv2d(4, 4, 1))
    if how == "same shape, other columns":
        network.run = lambda net, x: end(net, net.a(x) + net.c(net.a2(x)))
        network.a2 = nn.Conv2d(3, 4, 3, padding=1)
    check(network, images(2, 3, 6, 6), None)


def test_branches_whose_columns_interleave():
    """Sums of branches that begin at different layers, nested both ways."""

    def run(net, x):
        a, c = net.a(x), net.c(x)
        b = net.b(torch.tanh(a))
        d = net.d(torch.tanh(c))
        left, right = a + d, c + b
        return net.head(((left + right) + (d + torch.tanh(left)) + x.mean((1, 2, 3), keepdim=True)).mean((2, 3)))

    network = Net(run, c=nn.Conv2d(3, 4, 1), d=nn.Conv2d(4, 4, 3, padding=1))
    check(network, images(2, 3, 5, 5), None)


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(lambda: torchvision.models.resnet18(num_classes=3), marks=pytest.mark.slow),
        lambda: torchvision.models.shufflenet_v2_x0_5(num_classes=3),
        lambda: torchvision.models.squeezenet1_1(num_classes=3),
        lambda: timm.create_model("mobilenetv3_small_050", num_classes=3),
        lambda: timm.create_model("convnext_atto", num_classes=3),
    ],
    ids=["torchvision resnet18", "shufflenet", "squeezenet", "mobilenetv3", "convnext"],
)
def test_known_networks_do_not_fall_back(make):
    torch.manual_seed(0)
    network = make().double()
    inputs = images(2, 3, 33, 33)  # the smallest whose last maps have more than one position
    scalars = all_scalars(network)
    few = scalars[:: len(scalars) // 3]
    jac, _ = reference_jacobian(network, inputs, few, "sample")
    for engine in ("reverse", "forward"):
        result, messages = outcome(network, inputs, engine, "sample")
        assert result.engine == engine
        assert not messages
        columns = [scalars.index(scalar) for scalar in few]
        assert relative_error(result.jac_BCP[..., columns], jac) < 1e-9
