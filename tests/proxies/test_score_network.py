"""Scoring of one network: what fails stays alone, and says why."""

import copy
import math
import re
import threading

import numpy as np
import pytest
import timm
import torch
from proxy_reference import ALL_NONE, IDENTITY, MIXED, images, labelled, small_nb201
from torch import nn

import vkdnw_pl
from vkdnw_pl.api.networks import score
from vkdnw_pl.data.batches import Batch
from vkdnw_pl.proxies import PROXIES, Proxy, ProxyInfo, UndefinedScore, make_proxies
from vkdnw_pl.proxies.scoring import Images, Scores, score_network


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
        assert undefined == {"trainability", "dss"}
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
    assert list(scores) == ["vkdnw", "macs", "jacov"]
    assert scores.reasons == {}


def test_short_function_is_score_network():
    network = small_nb201(MIXED, 5)
    got = score(network, (3, 8, 8), proxies=["vkdnw", "trainability"], batch_size=4, seed=7, details=True)
    inputs = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(7))
    assert got == score_network(network, inputs, make_proxies(["vkdnw", "trainability"]), seed=7).values
    for change in ({"seed": 8}, {"seed": 7, "init": "keep"}):
        other = score(network, (3, 8, 8), proxies=["vkdnw", "trainability"], batch_size=4, **change)
        assert other["vkdnw"] != got["vkdnw"]


def test_default_proxies():
    assert list(score(small_nb201(MIXED, 5), (3, 8, 8))) == ["vkdnw", "aleph", "macs", "params"]


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
        ({"input_size": ()}, r"input_size=\(\)"),
        ({"input_size": (3, 0, 8)}, r"input_size=\(3, 0, 8\)"),
        ({"inputs": torch.zeros(0, 3)}, "inputs=.* is not allowed: give a tensor"),
        ({"inputs": torch.zeros(2, 3, 8, 8), "batch_size": 4}, "batch_size=4 has no meaning beside inputs"),
        (
            {"input_size": (12,), "data": "digits", "proxies": ["jacov"]},
            r"'digits' has images .* the inputs are \(12,\)",
        ),
    ],
)
def test_bad_arguments(options, message):
    size = {} if options.keys() & {"input_size", "inputs"} else {"input_size": (3, 8, 8)}
    with pytest.raises(ValueError, match=message):
        score(small_nb201(MIXED, 5), **size, **options)


def test_no_network():
    with pytest.raises(ValueError, match=r"network='resnet18' is not allowed: give a torch\.nn\.Module"):
        score("resnet18")


def test_nothing_computed_is_lost():
    """One proxy that the network is not made for takes nothing away from the others."""
    names = ["params", "vkdnw", "zen", "jacov"]
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3))
    scores = score(network, (3, 8, 8), proxies=names, batch_size=4)
    assert list(scores) == names
    assert scores["params"] == 127
    assert all(math.isfinite(scores[name]) for name in ("vkdnw", "jacov"))
    assert scores["zen"] is None
    assert scores.reasons.keys() == {"zen"}
    assert "final_map" in scores.reasons["zen"]
    with pytest.raises(RuntimeError, match="zen: ValueError: the network has no known last feature map"):
        score(network, (3, 8, 8), proxies=names, batch_size=4, strict=True)
    assert score(small_nb201(ALL_NONE, 5), (3, 8, 8), 5, strict=True).reasons.keys() == {"vkdnw"}, "no failure"


def test_failing_network():
    assert score(Network(fail), (3, 8, 8), proxies=["params", "zico", "macs"])["params"] == 579
    with pytest.raises(RuntimeError, match="vkdnw: RuntimeError: no forward today"):
        score(Network(fail), (3, 8, 8), strict=True)


@pytest.mark.parametrize(
    ("returns", "got"),
    [
        (lambda x: x[:, None], r"it gave \(\d+, 1, 3\)"),
        (lambda x: {"logits": x}, "it gave dict"),
        (lambda x: (x, x), "it gave tuple"),
    ],
)
def test_what_is_no_logits(returns, got):
    scores = score(Network(returns), (3, 8, 8), 3, ["params", "vkdnw", "grad_norm"])
    assert scores["params"] == 579
    for name in ("vkdnw", "grad_norm"):
        assert re.search(rf"logits of shape \(batch, classes\).*{got}.*: wrap it in a module", scores.reasons[name])


class TwoInputs(nn.Linear):
    def forward(self, x, y):
        return nn.functional.linear(x + y, self.weight, self.bias)


@pytest.mark.parametrize("script", [False, True])
@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_two_inputs(script):
    network = torch.jit.script(TwoInputs(12, 3)) if script else TwoInputs(12, 3)
    scores = score(network, (12,), proxies=["params", "macs"])
    assert scores["params"] == 39
    assert re.search(r"forward\(\) .*missing.*y.*; wrap the network in a module whose forward", scores.reasons["macs"])


class Recurrent(nn.Module):
    def __init__(self, tokens=None):
        super().__init__()
        self.embedding = nn.Identity() if tokens is None else nn.Embedding(tokens, 8)
        self.lstm, self.head = nn.LSTM(8, 16, batch_first=True), nn.Linear(16, 10)

    def forward(self, x):
        return self.head(self.lstm(self.embedding(x))[0][:, -1])


def line_network():
    layers = nn.Conv1d(3, 8, 3), nn.BatchNorm1d(8), nn.ReLU(), nn.Conv1d(8, 8, 3), nn.ReLU()
    return nn.Sequential(*layers, nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(8, 10))


def layers_network():
    return nn.Sequential(nn.Linear(12, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))


FOR_IMAGES = {"expressivity", "linear_regions", "meco", "progressivity", "trainability"}


@pytest.mark.filterwarnings("ignore::vkdnw_pl.proxies.functional.jacobian.GenericFallback")
@pytest.mark.parametrize(
    ("make", "given", "without", "macs"),
    [
        (line_network, {"input_size": (3, 64)}, {"zen", "wrcor"}, 62 * 8 * 10 + 60 * 8 * 25 + 90),
        (layers_network, {"input_size": (12,)}, {"zen", "dextr", "wrcor"}, 64 * 13 + 64 * 65 + 10 * 65),
        (Recurrent, {"input_size": (20, 8)}, {"zen", "naswot", "swap", "wrcor"}, 20 * 4 * 16 * 24 + 160),
        (
            lambda: Recurrent(50),
            {"inputs": torch.arange(96).reshape(8, 12) % 50},
            {
                "zen",
                "naswot",
                "swap",
                "wrcor",
                "jacov",
                "epe_nas",
                "synflow",
                "zico",
                "dextr",
            },  # no derivative by a number; one batch
            12 * 4 * 16 * 24 + 160,
        ),
    ],
)
def test_inputs_that_are_no_images(make, given, without, macs):
    """What needs images says so; all else has a value."""
    size = {} if "inputs" in given else {"batch_size": 8}
    scores = score(make(), proxies=list(PROXIES), **given, **size)
    assert scores.reasons.keys() == FOR_IMAGES | without | {"dss"}
    for name in FOR_IMAGES:
        assert scores.reasons[name].startswith("needs images (channels, height, width); an input of this network is (")
    assert not any("Error" in reason for name, reason in scores.reasons.items() if name not in ("zen", "zico"))
    assert scores["macs"] == macs


def test_given_inputs_are_those_of_the_batch():
    network, images = small_nb201(MIXED, 5), torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(7))
    names = ["vkdnw", "jacov", "grad_norm"]
    drawn = score(network, (3, 8, 8), proxies=names, batch_size=4, seed=7, data="random")
    assert score(network, proxies=names, inputs=images, seed=7) == drawn, "the same images, and the same labels"
    labelled_batch = Batch(images, torch.tensor([0, 1, 2, 3]))
    assert score(network, proxies=names, inputs=labelled_batch, seed=7)["grad_norm"] != drawn["grad_norm"]


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_scripted_network():
    """What passes through it cannot be seen: batch norm and ReLUs among them."""
    layers = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3)
    plain = nn.Sequential(*layers)
    names = ["params", "aleph", "macs", "l2_norm", "vkdnw", "jacov", "naswot", "zen", "synflow"]
    expected = score(plain, (3, 8, 8), proxies=names, batch_size=4)
    for scripted in (torch.jit.script(plain), torch.jit.trace(plain.eval(), torch.zeros(1, 3, 8, 8))):
        scores = score(scripted, (3, 8, 8), proxies=names, batch_size=4)
        assert (scores["params"], scores["aleph"]) == (expected["params"], expected["aleph"])
        assert scores["macs"] == expected["macs"] - 36 * 4 - 3  # without biases, as attention's
        assert scores["l2_norm"] > 0
        assert all("scripted" in scores.reasons[name] for name in names[4:])


def test_parameters_that_nobody_can_draw():
    """The architecture is known all the same."""
    network = small_nb201(MIXED, 5)
    network.stem.register_parameter("scales", nn.Parameter(torch.arange(3.0)))
    scores = score(network, (3, 8, 8), batch_size=4)
    assert scores["params"] == sum(p.numel() for p in network.parameters())
    assert scores["macs"] > 0
    assert scores.reasons.keys() == {"vkdnw"}
    assert scores.reasons["vkdnw"].startswith("stem (Sequential) has a parameter 'scales' (3,) that no known")
    assert score(network, (3, 8, 8), batch_size=4, init="keep").reasons == {}


def test_too_few_images_are_said():
    network = small_nb201(MIXED, 5)
    with pytest.warns(UserWarning, match="jacov has the same value for every network with 1 images; give it more"):
        score(network, (3, 8, 8), proxies=["jacov"], batch_size=1)
    with pytest.warns(UserWarning, match="naswot sees 4 images; it is defined on 64"):
        score(network, proxies=["naswot"], inputs=images(4, 3, 8, 8).float())


def small(classes=5):
    torch.manual_seed(0)
    layers = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    return nn.Sequential(*layers, nn.Linear(4, classes))


class Around(nn.Module):
    """Computes something before or after the small network."""

    def __init__(self, before=lambda x: x, after=lambda x: x):
        super().__init__()
        self.before, self.after = before, after
        self.network = small()

    def forward(self, x):
        return self.after(self.network(self.before(x)))


WITHOUT_IMAGES = {"aleph", "l2_norm", "layers", "log_width", "macs", "params"}


def test_images_that_are_not_finite_give_no_plausible_value():
    inputs = images(4, 3, 8, 8).float()
    inputs[1, 0, 2, 3] = float("nan")
    scores = score(small(), inputs=inputs, proxies=list(PROXIES))
    assert {name for name, value in scores.items() if value is not None} == WITHOUT_IMAGES | {"synflow"}
    assert all("images have values that are not finite" in reason for reason in scores.reasons.values())


@pytest.mark.filterwarnings("ignore:generic Jacobian", "ignore:naswot sees")
def test_logits_that_are_not_finite_give_no_plausible_value():
    scores = score(Around(after=lambda x: x / 0.0), inputs=images(4, 3, 8, 8).float(), proxies=list(PROXIES))
    assert {name for name, value in scores.items() if value is not None} == WITHOUT_IMAGES


@pytest.mark.filterwarnings("ignore:naswot sees")
@pytest.mark.parametrize("first", [torch.arange(3), torch.ones(3, dtype=torch.complex64)])
def test_images_have_the_type_of_the_first_real_parameter(first):
    network = Around(lambda x: x * first.abs().clamp(1, 1)[:, None, None])
    with_parameter = Around(lambda x: x * first.abs().clamp(1, 1)[:, None, None])
    with_parameter.first = nn.Parameter(first, requires_grad=False)
    with_parameter._parameters = {"first": with_parameter.first}  # before those of the modules
    names = ["vkdnw", "naswot", "jacov", "synflow", "macs"]
    inputs = images(4, 3, 8, 8).float()
    assert score(with_parameter, inputs=inputs, proxies=names, init="keep") == pytest.approx(
        score(network, inputs=inputs, proxies=names, init="keep"), rel=1e-6
    )


def test_one_logit_has_no_entropy_and_no_cross_entropy():
    names = ["vkdnw", "vkdnw_official", "grad_norm", "grad_sign", "snip", "fisher", "grasp", "zico"]
    scores = score(small(1), (3, 8, 8), proxies=names, data="random", strict=True)
    assert scores.reasons == {
        **dict.fromkeys(names, "the cross-entropy of one class is 0 for every network"),
        **dict.fromkeys(names[:2], "the deciles of the Fisher spectrum are all zero"),
    }


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
def test_quantised_networks_are_refused():
    quantised = torch.ao.quantization.quantize_dynamic(nn.Sequential(nn.Linear(3, 4)), {nn.Linear})
    with pytest.raises(ValueError, match=r"^0 \(Linear\) is quantised"):
        score(quantised, (3,), proxies=["params"])


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        *[
            ({"seed": seed}, f"seed={seed!r} is not allowed: give a whole number")
            for seed in ("1", 1.5, True, None, -1)
        ],
        ({"batch_size": "8"}, "batch_size='8' is not allowed: give a whole number"),
        ({"input_size": 3}, "input_size=3 is not allowed: give a shape"),
        ({"input_size": "3"}, "input_size='3' is not allowed: give a shape"),
        ({"proxies": None}, "proxies: None is no list"),
        ({"data": 3}, "data=3 is not allowed: give a name"),
        ({"num_classes": "10"}, "num_classes='10' is not allowed: give a whole number"),
        ({"strict": 1}, "strict=1 is not allowed: give true or false"),
        ({"input_size": None, "inputs": torch.ones(2, 3, 8, 8, device="meta")}, "inputs is a tensor without values"),
        ({"input_size": None, "inputs": torch.ones(2, 3, 8, 8).to_sparse()}, "inputs is a tensor without values"),
        ({"network": nn.Linear(2, 2, device="meta")}, "the network is on the meta device"),
    ],
)
def test_arguments_of_a_wrong_kind_are_refused_in_one_sentence(arguments, says):
    given = {"network": small(), "input_size": (3, 8, 8), "proxies": ["vkdnw"], **arguments}
    with pytest.raises(ValueError, match=f"^{re.escape(says)}") as refusal:
        score(**given)
    assert "\n" not in str(refusal.value)


def test_numbers_of_numpy_are_whole_numbers():
    given = score(small(), np.array([3, 8, 8]), np.int64(5), ["vkdnw"], np.int32(4), np.uint8(2))
    assert given == score(small(), (3, 8, 8), 5, ["vkdnw"], 4, 2)


def test_a_network_that_nobody_else_has_is_not_copied_for_its_last_initialisation():
    sources = Images(lambda _: Batch(images(4, 3, 8, 8)), lambda _: Batch(images(6, 3, 8, 8, seed=1)))
    proxies = make_proxies(["l2_norm", "zen", "synflow", "expressivity", "jacov", "trainability"])
    network = small_nb201(MIXED, 5)
    before = copy.deepcopy(network.state_dict())
    kept = score_network(network, sources, proxies)
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())
    used_up = score_network(network, sources, proxies, fresh=True)
    assert kept.values == used_up.values
    assert not torch.equal(network.stem[0].weight, before["stem.0.weight"])


def test_what_is_counted_needs_no_copy():
    network = small()
    network.lock = threading.Lock()
    scores = score(network, (3, 8, 8), proxies=["vkdnw", "params", "layers", "aleph", "macs"])
    counted = score(small(), (3, 8, 8), proxies=["params", "layers", "aleph"])
    assert scores == {"vkdnw": None, **counted, "macs": None}
    assert all("the network Sequential cannot be copied" in scores.reasons[name] for name in ("vkdnw", "macs"))
    with pytest.raises(ValueError, match="the network Sequential cannot be copied"):  # nothing has a value
        score(network, (3, 8, 8), proxies=["vkdnw"])


def test_images_that_no_proxy_sees():
    with pytest.warns(UserWarning, match="^data='digits' has no effect: no proxy among these sees images"):
        score(small(), (3, 8, 8), proxies=["vkdnw"], data="digits")


def test_hooks_on_backward_passes_are_not_dropped_silently():
    network = small()
    network[0].register_full_backward_hook(lambda *_: None)
    with pytest.warns(UserWarning, match=r"^0 \(Conv2d\) has hooks on backward passes, which have no effect"):
        score(network, (3, 8, 8), proxies=["vkdnw", "params", "grad_norm"])


def test_synflow_where_the_network_casts():
    inputs = images(4, 3, 8, 8).float()
    expected = score(small(), inputs=inputs, proxies=["synflow"])
    assert score(Around(lambda x: x.float()), inputs=inputs, proxies=["synflow"]) == expected
    foreign = Around(lambda x: torch.from_numpy(x.detach().numpy().astype("float32")))
    reason = score(foreign, inputs=inputs, proxies=["synflow"]).reasons["synflow"]
    assert reason.startswith("ValueError: synflow is computed in float64; the network casts to another")
