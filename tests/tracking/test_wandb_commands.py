"""What the W&B run of each command holds, read back with wandb's own tool."""

import csv
import os
import re
import subprocess
import sys

import pytest
import yaml
from wandb_records import Records, latest, no_account, overview

from vkdnw_pl import cli
from vkdnw_pl.report.runs import read_runs
from vkdnw_pl.report.wandb_report import SEARCH_CURVES, build_report, report_spec
from vkdnw_pl.spaces import NB201

TINY = "{channels: 4, cells: 1, image_size: 8}"
KEY = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture(autouse=True, scope="module")
def clean():
    with no_account():
        yield


def call(*arguments):
    return cli.main([str(one) for one in arguments])


def score(oracle, out, *more):
    options = ["--network", TINY, "--archs", "sample:12", "--proxies", "[macs, vkdnw]", "--batch_size", 4]
    return call("score", *options, "--device", "cpu", "--progress", "false", "--oracle", oracle, "--out", out, *more)


@pytest.fixture(scope="module")
def oracle(tmp_path_factory):
    path = tmp_path_factory.mktemp("oracle") / "oracle.csv"
    archs = NB201().enumerate(unique=True)
    path.write_text(
        "arch,made_up\n" + "".join(f"{arch},{arch.count('conv') + i / 1e5}\n" for i, arch in enumerate(archs))
    )
    return path


@pytest.fixture(scope="module")
def runs(oracle, tmp_path_factory):
    """Two shards, their merge, and an evaluation of it."""
    folder = tmp_path_factory.mktemp("runs")
    for i in range(2):
        more = ["--shard", f"{i}/2", "--workers", 2 - i, "--wandb", "--wandb_tags", "[one, two]"]
        assert score(oracle, folder / f"shard{i}", *more) == 0
    assert call("merge", folder / "shard0", folder / "shard1", "--out", folder / "merged", "--wandb") == 0
    assert call("evaluate", folder / "merged", "--oracle", oracle, "--wandb", "us/ours", "--wandb_group", "looks") == 0
    return folder


def rows_of(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def check_scores(run, folder):
    """Every row, with its missing values and their reasons."""
    records, summary = run
    table = records.table("scores", summary)
    there = rows_of(folder / "scores.csv")
    logged = [dict(zip(table["columns"], row, strict=True)) for row in table["data"]]
    assert [(row["arch"], str(row["seed"]), row["reason"]) for row in logged] == [
        (row["arch"], row["seed"], row["reason"]) for row in there
    ]
    for column in ("macs", "vkdnw"):
        values = [None if row[column] == "" else float(row[column]) for row in there]
        assert [row[column] for row in logged] == values
    assert None in [row["vkdnw"] for row in logged]


def test_shards_are_one_group(runs):
    first, second = (Records(runs / f"shard{i}") for i in range(2))
    assert first.run["run_id"] != second.run["run_id"]
    assert first.run["run_group"] == second.run["run_group"]
    assert re.fullmatch(r"score-[0-9a-f]{8}", first.run["run_group"])
    assert {first.run["job_type"], second.run["job_type"]} == {"score"}
    assert first.run["project"] == "vkdnw_pl"
    for records in (first, second):
        assert [point["score/rows"] for point in records.history if "score/rows" in point][-1] == 6
        assert records.artifact("scores") == {"scores.csv", "config.yaml", "meta.json"}
        assert records.of("stats")  # system metrics
    found = overview(runs / "shard1")
    assert found["exit_code"] == 0
    assert found["tags"] == ["one", "two"]
    assert found["config"]["shard"] == "1/2"
    environment = found["config"]["meta"]["environment"]
    assert environment["device"] == {"kind": "cpu"}
    assert "commit" in environment
    assert {"torch", "vkdnw_pl"} <= set(environment["versions"])
    assert "wandb: true" in (runs / "shard0" / "config.yaml").read_text()
    # All that W&B keeps is in the run folder.
    assert {path.name for path in (runs / "shard0" / "wandb").iterdir()} >= {"artifacts", "cache", "latest-run"}


def test_merge(runs, oracle):
    accuracies = {row["arch"]: float(row["made_up"]) for row in rows_of(oracle)}
    records, found = Records(runs / "merged"), overview(runs / "merged")
    assert records.run["job_type"] == "merge"
    assert records.run["run_group"] == Records(runs / "shard0").run["run_group"]
    summary = found["summary"]
    check_scores((records, summary), runs / "merged")
    metrics = rows_of(runs / "merged" / "metrics.csv")
    assert {row["ranking"] for row in metrics} >= {"vkdnw", "macs"}
    for row in metrics:
        for metric in ("kendall", "spearman", "ndcg"):
            assert summary[f"{row['dataset']}/{row['ranking']}/{metric}"] == pytest.approx(float(row[metric]))
    assert len(records.table("metrics", summary)["data"]) == len(metrics)
    ranking = records.table("ranking", summary)
    assert ranking["columns"][0] == "arch"
    assert ranking["columns"][-1] == "accuracy/made_up"
    assert {row[0]: row[-1] for row in ranking["data"]} == {arch: accuracies[arch] for arch, *_ in ranking["data"]}
    assert len(ranking["data"]) == 12
    for name in ("ndcg", "ranks_made_up"):
        image = (records.files / summary[f"figures/{name}"]["path"]).read_bytes()
        assert image == (runs / "merged" / "figures" / f"{name}.png").read_bytes()
    assert records.artifact("scores") == {"scores.csv", "ranking.csv", "metrics.csv", "config.yaml", "meta.json"}


def test_panels_of_a_report_find_what_was_logged(runs):
    pytest.importorskip("wandb_workspaces", reason="wandb-workspaces is not installed")
    (run,) = read_runs([runs / "merged"])
    records, summary = Records(runs / "merged"), overview(runs / "merged")["summary"]
    spec = report_spec(build_report([run], "project", None, "One"))
    grids = [block["metadata"] for block in spec["blocks"] if block["type"] == "panel-grid"]
    assert {grid["runSets"][0]["filters"]["filters"][0]["value"][0] for grid in grids} == {records.run["run_id"]}
    panels = [one for grid in grids for one in grid["panelBankSectionConfig"]["panels"]]
    bars = [key for one in panels if one["viewType"] == "Bar Chart" for key in one["config"]["metrics"]]
    assert bars
    assert {key.removeprefix("summary_metrics.") for key in bars} <= set(summary)
    fields = [set(one["config"]["fieldSettings"].values()) for one in panels if one["viewType"] == "Vega2"]
    assert fields
    assert set.union(*fields) <= set(records.table("ranking", summary)["columns"])


def test_evaluate_looks_at_a_run_and_has_one_of_its_own(runs):
    records, found = Records(runs / "merged", "evaluate"), overview(runs / "merged", "evaluate")
    assert records.run["job_type"] == "evaluate"
    assert records.run["run_group"] == "looks"
    assert (found["entity"], found["project"]) == ("us", "ours")
    assert found["config"]["scores"] == str(runs / "merged")
    check_scores((records, found["summary"]), runs / "merged")
    assert "made_up/macs/kendall" in found["summary"]


def test_a_rerun_has_the_same_id_and_overwrite_another(runs, oracle):
    out = runs / "shard1"
    first = (out / "wandb_id").read_text()
    assert score(oracle, out, "--shard", "1/2", "--workers", 1, "--wandb") == 0
    assert Records(out).run["run_id"] == first.strip()
    assert len(list((out / "wandb").glob("offline-run-*"))) == 2
    assert score(oracle, out, "--shard", "1/2", "--workers", 1, "--overwrite") == 0  # W&B is not asked for
    assert not (out / "wandb_id").exists()
    assert not (out / "wandb").exists()


def test_search(oracle, tmp_path):
    out = tmp_path / "run"
    code = call(
        *("search", "--space", "nb201", "--network", "{channels: 2, cells: 0, image_size: 8}", "--evaluations", 24),
        *("--population", 8, "--batch", 8, "--batch_size", 4, "--device", "cpu", "--workers", 2, "--out", out),
        *("--ranking", "vkdnw+macs", "--progress", "false", "--top_k", 3, "--oracle", oracle, "--wandb"),
    )
    assert code == 0
    records, found = Records(out), overview(out)
    assert records.run["job_type"] == "search"
    assert re.fullmatch(r"search-[0-9a-f]{8}", records.run["run_group"])
    curve = [point for point in records.history if "search/evaluated" in point]
    assert curve[0]["search/evaluated"] == 8  # while it ran, from the process that searched
    assert curve[-1]["search/evaluated"] == 24
    names = ("evaluations_per_s", "acceptance", "effective_parents", "best/score", "best/macs", "best/vkdnw")
    assert {f"search/{name}" for name in names} <= set(curve[-1])
    assert {key for keys in SEARCH_CURVES.values() for key in keys} <= set(curve[-1])
    summary, best = found["summary"], yaml.safe_load((out / "found.json").read_text())
    assert summary["found/arch"] == best["arch"]
    assert summary["found/macs"] == best["macs"]
    assert summary["found/vkdnw"] == pytest.approx(best["scores"]["vkdnw"])
    assert summary["found/accuracy/made_up"] == pytest.approx(best["accuracies"]["made_up"])
    table = records.table("top", summary)
    assert [row[1] for row in table["data"]] == [one["arch"] for one in best["top"]]
    assert {"figures/best_so_far", "figures/macs_and_score", "figures/diversity"} <= set(summary)
    assert records.artifact("search") == {"found.json", "history.csv", "config.yaml", "meta.json"}


def evaluate_apart(folder, scores, oracle, **environment):
    command = [sys.executable, "-m", "vkdnw_pl", "evaluate", str(scores), "--oracle", str(oracle), "--out", str(folder)]
    return subprocess.run(
        [*command, "--wandb"], env={**os.environ, **environment}, capture_output=True, text=True, timeout=60
    )


def test_a_server_that_does_not_answer(runs, oracle, tmp_path):
    out = tmp_path / "run"
    server = {"WANDB_API_KEY": KEY, "WANDB_BASE_URL": "http://127.0.0.1:9", "WANDB_INIT_TIMEOUT": "1"}
    done = evaluate_apart(out, runs / "merged" / "scores.csv", oracle, **server)
    assert done.returncode == 0
    notes = [line for line in done.stderr.splitlines() if "W&B" in line or "wandb" in line]
    assert len(notes) == 1, done.stderr
    assert notes[0].startswith("note: W&B cannot be reached (")
    assert "so W&B writes offline below" in notes[0]
    assert overview(out, "evaluate")["summary"]["rows"] == 12
    assert [path.name for path in (out / "wandb").glob("*run-*") if path.is_dir() and not path.is_symlink()] == [
        latest(out, "evaluate").name
    ]
    for path in out.rglob("*"):
        assert not path.is_file() or KEY.encode() not in path.read_bytes(), path


def test_a_wrong_mode_is_wrong_usage(runs, oracle, tmp_path):
    done = evaluate_apart(tmp_path / "run", runs / "merged" / "scores.csv", oracle, WANDB_MODE="onlin")
    assert done.returncode == 2
    assert "WANDB_MODE='onlin' in the environment is not allowed: it is one of online, offline" in done.stderr
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("command", ["score", "search", "merge", "evaluate", "export", "fit"])
def test_a_group_without_wandb_is_wrong_usage(command, capsys, tmp_path):
    places = {"merge": [tmp_path], "evaluate": [tmp_path], "export": [tmp_path]}
    more = ["--data", "Digits", "--model.arch", "mbv2_480m"] if command == "fit" else places.get(command, [])
    assert call(command, *more, "--wandb_group", "g") == 2
    assert "wandb_group='g' has no use without wandb" in capsys.readouterr().err
