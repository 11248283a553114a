import bz2
import importlib.util
import pickle
import sys

import pytest

from vkdnw_pl.oracles import load_oracle, nb201_tables
from vkdnw_pl.oracles.nb201_tables import NATS_FOLDER, load_nats

ARCHS = [
    "|nor_conv_3x3~0|+|none~0|none~1|+|none~0|none~1|skip_connect~2|",
    "|skip_connect~0|+|none~0|none~1|+|none~0|skip_connect~1|none~2|",
]
EPOCHS = 200
needs_nats_bench = pytest.mark.skipif(
    importlib.util.find_spec("nats_bench") is None, reason="nats_bench (extra nats) is not installed"
)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    folder = tmp_path / "cache"
    monkeypatch.setenv("VKDNW_CACHE", str(folder))
    return folder


def write(path, content):
    with bz2.BZ2File(path, "wb") as file:
        pickle.dump(content, file)


def trial(final, sets):
    """The state of nats_bench's record of one training run; accuracies are wrong before the last epoch."""
    per_epoch = dict.fromkeys(range(EPOCHS), 1.0)
    evaluations = {f"{name}@{epoch}": 2.0 for name in sets for epoch in range(EPOCHS)}
    return {
        "name": "",
        "train_acc1es": per_epoch,
        "train_losses": per_epoch,
        "train_times": per_epoch,
        "epochs": EPOCHS,
        "eval_names": list(sets),
        "eval_acc1es": evaluations | {f"{name}@{EPOCHS - 1}": value for name, value in zip(sets, final)},
        "eval_losses": evaluations,
        "eval_times": evaluations,
    }


def record(index, arch, seeds):
    runs = {
        "cifar10-valid": [trial((99.0, 98.0), ("x-valid", "ori-test"))],
        "cifar10": [trial((90.0 + index + s,), ("ori-test",)) for s in range(seeds)],
        "cifar100": [trial((70.0 + index + s, 1.0, 3.0), ("x-test", "x-valid", "ori-test")) for s in range(seeds)],
        "ImageNet16-120": [trial((45.0 + index, 1.0, 3.0), ("x-test", "x-valid", "ori-test"))],
    }
    return {
        "arch_index": index,
        "arch_str": arch,
        "all_results": {(name, 777 + s): t for name, trials in runs.items() for s, t in enumerate(trials)},
        "dataset_seed": {name: [777 + s for s in range(len(trials))] for name, trials in runs.items()},
        "clear_net_done": True,
    }


@pytest.fixture
def folder(tmp_path):
    """A benchmark of two architectures in the layout of NATS-tss-v1_0-3ffb9-simple."""
    place = tmp_path / NATS_FOLDER
    place.mkdir()
    write(place / "meta.pickle.pbz2", {"meta_archs": ARCHS, "total_archs": 2, "evaluated_indexes": {0, 1}})
    for index, arch in enumerate(ARCHS):
        content = {"12": record(index, arch, 1), "200": record(index, arch, seeds=2)}
        write(place / f"{index:06d}.pickle.pbz2", content)
    return place


@needs_nats_bench
class TestFolder:
    def test_final_test_accuracies_as_means_over_seeds(self, folder):
        oracle = load_nats(folder)
        assert oracle.name == "nats"
        assert oracle.archs == ARCHS
        assert set(oracle.split.values()) == {"test"}
        assert {dataset: list(oracle.accuracies(dataset).values()) for dataset in oracle.datasets} == {
            "cifar10": [90.5, 91.5],
            "cifar100": [70.5, 71.5],
            "ImageNet16-120": [45.0, 46.0],
        }

    def test_by_oracle_path_or_its_parent_or_the_cache(self, folder, cache):
        assert load_oracle("nats", folder).archs == ARCHS
        assert load_oracle("nats", folder.parent).archs == ARCHS
        cache.mkdir(exist_ok=True)
        folder.rename(cache / NATS_FOLDER)
        assert load_oracle("nats").archs == ARCHS

    def test_the_second_time_nothing_is_unpickled(self, folder, monkeypatch):
        first = load_nats(folder)
        monkeypatch.setattr(nb201_tables, "_read_benchmark", lambda folder: pytest.fail("read again"))
        assert load_nats(folder) == first

    def test_a_changed_file_is_read_again(self, folder):
        load_nats(folder)
        changed = record(0, ARCHS[0], 1)
        write(folder / "000000.pickle.pbz2", {"200": changed})
        assert load_nats(folder).accuracies("cifar10")[ARCHS[0]] == 90.0

    def test_a_cache_that_cannot_be_written_is_said_and_no_error(self, folder, cache, capsys):
        cache.write_text("in the way")
        assert load_nats(folder).archs == ARCHS
        assert "could not be kept" in capsys.readouterr().err

    def test_missing_file(self, folder):
        (folder / "000001.pickle.pbz2").unlink()
        with pytest.raises(
            ValueError, match=r"incomplete: 1 of 2 files are missing, the first is 000001\.pickle\.pbz2"
        ):
            load_nats(folder)

    @pytest.mark.parametrize("damage", ["truncated", "no bz2", "no epochs 200", "other architecture", "no cifar100"])
    def test_damaged_file(self, folder, cache, damage):
        path = folder / "000001.pickle.pbz2"
        good = record(1, ARCHS[1], 1)
        if damage == "truncated":
            path.write_bytes(path.read_bytes()[:-50])
        elif damage == "no bz2":
            path.write_bytes(b"<html>")
        elif damage == "no epochs 200":
            write(path, {"12": good})
        elif damage == "other architecture":
            write(path, {"200": record(1, ARCHS[0], 1)})
        else:
            del good["dataset_seed"]["cifar100"]
            write(path, {"200": good})
        with pytest.raises(ValueError, match=r"000001\.pickle\.pbz2 is damaged"):
            load_nats(folder)
        assert not (cache / "nats").exists()  # a half-read table is never kept

    def test_damaged_meta(self, folder):
        (folder / "meta.pickle.pbz2").write_bytes(b"nothing")
        with pytest.raises(ValueError, match=r"meta\.pickle\.pbz2 is damaged"):
            load_nats(folder)


def test_without_the_package(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "nats_bench", None)
    with pytest.raises(ValueError, match="needs the package nats_bench: pip install nats_bench"):
        load_nats(folder)


def test_without_the_folder(tmp_path):
    with pytest.raises(ValueError, match=rf"needs the folder {NATS_FOLDER} .*looked in {tmp_path} and "):
        load_nats(tmp_path)
