"""Numbers that the published code of the companion proxies returned (``tests/golden/companions_official.json``)."""

import functools
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from vkdnw_pl.data.batches import Batch
from vkdnw_pl.proxies import UndefinedScore, make_proxies
from vkdnw_pl.proxies.borrow import borrow
from vkdnw_pl.proxies.zen import zen
from vkdnw_pl.spaces import NB201

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "companions_official.json").read_text())
CASES = {case["note"]: case for case in GOLDEN["cases"]}
FULL_SIZE = "k=4, the network of the benchmark"
NONE = "k=0, all none: the cell gives zeros"
QUICK = [note for note in CASES if note != FULL_SIZE]

# Ours, and the codes that have the same definition: (proxy, repository, their key, tolerance, tolerance in float32).
# Tolerances are relative; those of zico are wider because it divides by differences of gradients.
SAME = [
    ("grad_norm", "vkdnw", "grad_norm", 1e-11, 1e-5),
    ({"name": "grad_norm", "norm": "layers"}, "foresight", "grad_norm", 1e-11, 1e-5),
    ("snip", "vkdnw", "snip", 1e-11, 1e-5),
    ("snip", "foresight", "snip", 1e-11, 1e-5),
    ("grasp", "vkdnw", "grasp", 1e-10, 1e-4),
    ("grasp", "foresight", "grasp", 1e-10, 1e-4),
    ("synflow", "vkdnw", "synflow", 1e-11, 1e-11),
    ("synflow", "foresight", "synflow", 1e-11, 1e-11),
    ("naswot", "vkdnw", "naswot", 1e-12, 1e-12),
    ("naswot", "naslib", "nwot", 1e-12, 1e-12),
    ("ntk_condition", "vkdnw", "ntk", 1e-9, 1e-3),
    ("linear_regions", "vkdnw", "linear_regions", 1e-6, 1e-6),
    ("zico", "vkdnw", "zico", 1e-9, 5e-3),
    ("fisher", "foresight", "fisher", 1e-11, 1e-5),
    ("fisher", "naslib", "fisher", 1e-11, 1e-5),
    ("epe_nas", "naslib", "epe_nas", 1e-9, 1e-4),
    ("l2_norm", "foresight", "l2_norm", 1e-12, 1e-6),
    ("l2_norm", "naslib", "l2_norm", 1e-12, 1e-6),
    ("plain", "foresight", "plain", 1e-11, 1e-4),
    ("plain", "naslib", "plain", 1e-11, 1e-4),
]
# Where the original returns a number that says nothing, and ours has no score: its documented deviations.
NO_SCORE = {("zico", NONE): 0.0, ("ntk_condition", NONE): -1e5}


def number(value):
    return float(value) if isinstance(value, str) else value


@functools.cache
def build(note, dtype, weights="weight_seed"):
    """The network of a case by the recipe: values are drawn in float32."""
    case = CASES[note]
    network = NB201().build(case["arch"], **{k: case[k] for k in ("channels", "cells", "num_classes", "image_size")})
    rng = np.random.default_rng(case[weights])
    gaussian = weights == "zen_weight_seed"
    with torch.no_grad():
        for name, p in network.named_parameters():
            centre = 1.0 if name.endswith("weight") else 0.0
            if p.dim() >= 2:
                scale = 1.0 if gaussian else np.sqrt(2 / math.prod(p.shape[1:]))
                value = rng.standard_normal(tuple(p.shape)) * scale
            elif case["vectors"] == "perturbed" and not gaussian:
                value = 0.1 * rng.standard_normal(tuple(p.shape)) + centre
            else:
                value = np.full(tuple(p.shape), centre)
            p.copy_(torch.from_numpy(value.astype(np.float32)))
    return network.to(dtype)


def draw(note, dtype, seed="input_seed"):
    case = CASES[note]
    shape = (case["batch"], 3, case["image_size"], case["image_size"])
    values = np.random.default_rng(case[seed]).standard_normal(shape).astype(np.float32)
    return torch.from_numpy(values).to(dtype)


def numbered(note, dtype):
    """The recipe's two batches."""
    case = CASES[note]

    def batch(index):
        which = "2" if index else ""
        labels = np.random.default_rng(case[f"label_seed{which}"]).integers(
            0, case["label_classes"], size=case["batch"]
        )
        return Batch(draw(note, dtype, f"input_seed{which}"), torch.from_numpy(labels))

    return batch


def compute(note, spec, dtype=torch.float64, images=None):
    if images is None:
        return computed(note, json.dumps(spec), dtype)
    (proxy,) = make_proxies([spec])
    with borrow(build(note, dtype), images, init="keep") as borrowed:
        return proxy.compute(borrowed)[proxy.name]


@functools.cache
def computed(note, spec, dtype):
    """The value for the recipe's batches; several published codes are compared with it."""
    return compute(note, json.loads(spec), dtype, numbered(note, dtype))


def golden(note, repository, key, dtype=torch.float64):
    return number(CASES[note][str(dtype).removeprefix("torch.")][repository][key])


def name_of(proxy):
    return proxy if isinstance(proxy, str) else proxy["name"]


def check(note, proxy, repository, key, tolerance, dtype):
    expected = golden(note, repository, key, dtype)
    if (name_of(proxy), note) in NO_SCORE:
        assert expected == NO_SCORE[name_of(proxy), note]
        expected = math.nan
    if math.isfinite(expected):
        assert compute(note, proxy, dtype) == pytest.approx(expected, rel=tolerance, abs=1e-15)
    else:
        with pytest.raises(UndefinedScore):
            compute(note, proxy, dtype)


@pytest.mark.parametrize("note", QUICK)
@pytest.mark.parametrize(("proxy", "repository", "key", "double", "single"), SAME, ids=str)
def test_value(note, proxy, repository, key, double, single):
    check(note, proxy, repository, key, double, torch.float64)


@pytest.mark.parametrize("note", [NONE, QUICK[3], QUICK[6], QUICK[9]])
@pytest.mark.parametrize(("proxy", "repository", "key", "double", "single"), SAME, ids=str)
def test_value_in_single_precision(note, proxy, repository, key, double, single):
    check(note, proxy, repository, key, single, torch.float32)


FAST = ("grad_norm", "snip", "synflow", "naswot", "linear_regions", "fisher", "epe_nas", "l2_norm", "plain")


@pytest.mark.parametrize(
    ("proxy", "repository", "key", "double", "single"), [row for row in SAME if name_of(row[0]) in FAST], ids=str
)
def test_network_of_the_benchmark(proxy, repository, key, double, single):
    """The proxies that take a few tenths of a second on it."""
    check(FULL_SIZE, proxy, repository, key, double, torch.float64)


@pytest.mark.parametrize("note", QUICK)
def test_logarithm_of_synflow(note):
    """NASLib's query takes the logarithm of the same sum, and leaves a 0 as it is; ours has no score then."""
    expected = golden(note, "foresight", "synflow")
    if expected == 0.0:
        with pytest.raises(UndefinedScore, match="logarithm of 0"):
            compute(note, {"name": "synflow", "log": True})
    else:
        assert compute(note, {"name": "synflow", "log": True}) == pytest.approx(math.log(expected), rel=1e-12)


@pytest.mark.parametrize("note", QUICK)
def test_grad_sign(note):
    """An entry at rounding has a sign of its own, and can change the mean over the weights by 2 / weights."""
    case = CASES[note]
    slack = 2 * case["grad_sign_entries_at_rounding"] / case["weights"]
    assert slack < 1e-4
    assert compute(note, "grad_sign") == pytest.approx(golden(note, "vkdnw", "grad_sign"), rel=0, abs=1e-12 + slack)


@pytest.mark.parametrize("note", QUICK)
def test_linear_regions_of_repeated_images(note):
    images = draw(note, torch.float64)[CASES[note]["repeat"]]
    got = compute(note, "linear_regions", images=images)
    assert got == pytest.approx(golden(note, "vkdnw", "linear_regions_repeated_images"), rel=0, abs=1e-5)
    assert got == 1 if note == NONE else got == len(set(CASES[note]["repeat"]))
    with pytest.raises(UndefinedScore, match="singular"):
        compute(note, "naswot", images=images)


@pytest.mark.parametrize("note", QUICK)
def test_spectrum_of_the_kernel(note, monkeypatch):
    """The official eigenvalues, not only their quotient."""
    batches, spectra = numbered(note, torch.float64), []
    eigvalsh = torch.linalg.eigvalsh
    monkeypatch.setattr(torch.linalg, "eigvalsh", lambda kernel: spectra.append(eigvalsh(kernel)) or spectra[-1])
    expected = CASES[note]["float64"]["vkdnw"]["ntk_eigenvalues"]
    if note == NONE:
        with pytest.raises(UndefinedScore, match="singular"):
            compute(note, "ntk_condition", images=batches)
        assert math.isnan(golden(note, "vkdnw", "ntk_condition_raw"))
    else:
        condition = -compute(note, "ntk_condition", images=batches)
        assert condition == pytest.approx(golden(note, "vkdnw", "ntk_condition_raw"), rel=1e-9)
    np.testing.assert_allclose(spectra[0].detach(), expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("repository", ["vkdnw", "naslib"])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-11), (torch.float32, 1e-5)], ids=str)
@pytest.mark.parametrize("note", QUICK)
def test_zen(note, dtype, tolerance, repository):
    images, noise = draw(note, dtype, "zen_seed"), draw(note, dtype, "zen_noise_seed")
    expected = golden(note, repository, "zen", dtype)
    with borrow(build(note, dtype, "zen_weight_seed"), images, init="keep") as borrowed:
        if math.isinf(expected):
            with pytest.raises(UndefinedScore, match="does not change"):
                zen(borrowed.network, images, images + 0.01 * noise)
        else:
            assert zen(borrowed.network, images, images + 0.01 * noise) == pytest.approx(expected, rel=tolerance)


def test_every_non_finite_number_of_the_file_is_covered():
    """NaN and infinity occur for the all-none network only, and for keys that the tests above compare."""
    found = {
        (note, key)
        for note, case in CASES.items()
        for block in case["float64"].values()
        for key, value in block.items()
        if isinstance(value, str)
    }
    known = {
        "naswot",
        "jacov",
        "jacob_cov",
        "ntk_condition_raw",
        "zen",
        "zen_after_2_train_forwards",
        "epe_nas",
        "nwot",
    }
    assert found == {(NONE, key) for key in known}
