"""What the W&B run of each command holds, read back with wandb's own tool."""

import csv
import json
import os
import re

import pytest
from wandb_records import Records, no_account, overview

from vkdnw_pl import cli
from vkdnw_pl.report.runs import read_runs
from vkdnw_pl.report.wandb_report import SEARCH_CURVES, build_report, report_spec
from vkdnw_pl.search.history import Candidate, RankedHistory
from vkdnw_pl.search.proposals import DrawCounts
from vkdnw_pl.spaces import NB201
from vkdnw_pl.tracking import results
from vkdnw_pl.tracking.run import WandbRun

TINY = "{channels: 4, cells: 1, image_size: 8}"


@pytest.fixture(autouse=True, scope="module")
def environment_without_account():
    with no_account():
        yield


def call(*arguments):
    return cli.main([str(argument) for argument in arguments])


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
    kept = rows_of(folder / "scores.csv")
    logged = [dict(zip(table["columns"], row, strict=True)) for row in table["data"]]
    assert [(row["arch"], str(row["seed"]), row["reason"]) for row in logged] == [
        (row["arch"], row["seed"], row["reason"]) for row in kept
    ]
    for column in ("macs", "vkdnw"):
        values = [None if row[column] == "" else float(row[column]) for row in kept]
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
    content = overview(runs / "shard1")
    assert content["exit_code"] == 0
    assert content["tags"] == ["one", "two"]
    assert content["config"]["shard"] == "1/2"
    environment = content["config"]["meta"]["environment"]
    assert environment["device"] == {"kind": "cpu"}
    assert "commit" in environment
    assert {"torch", "vkdnw_pl"} <= set(environment["versions"])
    assert "wandb: true" in (runs / "shard0" / "config.yaml").read_text()
    # All that W&B keeps is in the run folder.
    assert {path.name for path in (runs / "shard0" / "wandb").iterdir()} >= {"artifacts", "latest-run"}


def test_merge(runs, oracle):
    accuracies = {row["arch"]: float(row["made_up"]) for row in rows_of(oracle)}
    records, summary = Records(runs / "merged"), overview(runs / "merged")["summary"]
    assert records.run["job_type"] == "merge"
    assert records.run["run_group"] == Records(runs / "shard0").run["run_group"]
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
    panels = [panel for grid in grids for panel in grid["panelBankSectionConfig"]["panels"]]
    bars = [key for panel in panels if panel["viewType"] == "Bar Chart" for key in panel["config"]["metrics"]]
    assert bars
    assert {key.removeprefix("summary_metrics.") for key in bars} <= set(summary)
    fields = [set(panel["config"]["fieldSettings"].values()) for panel in panels if panel["viewType"] == "Vega2"]
    assert fields
    assert set.union(*fields) <= set(records.table("ranking", summary)["columns"])


def test_evaluate_looks_at_a_run_and_has_one_of_its_own(runs):
    records, content = Records(runs / "merged", "evaluate"), overview(runs / "merged", "evaluate")
    assert records.run["job_type"] == "evaluate"
    assert records.run["run_group"] == "looks"
    assert (content["entity"], content["project"]) == ("us", "ours")
    assert content["config"]["scores"] == str(runs / "merged")
    check_scores((records, content["summary"]), runs / "merged")
    assert "made_up/macs/kendall" in content["summary"]


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
    records, summary = Records(out), overview(out)["summary"]
    assert records.run["job_type"] == "search"
    assert re.fullmatch(r"search-[0-9a-f]{8}", records.run["run_group"])
    curve = [point for point in records.history if "search/evaluated" in point]
    assert curve[0]["search/evaluated"] == 8  # while it ran, from the process that searched
    assert curve[-1]["search/evaluated"] == 24
    names = ("evaluations_per_s", "acceptance", "effective_parents", "best/score", "best/macs", "best/vkdnw")
    assert {f"search/{name}" for name in names} <= set(curve[-1])
    assert {key for keys in SEARCH_CURVES.values() for key in keys} <= set(curve[-1])
    best = json.loads((out / "found.json").read_text())
    assert summary["found/arch"] == best["arch"]
    assert summary["found/macs"] == best["macs"]
    assert summary["found/vkdnw"] == pytest.approx(best["scores"]["vkdnw"])
    assert summary["found/accuracy/made_up"] == pytest.approx(best["accuracies"]["made_up"])
    table = records.table("top", summary)
    assert [row[1] for row in table["data"]] == [network["arch"] for network in best["top"]]
    assert {"figures/best_so_far", "figures/macs_and_score", "figures/diversity"} <= set(summary)
    assert records.artifact("search") == {"found.json", "history.csv", "config.yaml", "meta.json"}


def test_a_wrong_mode_is_wrong_usage(oracle, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(os.environ, "WANDB_MODE", "onlin")
    assert score(oracle, tmp_path / "run", "--wandb") == 2
    assert (
        "WANDB_MODE='onlin' is not known; did you mean 'online'? (allowed: online, offline" in capsys.readouterr().err
    )
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("command", ["score", "search", "merge", "evaluate", "export", "fit"])
def test_a_group_without_wandb_is_wrong_usage(command, capsys, tmp_path):
    places = {"merge": [tmp_path], "evaluate": [tmp_path], "export": [tmp_path]}
    more = ["--data", "Digits", "--model.arch", "mbv2_480m"] if command == "fit" else places.get(command, [])
    assert call(command, *more, "--wandb_group", "g") == 2
    assert "wandb_group='g' has no use without wandb" in capsys.readouterr().err


class RunOfPoints:
    """A W&B run that keeps the points of its curves."""

    def __init__(self):
        self.points = []
        self.log = self.points.append

    def define_metric(self, name, step_metric):
        self.axis = (name, step_metric)


def candidate(index, value, parent=None, status="ok"):
    return Candidate(index, f"arch{index}", parent, "mutation", 10 * index, 5, values={"v": value}, status=status)


def test_points_of_a_search(tmp_path, monkeypatch):
    monkeypatch.setattr(results, "_SEARCH_EVERY_S", 0)
    wandb_run = RunOfPoints()
    curve, history = results.SearchCurve(WandbRun(wandb_run, tmp_path)), RankedHistory(["v"])
    curve.close()
    assert wandb_run.points == []
    batches = [
        [candidate(0, 1.0), candidate(1, 3.0, 0)],
        [candidate(2, 2.0, 1), candidate(3, None, 1, "failed"), candidate(4, 1.0, 0)],
    ]
    for batch in batches:
        for new in batch:
            curve.candidate(new, DrawCounts(accepted=new.index + 1, duplicates=1))
        history.add(batch)
        curve.batch(history)
    first, second = wandb_run.points
    assert (first["search/evaluated"], second["search/evaluated"]) == (2, 5)
    assert (first["search/failed"], second["search/failed"]) == (0, 1)
    assert second["search/acceptance"] == 5 / 6
    assert second["search/best/v"] == 3.0
    assert second["search/best/macs"] == 10
    assert first["search/effective_parents"] == 1
    assert second["search/effective_parents"] == pytest.approx(2)
    assert wandb_run.axis == ("search/*", "search/evaluated")
    curve.close()
    assert len(wandb_run.points) == 3


def test_points_come_no_more_often_than_is_asked(tmp_path):
    wandb_run = RunOfPoints()
    run = WandbRun(wandb_run, tmp_path)
    for i in range(3):
        run.log_every(100, lambda i=i: {"score/rows": i})
    assert wandb_run.points == [{"score/rows": 0}]
    run.log_every(0, lambda: {"score/rows": 3})
    assert wandb_run.points == [{"score/rows": 0}, {"score/rows": 3}]
