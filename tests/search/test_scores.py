"""Several processes give the history of one, also when one of them dies."""

import os
import signal
import socket
import subprocess
import sys

import pytest
from searches import lines_without_seconds, make_settings, run

from vkdnw_pl import cli
from vkdnw_pl.proxies import make_proxies
from vkdnw_pl.ranking import parse_ranking
from vkdnw_pl.search.history import read_history
from vkdnw_pl.search.scores import columns_to_look_up, proxies_to_compute
from vkdnw_pl.spaces import NB201

NETWORK = {"channels": 2, "cells": 0, "image_size": 8}
RANKING = "aleph>vkdnw+macs"


def settings(**changed):
    proxies = proxies_to_compute(RANKING, [])
    return make_settings(
        None,
        network=NETWORK,
        ranking=RANKING,
        proxies=[proxy.record() for proxy in proxies],
        columns=tuple(column for proxy in proxies for column in proxy.table_columns),
        **changed,
    )


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    folder = tmp_path_factory.mktemp("alone") / "run"
    run(folder, settings(), 22)
    return lines_without_seconds(folder)


def test_two_workers_agree_with_one(alone, tmp_path):
    assert run(tmp_path / "run", settings(), 13, workers=2) is None
    assert lines_without_seconds(tmp_path / "run") == alone[:14]
    run(tmp_path / "run", settings(), 22, workers=2)
    assert lines_without_seconds(tmp_path / "run") == alone
    assert all(one.status == "ok" for one in read_history(tmp_path / "run" / "history.csv"))


@pytest.mark.skipif(sys.platform != "linux", reason="workers are forked there")
@pytest.mark.parametrize(("workers", "deaths"), [(2, 1), (2, 2), (1, 2)])
def test_a_worker_that_dies(alone, tmp_path, monkeypatch, capfd, workers, deaths):
    third = read_history_arch(alone, 3)
    build = NB201.build

    def deadly(self, arch, **network):
        died = tmp_path / "died"
        times = len(died.read_text()) if died.exists() else 0
        if arch == third and times < deaths:
            died.write_text("x" * (times + 1))
            os.kill(os.getpid(), signal.SIGKILL)
        return build(self, arch, **network)

    monkeypatch.setattr(NB201, "build", deadly)
    run(tmp_path / "run", settings(), 8, workers=workers)
    assert f"a worker died at {third}" in capfd.readouterr().err
    history = read_history(tmp_path / "run" / "history.csv")
    assert len(history) == 8
    assert history[3].failed == (deaths == 2)
    if deaths == 2:
        assert "its worker died twice" in history[3].reason
    else:
        assert lines_without_seconds(tmp_path / "run") == alone[:9]


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="two machines that are one")
def test_two_machines_agree_with_one(tmp_path):
    """Started by torchrun, as two machines with two processes each would be."""
    command = [
        *("search", "--space", "nb201", "--network", str(NETWORK), "--ranking", RANKING, "--evaluations", "20"),
        *("--batch", "8", "--batch_size", "4", "--device", "cpu", "--workers", "2", "--figures", "false"),
    ]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    torchrun = [
        *(sys.executable, "-m", "torch.distributed.run", "--nnodes", "2", "--nproc-per-node", "2"),
        *("--rdzv-backend", "c10d", "--rdzv-endpoint", f"127.0.0.1:{port}", "-m", "vkdnw_pl"),
    ]
    machines = [
        subprocess.Popen([*torchrun, *command, "--nodes", "2", "--out", str(tmp_path / "two")]) for _ in range(2)
    ]
    assert [machine.wait(timeout=300) for machine in machines] == [0, 0]
    assert cli.main([*command, "--out", str(tmp_path / "one")]) == 0
    assert lines_without_seconds(tmp_path / "two") == lines_without_seconds(tmp_path / "one")


def read_history_arch(lines, index):
    return lines[index + 1].split(",")[1]


def test_proxies_of_a_ranking():
    def names(ranking, extra=()):
        return [proxy.record() for proxy in proxies_to_compute(ranking, extra)]

    assert [one["name"] for one in names("vkdnw_agg")] == ["aleph", "vkdnw", "jacov", "expressivity", "trainability"]
    assert [one["name"] for one in names("vkdnw_mbv2_official")] == [
        *("expressivity", "progressivity", "vkdnw_official", "trainability")
    ]
    assert [one["name"] for one in names("vkdnw_official_single")] == ["vkdnw_official"]  # one proxy with both columns
    assert names("macs+layers+num_params") == []
    assert names("vkdnw", [{"name": "vkdnw", "alpha": 0.1}, "macs"])[0]["alpha"] == 0.1
    labelled = names("mine+macs", [{"name": "vkdnw", "label": "mine"}])
    assert [(one["name"], one["label"]) for one in labelled] == [("vkdnw", "mine")]
    with pytest.raises(ValueError, match=r"ranking='vkdnv': 'vkdnv' is not known; did you mean 'vkdnw'\?"):
        names("vkdnv")
    assert columns_to_look_up(parse_ranking("vkdnw_single+macs"), ["zico", {"name": "vkdnw", "label": "b"}]) == [
        *("aleph", "vkdnw", "zico", "b")
    ]
    assert make_proxies(names("vkdnw_agg"))


def test_the_column_of_a_dotted_proxy_in_a_table_is_the_one_of_its_record():
    specs = ["vkdnw_pl.proxies.vkdnw.VKDNW", {"name": "vkdnw_pl.proxies.zico.ZiCo", "batches": 3}, "my_column"]
    assert columns_to_look_up(["aleph"], specs) == ["aleph", "vkdnw", "zico", "my_column"]
    with pytest.raises(ValueError, match=r"proxies: 'no_such\.Proxy' is not known"):
        columns_to_look_up([], ["no_such.Proxy"])
