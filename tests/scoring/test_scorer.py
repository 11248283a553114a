"""What the space knows is what the built network has, and no network is built for it."""

import pytest
import torch

from vkdnw_pl.networks.nb201_cell import OPS
from vkdnw_pl.proxies import PROXIES, Proxy, make_proxies
from vkdnw_pl.proxies.counts import Macs
from vkdnw_pl.proxies.scoring import score_network
from vkdnw_pl.scoring.scorer import Scorer
from vkdnw_pl.scoring.settings import ScorerSettings
from vkdnw_pl.spaces import MBV2, NB201, SPACES
from vkdnw_pl.spaces.timm_zoo import TimmZoo

COUNTS = ["macs", "params", "aleph", "layers"]
RESIDUALS = "".join(
    f"SuperResIDWE{expansion}K{kernel}(8,{out},{stride},{narrow},{depth})"
    f"SuperResIDWE{expansion}K{kernel}({out},8,1,{narrow},1)"
    for expansion, kernel, out, stride, narrow, depth in (
        (1, 3, 16, 2, 8, 2),
        (2, 5, 8, 1, 8, 2),
        (4, 7, 12, 1, 16, 1),
        (6, 3, 8, 2, 24, 3),
    )
)
MIXED = "SuperConvK3BNRELU(3,8,2,2)" + RESIDUALS + "SuperConvK1BNRELU(8,20,1,1)"
SMALL = {"channels": 4, "cells": 1, "image_size": 8}
NETWORKS = [
    *(("nb201", f"index:{','.join([str(op)] * 6)}", SMALL) for op in range(len(OPS))),
    ("nb201", "index:0,3,2,1,4,0", SMALL),  # convolutions out of reach are built and run as well
    ("nb201", "index:3,2,0,1,4,3", {**SMALL, "cells": 2, "num_classes": 7, "image_size": 12, "in_channels": 1}),
    ("nb201", "index:2,3,3,3,1,1", {**SMALL, "cells": 0, "bn_affine": False, "bn_track_running_stats": False}),
    ("mbv2", MIXED, {"image_size": 33, "num_classes": 7}),
    ("mbv2", MIXED, {"image_size": 24, "use_se": True}),
]


def make_scorer(space, proxies, network):
    return Scorer(
        ScorerSettings(
            space=space,
            network=network,
            proxies=proxies,
            batch_size=2,
            input="random",
            data="random",
            init="auto",
            device="cpu",
        )
    )


def forbidden(*_, **__):
    raise AssertionError("no network is needed")


@pytest.mark.parametrize(("name", "arch", "options"), NETWORKS)
def test_what_is_counted_in_closed_form_is_what_the_built_network_has(monkeypatch, name, arch, options):
    space = SPACES[name]
    network = space.build(arch, **options)
    images = torch.randn(2, *space.input_size(**options), generator=torch.Generator().manual_seed(0))
    expected = score_network(network, images, make_proxies(COUNTS)).values
    assert None not in expected.values()
    monkeypatch.setattr(type(space), "build", forbidden)
    proxies = [*COUNTS, {"name": "macs", "label": "flops", "init": "pytorch"}]
    row = make_scorer(name, proxies, options).row(arch, 1)
    assert row.values == {**expected, "flops": expected["macs"]}
    assert not row.failed


def test_a_row_of_all_kinds_is_that_of_the_built_network(monkeypatch):
    arch, proxies = "index:3,2,0,1,4,3", ["synflow", "macs", "aleph"]
    row = make_scorer("nb201", proxies, SMALL).row(arch, 1)
    monkeypatch.setattr(NB201, "aleph", lambda *_, **__: None)  # as of a space without closed form
    monkeypatch.setattr(NB201, "layers", lambda *_: None)
    built = make_scorer("nb201", proxies, SMALL).row(arch, 1)
    assert row.same_scores(built)
    assert list(row.values) == proxies


def test_options_that_no_network_can_have_are_a_failed_row():
    row = make_scorer("nb201", COUNTS, {**SMALL, "image_size": 9}).row("index:3,2,0,1,4,3", 1)
    assert row.failed
    assert "must be a multiple of 4" in row.reason


def test_without_closed_form_the_network_is_built(monkeypatch):
    """timm's models, whose `cost` leaves out biases: other MACs than the proxy's."""
    network = torch.nn.Sequential(torch.nn.Conv2d(3, 2, 3), torch.nn.Flatten(), torch.nn.Linear(2 * 36, 5))
    monkeypatch.setattr(TimmZoo, "build", lambda self, arch, **network_options: network)
    row = make_scorer("timm_zoo", COUNTS, {"image_size": 8}).row("resnet18", 1)
    assert row.values == {"macs": 36 * 2 * 28 + 73 * 5, "params": 56 + 73 * 5, "aleph": 2, "layers": 2}


def test_a_proxy_that_computes_something_else_does_not_inherit_the_closed_form():
    class Half(Macs):
        def compute(self, borrowed):
            return {"macs": super().compute(borrowed)["macs"] / 2}

    arch, network = MBV2().validate("mbv2_480m"), {"image_size": 32}
    assert PROXIES["macs"]().closed_form(MBV2(), arch, network)["macs"] > 0
    assert Half().closed_form(MBV2(), arch, network) is None
    assert Half.closed_form is Proxy.closed_form
