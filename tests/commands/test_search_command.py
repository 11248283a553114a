"""The command `search`: from options to found.json."""

import json
import os
import random
import signal
import threading
import time
from pathlib import Path

import pytest
import yaml

from vkdnw_pl import cli
from vkdnw_pl.commands.search import search as search_command
from vkdnw_pl.errors import CommandFailed, UsageError, user_input
from vkdnw_pl.runs.folder import RunFolder
from vkdnw_pl.search.history import read_history
from vkdnw_pl.search.plan import SearchOptions
from vkdnw_pl.spaces import NB201
from vkdnw_pl.spaces.resolve import resolve_arch

TINY = {"channels": 2, "cells": 0, "image_size": 8}


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """Scores of all unique networks, and accuracies that agree with them."""
    folder = tmp_path_factory.mktemp("table")
    rng = random.Random(0)
    scores, accuracies = ["arch,seed,good,macs\n"], ["arch,made_up\n"]
    for arch in NB201().enumerate(unique=True):
        good = arch.count("conv_3x3") + rng.random()
        scores.append(f"{arch},1,{good!r},1\n")
        accuracies.append(f"{arch},{10 * good}\n")
    (folder / "scores.csv").write_text("".join(scores))
    (folder / "oracle.csv").write_text("".join(accuracies))
    return folder


def search(**options) -> int:
    """As the command line calls it."""
    with user_input():
        chosen = SearchOptions(**options)
    return search_command(chosen)


def looked_up(table: Path, out: Path, **options) -> int:
    return search(
        **{
            "space": "nb201",
            "scores": str(table / "scores.csv"),
            "ranking": "good",
            "evaluations": 120,
            "population": 20,
            "batch": 8,
            "figures": False,
            "progress": False,
            "out": str(out),
            **options,
        }
    )


def computed(out: Path, **options) -> int:
    return search(
        **{
            "space": "nb201",
            "network": TINY,
            "ranking": "aleph>vkdnw+macs",
            "evaluations": 40,
            "batch": 8,
            "batch_size": 4,
            "device": "cpu",
            "workers": 1,
            "figures": False,
            "progress": False,
            "out": str(out),
            **options,
        }
    )


def lines(out: Path) -> list[str]:
    return [line.rpartition(",")[0] for line in (out / "history.csv").read_text().splitlines()]


def test_from_a_table_with_an_oracle(table, tmp_path, capsys):
    out = tmp_path / "run"
    assert looked_up(table, out, oracle=str(table / "oracle.csv"), top_k=3, max_macs="150M") == 0
    found = json.loads((out / "found.json").read_text())
    history = read_history(out / "history.csv")
    best = max(history, key=lambda one: one.values["good"])
    assert found["arch"] == best.arch
    assert found["accuracies"]["made_up"] == pytest.approx(10 * best.values["good"])
    assert all(one.macs <= 150_000_000 for one in history)
    assert len(found["top"]) == 3
    meta = RunFolder(out).read_meta()
    assert (meta["command"], meta["status"], meta["digest"]) == ("search", "finished", found["digest"])
    assert meta["runs"][0]["evaluated"] == 120
    text = capsys.readouterr().out
    assert f"is it better than chance? python -m vkdnw_pl label --archs {tmp_path}" in text
    assert best.arch in text
    assert "known accuracy on made_up" in text
    assert f": {found['accuracies']['made_up']:.2f} %; best known" in text
    assert f"--model.arch {out / 'found.json'}" in text
    assert resolve_arch(str(out / "found.json")).arch == best.arch

    before = (out / "history.csv").read_bytes()
    assert looked_up(table, out, oracle=str(table / "oracle.csv"), top_k=3, max_macs=150e6) == 0
    assert "this search is finished: 120 networks are there" in capsys.readouterr().out
    assert (out / "history.csv").read_bytes() == before


@pytest.mark.slow
def test_a_budget_of_tabulated_latencies_with_known_truth(table, tmp_path, capsys):
    space, rng = NB201(), random.Random(0)
    accuracies = dict(line.split(",") for line in (table / "oracle.csv").read_text().splitlines()[1:])
    latencies = {arch: space.cost(arch).macs / 1e8 * rng.uniform(0.8, 1.2) for arch in list(accuracies)[::2]}
    path = tmp_path / "edge.csv"
    lines_of = [f"{arch},{latency!r},{2 * latency!r}\n" for arch, latency in latencies.items()]
    path.write_text("arch,edge[ms lower],energy[mJ lower]\n" + "".join(lines_of))
    options = {"latency_table": str(path), "max_latency_ms": 0.7, "max_macs": "100M", "evaluations": 150}
    out = tmp_path / "run"
    assert looked_up(table, out, oracle=str(table / "oracle.csv"), **options) == 0
    history = read_history(out / "history.csv")
    assert len(history) == 150
    assert all(one.latency_ms == latencies[one.arch] <= 0.7 for one in history)
    found = json.loads((out / "found.json").read_text())
    within = {
        arch: float(accuracies[arch])
        for arch, latency in latencies.items()
        if latency <= 0.7 and space.cost(arch).macs <= 100_000_000
    }
    accuracy = found["accuracies"]["made_up"]
    better = sum(other > accuracy for other in within.values())
    text = capsys.readouterr().out
    known = f"{accuracy:.2f} %; best known within the budget {max(within.values()):.2f} % ({better:,} of {len(within):,} are"
    assert known in text
    assert f"latency_ms {found['latency_ms']:.4g} ms by {path}" in text
    assert not (out / "measured.csv").exists()
    settings = json.loads((out / "meta.json").read_text())["settings"]
    assert settings["latency_table"]["file"] == str(path)
    assert "how_to_measure" not in settings

    # Of what is measured or tabulated, energy for one, less is better; the report knows it, too.
    assert looked_up(table, tmp_path / "energy", oracle=str(path), **options) == 0
    text = capsys.readouterr().out
    found = json.loads((tmp_path / "energy" / "found.json").read_text())
    assert found["units"] == {"edge": "ms", "energy": "mJ"}
    least = 2 * min(latencies[arch] for arch in within)
    assert (
        f"known value of energy (unspecified, mJ, lower is better): {2 * found['latency_ms']:.5g} mJ; best known within"
        in text
    )
    assert f"within the budget {least:.5g} mJ" in text

    path.write_text(path.read_text() + f"{list(accuracies)[1]},0.1,0.2\n")
    with pytest.raises(UsageError, match="latency_table"):
        looked_up(table, out, oracle=str(table / "oracle.csv"), **options)
    with pytest.raises(
        UsageError, match=r"max_latency_ms=0.001 is not allowed: the fastest network of latency_table=.* takes"
    ):
        looked_up(table, tmp_path / "slow", **{**options, "max_latency_ms": 0.001})


def test_config_repeats_the_run(table, tmp_path):
    assert looked_up(table, tmp_path / "run") == 0
    options = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())
    assert search(**{**options, "out": str(tmp_path / "again")}) == 0
    assert lines(tmp_path / "again") == lines(tmp_path / "run")


def test_figures(table, tmp_path):
    assert looked_up(table, tmp_path / "run", figures=True) == 0
    assert (tmp_path / "run" / "figures" / "best_so_far.png").is_file()


def test_stopped_and_continued(tmp_path, capsys):
    assert computed(tmp_path / "whole") == 0
    for number, workers in ((signal.SIGINT, 1), (signal.SIGTERM, 2)):
        out = tmp_path / number.name

        def stop(out=out, number=number):
            while not (out / "history.csv").is_file() or (out / "history.csv").read_bytes().count(b"\n") < 4:
                time.sleep(0.005)
            os.kill(os.getpid(), number)

        thread = threading.Thread(target=stop)
        thread.start()
        assert computed(out, workers=workers) == 128 + number
        thread.join()
        text = capsys.readouterr().err
        assert f"stopped by {number.name}" in text
        assert f"Continue with: python -m vkdnw_pl search --config {out / 'config.yaml'}" in text
        kept = len(read_history(out / "history.csv"))
        assert 3 <= kept < 40
        found = json.loads((out / "found.json").read_text())
        assert found["evaluated"] == kept
        assert RunFolder(out).read_meta()["status"] == "stopped"
        assert search(**{**yaml.safe_load((out / "config.yaml").read_text()), "workers": 3 - workers}) == 0
        assert lines(out) == lines(tmp_path / "whole")
        assert [run["stopped_by"] for run in RunFolder(out).read_meta()["runs"]] == [number.name, None]


def test_a_failing_network(tmp_path, monkeypatch, capsys):
    build = NB201.build
    calls = []

    def broken(self, arch, **network):
        calls.append(arch)
        if len(calls) == 3:
            raise RuntimeError("this one is bad")
        return build(self, arch, **network)

    monkeypatch.setattr(NB201, "build", broken)
    assert computed(tmp_path / "run", evaluations=9) == 1
    history = read_history(tmp_path / "run" / "history.csv")
    assert [one.index for one in history if one.failed] == [2]
    assert history[2].reason == "RuntimeError: this one is bad"
    assert "FAILED networks: 1 of 9" in capsys.readouterr().out
    monkeypatch.setattr(NB201, "build", lambda *args, **network: 1 / 0)
    assert computed(tmp_path / "none", evaluations=3) == 1
    assert "every network failed" in capsys.readouterr().err


def test_other_settings_are_refused_by_name(table, tmp_path):
    looked_up(table, tmp_path / "run", evaluations=10)
    with pytest.raises(
        UsageError, match=r"other settings: population \(there: 20, now: 21\); .*seed .*--out.*--overwrite"
    ):
        looked_up(table, tmp_path / "run", evaluations=10, seed=3, population=21)
    with pytest.raises(UsageError, match=r"budget \(there: .*now: .*max_macs"):
        looked_up(table, tmp_path / "run", evaluations=10, max_macs="100M")
    assert looked_up(table, tmp_path / "run", evaluations=10, seed=3, overwrite=True) == 0
    assert looked_up(table, tmp_path / "run", evaluations=12, seed=3) == 0
    assert len(lines(tmp_path / "run")) == 13
    (tmp_path / "score").mkdir()
    (tmp_path / "score" / "meta.json").write_text('{"command": "score", "settings": {}}')
    with pytest.raises(UsageError, match="holds a scoring, not a search: choose another folder with --out"):
        looked_up(table, tmp_path / "score")
    with pytest.raises(UsageError, match="holds a scoring, not a search"):
        looked_up(table, tmp_path / "score", overwrite=True)
    (tmp_path / "odd").mkdir()
    (tmp_path / "odd" / "history.csv").write_text("index\n")
    with pytest.raises(UsageError, match=r"holds history\.csv but no meta\.json"):
        looked_up(table, tmp_path / "odd")


def test_nothing_within_the_budget(table, tmp_path, capsys, monkeypatch):
    assert looked_up(table, tmp_path / "run", max_macs="1k") == 1
    assert "of 10000 draws 10000 break max_macs; widen the budget" in capsys.readouterr().err


def test_a_table_that_lacks_an_architecture(table, tmp_path):
    short = tmp_path / "short.csv"
    short.write_text("".join((table / "scores.csv").read_text().splitlines(keepends=True)[:900]))
    with pytest.raises(UsageError, match=r"has no scores of \|.*which the search came upon"):
        looked_up(table, tmp_path / "run", scores=str(short))


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"space": "nb2"}, "space='nb2' is not known"),
        ({"evaluations": 0}, "evaluations=0 is not allowed"),
        ({"batch": 0}, "batch=0 is not allowed"),
        ({"network": {"chanels": 3}}, "did you mean 'channels'?"),
        ({"strategy": "random", "population": 256, "start": "x"}, "start='x' has no use with strategy='random'"),
        ({"start": "|none|"}, r"start='\|none\|' is not allowed"),
        ({"max_macs": "lots"}, "max_macs='lots' is not allowed: give a whole number of at least 1, such as 450e6"),
        ({"min_macs": "2M", "max_macs": "1M"}, "min_macs=2000000 is not allowed: it is above max_macs=1000000"),
        ({"space": "timm_zoo", "max_layers": 3}, "max_layers=3 has no meaning for timm_zoo"),
        (
            {"space": "timm_zoo", "ranking": "layers", "scores": None},
            "timm_zoo counts no layers; rank by aleph instead",
        ),
        ({"counting": "reference"}, "counting='reference' is not allowed for nb201"),
        ({"counting": "foo"}, "counting='foo' is not known"),
        ({"operator_sampling": "reference"}, "operator_sampling='reference' has a meaning for mbv2 only"),
        ({"ranking": "better"}, "has no column 'better'"),
        ({"ranking": "good+"}, "has an empty name"),
        ({"proxy_seed": 5}, "proxy_seed=5 is not allowed: the seeds in"),
        ({"scores": "nowhere.csv"}, "scores='nowhere.csv' is not allowed: there is no such file"),
        ({"oracle_path": "x"}, "oracle_path='x' has no use without oracle"),
        ({"oracle": "nb2O1"}, "oracle='nb2O1' is not known"),
        ({"workers": 0}, "workers=0 is not allowed"),
        ({"measure_repeats": 0}, "measure_repeats=0 is not allowed"),
        ({"tournament": 3}, "tournament=3 has no use with strategy='evolution'"),
        ({"objectives": ["score"]}, r"objectives=\['score'\] has no use with strategy='evolution'"),
        ({"strategy": "random"}, "population=20 has no use with strategy='random'"),
        ({"measure_repeats": 3, "max_peak_mb": 5.0}, "measure_repeats=3 has no use without max_latency_ms"),
        ({"measure_batch_size": 3}, "measure_batch_size=3 has no use without max_latency_ms or max_peak_mb"),
        ({"latency_table": "x.csv"}, "latency_table='x.csv' has no use without max_latency_ms"),
        (
            {"latency_table": "x.csv", "max_latency_ms": 1.0, "measure_repeats": 3},
            "measure_repeats=3 has no use with latency_table: nothing is timed",
        ),
        (
            {"latency_table": "x.csv", "max_latency_ms": 1.0},
            "latency_table='x.csv' is not allowed: there is no such file",
        ),
        ({"batch_size": 64}, "batch_size=64 has no use with scores, which are looked up"),
        (
            {"space": "mbv2", "counting": "reference"},
            "counting='reference' has no use without a bound on macs or params",
        ),
    ],
)
def test_mistakes_are_named(table, tmp_path, options, text):
    with pytest.raises(UsageError, match=text):
        looked_up(table, tmp_path / "run", **options)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"ranking": "vkdnv"}, "ranking='vkdnv': 'vkdnv' is not known; did you mean 'vkdnw'?"),
        ({"proxies": ["zicoo"]}, "did you mean 'zico'?"),
        ({"input": "nowhere.npy"}, "input='nowhere.npy' is not allowed"),
        ({"data": "random"}, "data='random' has no use here: no proxy looks at such images; leave it out"),
        ({"init": "foo"}, "init='foo' is not known"),
        ({"nodes": 2}, "nodes=2 is not allowed here: start the command on every machine with srun"),
    ],
)
def test_mistakes_about_proxies_are_named(tmp_path, options, text):
    with pytest.raises(UsageError) as raised:
        computed(tmp_path / "run", **options)
    assert text in str(raised.value)


def test_a_folder_in_use_is_refused(table, tmp_path, monkeypatch):
    lock = RunFolder.lock
    monkeypatch.setattr(RunFolder, "lock", lambda self: lock(self, patience_s=0.1))
    with RunFolder(tmp_path / "run").lock(), pytest.raises(CommandFailed, match="is being written by another process"):
        looked_up(table, tmp_path / "run")


def test_as_a_command(table, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = tmp_path / "search.yaml"
    config.write_text(
        f"space: nb201\nscores: {table / 'scores.csv'}\nranking: good\nevaluations: 20\nbatch: 8\nmax_macs: 150e6\n"
        "counting: true\nfigures: false\n"
    )
    assert cli.main(["search", "--config", str(config)]) == 0
    (folder,) = (tmp_path / "runs").iterdir()
    assert folder.name.startswith("search-nb201-")
    meta = RunFolder(folder).read_meta()
    assert meta["settings"]["budget"] == {"max_macs": 150_000_000, "counting": "true"}
    assert "20 of 20 networks" in capsys.readouterr().err
    assert cli.main(["search", "--max_mac", "3"]) == 2
    assert "did you mean '--max_macs'?" in capsys.readouterr().err


def test_labels_guide_a_search(table, tmp_path, capsys):
    known = str(table / "oracle.csv")
    options = {"evaluations": 30, "ranking": None, "labels": known, "proxies": ["good"], "top_k": 1}
    assert looked_up(table, tmp_path / "run", strategy="predictor", population=256, pool=40, **options) == 0
    text = capsys.readouterr().out
    assert "guided by labels, the accuracies on made_up (unspecified)" in text
    assert "each network costs one of 9,445" in text
    assert "labels used: 30 of the 9,445 on made_up" in text
    found = json.loads((tmp_path / "run" / "found.json").read_text())
    assert found["ranking"] == "label"
    assert found["accuracies"]["made_up"] == found["scores"]["label"] == pytest.approx(10 * found["scores"]["good"])
    header = (tmp_path / "run" / "history.csv").read_text().splitlines()[0]
    assert header.endswith(",good,predicted,label,status,reason,seconds")
    # Another strategy is guided in the same way, and what was found is compared with an oracle of its own.
    options |= {"scores": None, "proxies": [], "oracle": "digits"}
    assert looked_up(table, tmp_path / "evolution", **options) == 0
    assert set(json.loads((tmp_path / "evolution" / "found.json").read_text())["accuracies"]) == {"digits"}


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"strategy": "predictor", "population": 256}, "predictor needs known accuracies: name them with labels"),
        ({"ranking": "label"}, "ranking='label' needs known accuracies"),
        ({"labels": "ORACLE"}, "ranking='good' is not allowed with labels"),
        ({"labels": "ORACLE", "ranking": None, "dataset": "cifar"}, "labels=.* is not allowed: dataset='cifar' is not"),
        (
            {"labels": "digit", "ranking": None},
            "labels='digit' is not allowed: oracle='digit' is not known; did you mean",
        ),
        ({"dataset": "made_up"}, "dataset='made_up' has no use without labels"),
        ({"pool": 99}, "pool=99 has no use with strategy='evolution'"),
        (
            {"labels": "ORACLE", "strategy": "predictor", "pool": 7, "population": 256, "ranking": None},
            "pool=7 is not allowed: give a whole number of at least 8",
        ),
        (
            {"labels": "ORACLE", "strategy": "predictor", "population": 256, "ranking": "label+macs"},
            "ranking='label[+]macs' is not allowed with labels and strategy='predictor'",
        ),
    ],
)
def test_labels_that_have_no_use(table, tmp_path, options, text):
    options = {name: str(table / "oracle.csv") if value == "ORACLE" else value for name, value in options.items()}
    with pytest.raises(UsageError, match=text):
        looked_up(table, tmp_path / "run", **options)
    assert not (tmp_path / "run").exists()
