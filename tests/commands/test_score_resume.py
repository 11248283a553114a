"""Never lost, never different: however a run is cut into pieces, its table is the same."""

import os
import signal
import sys
import threading
import time
from pathlib import Path

import pytest
import yaml
from small_runs import NETWORK, bytes_without_seconds, evaluate, make_oracle, merge, results_of, run, score

from vkdnw_pl.errors import CommandFailed, UsageError
from vkdnw_pl.runs.folder import RunFolder
from vkdnw_pl.runs.signals import STOP_SIGNALS
from vkdnw_pl.runs.table import read_table
from vkdnw_pl.spaces import NB201

ARCHS = "sample:40"


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """An uninterrupted run of one process."""
    out = tmp_path_factory.mktemp("whole") / "run"
    assert run(out, archs=ARCHS) == 0
    return out


def rows_kept(out: Path) -> int:
    return sum(max(0, path.read_bytes().count(b"\n") - 1) for path in (out / "rows").glob("*.csv"))


def wait_for_rows(out: Path, count: int, alive=lambda: True, seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while rows_kept(out) < count:
        assert alive(), "the run ended before it was to be interrupted"
        assert time.monotonic() < end
        time.sleep(0.01)


@pytest.mark.slow
def test_torn_last_line_is_made_again(whole, tmp_path):
    out = tmp_path / "run"
    run(out, archs=ARCHS)
    lines = (out / "scores.csv").read_bytes().splitlines(keepends=True)
    (out / "scores.csv").unlink()
    (out / "rows").mkdir()
    (out / "rows" / "0-0.csv").write_bytes(b"".join(lines[:10]) + lines[10][:25])
    (out / "rows" / "1-0.csv").write_bytes(lines[0][:7])  # killed while it wrote the first line
    (out / "rows" / "2-0.csv").write_bytes(b"")
    assert run(out, archs=ARCHS) == 0
    assert RunFolder(out).read_meta()["runs"][-1]["rows_made"] == 40 - 9
    assert bytes_without_seconds(out) == bytes_without_seconds(whole)


@pytest.mark.parametrize(
    ("number", "workers"),
    [
        (signal.SIGINT, 1),
        (signal.SIGUSR1, 2),
        *(
            pytest.param(number, workers, marks=pytest.mark.slow)
            for number, workers in [(signal.SIGTERM, 1), (signal.SIGTERM, 2), (signal.SIGINT, 2), (signal.SIGUSR1, 1)]
        ),
    ],
)
def test_stopped_by_a_signal_and_continued(whole, tmp_path, capsys, number, workers):
    out = tmp_path / "run"

    def stop() -> None:
        wait_for_rows(out, 3)
        os.kill(os.getpid(), number)

    before = {one: signal.getsignal(one) for one in STOP_SIGNALS}
    thread = threading.Thread(target=stop)
    thread.start()
    code = run(out, archs=ARCHS, workers=workers)
    thread.join()
    assert code == 128 + number
    assert {one: signal.getsignal(one) for one in before} == before
    text = capsys.readouterr().err
    config = out / "config.yaml"
    assert f"stopped by {number.name}" in text
    assert f"Continue with: python -m vkdnw_pl score --config {config}" in text
    kept = len(read_table(out / "scores.csv").rows)
    assert 3 <= kept < 40
    assert RunFolder(out).read_meta()["runs"][-1]["stopped_by"] == number.name
    assert RunFolder(out).read_meta()["status"] == "stopped"

    assert score(**{**yaml.safe_load(config.read_text()), "workers": 2}) == 0
    assert RunFolder(out).read_meta()["runs"][-1]["rows_made"] == 40 - kept
    assert results_of(out) == results_of(whole)


@pytest.mark.slow
def test_two_workers_agree_with_one(whole, tmp_path):
    assert run(tmp_path / "run", archs=ARCHS, workers=2) == 0
    assert results_of(tmp_path / "run") == results_of(whole)


@pytest.mark.slow  # tests/cluster/test_launch.py merges shards too
def test_shards_merge_into_the_whole(whole, tmp_path, capsys):
    shards = [tmp_path / f"shard-{i}" for i in range(4)]
    for i, shard in enumerate(shards):
        assert run(shard, archs=ARCHS, shard=f"{i}/4") == 0
        assert not (shard / "metrics.csv").exists()
    assert "merge" in capsys.readouterr().out
    merged = tmp_path / "merged"
    assert merge([shards[i] for i in (2, 0, 3, 1)], merged) == 0
    assert results_of(merged) == results_of(whole)
    theirs, ours = (RunFolder(folder).read_meta() for folder in (whole, merged))
    assert (theirs["status"], ours["status"]) == ("finished", "finished")
    assert ours["settings"] == theirs["settings"]
    assert ours["digest"] == theirs["digest"]
    assert [one["shard"] for one in ours["merged"]] == ["2/4", "0/4", "3/4", "1/4"]
    theirs, ours = (yaml.safe_load((folder / "config.yaml").read_text()) for folder in (whole, merged))
    assert {**ours, "out": None, "oracle": None} == {**theirs, "out": None, "oracle": None}

    with pytest.raises(UsageError, match=r"10 of 40 rows are missing \(not given: shard 1/4\)"):
        merge([shards[i] for i in (0, 2, 3)], tmp_path / "other")
    lines = (shards[3] / "scores.csv").read_bytes().splitlines(keepends=True)
    (shards[3] / "scores.csv").write_bytes(b"".join(lines[:-1]))
    with pytest.raises(
        UsageError, match=r"11 of 40 rows are missing \(not given: shard 1/4; not finished: shard 3/4\)"
    ):
        merge([shards[i] for i in (0, 2, 3)], tmp_path / "other")
    (shards[3] / "scores.csv").write_bytes(b"".join(lines))
    assert not (tmp_path / "other").exists()
    capsys.readouterr()
    assert merge([shards[i] for i in (0, 2, 3)], tmp_path / "part", allow_missing=True) == 0
    assert "score the 10 missing rows with: python -m vkdnw_pl score --config" in capsys.readouterr().out
    options = yaml.safe_load((tmp_path / "part" / "config.yaml").read_text())
    assert score(**options) == 0
    assert results_of(tmp_path / "part") == results_of(whole)

    assert evaluate(str(shards[0]), oracle=str(tmp_path / "oracle.csv"), out=str(tmp_path / "evaluated")) == 0


def test_merge_refuses_shards_of_other_settings(tmp_path):
    run(tmp_path / "a", shard="0/2")
    run(tmp_path / "b", shard="1/2", batch_size=5)
    with pytest.raises(UsageError, match=r"b was made with other settings than .*a: batch_size \(first: 4, this: 5\)"):
        merge([tmp_path / "a", tmp_path / "b"], tmp_path / "merged")


def test_merge_refuses_rows_that_contradict_each_other(tmp_path):
    for name in "ab":
        run(tmp_path / name, shard="0/2", proxies=["macs"])
    scores = tmp_path / "b" / "scores.csv"
    scores.write_text(scores.read_text().replace(".0,ok", ".5,ok"))
    with pytest.raises(UsageError, match="have different scores"):
        merge([tmp_path / "a", tmp_path / "b"], tmp_path / "merged", allow_missing=True)


def test_order_of_the_architectures_does_not_change_rows(whole, tmp_path):
    archs = read_table(whole / "scores.csv").archs[:12]
    assert run(tmp_path / "run", archs=archs[::-1]) == 0
    rows = read_table(tmp_path / "run" / "scores.csv").rows
    there = {row.key: row for row in read_table(whole / "scores.csv").rows}
    assert [row.arch for row in rows] == archs[::-1]
    assert all(row.same_scores(there[row.key]) for row in rows)


def test_a_finished_run_makes_no_rows_again(tmp_path, monkeypatch):
    run(tmp_path / "run")
    before = (tmp_path / "run" / "scores.csv").read_bytes()

    def build(self, arch, **network):
        raise AssertionError("a row was made again")

    monkeypatch.setattr(NB201, "build", build)
    assert run(tmp_path / "run") == 0
    assert (tmp_path / "run" / "scores.csv").read_bytes() == before


def test_other_settings_are_refused_by_name(tmp_path):
    run(tmp_path / "run", proxies=["macs", {"name": "vkdnw", "alpha": 0.1}])
    pattern = (
        r"other settings: proxies .*alpha=0.1.*now: .*alpha=0.2.*; batch_size \(there: 4, now: 6\).*--out.*--overwrite"
    )
    with pytest.raises(UsageError, match=pattern):
        run(tmp_path / "run", proxies=["macs", {"name": "vkdnw", "alpha": 0.2}], batch_size=6)
    with pytest.raises(UsageError, match=r"archs \(there: 12 of digest .*, now: 13 of digest"):
        run(tmp_path / "run", proxies=["macs", {"name": "vkdnw", "alpha": 0.1}], archs="sample:13")
    with pytest.raises(UsageError, match=r"shard \(there: null, now: 0/2\)"):
        run(tmp_path / "run", proxies=["macs", {"name": "vkdnw", "alpha": 0.1}], shard="0/2")
    (tmp_path / "run" / "figures" / "mine.png").write_bytes(b"kept")
    assert run(tmp_path / "run", proxies=["macs"], batch_size=6, overwrite=True) == 0
    assert read_table(tmp_path / "run" / "scores.csv").columns == ("macs",)
    assert (tmp_path / "run" / "figures" / "mine.png").read_bytes() == b"kept"


def test_options_that_change_no_score_may_change(tmp_path):
    run(tmp_path / "run", rankings=["macs"])
    assert run(tmp_path / "run", rankings=["macs", "vkdnw_single"], top_k=3, workers=2) == 0
    _header, *rows = (tmp_path / "run" / "metrics.csv").read_text().splitlines()
    assert [row.split(",")[0] for row in rows] == ["macs", "vkdnw_single"]


def test_folder_of_unknown_origin_is_refused(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "scores.csv").write_text("arch,seed,macs\n")
    with pytest.raises(UsageError, match=r"holds scores.csv but no meta.json"):
        run(tmp_path / "run")


@pytest.mark.skipif(sys.platform == "win32", reason="no lock there")
def test_a_folder_in_use_is_refused(tmp_path, monkeypatch):
    folder = RunFolder(tmp_path / "run")
    lock = RunFolder.lock
    monkeypatch.setattr(RunFolder, "lock", lambda self: lock(self, patience_s=0.1))
    run(tmp_path / "run", proxies=["macs"], shard="0/2")
    with folder.lock():
        with pytest.raises(CommandFailed, match="is being written by another process"):
            run(tmp_path / "run", proxies=["macs"], shard="0/2")
        with pytest.raises(UsageError, match=r"shard \(there: 0/2, now: 1/2\)"):
            run(tmp_path / "run", proxies=["macs"], shard="1/2")


def test_same_settings_lead_to_the_same_default_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    oracle = make_oracle(tmp_path / "oracle.csv")
    options = {
        "network": NETWORK,
        "archs": "sample:3",
        "proxies": ["macs"],
        "oracle": oracle,
        "device": "cpu",
        "progress": False,
    }
    for extra in ({}, {"workers": 1, "rankings": ["macs"]}, {"seeds": [1]}, {"seeds": 2}, {"shard": "1/2"}):
        score(**options, **extra)
    first, other, shard = sorted(
        (path.name for path in (tmp_path / "runs").iterdir()), key=lambda name: "shard" in name
    )
    assert {first[:6], other[:6]} == {"nb201-"}
    assert shard.removesuffix("-shard-1-of-2") in (first, other)
