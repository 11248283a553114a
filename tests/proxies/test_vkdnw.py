"""The VKDNW proxy: against its definition, its invariances, its parameters."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from proxy_reference import (
    ALL_CONVS,
    ALL_NONE,
    FEW_CONVS,
    IDENTITY,
    MIXED,
    all_scalars,
    images,
    reference_fisher,
    reference_jacobian,
    relative_error,
    small_nb201,
)
from torch import nn

from vkdnw_pl.proxies import PROXIES, UndefinedScore, make_proxies
from vkdnw_pl.proxies.borrow import Borrowed, borrow
from vkdnw_pl.proxies.functional.jacobian import jacobian
from vkdnw_pl.proxies.functional.scalars import Scalar, layer_weights

DECILES = [f"vkdnw_decile_{k}" for k in range(1, 10)]


def compute(network, inputs, init="keep", seed=1, **options):
    (proxy,) = make_proxies([{"name": options.pop("name", "vkdnw"), **options}])
    with borrow(network, inputs, seed, init) as borrowed:
        return proxy.compute(borrowed)


def expected(network, inputs, batchnorm="sample", alpha=0.05, which="weights", per_tensor=1):
    """Entropy and deciles by the definition, with numpy on the explicit matrix."""
    jac, logits = reference_jacobian(network, inputs, all_scalars(network, which, per_tensor), batchnorm)
    eigenvalues = np.linalg.eigvalsh(reference_fisher(jac, logits, alpha).numpy()).clip(min=0)
    deciles = np.quantile(eigenvalues, np.arange(1, 10) / 10)
    share = deciles / deciles.sum()
    return -sum(x * math.log(x) for x in share if x > 0), deciles


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"alpha": 0.0},
        {"batchnorm": "running"},
        {"batchnorm": "batch"},
        {"weights_per_layer": 2},
        {"scalars": "all"},
    ],
    ids=str,
)
@pytest.mark.parametrize("arch", [FEW_CONVS, MIXED])
def test_definition(arch, options):
    network, inputs = small_nb201(arch, 5).double(), images(6, 3, 8, 8)
    names = {"weights_per_layer": "per_tensor", "scalars": "which"}
    entropy, deciles = expected(network, inputs, **{names.get(k, k): v for k, v in options.items()})
    values = compute(network, inputs, **options)
    np.testing.assert_allclose([values[name] for name in DECILES], deciles, rtol=0, atol=1e-10 * deciles[-1])
    assert values["vkdnw"] == pytest.approx(entropy, abs=1e-8)
    assert list(values) == ["vkdnw", *DECILES]


@pytest.mark.parametrize("place", [0.4, 1.0])
def test_place_of_the_weight(place):
    """The entry at a relative place of every weight, against the Jacobian of just these."""
    network, inputs = small_nb201(MIXED, 5).double(), images(6, 3, 8, 8)
    chosen = [Scalar(name, int(place * (p.numel() - 1))) for name, p in layer_weights(network).items()]
    jac, logits = reference_jacobian(network, inputs, chosen, "sample")
    eigenvalues = np.linalg.eigvalsh(reference_fisher(jac, logits, 0.05).numpy()).clip(min=0)
    deciles = np.quantile(eigenvalues, np.arange(1, 10) / 10)
    values = compute(network, inputs, place=place)
    np.testing.assert_allclose([values[name] for name in DECILES], deciles, rtol=0, atol=1e-10 * deciles[-1])
    assert values["vkdnw"] != compute(network, inputs)["vkdnw"]


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.lstm, self.head = nn.LSTM(4, 5, num_layers=2, batch_first=True), nn.Linear(5, 3)

    def forward(self, x):
        return self.head(self.lstm(x)[0][:, -1])


@pytest.mark.filterwarnings("ignore::vkdnw_pl.proxies.functional.jacobian.GenericFallback")
def test_weights_of_recurrent_layers_enter():
    network, inputs = Recurrent().double(), torch.randn(6, 7, 4, dtype=torch.float64)
    names = [f"lstm.weight_{place}_l{layer}" for layer in (0, 1) for place in ("ih", "hh")] + ["head.weight"]
    jac = torch.zeros(6, 3, len(names), dtype=torch.float64)
    for sample, logits in enumerate(network(inputs)):
        for label, logit in enumerate(logits):
            grads = torch.autograd.grad(logit, [network.get_parameter(n) for n in names], retain_graph=True)
            jac[sample, label] = torch.stack([grad.flatten()[0] for grad in grads])
    eigenvalues = np.linalg.eigvalsh(reference_fisher(jac, network(inputs).detach(), 0.05).numpy()).clip(min=0)
    deciles = np.quantile(eigenvalues, np.arange(1, 10) / 10)
    values = compute(network, inputs)
    np.testing.assert_allclose([values[name] for name in DECILES], deciles, rtol=0, atol=1e-10 * deciles[-1])


def test_a_random_place_depends_on_the_seed_alone():
    network, inputs = small_nb201(MIXED, 5), images(4, 3, 8, 8).float()
    first, again, other = (compute(network, inputs, seed=seed, place="random")["vkdnw"] for seed in (1, 1, 2))
    assert first == again != other


def test_a_place_is_that_of_one_weight():
    with pytest.raises(ValueError, match=r"vkdnw.place=0.5 has no meaning with weights_per_layer=2"):
        make_proxies([{"name": "vkdnw", "place": 0.5, "weights_per_layer": 2}])


@pytest.mark.parametrize("arch", [FEW_CONVS, MIXED, ALL_CONVS, IDENTITY])
def test_range_and_order(arch):
    values = compute(small_nb201(arch, 10), images(4, 3, 8, 8).float(), init="kaiming_normal")
    deciles = [values[name] for name in DECILES]
    assert 0 <= values["vkdnw"] <= math.log(9)
    assert deciles == sorted(deciles)
    assert deciles[0] >= 0
    share = np.array(deciles) / sum(deciles)
    assert values["vkdnw"] == pytest.approx(-sum(x * math.log(x) for x in share if x > 0), rel=1e-9)


@pytest.mark.parametrize("batchnorm", ["sample", "running"])
def test_order_and_repetition_of_the_samples_do_not_matter(batchnorm):
    network, inputs = small_nb201(MIXED, 5).double(), images(4, 3, 8, 8)
    values = compute(network, inputs, batchnorm=batchnorm)
    for other in (inputs.flip(0), torch.cat([inputs, inputs])):
        assert compute(network, other, batchnorm=batchnorm) == pytest.approx(values, rel=1e-7)


def test_order_of_the_classes_matters_to_the_reference_only():
    """Rows of the classifier change places, the row of the chosen scalar excepted: the same model, renamed."""
    network, inputs = small_nb201(MIXED, 6).double(), images(4, 3, 8, 8)
    order = torch.tensor([0, 4, 2, 5, 1, 3])
    renamed = small_nb201(MIXED, 6).double()
    renamed.classifier.weight.data.copy_(network.classifier.weight[order])
    for options in (
        {},
        {"scalars": "all"},
        {"name": "vkdnw_official", "root": "exact", "alpha_precision": "float64", "precision": "float64"},
    ):
        assert compute(renamed, inputs, **options) == pytest.approx(compute(network, inputs, **options), rel=1e-6)
    official = [compute(n, inputs, name="vkdnw_official")["vkdnw_official"] for n in (network, renamed)]
    assert abs(official[0] - official[1]) > 1e-3


def test_common_shift_of_the_logits_does_not_matter():
    network, inputs = small_nb201(MIXED, 5).double(), images(4, 3, 8, 8)
    values = compute(network, inputs)
    network.classifier.bias.data += 7.0
    assert compute(network, inputs) == pytest.approx(values, rel=1e-8)


def test_scale_of_the_matrix_does_not_matter_to_the_entropy():
    """A parameter tensor scaled by 1/s and its output by s: the same function, its derivatives s times as large."""

    class Scaled(nn.Module):
        def __init__(self, scale):
            super().__init__()
            torch.manual_seed(0)
            self.layers = nn.ModuleList([nn.Linear(5, 5, bias=False) for _ in range(9)] + [nn.Linear(5, 4, bias=False)])
            self.scale = scale
            for layer in self.layers:
                layer.double().weight.data /= scale

        def forward(self, x):
            for layer in self.layers:
                x = torch.tanh(self.scale * layer(x))
            return x

    one, hundred = (compute(Scaled(s).double(), images(8, 5)) for s in (1.0, 100.0))
    assert hundred["vkdnw"] == pytest.approx(one["vkdnw"], rel=1e-8)
    assert hundred["vkdnw_decile_9"] == pytest.approx(1e4 * one["vkdnw_decile_9"], rel=1e-8)


def test_known_answer():
    """Linear model without hidden layers, one scalar, balanced classes: F = x_0² p (1 - p)."""
    network = nn.Sequential(nn.Flatten(), nn.Linear(3, 2, bias=False)).double()
    network[1].weight.data.zero_()
    inputs = torch.tensor([[[2.0, 1.0, 1.0]], [[4.0, 0.0, 3.0]]], dtype=torch.float64)
    values = compute(network, inputs)
    for name in DECILES:
        assert values[name] == pytest.approx((2**2 + 4**2) / 2 * 0.25)
    assert values["vkdnw"] == pytest.approx(math.log(9))


def test_engine_and_memory_change_nothing():
    network, inputs = small_nb201(MIXED, 5).double(), images(4, 3, 8, 8)
    values = compute(network, inputs)
    for options in ({"engine": "reverse"}, {"engine": "forward"}, {"engine": "generic"}, {"max_memory_mb": 0.01}):
        assert compute(network, inputs, **options) == pytest.approx(values, rel=1e-7)


def expected_sketch(network, inputs, count, seed):
    """The entropy from products of explicit rows, which Gram and Schmidt make orthonormal, with an explicit Jacobian."""
    jac, logits = reference_jacobian(network, inputs, all_scalars(network), "sample")
    generator = Borrowed.generator(SimpleNamespace(seed=seed), "vkdnw sketch")
    draws = torch.randn(*logits.shape, count, generator=generator, dtype=torch.float64)
    fisher = 0
    for jac_CP, row, draw in zip(jac, logits, draws, strict=True):
        rows = [torch.sqrt(0.95 * torch.softmax(row, 0) + 0.05 / len(row))]
        for vector in draw.T:
            for other in rows:
                vector = vector - (vector @ other) * other
            rows.append(vector / vector.norm())
            product = (rows[-1] * rows[0]) @ jac_CP
            fisher += torch.outer(product, product) * (len(row) - 1) / count / len(jac)
    deciles = np.quantile(np.linalg.eigvalsh(fisher.numpy()).clip(min=0), np.arange(1, 10) / 10)
    return -sum(x * math.log(x) for x in deciles / deciles.sum() if x > 0)


def test_sketch():
    network, inputs = small_nb201(FEW_CONVS, 5).double(), images(4, 3, 8, 8)
    value = compute(network, inputs, sketch=2)["vkdnw"]
    assert value == pytest.approx(expected_sketch(network, inputs, 2, seed=1), rel=1e-8)
    assert compute(network, inputs, sketch=2, seed=2)["vkdnw"] != pytest.approx(value, rel=1e-3)
    for options in ({"engine": "forward"}, {"max_memory_mb": 0.01}):
        assert compute(network, inputs, sketch=2, **options)["vkdnw"] == pytest.approx(value, rel=1e-7)
    for count, batchnorm in ((4, "sample"), (9, "batch")):
        exact = compute(network, inputs, batchnorm=batchnorm)
        assert compute(network, inputs, batchnorm=batchnorm, sketch=count) == pytest.approx(exact, rel=1e-7)


def test_sketch_takes_fewer_products():
    """Reverse mode with one for each cotangent, where all classes would be dearer than forward mode or the head."""
    network, inputs = small_nb201(MIXED, 120).double(), images(4, 3, 8, 8)
    scalars = all_scalars(network)
    with borrow(network, inputs, init="keep") as lent:
        exact = jacobian(lent.network, lent.inputs, scalars)
        factors = images(4, 2, 120)
        few = jacobian(
            lent.network,
            lent.inputs,
            scalars,
            cotangents=lambda first, logits: factors[first : first + len(logits)],
            num_cotangents=2,
        )
    assert (exact.engine, few.engine) == ("forward", "reverse")
    assert relative_error(few.jac_BCP, factors @ exact.jac_BCP) < 1e-9


@pytest.mark.parametrize(
    "options",
    [
        {"alpha": 0.5},
        {"weights_per_layer": 3},
        {"scalars": "all"},
        {"batchnorm": "running"},
        {"batchnorm": "batch"},
        {"sketch": 2},
    ],
    ids=str,
)
def test_every_other_parameter_changes_the_score_and_is_recorded(options):
    network, inputs = small_nb201(MIXED, 5).double(), images(4, 3, 8, 8)
    assert abs(compute(network, inputs, **options)["vkdnw"] - compute(network, inputs)["vkdnw"]) > 1e-3
    (proxy,) = make_proxies([{"name": "vkdnw", **options}])
    assert options.items() <= proxy.parameters().items()


@pytest.mark.parametrize(
    "options",
    [
        {"num_tensors": 10},
        {"num_tensors": 10, "tensors": "last"},
        {"num_tensors": 10, "tensors": "random"},
        {"weights_per_tensor": 3},
        {"alpha": 0.5},
        {"root": "exact"},
        {"quantiles": "all"},
        {"batchnorm": "sample"},
    ],
    ids=str,
)
def test_every_parameter_of_the_reference_changes_the_score_and_is_recorded(options):
    network, inputs = small_nb201(MIXED, 5).double(), images(4, 3, 8, 8)
    default, other = (compute(network, inputs, name="vkdnw_official", **o) for o in ({}, options))
    assert abs(default["vkdnw_official"] - other["vkdnw_official"]) > 1e-4
    (proxy,) = make_proxies([{"name": "vkdnw_official", **options}])
    assert options.items() <= proxy.parameters().items()
    assert proxy.columns == tuple(other)


def test_columns_of_the_reference():
    (proxy,) = make_proxies(["vkdnw_official"])
    assert proxy.columns == (
        "vkdnw_official",
        "vkdnw_official_dim",
        *(f"vkdnw_official_decile_{k}" for k in range(1, 10)),
    )
    (proxy,) = make_proxies([{"name": "vkdnw_official", "quantiles": "all"}])
    assert proxy.columns[2:] == tuple(f"vkdnw_official_decile_{k}" for k in range(11))


def test_random_tensors_depend_on_their_number_alone():
    inputs = images(4, 3, 8, 8)
    values = [
        compute(small_nb201(MIXED, 5).double(), inputs, name="vkdnw_official", num_tensors=9, tensors="random", seed=s)
        for s in (1, 2)
    ]
    assert values[0] == values[1]


@pytest.mark.parametrize("num_classes", [2, 10, 120])
def test_network_that_ignores_its_input_is_undefined(num_classes):
    for batchnorm in ("sample", "running", "batch"):
        with pytest.raises(UndefinedScore, match="zero"):
            compute(small_nb201(ALL_NONE, num_classes), images(4, 3, 8, 8).float(), batchnorm=batchnorm)


def test_network_without_layers_is_undefined():
    network = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
    with pytest.raises(UndefinedScore, match="no layer with weights"):
        compute(network, images(4, 3, 8, 8))
    with pytest.raises(UndefinedScore, match="no parameters"):
        compute(network, images(4, 3, 8, 8), name="vkdnw_official")


def test_overflow_is_an_error_that_says_so():
    network = small_nb201(MIXED, 5)
    network.classifier.weight.data.fill_(float("inf"))
    with pytest.raises(FloatingPointError, match="not finite"):
        compute(network, images(4, 3, 8, 8).float())


BAD = [
    ("vkdnw", "alpha", 1.0),
    ("vkdnw", "alpha", -0.1),
    ("vkdnw", "alpha", float("nan")),
    ("vkdnw", "alpha", "much"),
    ("vkdnw", "alpha", None),
    ("vkdnw", "weights_per_layer", 0),
    ("vkdnw", "weights_per_layer", 1.5),
    ("vkdnw", "place", 1.5),
    ("vkdnw", "place", "middle"),
    ("vkdnw", "place", True),
    ("vkdnw", "scalars", "biases"),
    ("vkdnw", "sketch", 0),
    ("vkdnw", "sketch", 2.5),
    ("vkdnw", "engine", "fast"),
    ("vkdnw", "max_memory_mb", 0),
    ("vkdnw", "max_memory_mb", float("nan")),
    ("vkdnw", "max_memory_mb", "1GB"),
    ("vkdnw_official", "num_tensors", 0),
    ("vkdnw_official", "weights_per_tensor", 2.0),
    ("vkdnw_official", "tensors", "middle"),
    ("vkdnw_official", "alpha", 2),
    ("vkdnw_official", "alpha", "0.05"),
    ("vkdnw_official", "alpha_precision", "float8"),
    ("vkdnw_official", "root", "upper"),
    ("vkdnw_official", "quantiles", "some"),
    ("vkdnw_official", "precision", "float16"),
    ("vkdnw_official", "max_memory_mb", -3),
]


@pytest.mark.parametrize(("name", "parameter", "value"), BAD)
def test_bad_parameters(name, parameter, value):
    with pytest.raises(ValueError) as error:
        make_proxies([{"name": name, parameter: value}])
    for text in (name, parameter, repr(value)):
        assert text in str(error.value)
    assert any(word in str(error.value) for word in ("allowed:", "give a", "must be"))


@pytest.mark.parametrize("name", [name for name, cls in PROXIES.items() if "batchnorm" in cls().parameters()])
def test_bad_batch_norm(name):
    with pytest.raises(ValueError, match=r"batchnorm='train' is not known \(allowed: sample, running, batch\)"):
        make_proxies([{"name": name, "batchnorm": "train"}])


def test_entries_of_a_layer():
    """Evenly spread from the first to the last entry, rounded down; a small tensor gives all it has."""
    network = nn.Sequential(nn.Linear(5, 4), nn.Linear(4, 1))
    assert all_scalars(network, "weights", 4) == [
        *(Scalar("0.weight", i) for i in (0, 6, 12, 19)),
        *(Scalar("1.weight", i) for i in (0, 1, 2, 3)),
    ]
    assert [s.index for s in all_scalars(network, "weights", 100)] == [*range(20), *range(4)]
    assert all_scalars(network) == [Scalar("0.weight", 0), Scalar("1.weight", 0)]
