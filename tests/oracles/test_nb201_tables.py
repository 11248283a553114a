import hashlib
import json
import shutil
from pathlib import Path

import pytest

from vkdnw_pl.oracles import load_oracle, nb201_tables
from vkdnw_pl.oracles.base import TableFile
from vkdnw_pl.oracles.nb201_tables import FILES, load_nb201
from vkdnw_pl.spaces import NB201

REAL = Path(__file__).resolve().parents[3] / "shared" / "data" / "nb201"
needs_real = pytest.mark.skipif(
    any(not (REAL / file.name).is_file() for file in FILES.values()),
    reason="the public NAS-Bench-201 tables are absent",
)
A = "|nor_conv_3x3~0|+|none~0|none~1|+|none~0|none~1|skip_connect~2|"


@pytest.fixture
def small(tmp_path, monkeypatch):
    """A folder with three small files that pass for the published ones."""
    files = {}
    for number, (dataset, file) in enumerate(FILES.items()):
        data = json.dumps({A: {"val_acc_200": 1.0, "test_acc_200": 60.5 + number, "rank": 1}}).encode()
        (tmp_path / file.name).write_bytes(data)
        files[dataset] = TableFile(file.name, hashlib.sha256(data).hexdigest())
    monkeypatch.setattr(nb201_tables, "FILES", files)
    return tmp_path


def test_test_accuracies_of_all_three(small):
    oracle = load_nb201(small)
    assert oracle.name == "nb201"
    assert oracle.datasets == ("cifar10", "cifar100", "ImageNet16-120")
    assert set(oracle.split.values()) == {"test"}
    assert [oracle.accuracies(dataset)[A] for dataset in oracle.datasets] == [60.5, 61.5, 62.5]


def test_validation_accuracies_are_of_other_names(small):
    oracle = load_oracle("nb201_val", small)
    assert oracle.name == "nb201_val"
    assert oracle.datasets == ("cifar10-valid", "cifar100", "ImageNet16-120")
    assert set(oracle.split.values()) == {"val"}
    assert [oracle.accuracies(dataset)[A] for dataset in oracle.datasets] == [1.0] * 3
    assert oracle.network("ImageNet16-120") == {"image_size": 16, "num_classes": 120}
    (small / "nasbench201_cifar100.json").unlink()
    with pytest.raises(ValueError, match=r"oracle='nb201_val' needs .*download nb201 --out"):
        load_oracle("nb201_val", small)


def test_missing_file(small):
    (small / "nasbench201_cifar100.json").unlink()
    with pytest.raises(
        ValueError, match=r"needs .* in the folder .*; missing: nasbench201_cifar100\.json; get"
    ) as info:
        load_nb201(small)
    assert f"python -m vkdnw_pl download nb201 --out {small}" in str(info.value)


def test_missing_in_the_cache_needs_no_out(tmp_path, monkeypatch):
    monkeypatch.setenv("VKDNW_CACHE", str(tmp_path))
    with pytest.raises(ValueError, match=r"python -m vkdnw_pl download nb201$"):
        load_oracle("nb201")


@pytest.mark.parametrize("damage", ["truncated", "one digit", "empty"])
def test_damaged_file(small, damage):
    path = small / "nasbench201_imagenet.json"
    data = path.read_bytes()
    changed = {"truncated": data[:-20], "one digit": data.replace(b"62.5", b"62.6"), "empty": b""}[damage]
    path.write_bytes(changed)
    with pytest.raises(ValueError, match=r"nasbench201_imagenet\.json is damaged.*SHA-256 is \w{64}.*download nb201"):
        load_nb201(small)


@pytest.fixture(scope="module")
def oracle():
    return load_nb201(REAL)


@needs_real
class TestRealTables:
    def test_every_architecture_under_its_canonical_string(self, oracle):
        space = NB201()
        for dataset in oracle.datasets:
            table = oracle.accuracies(dataset)
            assert len(table) == 15_625
            assert table.keys() == set(space.enumerate())
        assert all(space.validate(arch) == arch for arch in oracle.archs)

    def test_the_9445_unique_are_there(self, oracle):
        unique = set(NB201().enumerate(unique=True))
        assert len(unique) == 9_445
        assert unique <= set(oracle.archs)

    def test_best_validation_accuracies(self):
        # The first two as printed by the NAS-Bench-201 paper (table 4, "optimal").
        oracle = load_oracle("nb201_val", REAL)
        best = {dataset: max(oracle.accuracies(dataset).values()) for dataset in oracle.datasets}
        assert best == pytest.approx({"cifar10-valid": 91.61, "cifar100": 73.49, "ImageNet16-120": 46.73}, abs=0.005)

    def test_values(self, oracle):
        # The benchmark's best test accuracies, as printed by the NAS-Bench-201 paper (table 4, "optimal").
        best = {dataset: max(oracle.accuracies(dataset).values()) for dataset in oracle.datasets}
        assert best == pytest.approx({"cifar10": 94.37, "cifar100": 73.51, "ImageNet16-120": 47.31}, abs=0.005)
        arch = "|nor_conv_1x1~0|+|skip_connect~0|avg_pool_3x3~1|+|nor_conv_1x1~0|none~1|nor_conv_1x1~2|"
        assert oracle.accuracies("cifar10")[arch] == 90.34  # not the 87.73 of val_acc_200

    def test_one_flipped_bit_is_noticed(self, tmp_path):
        for file in FILES.values():
            shutil.copyfile(REAL / file.name, tmp_path / file.name)
        with (tmp_path / FILES["cifar10"].name).open("r+b") as file:
            file.seek(1_000_000)
            byte = file.read(1)[0]
            file.seek(1_000_000)
            file.write(bytes([byte ^ 1]))
        with pytest.raises(ValueError, match=r"nasbench201_cifar10\.json is damaged"):
            load_nb201(tmp_path)
