import csv
import itertools
import json

import numpy as np
import pytest
from small_runs import evaluate

from vkdnw_pl.cli import main
from vkdnw_pl.errors import UsageError
from vkdnw_pl.report.run_pages import runs_html, runs_markdown
from vkdnw_pl.report.runs import read_runs
from vkdnw_pl.spaces import NB201


@pytest.fixture(scope="module")
def scored(tmp_path_factory):
    """A score table, and accuracies that grow with the multiply-adds."""
    base, space, random = tmp_path_factory.mktemp("scored"), NB201(), np.random.default_rng(0)
    archs = list(itertools.islice(space.enumerate(unique=True), 5000, 5020))
    macs = {arch: space.cost(arch).macs for arch in archs}
    lines = [
        f"{arch},{value},{value + 3e7 * noise},{noise}"
        for (arch, value), noise in zip(macs.items(), random.normal(size=20))
    ]
    (base / "scores.csv").write_text("\n".join(["arch,macs,aleph,vkdnw", *lines, ""]))
    (base / "oracle.csv").write_text(
        "\n".join(["arch,made_up", *(f"{arch},{40 + value / 1e7}" for arch, value in macs.items()), ""])
    )
    return base


def config(scored, **more):
    entry = {"space": "nb201", "scores": str(scored / "scores.csv"), "oracle": str(scored / "oracle.csv")}
    return {"spaces": {"mine": entry, "again": entry, **more}, "baselines": ["macs"], "bootstrap": 100}


@pytest.mark.slow
def test_writes_tables_figures_and_pages(scored, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("VKDNW_CACHE", str(tmp_path / "none"))
    absent = {"space": "nb201", "scores": str(scored / "scores.csv"), "oracle": "nb201"}
    out = tmp_path / "out"
    options = config(scored, absent=absent) | {"rankings": ["aleph", "vkdnw_single"], "out": str(out)}
    assert evaluate([], **options) == 0
    text = capsys.readouterr().out
    assert "LEFT OUT: absent: oracle='nb201' needs" in text
    assert "note: absent is left out" in text
    assert "download nb201" in text
    assert "Kendall's tau minus that of macs" in text
    with (out / "spaces.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2 * 3 * 3  # spaces, rankings with the baseline, metrics
    assert {row["ranking"] for row in rows} == {"macs", "aleph", "vkdnw_single"}
    assert all(float(row["value"]) > 0.999 for row in rows if row["ranking"] == "macs")
    assert all(float(row["value_low"]) < float(row["value"]) for row in rows if row["ranking"] == "aleph")
    for name in (
        "fixed_size.csv",
        "correlations.csv",
        "spaces.html",
        "spaces.md",
        "figures/spaces.png",
        "figures/differences.png",
    ):
        assert (out / name).stat().st_size > 100, name
    meta = json.loads((out / "meta.json").read_text())
    assert (meta["command"], meta["status"], list(meta["left_out"])) == ("evaluate", "finished", ["absent"])
    score = tmp_path / "score"
    score.mkdir()
    (score / "meta.json").write_text(json.dumps({"command": "score", "settings": {}}))
    runs = read_runs([out, score])
    page, markdown = runs_html(runs, "both"), runs_markdown(runs, "both")
    assert "Rankings on several spaces" in page
    assert "Kendall's tau minus that of macs" in markdown
    assert "absent is left out" in page
    assert "absent is left out" in markdown
    assert evaluate([], **options) == 0  # again, into its own folder
    with pytest.raises(UsageError, match="holds a scoring, not an evaluation"):
        evaluate([], **options | {"out": str(score)})


@pytest.mark.slow
def test_by_a_file_of_options(scored, tmp_path, capsys):
    file = tmp_path / "mine.yaml"
    file.write_text(json.dumps(config(scored) | {"out": str(tmp_path / "out"), "bootstrap": 0}))
    assert main(["evaluate", "--config", str(file)]) == 0
    assert "[" not in (tmp_path / "out" / "spaces.csv").read_text()
    assert main(["evaluate", str(scored / "scores.csv"), "--config", str(file)]) == 2
    assert "scores=" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"rankings": ["alef"]}, "ranking 'alef' is in no table; did you mean 'aleph'"),
        ({"baselines": ["mac"]}, "ranking 'mac' is in no table; did you mean 'macs'"),
        ({"baselines": []}, r"baselines=\[\] is not allowed"),
        ({"bootstrap": 7}, "bootstrap=7 is not allowed"),
        ({"oracle": "digits"}, "oracle='digits' has no use with spaces"),
        ({"top_k": 3}, "top_k=3 has no use with spaces"),
        ({"paper": "table1"}, "paper='table1' has no use with spaces"),
        ({"spaces": {}}, "spaces={} is not allowed"),
    ],
)
def test_options_that_are_refused(scored, tmp_path, change, text):
    with pytest.raises(UsageError, match=text):
        evaluate([], **config(scored) | {"out": str(tmp_path / "out")} | change)


def test_intervals_of_any_table(scored, tmp_path, capsys):
    options = {"oracle": str(scored / "oracle.csv"), "bootstrap": 100, "rankings": ["macs", "aleph"]}
    assert evaluate(str(scored / "scores.csv"), **options, out=str(tmp_path)) == 0
    assert "in brackets the 95 % interval" in " ".join(capsys.readouterr().out.split())
    with (tmp_path / "metrics.csv").open(newline="") as file:
        macs, aleph = csv.DictReader(file)
    assert float(macs["kendall_low"]) == float(macs["kendall_high"]) == 1  # which the accuracies were made of
    assert float(aleph["spearman_low"]) < float(aleph["spearman"]) < float(aleph["spearman_high"])
    (recorded,) = read_runs([tmp_path])
    page = runs_html([recorded], "one")
    assert f"[{float(aleph['kendall_low']):.2f}, {float(aleph['kendall_high']):.2f}]" in page
    with pytest.raises(UsageError, match="scores is empty"):
        evaluate([], **options)
    with pytest.raises(UsageError, match="bootstrap=100 has no use with oracle=null"):
        evaluate(str(scored / "scores.csv"), oracle=None, bootstrap=100)
    with pytest.raises(UsageError, match=r"baselines=.* has no use without spaces"):
        evaluate(str(scored / "scores.csv"), **options, baselines=["macs"] * 2)
