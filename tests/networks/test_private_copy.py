"""Copies that compute what the network computes."""

import threading

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
