"""Copies that compute what the network computes."""

import functools
import threading
import weakref

import pytest
import torch
from torch import nn
from torch.nn.utils import prune

from vkdnw_pl.networks.private_copy import private_copy

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning")


class Keeps(nn.Module):
    def __init__(self, layer):
        super().__init__()
        self.layer = layer
        self.kept = {}

    def forward(self, x):
        self.kept["last"] = [torch.relu(self.layer(x))]
        return self.kept["last"][0].mean((2, 3))


def pruned():
    layer = nn.Conv2d(3, 4, 3)
    prune.l1_unstructured(layer, "weight", 0.5)
    return prune.random_unstructured(layer, "weight", 0.5)  # once more: the masks are multiplied


@pytest.mark.parametrize(
    "make",
    [
        lambda: nn.Conv2d(3, 4, 3),
        lambda: nn.utils.weight_norm(nn.Conv2d(3, 4, 3)),
        lambda: nn.utils.weight_norm(nn.Conv2d(3, 4, 3), dim=None),
        lambda: nn.utils.spectral_norm(nn.Conv2d(3, 4, 3)),
        lambda: nn.utils.spectral_norm(nn.ConvTranspose2d(3, 4, 3)),
        pruned,
    ],
)
def test_the_same_after_a_forward_pass(make):
    torch.manual_seed(0)
    network, images = Keeps(make()), torch.randn(2, 3, 8, 8)
    network(images)  # its tensor has a graph, which copy.deepcopy refuses
    network.eval()
    copied = private_copy(network).eval()
    torch.testing.assert_close(copied(images), network(images), rtol=1e-6, atol=1e-6)
    assert sum(p.numel() for p in copied.parameters()) == sum(p.numel() for p in network.parameters())
    assert not {p.data_ptr() for p in copied.parameters()} & {p.data_ptr() for p in network.parameters()}
    assert network.kept["last"][0].requires_grad
    assert len(list(network.layer._forward_pre_hooks)) == len(list(make()._forward_pre_hooks))


def test_scripted_copies_are_leaves():
    scripted = torch.jit.script(nn.Sequential(nn.Linear(3, 4)))
    copied = private_copy(scripted)
    assert all(p.is_leaf for p in copied.parameters())
    dict(copied.named_parameters())["0.weight"].data.zero_()
    assert dict(scripted.named_parameters())["0.weight"].any()


def test_what_cannot_be_copied_says_why():
    network = nn.Linear(2, 2)
    network.lock = threading.Lock()
    with pytest.raises(ValueError, match=r"the network Linear cannot be copied: .*lock"):
        private_copy(network)
    with pytest.raises(ValueError, match="uninitialized parameter"):
        private_copy(nn.LazyLinear(3))


class Holder(nn.Module):
    """Has what it computes in functions that see it, of the kind that ``how`` says."""

    def __init__(self, how):
        super().__init__()
        self.layer, self.norm, self.calls = nn.Linear(3, 4), nn.BatchNorm1d(4), []
        calls = self.calls

        def step(x):
            calls.append(1)
            return self.norm(self.layer(x))

        def with_default(x, network=self, *, layer=self.layer):
            return network.norm(layer(x))

        def passed_on(network, x):
            return (lambda: network.norm(self.layer(x)))()

        reference = weakref.ref(self)
        kinds = {
            "cell": lambda x: step(x),
            "default": with_default,
            "partial": functools.partial(passed_on, self),
            "method": self.method,
            "weak": lambda x: reference().method(x),
        }
        self.held = {"all": [("one", kinds[how])]}

    def method(self, x):
        return self.norm(self.layer(x))

    def forward(self, x):
        return self.held["all"][0][1](x)


def check_apart(network, x):
    """The copy computes the same with weights of its own, and nothing of the network changes."""
    network.eval()
    expected, state = network(x), {name: value.clone() for name, value in network.state_dict().items()}
    copied = private_copy(network).eval()
    torch.testing.assert_close(copied(x), expected, rtol=0, atol=0)
    for parameter in copied.parameters():
        parameter.data.zero_()
    assert not copied(x).any()
    copied.train()(x)
    assert all(torch.equal(value, state[name]) for name, value in network.state_dict().items())
    torch.testing.assert_close(network(x), expected, rtol=0, atol=0)
    return copied


@pytest.mark.parametrize("how", ["cell", "default", "partial", "method", "weak"])
def test_functions_see_the_copy(how):
    network = Holder(how)
    check_apart(network, torch.randn(2, 3))
    assert len(network.calls) == (2 if how == "cell" else 0)  # the network's own two passes


def test_forward_of_the_instance_and_hooks_see_the_copy():
    network = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    network.forward = lambda x: network[1](network[0](x))
    network[0].register_forward_hook(lambda module, args, out: out + network[0].bias)
    check_apart(network, torch.randn(2, 3))


def test_hooks_tell_their_caller():
    network, seen = nn.Sequential(nn.Linear(3, 4)), []
    network.register_forward_hook(lambda module, args, out: seen.append(module))
    copied = private_copy(network)
    copied(torch.randn(2, 3))
    assert seen == [copied]


def _first_of_global(x):
    return GLOBAL[0](x)


GLOBAL = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))


def test_functions_that_name_the_network_globally_see_the_copy(monkeypatch):
    monkeypatch.setattr(GLOBAL, "forward", lambda x: GLOBAL[1](_first_of_global(x)), raising=False)
    check_apart(GLOBAL, torch.randn(2, 3))


def test_functions_that_cannot_see_the_copy_are_named():
    network = nn.Sequential(nn.Linear(3, 4))
    weight = network[0].weight
    network[0].steps = [lambda x: x @ weight.T]
    with pytest.raises(ValueError, match=r"^0 \(Linear\): a function in steps closes over a parameter of the network"):
        private_copy(network)
