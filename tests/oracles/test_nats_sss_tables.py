import bz2
import os
import pickle
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest

from vkdnw_pl.oracles import load_oracle, nats_sss
from vkdnw_pl.oracles.nats_sss import FOLDER, load_nats_sss, load_nats_sss_val
from vkdnw_pl.spaces import NatsSSS

REAL = Path(__file__).parents[3] / "shared" / "data" / "nats_sss" / FOLDER
ARCHS = list(NatsSSS().enumerate())


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    folder = tmp_path / "cache"
    monkeypatch.setenv("VKDNW_CACHE", str(folder))
    return folder


def write(path, content):
    path.write_bytes(bz2.compress(pickle.dumps(content, protocol=4), 1))


def run(index, dataset, seed, accuracies):
    return {
        "arch_config": {"name": "infer.shape.tiny", "channels": ARCHS[index]},
        "seed": f"{seed:04d}",
        "epochs": 90,
        "train_acc1es": OrderedDict((epoch, 1.0) for epoch in range(90)),
        "eval_acc1es": {f"{images}@{epoch}": 1.0 for images in accuracies for epoch in range(89)}
        | {f"{images}@89": value for images, value in accuracies.items()},
        "net_state_dict": None,
    }


def record(index, seeds=(777,)):
    """As the benchmark's records, with accuracies that tell data set and images; wrong ones before the last epoch."""
    sets = {
        "cifar10-valid": {"x-valid": 70.0, "ori-test": 99.0},
        "cifar10": {"ori-test": 80.0},
        "cifar100": {"x-valid": 50.0, "x-test": np.float32(51.0), "ori-test": 99.0},
        "ImageNet16-120": {"x-valid": 30.0, "x-test": np.float64(31.0), "ori-test": 99.0},
    }
    results = {
        (dataset, seed): run(index, dataset, seed, {name: value + index + seed % 111 for name, value in values.items()})
        for dataset, values in sets.items()
        for seed in seeds
    }
    return OrderedDict(
        arch_index=index, all_results=results, dataset_seed={dataset: list(seeds) for dataset in sets}, arch_str="cell"
    )


def put(folder, index, **others):
    write(folder / f"{index:06d}.pickle.pbz2", OrderedDict({"01": record(index), "90": record(index)} | others))


@pytest.fixture(scope="module")
def meta(tmp_path_factory):
    path = tmp_path_factory.mktemp("meta") / "meta"
    write(path, {"meta_archs": ARCHS, "total_archs": 32768, "arch2infos": None, "evaluated_indexes": set()})
    return path.read_bytes()


@pytest.fixture
def folder(tmp_path, meta):
    """Two records of the benchmark's layout."""
    place = tmp_path / FOLDER
    place.mkdir()
    (place / "meta.pickle.pbz2").write_bytes(meta)
    for index in (0, 9):
        put(place, index)
    return place


def tables(oracle):
    return {dataset: oracle.accuracies(dataset) for dataset in oracle.datasets}


@pytest.mark.skipif(not REAL.is_dir(), reason="the three real records lie in ../shared, which is not here")
def test_real_records():
    archs = ["8:8:8:8:8", "8:8:8:16:32", "8:8:40:32:40"]
    assert tables(load_oracle("nats_sss", REAL.parent, "nats_sss")) == {
        "cifar10": dict(zip(archs, [79.79, 85.77, 89.51])),
        "cifar100": dict(zip(archs, [pytest.approx(value) for value in (32.30, 53.68, 62.70)])),
        "ImageNet16-120": dict(zip(archs, [pytest.approx(value, abs=1e-3) for value in (15.533, 25.467, 32.767)])),
    }
    assert tables(load_oracle("nats_sss_val", REAL, "nats_sss")) == {
        "cifar10-valid": dict(zip(archs, [pytest.approx(value) for value in (76.888, 83.724, 86.796)])),
        "cifar100": dict(zip(archs, [pytest.approx(value) for value in (32.24, 54.46, 62.78)])),
        "ImageNet16-120": dict(zip(archs, [pytest.approx(value, abs=1e-3) for value in (16.60, 25.667, 33.333)])),
    }


def test_test_and_validation_accuracies_of_the_last_epoch(folder):
    archs = [ARCHS[0], ARCHS[9]]
    oracle = load_nats_sss(folder)
    assert tables(oracle) == {
        "cifar10": dict(zip(archs, [80.0, 89.0])),
        "cifar100": dict(zip(archs, [51.0, 60.0])),
        "ImageNet16-120": dict(zip(archs, [31.0, 40.0])),
    }
    assert set(oracle.split.values()) == {"test"}
    assert oracle.network("ImageNet16-120") == {"image_size": 16, "num_classes": 120}
    oracle = load_nats_sss_val(folder)
    assert [*map(list, map(dict.values, tables(oracle).values()))] == [[70.0, 79.0], [50.0, 59.0], [30.0, 39.0]]
    assert oracle.datasets == ("cifar10-valid", "cifar100", "ImageNet16-120")
    assert set(oracle.split.values()) == {"val"}
    assert oracle.network("cifar10-valid") == {}


def test_one_run_and_missing_records_are_said(folder):
    (text,) = load_nats_sss(folder).doubts()
    assert text.startswith("cifar10, cifar100, ImageNet16-120: one training run at 90 epochs")
    assert "with records of 2 of 32,768 networks" in text


def test_several_seeds_are_averaged(folder):
    put(folder, 1, **{"90": record(1, seeds=(777, 778))})
    assert load_nats_sss(folder).accuracies("cifar10")[ARCHS[1]] == 81.5


def test_the_second_time_nothing_is_unpickled(folder, monkeypatch):
    first = load_nats_sss(folder.parent)
    monkeypatch.setattr(nats_sss, "_read_benchmark", lambda folder: pytest.fail("read again"))
    assert load_nats_sss(folder) == first
    assert load_nats_sss_val(folder).accuracies("cifar10-valid") == {ARCHS[0]: 70.0, ARCHS[9]: 79.0}


def test_a_changed_folder_is_read_again(folder):
    load_nats_sss(folder)
    put(folder, 20)
    assert len(load_nats_sss(folder).archs) == 3


class Hostile:
    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return os.system, (f"touch {self.mark}",)


@pytest.mark.parametrize("name", ["000009.pickle.pbz2", "meta.pickle.pbz2"])
def test_pickles_run_nothing(folder, tmp_path, cache, name):
    write(folder / name, {"90": Hostile(tmp_path / "mark")})
    with pytest.raises(ValueError, match=rf"{name}.* is refused: it asks for posix.system, which no record of NATS"):
        load_nats_sss(folder)
    assert not (tmp_path / "mark").exists()
    assert not cache.exists()


def without(key, index=9):
    content = record(index)
    del content[key]
    return content


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda path: path.write_bytes(path.read_bytes()[:-50]), "is damaged: it is cut off"),
        (lambda path: path.write_bytes(b"<html>"), "cannot be read: Invalid data stream"),
        (lambda path: path.write_bytes(bz2.compress(b"no pickle")), "is not a readable record of NATS-Bench"),
        (lambda path: path.write_bytes(bz2.compress(bytes(2 << 20), 1)), "or has more than 1 MB"),
        (lambda path: write(path, [1]), "holds a list; needed: a dict"),
        (lambda path: write(path, {"12": record(9)}), "is not a record of the size space: KeyError"),
        (lambda path: write(path, {"90": record(8)}), "holds number 8, 8:8:8:16:8, instead of 8:8:8:16:16"),
        (lambda path: write(path, {"90": without("dataset_seed")}), "is not a record of the size space: KeyError"),
        (lambda path: write(path, {"90": 5}), "is not a record of the size space: TypeError"),
        (lambda path: write(path, {"90": record(9, seeds=())}), "is not a record of the size space"),
        (lambda path: (path.unlink(), path.symlink_to("nowhere")), None),
    ],
)
def test_damaged_record(folder, cache, monkeypatch, damage, words):
    monkeypatch.setattr(nats_sss, "_LARGEST", 1 << 20)
    path = folder / "000009.pickle.pbz2"
    damage(path)
    if words is None:  # as if it were missing
        assert load_nats_sss(folder).archs == [ARCHS[0]]
        return
    with pytest.raises(ValueError) as caught:
        load_nats_sss(folder)
    assert f"oracle='nats_sss': {path}" in str(caught.value)
    assert words in str(caught.value)
    assert not cache.exists()  # a half-read table is never kept


def test_other_folders_are_named(folder, tmp_path):
    for path in folder.glob("0*"):
        path.unlink()
    with pytest.raises(ValueError, match=r"has no record, such as 000000\.pickle\.pbz2"):
        load_nats_sss(folder)
    write(folder / "meta.pickle.pbz2", {"meta_archs": ["|none~0|+|none~0|none~1|+|none~0|none~1|none~2|"]})
    with pytest.raises(ValueError, match=r"meta\.pickle\.pbz2 is not that of the size space"):
        load_nats_sss(folder)
    with pytest.raises(
        ValueError, match=rf"oracle='nats_sss_val' needs the folder {FOLDER} .*looked in {tmp_path / 'x'}"
    ):
        load_nats_sss_val(tmp_path / "x")
    with pytest.raises(ValueError, match="for nats_sss give sss_digits or nats_sss or nats_sss_val or a CSV file"):
        load_oracle("nats", None, "nats_sss")
