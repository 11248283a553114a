"""Scoring of one network: what fails stays alone, and says why."""

import math
import re

import pytest
import timm
import torch
from proxy_reference import ALL_NONE, IDENTITY, MIXED, images, labelled, small_nb201
from torch import nn

import vkdnw_pl
from vkdnw_pl.proxies import PROXIES, Proxy, ProxyInfo, UndefinedScore, make_proxies
from vkdnw_pl.proxies.scoring import Scores, score, score_network


def make(name, compute, columns=None, graph=None):
    """A proxy of one's own."""

    class Own(Proxy):
        info = ProxyInfo(name=name, title=name, source="here", input="images")

        @property
        def columns(self):
            return columns or (name,)

        @property
        def graph(self):
            return graph

        def compute(self, borrowed):
            return compute(borrowed)

    return Own()


def raising(error):
    def compute(borrowed):
        raise error

    return compute


def run(*proxies, network=None):
    return score_network(network or small_nb201(MIXED, 5), images(4, 3, 8, 8).float(), proxies)


def test_plain_result():
    scores = run(*make_proxies(["vkdnw", "params", "jacov"]))
    assert isinstance(scores, Scores)
    assert not scores.failed
    assert scores.reasons == {}
    assert list(scores.values) == ["vkdnw", *(f"vkdnw_decile_{k}" for k in range(1, 10)), "params", "jacov"]
    assert all(type(value) is float and math.isfinite(value) for value in scores.values.values())
    assert set(scores.seconds) == {"vkdnw", "params", "jacov"}
    assert all(0 <= seconds < 60 for seconds in scores.seconds.values())


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_value_that_is_not_finite_fails_alone(value):
    bad = make("bad", lambda _: {"bad": value, "bad_other": 2.0}, ("bad", "bad_other"))
    scores = run(bad, *make_proxies(["params"]))
    assert scores.failed
    assert scores.values["bad"] is None
    assert scores.values["bad_other"] == 2.0
    assert scores.values["params"] > 0
    assert scores.reasons == {"bad": f"the value is {value}"}


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (RuntimeError("two\n   lines"), "RuntimeError: two lines"),
        (ValueError("wrong"), "ValueError: wrong"),
        (KeyError("missing"), "KeyError: 'missing'"),
        (MemoryError("no room"), "out of memory: no room"),
        (torch.OutOfMemoryError("CUDA out of memory. Tried"), "out of memory: CUDA out of memory. Tried"),
        (AssertionError(), "AssertionError: "),
    ],
)
def test_proxy_that_raises_fails_alone(error, reason):
    scores = run(make("bad", raising(error), ("bad", "worse")), *make_proxies(["params", "jacov"]))
    assert scores.failed
    assert scores.reasons == {"bad": reason, "worse": reason}
    assert scores.values["bad"] is scores.values["worse"] is None
    assert scores.values["params"] > 0
    assert math.isfinite(scores.values["jacov"])


def test_interruption_is_no_failure():
    with pytest.raises(KeyboardInterrupt):
        run(make("slow", raising(KeyboardInterrupt())))


def test_undefined_is_no_failure():
    scores = run(make("odd", raising(UndefinedScore("by definition"))), *make_proxies(["params"]))
    assert not scores.failed
    assert scores.values["odd"] is None
    assert scores.reasons == {"odd": "by definition"}


def test_missing_column_fails():
    scores = run(make("bad", lambda _: {"bad": 1.0}, ("bad", "bad_more")), *make_proxies(["params"]))
    assert scores.failed
    assert scores.values["bad"] is scores.values["bad_more"] is None
    assert "bad_more" in scores.reasons["bad_more"]


@pytest.mark.parametrize("arch", [ALL_NONE, IDENTITY])
def test_degenerate_architectures_are_undefined_and_not_failed(arch):
    images = labelled(torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(0)))
    scores = score_network(small_nb201(arch, 5), images, make_proxies(list(PROXIES)))
    assert not scores.failed, scores.reasons
    undefined = {column for column, value in scores.values.items() if value is None}
    assert undefined == set(scores.reasons)
    if arch == IDENTITY:
        assert undefined == {"trainability"}
    else:
        assert {"vkdnw", "vkdnw_decile_1", "jacov", "expressivity", "progressivity"} <= undefined
        assert scores.values["vkdnw_official"] is not None


class Network(nn.Module):
    def __init__(self, run):
        super().__init__()
        self.linear, self.run = nn.Linear(192, 3), run

    def forward(self, x):
        return self.run(self.linear(x.flatten(1)))


def fail(x):
    raise RuntimeError("no forward today")


@pytest.mark.parametrize(
    ("returns", "reason"),
    [
        (fail, "RuntimeError: no forward today"),
        (lambda x: (x, x), r"ValueError: the network must return logits of shape \(batch, classes\).*tuple"),
        (lambda x: x[:, None], r"ValueError: the network must return logits.*\(\d, 1, 3\)"),
        (lambda x: x.sum(1), r"ValueError: the network must return logits.*\(\d,\)"),
        (lambda x: x * float("nan"), r"not finite|non-finite"),
    ],
)
def test_network_that_does_not_work(returns, reason):
    """Counting parameters and layers needs no forward pass."""
    scores = run(*make_proxies(["vkdnw", "vkdnw_official", "params", "aleph", "jacov"]), network=Network(returns))
    assert scores.failed
    assert scores.values["params"] == 192 * 3 + 3
    assert scores.values["aleph"] == 1
    for name in ("vkdnw", "vkdnw_official", "jacov"):
        assert scores.values[name] is None
        assert re.search(reason, scores.reasons[name]), scores.reasons[name]


def test_broken_values_do_not_harm_the_counts():
    scores = run(*make_proxies(["macs", "params"]), network=Network(lambda x: x * float("inf")))
    assert not scores.failed
    assert scores.values["macs"] == 192 * 3 + 3


def test_network_that_cannot_be_copied():
    """Nothing can be computed, and the caller hears why."""
    with pytest.raises(ValueError, match="uninitialized parameter"):
        run(*make_proxies(["params"]), network=nn.Sequential(nn.Flatten(), nn.LazyLinear(3)))


def test_proxies_of_one_pass_stand_together():
    """Only one shared pass is in memory, so the order of the computation is by pass, of the result as given."""
    order = []

    def note(name):
        return lambda borrowed: order.append(name) or {name: 1.0}

    behaviours = {"a": "batch", "b": "sample", "c": "batch", "d": None, "e": "sample"}
    scores = run(*(make(name, note(name), graph=graph) for name, graph in behaviours.items()))
    assert list(scores.values) == list("abcde")
    assert "".join(order) in {
        "".join(p) for p in (("d", "ac", "be"), ("d", "be", "ac"), ("ac", "be", "d"), ("be", "ac", "d"))
    }


# The short function


def test_five_lines():
    network = timm.create_model("mobilenetv2_050", num_classes=10)
    scores = vkdnw_pl.score(network, (3, 64, 64), 10, ["vkdnw", "macs", {"name": "jacov", "batchnorm": "sample"}], 4)
    assert scores["macs"] == 7_837_450
    assert 0 < scores["vkdnw"] < math.log(9)
    assert math.isfinite(scores["jacov"])
    assert len(scores) == 12


def test_short_function_is_score_network():
    network = small_nb201(MIXED, 5)
    got = score(network, (3, 8, 8), proxies=["vkdnw", "trainability"], batch_size=4, seed=7)
    inputs = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(7))
    assert got == score_network(network, inputs, make_proxies(["vkdnw", "trainability"]), seed=7).values
    assert got != score(network, (3, 8, 8), proxies=["vkdnw", "trainability"], batch_size=4, seed=8)
    assert got != score(network, (3, 8, 8), proxies=["vkdnw", "trainability"], batch_size=4, seed=7, init="keep")


def test_default_proxies():
    assert [c for c in score(small_nb201(MIXED, 5), (3, 8, 8)) if "decile" not in c] == [
        "vkdnw",
        "aleph",
        "macs",
        "params",
    ]


def test_undefined_scores_are_none():
    assert score(small_nb201(ALL_NONE, 5), (3, 8, 8), 5)["vkdnw"] is None


def test_wrong_number_of_classes():
    with pytest.raises(ValueError, match="num_classes=1000 was given, but the network returns 5 logits"):
        score(small_nb201(MIXED, 5), (3, 8, 8), 1000)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"proxies": ["vkdwn"]}, "did you mean 'vkdnw'"),
        ({"init": "xavier"}, "init='xavier' is not known"),
        ({"batch_size": 0}, "batch_size=0 is not allowed"),
        ({"seed": -1}, "seed=-1"),
    ],
)
def test_bad_arguments(options, message):
    with pytest.raises(ValueError, match=message):
        score(small_nb201(MIXED, 5), (3, 8, 8), **options)


def test_failure_of_the_short_function_is_an_error_with_its_reason():
    with pytest.raises(RuntimeError, match="vkdnw: RuntimeError: no forward today"):
        score(Network(fail), (3, 8, 8))
    with pytest.raises(RuntimeError, match="expressivity: ValueError: no module of the network returns a feature map"):
        score(Network(lambda x: x), (3, 8, 8), proxies=["params", "expressivity"])


def test_logits_of_an_odd_shape():
    with pytest.raises(ValueError, match=r"logits of shape \(batch, classes\); for a batch of 2 it gave \(2, 1, 3\)"):
        score(Network(lambda x: x[:, None]), (3, 8, 8), 3)
