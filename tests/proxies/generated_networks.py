"""Networks made of random blocks, among them those that forward derivatives do not see through."""

import torch
import torch.nn.functional as F
from hypothesis import strategies as st
from torch import nn
from torch.utils.checkpoint import checkpoint

CHANNELS = 4


class StraightThrough(torch.autograd.Function):
    """Sign, with the identity as its declared derivative."""

    @staticmethod
    def forward(ctx, x):
        return x.sign()

    @staticmethod
    def backward(ctx, grad):
        return grad


class Reversal(torch.autograd.Function):
    """The identity, with a negative derivative."""

    @staticmethod
    def forward(ctx, x):
        return x.view_as(x)

    @staticmethod
    def backward(ctx, grad):
        return -0.5 * grad


class Scaled(torch.autograd.Function):
    """In place, and with a derivative that is not its own."""

    @staticmethod
    def forward(ctx, x):
        ctx.mark_dirty(x)
        return x.mul_(2.0)

    @staticmethod
    def backward(ctx, grad):
        return 3.0 * grad


class QuantisedConv(torch.autograd.Function):
    """A convolution with rounded weights, whose gradient is that of the weights as they are."""

    @staticmethod
    def forward(ctx, x, weight):
        ctx.save_for_backward(x, weight)
        return F.conv2d(x, (weight * 8).round() / 8)

    @staticmethod
    def backward(ctx, grad):
        x, weight = ctx.saved_tensors
        grad_x = torch.nn.grad.conv2d_input(x.shape, weight, grad)
        return grad_x, torch.nn.grad.conv2d_weight(x, weight.shape, grad)


CUSTOM = {"straight through": StraightThrough, "reversal": Reversal, "scaled": Scaled}

ACTIVATIONS = {
    "relu": nn.ReLU, "relu6": nn.ReLU6, "leaky": nn.LeakyReLU, "elu": nn.ELU, "selu": nn.SELU, "celu": nn.CELU,
    "silu": nn.SiLU, "mish": nn.Mish, "hardswish": nn.Hardswish, "hardsigmoid": nn.Hardsigmoid,
    "hardtanh": lambda inplace: nn.Hardtanh(-0.3, 0.4, inplace=inplace),
    "threshold": lambda inplace: nn.Threshold(0.1, 0.2, inplace),
    "gelu": lambda inplace: nn.GELU(), "sigmoid": lambda inplace: nn.Sigmoid(), "tanh": lambda inplace: nn.Tanh(),
    "softplus": lambda inplace: nn.Softplus(), "softsign": lambda inplace: nn.Softsign(),
    "prelu": lambda inplace: nn.PReLU(CHANNELS), "softshrink": lambda inplace: nn.Softshrink(0.2),
    "hardshrink": lambda inplace: nn.Hardshrink(0.2), "logsigmoid": lambda inplace: nn.LogSigmoid(),
}  # fmt: skip
POOLS = {
    "max 2": lambda: nn.MaxPool2d(2, ceil_mode=True), "max 3": lambda: nn.MaxPool2d(3, 1, 1),
    "average": lambda: nn.AvgPool2d(3, 2, 1), "average, uncounted": lambda: nn.AvgPool2d(3, 1, 1, False, False),
    "adaptive average": lambda: nn.AdaptiveAvgPool2d(3), "adaptive max": lambda: nn.AdaptiveMaxPool2d(2),
    "lp 1": lambda: nn.LPPool2d(1, 2, ceil_mode=True), "lp 2": lambda: nn.LPPool2d(2, 2, ceil_mode=True),
    "lp 3": lambda: nn.LPPool2d(3, 2, ceil_mode=True), "up": lambda: nn.Upsample(6),
    "bilinear": lambda: nn.Upsample(5, mode="bilinear"),
}  # fmt: skip
NORMS = {
    "batch": lambda: nn.BatchNorm2d(CHANNELS, eps=0.1), "group": lambda: nn.GroupNorm(2, CHANNELS, eps=0.1),
    "instance": lambda: nn.InstanceNorm2d(CHANNELS, eps=0.1), "local": lambda: nn.LocalResponseNorm(2),
}  # fmt: skip
FUNCTIONS = {
    "normalize": lambda x: F.normalize(x, dim=1),
    "norm": lambda x: x * x.norm(dim=1, keepdim=True),
    "norm of positions": lambda x: x + F.relu(x).flatten(2).norm(dim=2)[..., None, None],
    "root": lambda x: F.relu(x).sqrt(),
    "root, masked": lambda x: torch.where(x > 0, x.clamp(min=0).sqrt(), -x),
    "root of zero, masked": lambda x: torch.where(x > 2, (x - x).sqrt(), x),
    "root, masked twice": lambda x: torch.where(x > 0, torch.where(x > 0, x, 1.0).sqrt(), -x),
    "power": lambda x: F.relu(x).pow(0.7) + F.relu(x).pow(3),
    "generalised mean": lambda x: F.avg_pool2d(x.clamp(min=1e-3).pow(3.0), 3, 1, 1).pow(1 / 3),
    "quotient": lambda x: x / F.relu(x).sum(1, keepdim=True),
    "logarithm": lambda x: torch.log1p(F.relu(x)) + (x.abs() + 0.1).log(),
    "maximum": lambda x: torch.maximum(F.relu(x), F.relu(x.flip(1))),
    "largest": lambda x: F.relu(x) * F.relu(x).amax((2, 3), keepdim=True),
    "median": lambda x: x + F.relu(x).flatten(2).median(2).values[..., None, None],
    "quantile": lambda x: x + F.relu(x).flatten(2).quantile(0.3, 2)[..., None, None],
    "deviation": lambda x: x / (F.relu(x).std((2, 3), keepdim=True) + 1),
    "sorted": lambda x: F.relu(x).sort(1).values,
    "product": lambda x: x + F.relu(x).prod(1, keepdim=True),
    "softmax": lambda x: x.softmax(1) * x,
    "masked softmax": lambda x: x + x.flatten(2).masked_fill(x.flatten(2) < -0.5, -1e9).softmax(2).view_as(x),
    "fourier": lambda x: torch.fft.irfft2(torch.fft.rfft2(x) * (1 + 0.3j), s=x.shape[-2:]),
    "complex": lambda x: torch.view_as_real(torch.view_as_complex(x.unflatten(1, (2, 2)).movedim(2, -1).contiguous())
                                            .square()).movedim(-1, 2).flatten(1, 2),
    "added in place": lambda x: x.clone().add_(torch.tanh(x)),
    "view written": lambda x: torch.cat([x[:, :2].clone().mul_(2), x[:, 2:]], 1),
    "slice written": lambda x: _write_slice(x),
    "written without gradient": lambda x: _write_without_gradient(x),
    "hook": lambda x: _hooked(x),
    "rolled": lambda x: x.roll(1, 2) + x.flip(3).transpose(2, 3).reshape(x.shape),
    "straight through, by detach": lambda x: (x.round() - x).detach() + x,
    "half detached": lambda x: x * x.detach().exp(),
}  # fmt: skip


def _write_slice(x):
    x = x.clone()
    x[:, 0] = x[:, 1].exp()
    x[:, 2:] *= 0.5
    return x


def _write_without_gradient(x):
    x = x + 0.1
    with torch.no_grad():
        x.clamp_(-0.5, 0.5)
    return x


def _hooked(x):
    x = x * 1.0
    if x.requires_grad:
        x.register_hook(lambda grad: 0.3 * grad)
    return x


class Blocks(nn.Module):
    """Blocks one after another; every one of them maps (B, 4, H, W) to (B, 4, ...)."""

    def __init__(self, specs):
        super().__init__()
        self.blocks = nn.ModuleList(Block(*spec) for spec in specs)

    def forward(self, x):
        for block in self.blocks:
            x = block(x)
            if x.shape[2:].numel() < 9:  # the next block may need more positions
                x = F.interpolate(x, (4, 4))
        return x


class Block(nn.Module):
    def __init__(self, kind, option=None, inner=()):
        super().__init__()
        self.kind, self.option = kind, option
        if kind == "conv":
            self.layer = nn.Conv2d(CHANNELS, CHANNELS, **option)
        elif kind == "activation":
            self.layer = ACTIVATIONS[option[0]](inplace=option[1])
        elif kind in ("pool", "norm"):
            self.layer = {"pool": POOLS, "norm": NORMS}[kind][option]()
        elif kind in ("attention", "gate", "channels last", "joined", "twice", "quantised", "cached", "frozen"):
            self.layer = {
                "attention": lambda: nn.ModuleDict({"qkv": nn.Linear(4, 12), "out": nn.Linear(4, 4)}),
                "gate": lambda: nn.ModuleDict({"a": nn.Conv2d(4, 2, 1), "b": nn.Conv2d(2, 4, 1)}),
                "channels last": lambda: nn.Sequential(nn.LayerNorm(4, eps=0.1), nn.Linear(4, 4)),
                "joined": lambda: nn.Conv2d(8, 4, 1),
            }.get(kind, lambda: nn.Conv2d(4, 4, 1, bias=False))()
        elif kind == "multihead":
            self.layer = nn.MultiheadAttention(4, 2, batch_first=True)
        if inner:
            self.inner = Blocks(inner)
        self.cache = {}

    def forward(self, x):
        return getattr(self, "_" + self.kind.replace(" ", "_"))(x)

    def _conv(self, x):
        return self.layer(x)

    _activation = _pool = _norm = _conv

    def _function(self, x):
        return FUNCTIONS[self.option](x)

    def _custom(self, x):
        return CUSTOM[self.option].apply(x * 1.0)

    def _quantised(self, x):
        return QuantisedConv.apply(x, self.layer.weight)

    def _twice(self, x):
        return self.layer(torch.tanh(self.layer(x)))

    def _cached(self, x):
        if "weight" not in self.cache:
            self.cache["weight"] = torch.tanh(self.layer.weight)
        self.last = F.conv2d(x, self.cache["weight"])
        return self.last

    def _frozen(self, x):
        self.layer.weight.requires_grad_(False)
        return self.layer(x)

    def _attention(self, x):
        tokens = x.flatten(2).transpose(1, 2)
        q, k, v = self.layer["qkv"](tokens).unflatten(2, (3, 2, 2)).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        return (tokens + self.layer["out"](mixed)).transpose(1, 2).reshape(x.shape)

    def _multihead(self, x):
        tokens = x.flatten(2).transpose(1, 2)
        return (tokens + self.layer(tokens, tokens, tokens)[0]).transpose(1, 2).reshape(x.shape)

    def _channels_last(self, x):
        return self.layer(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)

    def _gate(self, x):
        gate = self.layer["b"](F.relu(self.layer["a"](x.mean((2, 3), keepdim=True))))
        return x * torch.sigmoid(gate)

    def _residual(self, x):
        out = self.inner(x)
        out = F.adaptive_avg_pool2d(out, x.shape[2:])
        if self.option:
            out = out + 0.0
            out += x
            return out
        return x + out

    def _joined(self, x):
        return self.layer(torch.cat([x, F.adaptive_avg_pool2d(self.inner(x), x.shape[2:])], 1))

    def _without_gradient(self, x):
        if self.option == "no_grad":
            with torch.no_grad():
                out = self.inner(x)
        elif self.option == "set_grad_enabled":
            with torch.set_grad_enabled(False):
                out = self.inner(x)
        elif self.option == "inference_mode":
            with torch.inference_mode():
                out = self.inner(x * 1.0)
            out = out.clone()
        else:
            out = self.inner(x).detach() if self.option == "detach" else self.inner(x).data
        return x[..., :1, :1] * F.adaptive_avg_pool2d(out, x.shape[2:])

    def _checkpointed(self, x):
        return checkpoint(self.inner, x, use_reentrant=self.option)


class Generated(nn.Module):
    def __init__(self, specs, classes, seed):
        super().__init__()
        torch.manual_seed(seed)
        self.stem = nn.Conv2d(3, CHANNELS, 3, padding=1)
        self.body = Blocks(specs)
        self.head = nn.Linear(CHANNELS, classes)

    def forward(self, x):
        return self.head(self.body(self.stem(x)).mean((2, 3)))


@st.composite
def _convolutions(draw):
    kernel, dilation = draw(st.sampled_from([1, 2, 3])), draw(st.sampled_from([1, 2]))
    return "conv", {
        "kernel_size": kernel, "dilation": dilation, "padding": draw(st.integers(dilation * (kernel - 1), 4)) // 2 + 1,
        "groups": draw(st.sampled_from([1, 2, 4])), "stride": draw(st.sampled_from([1, 2])), "bias": draw(st.booleans()),
    }  # fmt: skip


_leaves = st.one_of(
    _convolutions(),
    st.tuples(st.just("activation"), st.tuples(st.sampled_from(sorted(ACTIVATIONS)), st.booleans())),
    st.tuples(st.just("pool"), st.sampled_from(sorted(POOLS))),
    st.tuples(st.just("norm"), st.sampled_from(sorted(NORMS))),
    st.tuples(st.just("function"), st.sampled_from(sorted(FUNCTIONS))),
    st.tuples(st.just("custom"), st.sampled_from(sorted(CUSTOM))),
    st.tuples(st.sampled_from(
        ["attention", "multihead", "gate", "channels last", "twice", "quantised", "cached", "frozen"])),
)  # fmt: skip


def _compounds(inner):
    several = st.lists(inner, min_size=1, max_size=3).map(tuple)
    regions = st.sampled_from(["no_grad", "set_grad_enabled", "inference_mode", "detach", "data"])
    return st.one_of(
        st.tuples(st.just("residual"), st.booleans(), several),
        st.tuples(st.just("joined"), st.none(), several),
        st.tuples(st.just("without gradient"), regions, several),
        st.tuples(st.just("checkpointed"), st.booleans(), several),
    )


BLOCKS = st.recursive(_leaves, _compounds, max_leaves=4)
NETWORKS = st.builds(Generated, st.lists(BLOCKS, min_size=1, max_size=6), st.sampled_from([1, 3]), st.integers(0, 9))
