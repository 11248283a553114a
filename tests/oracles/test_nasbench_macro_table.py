import hashlib
import json
from pathlib import Path

import pytest
from scipy.stats import kendalltau

from vkdnw_pl.oracles import find_oracle, load_oracle, nasbench_macro
from vkdnw_pl.oracles.base import TableFile
from vkdnw_pl.spaces import NASBenchMacro

REAL = Path(__file__).resolve().parents[3] / "shared" / "data" / "nasbench_macro"
NAME = nasbench_macro.FILES["cifar10"].name
SPACE = NASBenchMacro()


@pytest.fixture
def small(tmp_path, monkeypatch):
    """A folder with a small file that passes for the published one."""
    entry = {"test_acc": [92.0, 93.0, 94.0], "mean_acc": 93.0, "std": 0.8, "params": 1, "flops": 1}
    data = json.dumps({"22222222": entry, "00000000": {**entry, "mean_acc": 45.5}}).encode()
    (tmp_path / NAME).write_bytes(data)
    monkeypatch.setattr(nasbench_macro, "FILES", {"cifar10": TableFile(NAME, hashlib.sha256(data).hexdigest())})
    return tmp_path


def test_means_of_the_runs_of_the_networks_by_default(small):
    oracle = load_oracle("nasbench_macro", small, SPACE.key)
    assert oracle.accuracies("cifar10") == {"00000000": 45.5, "22222222": 93.0}
    assert oracle.archs == ["00000000", "22222222"]
    assert (oracle.measure("cifar10").split, oracle.measure("cifar10").is_accuracy) == ("test", True)
    assert oracle.network("cifar10") == {}
    assert "the test accuracy of the run's best epoch" in oracle.description
    assert find_oracle("auto", small, SPACE.key).name == "nasbench_macro"


@pytest.mark.parametrize("damage", ["another", "absent"])
def test_another_file_is_refused_with_the_command_that_brings_the_right_one(small, damage):
    if damage == "another":
        (small / NAME).write_bytes((small / NAME).read_bytes().replace(b"93.0", b"93.1"))
    else:
        (small / NAME).unlink()
    with pytest.raises(ValueError, match=rf"oracle='nasbench_macro'.*{NAME}.*download nasbench_macro --out "):
        load_oracle("nasbench_macro", small, SPACE.key)


def test_of_no_other_space():
    with pytest.raises(ValueError, match="accuracies of nasbench_macro, which say nothing about nb201"):
        load_oracle("nasbench_macro", None, "nb201")


@pytest.mark.skipif(not (REAL / NAME).is_file(), reason="the public NAS-Bench-Macro table is absent")
def test_the_real_table():
    table = load_oracle("nasbench_macro", REAL, SPACE.key).accuracies("cifar10")
    assert list(table) == list(SPACE.enumerate())
    published = {"00000000": 45.363, "11111111": 91.930, "22222222": 92.953, "22212220": 93.127, "01201201": 90.963}
    assert {arch: table[arch] for arch in published} == pytest.approx(published, abs=6e-4)
    assert (min(table, key=table.get), max(table, key=table.get)) == ("00000000", "22212202")
    unique = list(SPACE.enumerate(unique=True))
    for archs, of_params, of_flops in ((list(table), 0.2176, 0.5560), (unique, 0.2155, 0.5461)):
        costs = [SPACE.reference_cost(arch) for arch in archs]
        accuracies = [table[arch] for arch in archs]
        assert kendalltau([cost.num_params for cost in costs], accuracies)[0] == pytest.approx(of_params, abs=6e-5)
        assert kendalltau([cost.macs for cost in costs], accuracies)[0] == pytest.approx(of_flops, abs=6e-5)
    assert kendalltau([SPACE.layers(arch) for arch in table], list(table.values()))[0] == pytest.approx(0.693, abs=6e-4)
