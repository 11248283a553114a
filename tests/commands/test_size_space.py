"""`score` and `search` in the size space, with the embedded table in which only the widths differ."""

import json
from pathlib import Path

import pytest

from vkdnw_pl import cli
from vkdnw_pl.oracles import load_oracle
from vkdnw_pl.runs.table import read_table
from vkdnw_pl.spaces import NatsSSS

SPACE = NatsSSS()
REAL = Path(__file__).parents[3] / "shared" / "data" / "nats_sss"


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("VKDNW_CACHE", str(tmp_path / "cache"))


def command(*words):
    return cli.main([*map(str, words), "--device", "cpu", "--workers", "1", "--progress", "false"])


@pytest.fixture(scope="module")
def table():
    return load_oracle("auto", None, "nats_sss")


def test_the_embedded_table(table):
    """Two of the networks are the corners; a mean of three seeds each, which tell the networks apart."""
    accuracies = table.accuracies("digits")
    assert table.name == "sss_digits"
    assert len(accuracies) == 200
    assert all(SPACE.validate(arch) == arch for arch in accuracies)
    assert accuracies["8:8:8:8:8"] < 25 < 50 < accuracies["64:64:64:64:64"] < 100
    assert table.network("digits") == {"width": 0.25, "image_size": 16, "in_channels": 1}
    assert SPACE.input_size(**table.network("digits")) == (1, 16, 16)


def test_networks_are_the_trained_ones_out_of_the_box(tmp_path, table, capsys):
    """`--network auto`; architectures need no quotation marks in a file, though YAML has numbers like these."""
    (tmp_path / "own.yaml").write_text("archs: [8:8:8:8:8, 64:64:64:64:64]\nproxies: [macs, params, aleph]\n")
    options = ["--config", tmp_path / "own.yaml", "--space", "nats_sss", "--batch_size", 2]
    assert command("score", *options, "--out", tmp_path / "run") == 0
    assert "sss_digits" in capsys.readouterr().out
    rows = read_table(tmp_path / "run" / "scores.csv").rows
    assert [row.arch for row in rows] == ["8:8:8:8:8", "64:64:64:64:64"]
    for row in rows:
        cost = SPACE.cost(row.arch, **table.network("digits"))
        assert (row.values["macs"], row.values["params"], row.values["aleph"]) == (cost.macs, cost.num_params, 23)


def test_a_search_is_told_how_good_its_result_is(tmp_path, table, capsys):
    """Among the networks of the table the largest is found by its multiply-adds, beside the best that is known."""
    best = max(table.accuracies("digits").values())
    options = ["--strategy", "local", "--ranking", "macs", "--evaluations", 300, "--figures", "false", "--seed", 1]
    assert command("search", "--space", "nats_sss", *options, "--oracle", "auto", "--out", tmp_path / "run") == 0
    found = json.loads((tmp_path / "run" / "found.json").read_text())
    assert found["arch"] == "64:64:64:64:64"
    text = capsys.readouterr().out
    assert f"{table.accuracies('digits')[found['arch']]:.2f}" in text
    assert f"{best:.2f}" in text


@pytest.mark.skipif(not REAL.is_dir(), reason="the three real records lie in ../shared, which is not here")
@pytest.mark.parametrize(("dataset", "macs"), [("cifar10", 6_840_650), ("ImageNet16-120", 1_714_040)])
def test_with_the_benchmarks_folder(tmp_path, capsys, dataset, macs):
    options = ["--oracle", "nats_sss", "--oracle_path", REAL, "--network", dataset, "--proxies", "[macs]"]
    archs = ["--archs", "oracle", "--rankings", "[macs]"]
    assert command("score", "--space", "nats_sss", *options, *archs, "--out", tmp_path / "run") == 0
    values = {row.arch: row.values["macs"] for row in read_table(tmp_path / "run" / "scores.csv").rows}
    assert values["8:8:8:16:32"] == macs
    text = capsys.readouterr().out
    assert "one training run at 90 epochs" in text
    assert "records of 3 of 32,768 networks" in text
