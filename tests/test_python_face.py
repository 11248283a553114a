"""What Python code calls: `vkdnw_pl.score` with one's own images, `rank`, and the records of runs as tables."""

import copy
import math
import warnings
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, IterableDataset, SubsetRandomSampler, TensorDataset

import vkdnw_pl
from vkdnw_pl.api.runs import RunTables
from vkdnw_pl.data import Digits
from vkdnw_pl.data.given_images import given_images
from vkdnw_pl.proxies import make_proxies
from vkdnw_pl.ranking import NAMED_SETS, columns_of
from vkdnw_pl.ranking.needed import with_proxies_of
from vkdnw_pl.report.labels import TrainedNetwork

DATA_PROXIES = ["jacov", "snip"]


def small_network(channels=4, classes=5, inputs=3):
    return nn.Sequential(
        *(nn.Conv2d(inputs, channels, 3), nn.BatchNorm2d(channels), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()),
        nn.Linear(channels, classes),
    )


@pytest.fixture(scope="module")
def pictures():
    """(images, labels): 40 of 8 pixels, in the order of their classes."""
    generator = torch.Generator().manual_seed(0)
    return torch.randn(40, 3, 8, 8, generator=generator), torch.arange(40) // 8


def score(images, proxies=DATA_PROXIES, network=None, **options):
    return vkdnw_pl.score(network or small_network(), proxies=proxies, images=images, batch_size=8, **options)


def test_images_of_any_kind_are_the_same_images(pictures, tmp_path):
    np.savez(tmp_path / "my.npz", images=pictures[0].numpy(), labels=pictures[1].numpy())
    network = small_network()
    by_name = vkdnw_pl.score(network, (3, 8, 8), 5, DATA_PROXIES, 8, data=str(tmp_path / "my.npz"))
    data = TensorDataset(*pictures)
    for images in (pictures, list(pictures), DataLoader(data, 4), DataLoader(data, 64, shuffle=True)):
        assert score(images, network=network) == by_name
    assert score(pictures, network=network, seed=2)["jacov"] != by_name["jacov"]
    assert score(pictures[0], ["jacov"], network=network)["jacov"] == by_name["jacov"]
    digits = vkdnw_pl.score(network, (3, 8, 8), proxies=["jacov"], batch_size=8)
    assert digits["jacov"] != by_name["jacov"]


def test_images_are_those_that_were_given(pictures):
    """A seeded draw of different classes, taken as they are; the second batch has others."""
    its = given_images(pictures, 8, seed=1)
    assert its.input_size == (3, 8, 8)
    first, second = its.batches(0), its.batches(1)
    whole = {tuple(image.flatten().tolist()) for image in pictures[0]}
    drawn = [tuple(image.flatten().tolist()) for image in torch.cat([first.images, second.images])]
    assert len(set(drawn)) == 16
    assert set(drawn) <= whole
    assert len(first.labels.unique()) > 1


class Stream(IterableDataset):
    def __init__(self, pictures):
        self.pictures, self.taken = pictures, 0

    def __iter__(self):
        for image, label in zip(*self.pictures):
            self.taken += 1
            yield image, label


def test_other_loaders_are_read_from_the_beginning_as_far_as_needed(pictures):
    stream = Stream(pictures)
    its = given_images(DataLoader(stream, batch_size=4), 8, seed=1)
    assert torch.equal(its.batches(0).images, pictures[0][:8])
    assert stream.taken == 8
    assert torch.equal(its.batches(1).images, pictures[0][8:16])
    generator = torch.Generator().manual_seed(3)
    data = TensorDataset(*pictures)
    loader = DataLoader(data, 4, sampler=SubsetRandomSampler(range(8), generator), generator=generator)
    state, torch_state = generator.get_state(), torch.get_rng_state()
    batch = given_images(loader, 8, seed=1).batches(0)
    assert set(batch.labels.tolist()) == {0}  # the part that the sampler chooses
    assert torch.equal(generator.get_state(), state)
    assert torch.equal(torch.get_rng_state(), torch_state)


class Module:
    """The protocol of a data module, of no class of Lightning."""

    num_classes, input_size = 5, (3, 8, 8)

    def __init__(self, pictures):
        self.pictures, self.stages = pictures, []

    def prepare_data(self):
        self.stages.append("prepare")

    def setup(self, stage):
        self.stages.append(stage)

    def train_dataloader(self):
        return DataLoader(TensorDataset(*self.pictures), batch_size=4, shuffle=True)


def test_data_modules(pictures):
    network = small_network()
    module = Module(pictures)
    assert score(module, network=network) == score(pictures, network=network)
    assert module.stages == ["prepare", "fit"]
    with pytest.raises(ValueError, match=r"the data module in images has 5 classes .*network returns 7 logits"):
        score(Module(pictures), network=small_network(classes=7))
    assert score(Module(pictures), network=small_network(classes=7), num_classes=7)["snip"] is not None
    digits = Digits(num_workers=0)
    expected = digits.proxy_batch(8, seed=1)
    assert torch.equal(given_images(digits, 8, seed=1).batches(0).images, expected.images)


@pytest.mark.parametrize(
    ("change", "options", "text"),
    [
        (lambda x, y: x, {}, r"images has no labels, which snip need: give \(images, labels\)"),
        (lambda x, y: x[:4], {}, r"batch_size=8 needs more than the 4 images of 'images'"),
        (lambda x, y: (x * 255).byte(), {}, r"images of torch.uint8 are not allowed: give floating-point"),
        (lambda x, y: (x, y.float()), {}, r"labels torch.float32 \(40,\) are not allowed"),
        (lambda x, y: (x, y[:3]), {}, r"labels torch.int64 \(3,\) are not allowed: needed .* of shape \(40,\)"),
        (lambda x, y: (x, y + 3), {}, r"images has a label \d, and snip need labels below 5"),
        (lambda x, y: (x / 0, y), {}, "values that are not finite"),
        (lambda x, y: (x, y), {"input_size": (3, 9, 9)}, r"input_size=\(3, 9, 9\) was given, but images has .*8, 8"),
        (lambda x, y: (x, y), {"num_classes": 6}, "num_classes=6 was given, but the network returns 5"),
        (lambda x, y: (x, y), {"data": "digits"}, "data='digits' has no meaning beside images"),
        (lambda x, y: (x, y), {"inputs": torch.zeros(2, 3, 8, 8)}, "batch_size=8 has no meaning beside inputs"),
        (lambda x, y: iter(DataLoader(TensorDataset(x, y))), {}, "images is an iterator, which would be used up"),
        (lambda x, y: "my.npz", {}, "images='my.npz' is not allowed: names, files and class paths are given as data"),
        (lambda x, y: TensorDataset(x, y), {}, "images=TensorDataset is not allowed: give a tensor"),
        (lambda x, y: DataLoader([{"x": x[0]}], 1), {}, "needs more than the 1 images|a batch is dict; needed"),
    ],
)
def test_wrong_images_are_said(pictures, change, options, text):
    with pytest.raises(ValueError, match=text):
        score(change(*pictures), **{"num_classes": 5, **options})


def test_images_that_nobody_looks_at_are_said(pictures):
    with pytest.warns(UserWarning, match=r"images has no effect: .*'name': 'vkdnw', 'images': 'data'"):
        random = score(pictures, ["vkdnw"])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        own = score(pictures, [{"name": "vkdnw", "images": "data"}])
    assert own["vkdnw"] != random["vkdnw"]


def test_a_ranking_is_no_proxy_of_one_network():
    text = (
        "'vkdnw_agg' is a ranking, which orders several networks by their values of aleph, vkdnw, jacov, expressivity"
    )
    with pytest.raises(ValueError, match=text):
        vkdnw_pl.score(small_network(), proxies=["vkdnw_agg"])
    with pytest.raises(ValueError, match=r"several networks are ranked by vkdnw_pl\.rank"):
        vkdnw_pl.score({"a": small_network()})


@pytest.mark.parametrize("name", NAMED_SETS)
def test_a_ranking_stands_for_its_proxies(name):
    proxies = make_proxies(with_proxies_of([], ["macs", name]))
    assert set(columns_of(NAMED_SETS[name])) <= {column for proxy in proxies for column in proxy.table_columns}


class Broken(nn.Module):
    def forward(self, images):
        raise RuntimeError("not today")


def test_rank(pictures):
    networks = {"small": small_network(2), "large": small_network(9), "broken": Broken(), "meta": None}
    networks["meta"] = nn.Linear(3, 5, device="meta")
    before = copy.deepcopy(networks["small"].state_dict())
    table = vkdnw_pl.rank(networks, "macs", images=pictures, batch_size=8, proxies=["vkdnw_single", "jacov"])
    assert list(table.index) == ["large", "small", "broken", "meta"]
    assert table.columns[:3].tolist() == ["rank", "score", "vkdnw_single"]
    assert table["rank"].tolist()[:3] == [1, 2, 3]
    assert table["score"].dropna().is_monotonic_decreasing
    assert math.isnan(table.loc["meta", "rank"])
    assert "meta device" in table.loc["meta", "reason"]
    assert "not today" in table.loc["broken", "reason"]
    assert table.loc["large", "reason"] == ""
    assert table.loc["large", "macs"] == vkdnw_pl.score(networks["large"], (3, 8, 8), proxies=["macs"])["macs"]
    assert all(torch.equal(before[name], value) for name, value in networks["small"].state_dict().items())


def test_rank_refuses_what_is_wrong_for_all():
    two = {"a": small_network(), "b": small_network()}
    for networks, options, text in [
        (small_network(), {}, "networks=Sequential is not allowed: a ranking orders several"),
        ({"a": small_network()}, {}, "networks=1 is not allowed"),
        ({**two, "c": "resnet"}, {}, "networks: 'c' is 'resnet'"),
        (two, {"ranking": "vkdnw_ag"}, "ranking='vkdnw_ag': .* did you mean 'vkdnw_agg'"),
        (two, {"proxies": ["no"]}, "proxies: 'no' is not known"),
        (two, {"proxies": "macs"}, "proxies: 'macs' is one text"),
        (two, {"batch_size": 0}, "batch_size=0 is not allowed"),
    ]:
        with pytest.raises(ValueError, match=text):
            vkdnw_pl.rank(networks, **options)


NB201 = {"network": {"channels": 2, "cells": 1, "image_size": 8}, "batch_size": 4, "oracle": None, "progress": False}


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory):
    """Of `score_space` with a folder, and what it returned."""
    folder = tmp_path_factory.mktemp("runs") / "score"
    options = {**NB201, "oracle": "digits"}
    return folder, vkdnw_pl.score_space("nb201", "sample:3", ["vkdnw_single"], workers=1, out=folder, **options)


def test_a_space_in_memory_is_that_of_the_command(run_folder):
    network = small_network()
    network(torch.zeros(2, 3, 8, 8)).sum().backward()  # as in a notebook, before workers are forked
    table = vkdnw_pl.score_space("nb201", "sample:3", ["vkdnw_single"], workers=2, **NB201)
    assert table.columns[:5].tolist() == ["arch", "seed", "vkdnw_single", "aleph", "vkdnw"]
    assert table["vkdnw_single"].is_monotonic_increasing
    assert table["status"].tolist() == ["ok"] * 3
    columns = [name for name in table.columns if name != "seconds"]
    assert table[columns].equals(run_folder[1][columns])
    for options, text in [
        ({"batchsize": 3}, "batchsize is no option of score; did you mean 'batch_size'"),
        ({"archs": "sample:0"}, "archs='sample:0' is not allowed"),
        ({"proxies": "macs"}, "is one text"),
    ]:
        with pytest.raises(ValueError, match=text):
            vkdnw_pl.score_space(**{"workers": 1, **options})


def test_read_run(run_folder):
    folder, table = run_folder
    run = vkdnw_pl.read_run(folder)
    assert (run.kind, run.status, run.config["archs"]) == ("score", "finished", "sample:3")
    assert run.meta["command"] == "score"
    assert run.scores.equals(vkdnw_pl.read_scores(folder / "scores.csv"))
    assert run.scores.equals(vkdnw_pl.read_scores(folder))
    assert run.ranking["vkdnw_single"].to_dict() == table.set_index("arch")["vkdnw_single"].to_dict()
    assert run.metrics["kendall"].dtype == float
    assert (run.history, run.found, run.results, run.proxy_drift, run.labels) == (None,) * 5
    assert repr(run).startswith("<score run ")
    with pytest.raises(ValueError, match="does not exist"):
        vkdnw_pl.read_run(folder / "no")
    (folder / "bad.csv").write_text("arch,vkdnw\na,b\n")
    with pytest.raises(ValueError, match=r"bad\.csv.*line 2"):
        vkdnw_pl.read_scores(folder / "bad.csv")


def test_the_package_lists_what_it_has():
    assert all(getattr(vkdnw_pl, name) is not None for name in vkdnw_pl.__all__)
    assert set(vkdnw_pl.__all__) <= set(dir(vkdnw_pl))
    with pytest.raises(AttributeError, match="no attribute 'scores'"):
        vkdnw_pl.scores  # noqa: B018


def test_labels_are_a_row_for_each_training():
    networks = [TrainedNetwork("a", "found", "found", 5.0, 2.0, {1: 90.0, 0: 80.0}, {2: "ended"})]
    run = RunTables(SimpleNamespace(path="p", command="label", status="finished", notes=(), config={}, meta={}))
    run._run.trained = networks
    assert run.labels["seed"].tolist() == [0, 1, 2]
    assert run.labels["accuracy"].tolist()[:2] == [80.0, 90.0]
    assert run.labels["reason"].tolist() == ["", "", "ended"]
