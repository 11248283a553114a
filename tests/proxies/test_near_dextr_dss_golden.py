"""Numbers that the published codes of NEAR, Dextr and DSS returned (``tests/golden/near_dextr_dss_official.json``)."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import timm
import torch

from vkdnw_pl.proxies import make_proxies, near
from vkdnw_pl.proxies.borrow import borrow
from vkdnw_pl.proxies.dextr import curvature, derivatives
from vkdnw_pl.spaces import NB201

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "near_dextr_dss_official.json").read_text())


def build(case):
    if case["network"] == "nb201":
        names = ("channels", "cells", "num_classes", "image_size")
        network = NB201().build(case["arch"], **{name: case[name] for name in names})
    else:
        sizes = {"img_size": case["image_size"], "num_classes": case["num_classes"], **case["options"]}
        network = timm.create_model(case["arch"], **sizes)
    for module in network.modules():
        if hasattr(module, "fused_attn"):
            module.fused_attn = False  # the originals differentiate twice, and see the attention that is dropped out
    rng = np.random.default_rng(case["weight_seed"])
    network = network.double()
    with torch.no_grad():
        for name, p in network.named_parameters():
            if p.dim() >= 2:
                value = rng.standard_normal(tuple(p.shape)) * np.sqrt(2 / math.prod(p.shape[1:]))
            else:
                value = 0.1 * rng.standard_normal(tuple(p.shape)) + (1.0 if name.endswith("weight") else 0.0)
            p.copy_(torch.from_numpy(value))
    return network


def lend(case):
    shape = (case["batch"], 3, case["image_size"], case["image_size"])
    return borrow(
        build(case), torch.from_numpy(np.random.default_rng(case["input_seed"]).standard_normal(shape)), init="keep"
    )


def number_of(case):
    return case["weight_seed"]


@pytest.mark.parametrize("case", GOLDEN["near"], ids=number_of)
def test_near(case, monkeypatch):
    draws, ranks = iter(case["draws"]), []

    def official_block(rows, step, _generator):
        """Multiples of the width of a map, without the last ones, and cut off at the end of the rows."""
        width = rows.shape[1] if step == 1 else step
        start = next(draws) * width if len(rows) >= rows.shape[1] and len(rows) // width - 1 > 0 else 0
        return rows[start : start + rows.shape[1]]

    rank = near.effective_rank
    monkeypatch.setattr(near, "block", official_block)
    monkeypatch.setattr(near, "effective_rank", lambda matrix: ranks.append(rank(matrix)) or ranks[-1])
    with lend(case) as borrowed:
        (proxy,) = make_proxies(["near"])
        score = proxy.compute(borrowed)["near"]
    assert next(draws, None) is None
    assert sorted(ranks) == pytest.approx(sorted(case["ranks"]), rel=1e-9)
    assert score == pytest.approx(case["near"], rel=1e-10)


@pytest.mark.parametrize("case", GOLDEN["dextr"], ids=number_of)
def test_dextr(case):
    draw = np.random.default_rng(case["curve_seed"]).standard_normal((3 * case["image_size"] ** 2, 2))
    basis = torch.linalg.svd(torch.from_numpy(draw), full_matrices=False).U
    basis = basis * (basis[0].sign() * torch.tensor(case["curve_start"]).sign())  # a singular vector has either sign
    assert basis[0].tolist() == pytest.approx(case["curve_start"], rel=1e-9)
    with lend(case) as borrowed:
        (proxy,) = make_proxies([{"name": "dextr", "modules": "all"}])
        a = proxy.compute(borrowed)["dextr_condition"]
        u, w = (each.reshape(borrowed.inputs.shape) for each in basis.T)
        first, second = derivatives(borrowed.network, u, w, "sample")
    b = math.log1p(curvature(first[case["outputs"]], second[case["outputs"]]))
    assert a == pytest.approx(math.log1p(case["sum_of_ratios"]), rel=1e-9)
    assert b == pytest.approx(math.log1p(case["kappa"]), rel=1e-7)
    assert a * b / (a + b) == pytest.approx(case["dextr"], rel=1e-7)


@pytest.mark.parametrize("case", GOLDEN["dss"], ids=number_of)
def test_dss(case):
    with lend(case) as borrowed:
        (proxy,) = make_proxies(["dss"])
        assert proxy.compute(borrowed)["dss"] == pytest.approx(case["dss"], rel=1e-10)
