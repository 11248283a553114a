"""Networks that proxies are seldom asked about: attention, casts, complex logits, weights that are not finite."""

import pytest
import torch
import torch.nn.functional as F
from proxy_reference import images, labelled
from timm.layers import StdConv2d
from torch import nn

from vkdnw_pl.proxies import PROXIES, UndefinedScore, make_proxies
from vkdnw_pl.proxies.borrow import borrow
from vkdnw_pl.proxies.scoring import score_network


def value(name, network, batch, init="keep"):
    (proxy,) = make_proxies([name])
    with borrow(network, batch, init=init) as borrowed:
        return borrowed.run(proxy.compute)[proxy.columns[0]]


class Attention(nn.Module):
    """One head over the positions, by torch's fused function or written out."""

    def __init__(self, fused):
        super().__init__()
        torch.manual_seed(0)
        self.qkv, self.head, self.fused = nn.Conv2d(3, 12, 1), nn.Linear(4, 3), fused

    def forward(self, x):
        q, k, v = self.qkv(x).flatten(2).transpose(1, 2).chunk(3, 2)
        if self.fused:
            return self.head(F.scaled_dot_product_attention(q, k, v).mean(1))
        return self.head(((q @ k.transpose(1, 2) / 2).softmax(2) @ v).mean(1))


@pytest.mark.parametrize("batchnorm", ["batch", "sample"])
def test_second_derivatives_of_fused_attention(batchnorm):
    batch = labelled(images(4, 3, 3, 3))(0)
    grasp = {"name": "grasp", "batchnorm": batchnorm}
    fused, written_out = (value(grasp, Attention(fused).double(), batch) for fused in (True, False))
    assert fused == pytest.approx(written_out, rel=1e-9)
    assert abs(fused) > 1e-6


class LinearAttention(nn.Module):
    """It divides sums of products, in single precision where ``cast`` says so, as timm's EfficientViT does."""

    def __init__(self, cast, scale):
        super().__init__()
        torch.manual_seed(0)
        self.qkv, self.head, self.cast, self.scale = nn.Conv2d(3, 12, 1), nn.Linear(4, 3), cast, scale

    def forward(self, x):
        q, k, v = (self.scale * F.relu(self.qkv(x))).flatten(2).transpose(1, 2).chunk(3, 2)
        if self.cast == "float":
            q, k, v = q.float(), k.float(), v.float()
        elif self.cast == "to":
            q, k, v = q.to(torch.float32), k.to(dtype=torch.float32), v.to(torch.float32)
        out = q @ (k.transpose(1, 2) @ v) / ((q * k.sum(1, keepdim=True)).sum(2, keepdim=True) + 1e-5)
        return self.head(out.to(x.dtype).mean(1))


@pytest.mark.parametrize("cast", ["float", "to"])
def test_synflow_is_not_held_in_single_precision(cast):
    batch = images(2, 3, 3, 3)
    assert value("synflow", LinearAttention(cast, 1e20), batch) == pytest.approx(
        value("synflow", LinearAttention(None, 1e20), batch), rel=1e-12
    )


def test_synflow_beyond_double_precision_is_undefined():
    with pytest.raises(UndefinedScore, match="leaves the range of float64"):
        value("synflow", LinearAttention(None, 1e120), images(2, 3, 3, 3))


class Complex(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(12, 6)

    def forward(self, x):
        return torch.view_as_complex(self.linear(x.flatten(1)).unflatten(1, (3, 2)))


NEEDS_NO_LOGITS = {"params", "layers", "aleph", "log_width", "l2_norm", "dss"}  # dss misses its attention first


@pytest.mark.parametrize("name", sorted(set(PROXIES) - NEEDS_NO_LOGITS - {"zen"}))
def test_complex_logits_are_refused(name):
    scores = score_network(Complex(), labelled(images(4, 3, 2, 2).float())(0), make_proxies([name]))
    assert scores.failed
    if name not in ("expressivity", "progressivity", "trainability"):  # these miss their maps first
        assert "logits that are real floating-point numbers; it gave torch.complex" in scores.reasons[name]


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_kept_weights_that_are_not_finite_are_named(bad):
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3))
    with torch.no_grad():
        network[0].weight[0, 0, 0, 0] = bad
    proxies = make_proxies(PROXIES)
    scores = score_network(network, labelled(images(4, 3, 5, 5).float()), proxies, init="keep")
    assert scores.failed
    counted = {"params", "layers", "macs", "aleph", "log_width"}
    assert {column for column, number in scores.values.items() if number is not None} == counted
    for column, reason in scores.reasons.items():
        assert "the weights are kept, and 0.weight has entries that are not finite" in reason, column
    assert not score_network(network, labelled(images(4, 3, 5, 5).float()), make_proxies(["vkdnw", "naswot"])).failed


@pytest.mark.parametrize("name", ["jacov", "naswot", "zen"])
def test_standardised_weights_are_no_batch_norm(name):
    """They are standardised whatever batch norm does; the same network with such weights has the same score."""

    def network(conv):
        return nn.Sequential(conv, nn.BatchNorm2d(4), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), head)

    torch.manual_seed(0)
    head, standardised = nn.Linear(4, 3), StdConv2d(3, 4, 3)
    nn.init.uniform_(standardised.weight, 1, 4)
    plain = nn.Conv2d(3, 4, 3, padding=1, bias=False)
    weight = standardised.weight.detach().flatten(1)
    variance = weight.var(1, unbiased=False, keepdim=True)
    plain.weight.data = ((weight - weight.mean(1, keepdim=True)) / (variance + standardised.eps).sqrt()).view(
        4, 3, 3, 3
    )
    batch = labelled(images(8, 3, 6, 6).float())(0)
    values = []
    for conv in (standardised, plain):
        model = network(conv)
        model.final_map = "2"
        values.append(value(name, model, batch))
    assert values[0] == pytest.approx(values[1], rel=1e-4)
