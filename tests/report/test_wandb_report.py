"""The report on W&B: its spec is made offline, read back with W&B's own model, and refers to keys that runs log."""

import json
import sys

import pytest

from vkdnw_pl.report.runs import read_runs
from vkdnw_pl.report.wandb_report import build_report, push_report, report_spec

pytest.importorskip("wandb_workspaces", reason="wandb-workspaces is not installed")

METRICS = """ranking,dataset,split,n,kendall,spearman,ndcg,ndcg_k,seeds,kendall_std,spearman_std,ndcg_std
macs,digits,test,3,0.5,0.6,0.7,3,1,,,
aleph>vkdnw,digits,test,3,0.75,0.8,0.9,3,1,,,
"""
SCORES = "arch,seed,vkdnw,vkdnw_decile_1,status,reason,seconds\nnet,1,1.5,0.1,ok,,0.1\n"


def folder(root, name, command, wandb_id=None, **files):
    path = root / name
    path.mkdir()
    meta = {"format": 1, "command": command, "status": "finished", "settings": {"space": "nb201"}, "runs": []}
    (path / "meta.json").write_text(json.dumps(meta))
    (path / "config.yaml").write_text("space: nb201\n")
    for file, text in files.items():
        (path / file.replace("__", ".")).write_text(text)
    if wandb_id:
        (path / "wandb_id").write_text(wandb_id + "\n")
    return path


@pytest.fixture
def runs(tmp_path):
    line = {"step": 1, "epoch": 0, "val/top1": 50.0, "train/loss": 2.0, "lr": 0.1}
    paths = [
        folder(tmp_path, "scored", "score", "id-score", metrics__csv=METRICS),
        folder(tmp_path, "other", "score", metrics__csv=METRICS),
        folder(tmp_path, "searched", "search", "id-search"),
        folder(
            tmp_path,
            "trained",
            "fit",
            "id-fit",
            history__jsonl=json.dumps(line) + "\n",
            results__json='{"test/top1": 51.0}',
            scores__csv=SCORES,
        ),
    ]
    return read_runs(paths)


@pytest.fixture(autouse=True)
def _no_server(monkeypatch):
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.delenv("WANDB_ENTITY", raising=False)
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")


def blocks(spec, kind):
    return [block for block in spec["blocks"] if block["type"] == kind]


def panels(grid):
    return grid["metadata"]["panelBankSectionConfig"]["panels"]


def panel_set(spec, heading):
    """The panels below a heading."""
    place = next(i for i, one in enumerate(spec["blocks"]) if one["children"][0].get("text") == heading)
    return spec["blocks"][place + 1]


def test_every_kind_of_run_has_its_panels(runs):
    spec = report_spec(build_report(runs, "project", None, "Comparison"))
    bars = [one for one in panels(panel_set(spec, "Proxies side by side")) if one["viewType"] == "Bar Chart"]
    assert [one["config"]["chartTitle"] for one in bars] == ["KT on digits", "SPR on digits", "nDCG on digits"]
    assert bars[0]["config"]["metrics"] == [
        "digits/macs/kendall",
        "digits/aleph>vkdnw/kendall",
    ]
    clouds = [one for one in panels(panel_set(spec, "Proxies side by side")) if one["viewType"] == "Vega2"]
    assert [one["config"]["fieldSettings"] for one in clouds] == [
        {"x": "macs", "y": "accuracy/digits"},
        {"x": "aleph>vkdnw", "y": "accuracy/digits"},
    ]
    curves = panels(panel_set(spec, "Searches"))
    lines = [one["config"] for one in curves if one["viewType"] == "Run History Line Plot"]
    assert (lines[0]["xAxis"], lines[0]["metrics"]) == ("search/evaluated", ["search/best/score"])
    trained = panels(panel_set(spec, "Trainings"))
    assert [one["config"]["metrics"] for one in trained if one["viewType"] == "Run History Line Plot"] == [
        ["val/top1"],
        ["train/loss"],
        ["lr"],
    ]
    scatter = [one["config"] for one in trained if one["viewType"] == "Scatter Plot"]
    assert [(one["xAxis"], one["yAxis"]) for one in scatter] == [("summary:proxy/vkdnw", "summary:test/top1")]
    parallel = [one["config"]["columns"] for one in trained if one["viewType"] == "Parallel Coordinates Plot"]
    assert parallel == [[{"accessor": "summary:proxy/vkdnw"}, {"accessor": "summary:test/top1"}]]
    assert [one["viewType"] for one in panels(panel_set(spec, "Differences between the runs"))] == ["Run Comparer"]


def test_panels_show_the_compared_runs_alone(runs):
    spec = report_spec(build_report(runs, "project", None, "Comparison"))
    chosen = [grid["metadata"]["runSets"][0]["filters"]["filters"][0] for grid in blocks(spec, "panel-grid")]
    assert [one["value"] for one in chosen] == [
        ["id-score"],
        ["id-search"],
        ["id-fit"],
        ["id-score", "id-search", "id-fit"],
    ]
    assert {(one["key"]["section"], one["key"]["name"], one["op"]) for one in chosen} == {("run", "name", "IN")}


def test_tables_have_all_runs_and_say_which_have_no_panels(runs):
    spec = report_spec(build_report(runs, "project", None, "Comparison"))
    text = "\n".join(block["content"] for block in blocks(spec, "markdown-block"))
    assert all(f"`{run.name}`" in text for run in runs)
    assert "**0.750**" in text
    assert "other" in json.dumps(blocks(spec, "callout-block"))


def test_panels_do_not_overlap(runs):
    spec = report_spec(build_report(runs, "project", None, "Comparison"))
    for grid in blocks(spec, "panel-grid"):
        taken = [
            (x, y)
            for one in panels(grid)
            for x in range(one["layout"]["x"], one["layout"]["x"] + one["layout"]["w"])
            for y in range(one["layout"]["y"], one["layout"]["y"] + one["layout"]["h"])
        ]
        assert len(taken) == len(set(taken))
        assert max(x for x, _ in taken) < 24


def test_spec_is_read_by_the_library_as_it_was_written(runs):
    from wandb_workspaces.reports.v2 import internal
    from wandb_workspaces.reports.v2.interface import PanelGrid

    report = build_report(runs, "project", None, "Comparison")
    spec = report_spec(report)
    read = internal.Spec.model_validate(spec)
    written_again = read.model_dump_json(by_alias=True, exclude_none=True).replace(',"inlineComments":[]', "")
    assert json.loads(written_again) == spec
    grids = [PanelGrid._from_model(block) for block in read.blocks if isinstance(block, internal.PanelGrid)]
    written = [block for block in report.blocks if isinstance(block, PanelGrid)]
    assert [[type(one) for one in grid.panels] for grid in grids] == [
        [type(one) for one in grid.panels] for grid in written
    ]


def test_runs_without_results_make_a_report(tmp_path):
    (run,) = read_runs([folder(tmp_path, "begun", "score")])
    spec = report_spec(build_report([run], "project", None, "One"))
    assert not blocks(spec, "panel-grid")


def test_saving_without_a_server_says_so(runs):
    with pytest.raises(OSError, match=r"\w"):
        push_report(build_report(runs, "project", "entity", "Comparison", online=True))


def test_missing_library_is_named(runs, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb_workspaces.reports.v2", None)
    monkeypatch.setitem(sys.modules, "wandb_workspaces.reports", None)
    with pytest.raises(ImportError, match="wandb-report"):
        build_report(runs, "project", None, "Comparison")
