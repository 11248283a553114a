"""What the report says: rankings, the paper's values, options that differ, curves, failures."""

import math
import re

import pytest
import run_samples as samples
import scipy.stats

from vkdnw_pl.report.paper.tables import paper_values
from vkdnw_pl.report.run_contents import (
    best_ranking,
    config_tables,
    environment_table,
    epoch_values,
    failed_runs,
    flattened,
    search_lines,
    summary_lines,
    training_lines,
)
from vkdnw_pl.report.run_figures import (
    accuracy_and_macs,
    bar_figures,
    cost_figures,
    proxies_and_accuracy,
    rank_scatters,
    search_curves,
    training_curves,
)
from vkdnw_pl.report.run_pages import runs_html
from vkdnw_pl.report.run_paper import paper_parts
from vkdnw_pl.report.run_rankings import proxy_seconds, rank_correlations, ranking_seconds
from vkdnw_pl.report.run_tables import search_columns, training_columns
from vkdnw_pl.report.runs import read_run, read_runs
from vkdnw_pl.report.tables import metric_table
from vkdnw_pl.report.text import clean
from vkdnw_pl.runs.files import duration


def test_metrics_of_several_runs(tmp_path):
    runs = read_runs(
        [
            samples.score_run(tmp_path / "a", rows=[("x", 0.5, 0.6, 0.7), ("y", 0.4, 0.8, None)]),
            samples.score_run(tmp_path / "b", rows=[("x", 0.5004, 0.1, 0.2)], dataset="other", seeds=3),
            samples.fit_run(tmp_path / "f"),
        ]
    )
    table = metric_table([run.metrics for run in runs])
    assert table.titles == ["digits (test)", "other (test)"]
    assert [(row.run, row.ranking) for row in table.rows] == [(0, "x"), (0, "y"), (1, "x")]
    marked = [[cell is not None and cell.best for cell in row.cells] for row in table.rows]
    assert marked == [
        [True, False, True, False, False, False],
        [False, True, False, False, False, False],
        [False, False, False, True, True, True],
    ]
    assert (table.has_std, table.num_seeds) == (True, 3)
    assert best_ranking(runs[0]) == ("x", "digits", 0.5)
    assert best_ranking(runs[2]) is None
    assert metric_table([runs[2].metrics]) is None
    assert [figure.caption for figure in bar_figures(table, runs)][:2] == [
        "KT on digits (test)",
        "SPR on digits (test)",
    ]


def test_values_that_look_equal_are_marked_alike(tmp_path):
    rows = [("x", 0.5001, 0.6, 0.7), ("y", 0.5004, 0.5, 0.6)]
    table = metric_table([read_run(samples.score_run(tmp_path / "a", rows=rows)).metrics])
    assert [row.cells[0].best for row in table.rows] == [True, True]


def test_the_papers_values(tmp_path):
    rows = [
        ("vkdnw_agg", 0.7, 0.8, 0.9),
        ("aleph>vkdnw+jacov+expressivity+trainability+macs", 0.6, 0.7, 0.8),
        ("nothing_of_theirs", 0.1, 0.1, 0.1),
    ]
    run = read_run(samples.score_run(tmp_path / "a", rows=rows, dataset="ImageNet16-120"))
    first, third = paper_parts([run])
    assert first.table.name == "table1"
    assert [line.label for line in first.lines] == ["VKDNW_agg"]
    kendall, _, ndcg = first.lines[0].cells[6:]
    assert kendall.paper == paper_values("table1")["vkdnw_agg", "ImageNet16-120", "kendall"].value
    assert kendall.difference == pytest.approx(0.7 - kendall.paper)
    assert ndcg.ours is None  # of a sample it is another quantity
    assert [metric for _, metric in first.columns[0][1]] == ["kendall", "spearman"]
    assert any("a sample of 40 of the paper's 9,445 networks" in text for text in first.remarks)
    assert [line.label for line in third.lines] == ["V J E T F"]
    # All networks of the paper: nDCG too, where it cuts off at the same place.
    file = run.path / "metrics.csv"
    file.write_text(samples.metrics_text(rows, "ImageNet16-120", 9445).replace("9445,1,", "1000,1,"))
    whole = paper_parts([read_run(run.path)])[0]
    assert whole.lines[0].cells[8].ours == 0.9
    assert not any("a sample" in text for text in whole.remarks)
    assert paper_parts([read_run(samples.score_run(tmp_path / "digits"))]) == []


def test_options_that_differ(tmp_path):
    runs = read_runs(
        [
            samples.score_run(tmp_path / "a"),
            samples.score_run(tmp_path / "b"),
            samples.score_run(tmp_path / "c", batch_size=64),
            samples.fit_run(tmp_path / "f"),
        ]
    )
    score, fit = config_tables(runs)
    assert (score.command, score.runs, fit.runs) == ("score", (0, 1, 2), (3,))
    assert [(line.name, line.values, line.unusual) for line in score.different] == [
        ("batch_size", ("16", "16", "64"), (False, False, True))
    ]
    assert "out" not in [line.name for line in score.lines]  # it always differs
    assert not [line.name for line in fit.lines if line.name.startswith("wandb")]  # where it is shown, not what it does
    assert {"space", "oracle", "archs (as they were read)"} <= {line.name for line in score.equal}
    assert "trainer.callbacks.ProxyCallback.init_args.seed" in [line.name for line in fit.lines]
    table = environment_table(runs)
    assert table.different == []
    assert "torch" in [line.name for line in table.equal]


def test_options_as_text():
    tree = {"a": {"b": 1, "c": None}, "d": [{"name": "x", "alpha": 0.1}, {"name": "y"}], "e": list(range(100)), "f": {}}
    flat = flattened(tree)
    assert flat == {
        "a.b": "1",
        "a.c": "null",
        "d": "x, y",
        "d.x.alpha": "0.1",
        "e": "[0, 1, 2, … 100 in all]",
        "f": "{}",
    }


def test_failures_by_reason(tmp_path):
    failures = dict.fromkeys(range(7), "vkdnw: out of memory") | {9: "zen: NaN"}
    (found,) = failed_runs(
        read_runs([samples.score_run(tmp_path / "a", failures=failures), samples.fit_run(tmp_path / "f")])
    )
    assert (found.failed, found.of, found.noun) == (8, 40, "rows")
    assert [(group.reason, group.count, len(group.rows)) for group in found.groups] == [
        ("vkdnw: out of memory", 7, 3),
        ("zen: NaN", 1, 1),
    ]
    (found,) = failed_runs([read_run(samples.search_run(tmp_path / "s", failing=True))])
    assert (found.failed, found.of, found.noun) == (3, 30, "networks")


def test_lines_of_every_kind(tmp_path):
    runs = read_runs(
        [samples.score_run(tmp_path / "a"), samples.search_run(tmp_path / "s"), samples.fit_run(tmp_path / "f")]
    )
    score, search, fit = summary_lines(runs)
    assert (score.networks, score.best, score.tau) == ("40", "vkdnw_agg", 0.75)
    assert score.started == "2026-01-02 03:04 UTC"
    assert (search.networks, search.result) == ("30", "found 5.0 M MACs, 0.0 M parameters")
    assert fit.result == "test top-1 89.00 %"
    (line,) = search_lines(runs)
    assert (line.macs, line.accuracies, len(line.top)) == (5e6, "digits 91.25 %", 2)
    assert "known accuracy" in [column.head for column in search_columns([line])]
    line.accuracies = ""
    assert "known accuracy" not in [column.head for column in search_columns([line])]  # no line has content
    (line,) = training_lines(runs)
    assert (line.epochs, line.last, line.best, line.test) == ("3 of 3", 90.0, 90.0, 89.0)


def test_scatter_needs_the_accuracies(tmp_path):
    runs = read_runs(
        [
            samples.score_run(tmp_path / "a"),
            samples.score_run(tmp_path / "b", dataset="cifar10"),
            samples.score_run(tmp_path / "c"),
            samples.score_run(tmp_path / "d"),
        ]
    )
    (runs[2].path / "ranking.csv").unlink()
    runs[3].config["oracle"] = "nats"
    made = rank_scatters(runs)
    (scatter,) = made[0]
    assert scatter.dataset == "digits"
    assert [figure.caption for figure in scatter.figures][:2] == ["vkdnw_agg", "aleph"]
    assert scatter.figures[0].svg.count(" %</title>") == 40
    assert "are not those of the metrics" in made[1]
    assert made[2] == "there is no ranking.csv"
    assert "NATS-Bench" in made[3]


def test_searches_are_ranked_together(tmp_path):
    runs = read_runs([samples.search_run(tmp_path / "a"), samples.search_run(tmp_path / "b", shift=3)])
    curve, cloud = search_curves(runs)
    assert curve.runs == (0, 1)
    assert curve.note == "candidates of these searches ranked together"
    assert curve.svg.count("<title>") == 2
    assert cloud.note == "the best 60 of 60"


def test_searches_by_other_settings_are_not_compared(tmp_path):
    runs = read_runs([samples.search_run(tmp_path / "a"), samples.search_run(tmp_path / "b")])
    runs[1].settings["batch_size"] = 64
    assert [figure.runs for figure in search_curves(runs)] == [(0,), (0,), (1,), (1,)]
    runs[1].settings["ranking"] = "nowhere"
    assert "no search curve" in search_curves(runs)[-1]


def test_training_curves_and_gaps(tmp_path):
    runs = read_runs([samples.fit_run(tmp_path / "a"), samples.fit_run(tmp_path / "b", top1=80.0, epochs=4)])
    assert [(epoch, value) for epoch, value in epoch_values(runs[0], "val/top1")] == [(1, 70.0), (2, 80.0), (3, 90.0)]
    losses = epoch_values(runs[0], "train/loss")
    assert math.isnan(losses[1][1])
    accuracy, loss, _ = training_curves(runs)
    assert accuracy.runs == (0, 1)
    assert accuracy.svg.count("<circle") == 7  # of every epoch
    assert accuracy.svg.count("<title>") == 9  # of every point and line
    assert loss.svg.count("<circle") == 5  # one of each was not finite


def test_trainings_have_costs_and_a_figure(tmp_path):
    cost = {"macs": 2_500_000, "num_params": 79_778}
    folders = [samples.fit_run(tmp_path / "a", network=cost), samples.fit_run(tmp_path / "b", top1=95.0, network=cost)]
    runs = read_runs([*folders, samples.fit_run(tmp_path / "old")])
    lines = training_lines(runs)
    assert [(line.macs, line.num_params) for line in lines] == [(2.5e6, 79_778), (2.5e6, 79_778), (None, None)]
    columns = {column.head: [column.text(cell) for cell in column.cells] for column in training_columns(lines)}
    assert columns["MACs (M)"] == ["2.50", "2.50", ""]
    assert columns["params (M)"] == ["0.080", "0.080", ""]
    assert "MACs (M)" not in [column.head for column in training_columns(lines[2:])]
    (figure,) = accuracy_and_macs(runs)
    assert figure.runs == (0, 1)
    assert figure.svg.count("<circle") == 2
    assert {">a</text>", ">b</text>"} <= set(re.findall(r">[^<]*</text>", figure.svg))
    assert accuracy_and_macs(runs[1:]) == []


def timed(rows_made, **proxy_seconds):
    return {"started_at": "2026-01-02T03:04:05+00:00", "rows_made": rows_made, "proxy_seconds": proxy_seconds}


def test_what_rankings_cost(tmp_path):
    rows = [("macs", 0.5, 0, 0), ("aleph>vkdnw", 0.3, 0, 0), ("vkdnw_decile_1", 0.1, 0, 0), ("zen", 0.2, 0, 0)]
    attempts = [timed(30, macs=0.0, aleph=0.001, vkdnw=0.04), timed(10, vkdnw=0.08), timed(0, vkdnw=9.0), {}]
    runs = read_runs(
        [samples.score_run(tmp_path / "a", rows=rows, runs=attempts), samples.score_run(tmp_path / "old", rows=rows)]
    )
    assert proxy_seconds(runs[0]) == pytest.approx({"macs": 0.0, "aleph": 0.001, "vkdnw": 0.05})  # weighted by rows
    # A column belongs to its proxy; zen was not timed.
    assert ranking_seconds(runs[0]) == pytest.approx({"macs": 0.0, "aleph>vkdnw": 0.051, "vkdnw_decile_1": 0.05})
    assert ranking_seconds(runs[1]) == {}
    (figure,) = cost_figures(runs)
    assert (figure.caption, figure.runs) == ("KT on digits against time", (0,))
    assert ">a, aleph&gt;vkdnw: KT 0.300, 51 ms<" in figure.svg
    assert cost_figures(runs[1:]) == []


def test_rankings_that_agree_stand_together(tmp_path):
    run = read_run(samples.score_run(tmp_path / "a"))
    order = {"up": range(1, 9), "down": range(8, 0, -1), "nearly": [2, 1, *range(3, 9)], "ties": [4.5] * 8}
    names = ["up", "ties", "down", "nearly"]
    lines = [",".join(["arch", *names]), *(",".join(map(str, row)) for row in zip("abcdefgh", *map(order.get, names)))]
    (run.path / "ranking.csv").write_text("\n".join(lines) + "\n")
    table = rank_correlations(run)
    assert (sorted(table.names), table.networks, table.of) == (sorted(names), 8, 4)
    assert abs(table.names.index("up") - table.names.index("nearly")) == 1
    cells = {(a, b): cell for a, line in zip(table.names, table.lines) for b, cell in zip(table.names, line)}
    rho = scipy.stats.spearmanr(order["up"], order["nearly"]).statistic
    assert cells["up", "nearly"].text == cells["nearly", "up"].text == f"{rho:.2f}"
    assert (cells["up", "down"].text, cells["up", "down"].shade) == ("−1.00", "minus5")
    assert (cells["up", "up"].text, cells["up", "ties"].text, cells["up", "ties"].shade) == ("", "–", "")
    assert rank_correlations(read_run(samples.fit_run(tmp_path / "f"))) is None
    few = samples.score_run(tmp_path / "few", rows=[("aleph", 0.6, 0, 0), ("macs", 0.5, 0, 0)])
    assert rank_correlations(read_run(few)) is None


def test_proxies_against_accuracy_need_two_trainings(tmp_path):
    runs = read_runs([samples.fit_run(tmp_path / "a"), samples.fit_run(tmp_path / "b", vkdnw=2.0, top1=95.0)])
    (figure,) = proxies_and_accuracy(runs)
    assert figure.caption == "vkdnw before the training"
    assert figure.svg.count("<circle") == 2
    assert proxies_and_accuracy(runs[:1]) == []
    runs[1].config["data"]["class_path"] = "CIFAR10"
    assert proxies_and_accuracy(runs) == []


def test_texts():
    assert clean("a\nb\x1b[31m\u202e\ud800\u200b") == "a b\u241b[31m\ufffd\ufffd\u200b"
    assert [duration(seconds) for seconds in (None, math.nan, 3.21, 59.96, 104, 3599.7, 7500)] == [
        "",
        "",
        "3.2 s",
        "1 min 00 s",
        "1 min 44 s",
        "1 h 00 min",
        "2 h 05 min",
    ]


def test_only_sections_with_content(tmp_path):
    page = runs_html([read_run(samples.fit_run(tmp_path / "f"))], "One")
    for part in ("rankings", "paper", "searches", "failed", "proxies"):
        assert f'id="{part}"' not in page
    assert 'id="trainings"' in page
    with pytest.raises(ValueError, match="runs is empty"):
        runs_html([], "None")
