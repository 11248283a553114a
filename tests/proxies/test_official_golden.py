"""Numbers that the published code of VKDNW and AZ-NAS returned (``tests/golden/nb201_official.json`` says how)."""

import functools
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from vkdnw_pl.proxies import UndefinedScore, make_proxies
from vkdnw_pl.proxies.az_nas import block_trainability
from vkdnw_pl.proxies.borrow import borrow
from vkdnw_pl.proxies.functional.batchnorm import BatchNormMode
from vkdnw_pl.proxies.functional.fisher import feature_entropy
from vkdnw_pl.proxies.vkdnw import official_fisher
from vkdnw_pl.spaces import NB201

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "nb201_official.json").read_text())
CASES = {case["note"]: case for case in GOLDEN["cases"]}
QUICK = [
    "k=0, all none: the cell gives zeros",
    "k=0, skip on 0->3 only: every cell is the identity",
    "k=0, avg_pool and skip",
    "k=1",
    "k=0, ImageNet16-120 size",
    "k=2, ImageNet16-120 size",
    "k=6, all 1x1, small network",
    "k=3, small network, five classes",
]
VARIANTS = {
    "first_32": {"num_tensors": 32},
    "first_32_four_entries": {"num_tensors": 32, "weights_per_tensor": 4},
    "last_32": {"num_tensors": 32, "tensors": "last"},
    "last_128": {"num_tensors": 128, "tensors": "last"},
}


def number(value):
    return float(value) if isinstance(value, str) else value


@functools.cache
def build(note):
    """The network and the images of a case, by the recipe, in single precision."""
    case = CASES[note]
    network = NB201().build(case["arch"], **{k: case[k] for k in ("channels", "cells", "num_classes", "image_size")})
    rng = np.random.default_rng(case["weight_seed"])
    with torch.no_grad():
        for name, p in network.named_parameters():
            if p.dim() >= 2:
                draw = rng.standard_normal(tuple(p.shape)) * np.sqrt(2 / math.prod(p.shape[1:]))
                p.copy_(torch.from_numpy(draw.astype(np.float32)))
            else:
                p.fill_(1.0 if name.endswith("weight") else 0.0)
    shape = (case["batch"], 3, case["image_size"], case["image_size"])
    images = np.random.default_rng(case["input_seed"]).standard_normal(shape).astype(np.float32)
    return network, torch.from_numpy(images)


def lend(note, dtype=torch.float64):
    network, images = build(note)
    return borrow(network.to(dtype), images.to(dtype), init="keep")


def compute(note, proxy, dtype=torch.float64):
    with lend(note, dtype) as borrowed:
        return make_proxies([proxy])[0].compute(borrowed)


def check_vkdnw(note, golden, dtype=torch.float64, **options):
    """``golden`` of a variant has no singular values; the norm is near the largest."""
    values = compute(note, {"name": "vkdnw_official", "precision": str(dtype).removeprefix("torch."), **options}, dtype)
    largest = golden["frobenius"]
    got = [values[f"vkdnw_official_decile_{k}"] for k in range(1, 10)]
    double = dtype == torch.float64
    np.testing.assert_allclose(got, golden["deciles"], rtol=0, atol=(1e-11 if double else 1e-5) * largest)
    assert values["vkdnw_official"] == pytest.approx(golden["entropy"], abs=2e-9 if double else 0.02)
    assert values["vkdnw_official_dim"] == golden["dim"]


@pytest.mark.parametrize("note", QUICK)
def test_network_of_the_recipe_is_the_same(note):
    for behaviour, key in (("running", "logits_eval"), ("batch", "logits_train")):
        with lend(note) as borrowed, torch.no_grad(), BatchNormMode(behaviour):
            logits = borrowed.network(borrowed.inputs)[0]
        expected = CASES[note]["float64"][key]
        np.testing.assert_allclose(logits, expected, rtol=0, atol=1e-11 * (max(map(abs, expected)) + 1))


@pytest.mark.parametrize("note", QUICK)
def test_vkdnw_official(note):
    check_vkdnw(note, CASES[note]["float64"]["vkdnw_official"])


@pytest.mark.parametrize("note", QUICK)
def test_vkdnw_official_in_single_precision(note):
    check_vkdnw(note, CASES[note]["float64"]["vkdnw_official"], torch.float32)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("note", [note for note in QUICK if "vkdnw_variants" in CASES[note]])
def test_vkdnw_variants(note, variant):
    check_vkdnw(note, CASES[note]["float64"]["vkdnw_variants"][variant], **VARIANTS[variant])


@pytest.mark.parametrize("note", [note for note in QUICK if "vkdnw_variants" in CASES[note]])
def test_first_half_of_the_tensors(note):
    golden = CASES[note]["float64"]["vkdnw_variants"]["first_half"]
    check_vkdnw(note, golden, num_tensors=golden["fim_size"])


@pytest.mark.parametrize("note", QUICK)
def test_jacov(note):
    golden = number(CASES[note]["float64"]["jacov"])
    if math.isnan(golden):
        with pytest.raises(UndefinedScore):
            compute(note, "jacov")
    else:
        assert compute(note, "jacov")["jacov"] == pytest.approx(golden, rel=1e-8)
        assert compute(note, "jacov", torch.float32)["jacov"] == pytest.approx(golden, rel=1e-3)


@pytest.mark.parametrize("note", QUICK)
def test_expressivity_and_progressivity(note):
    golden = CASES[note]["float64"]
    if not math.isfinite(number(golden["expressivity"])):
        for name in ("expressivity", "progressivity"):
            with pytest.raises(UndefinedScore):
                compute(note, name)
        return
    with lend(note) as borrowed:
        entropies = [feature_entropy(tap) for tap in borrowed.taps("batch")]
    np.testing.assert_allclose(entropies, golden["expressivity_per_tap"], rtol=0, atol=1e-7)
    for name in ("expressivity", "progressivity"):
        assert compute(note, name)[name] == pytest.approx(golden[name], rel=1e-7, abs=1e-7)
        assert compute(note, name, torch.float32)[name] == pytest.approx(golden[name], rel=1e-3, abs=1e-3)


def cotangents(case, taps):
    for step, tap in enumerate(reversed(taps[1:])):
        draw = np.random.default_rng(case["cotangent_seed"] + step).integers(0, 2, size=tuple(tap.shape)) * 2 - 1
        yield torch.from_numpy(draw).to(tap)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
@pytest.mark.parametrize("note", QUICK)
def test_trainability_step_by_step(note, dtype):
    case = CASES[note]
    tolerance = 1e-8 if dtype == torch.float64 else 1e-3
    with lend(note, dtype) as borrowed:
        taps = borrowed.taps("batch")
        blocks = zip(reversed(taps[:-1]), reversed(taps[1:]), cotangents(case, taps), strict=True)
        for (before, after, signs), expected in zip(blocks, case["float64"]["trainability_per_step"], strict=True):
            if expected == "-inf":
                with pytest.raises(UndefinedScore):
                    block_trainability(before, after, signs)
            else:
                assert block_trainability(before, after, signs) == pytest.approx(expected, rel=tolerance, abs=tolerance)


@pytest.mark.parametrize("note", QUICK)
def test_trainability(note, monkeypatch):
    """The whole proxy, with the recipe's signs in the place of its own draws."""
    case, golden = CASES[note], number(CASES[note]["float64"]["trainability"])
    with lend(note) as borrowed:
        signs = cotangents(case, borrowed.taps("batch"))
        monkeypatch.setattr(torch, "randint", lambda low, high, shape, **_: (next(signs).reshape(shape) + 1) / 2)
        (proxy,) = make_proxies(["trainability"])
        if math.isinf(golden):
            with pytest.raises(UndefinedScore):
                proxy.compute(borrowed)
        else:
            assert proxy.compute(borrowed)["trainability"] == pytest.approx(golden, rel=1e-8)


def test_exact_root_gives_another_matrix():
    """The reference multiplies by the root L itself, not by its transpose, so it is not the Fisher matrix."""
    jac, logits = torch.randn(3, 10, 6, dtype=torch.float64), torch.randn(3, 10, dtype=torch.float64)
    p = torch.softmax(logits, -1)
    fisher = torch.einsum("bcp,bcd,bdq->pq", jac, torch.diag_embed(p) - p[:, :, None] * p[:, None], jac) / 3
    exact = official_fisher(jac, logits, 0.0, "float64", "exact", torch.float64)
    lower = official_fisher(jac, logits, 0.0, "float64", "lower", torch.float64)
    assert torch.allclose(exact, fisher, rtol=0, atol=1e-14)
    assert (lower - fisher).norm() > 0.05 * fisher.norm()


def test_smoothing_in_half_precision():
    """alpha is 0.04998779 then, one minus it 0.95019531, and the probabilities sum to 1.000183."""
    held = torch.tensor(0.05, dtype=torch.float16)
    assert float(held) == pytest.approx(0.04998779, abs=1e-8)
    assert float(1 - held) == pytest.approx(0.95019531, abs=1e-8)
    jac, logits = torch.eye(10, dtype=torch.float64)[None], torch.zeros(1, 10, dtype=torch.float64)
    half = official_fisher(jac, logits, 0.05, "float16", "lower", torch.float64)
    full = official_fisher(jac, logits, 0.05, "float64", "lower", torch.float64)
    assert 1e-5 < float((half - full).abs().max()) < 1e-3
