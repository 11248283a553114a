import dataclasses

import numpy as np
import pytest
import scipy.stats

from vkdnw_pl.metrics.functional import ndcg
from vkdnw_pl.oracles import Oracle
from vkdnw_pl.ranking import rank_agreement
from vkdnw_pl.runs.table import ScoreRow, ScoreTable
from vkdnw_pl.scoring.bootstrap import bootstrap_intervals
from vkdnw_pl.scoring.evaluation import (
    METRIC_COLUMNS,
    choose_rankings,
    evaluate_table,
    write_metrics,
    write_ranking,
)

ARCHS = [f"arch{i}" for i in range(8)]


def make_table(columns: dict[str, list], seed: int = 1) -> ScoreTable:
    rows = [
        ScoreRow(arch, seed, {name: values[i] for name, values in columns.items()})
        for i, arch in enumerate(ARCHS[: len(next(iter(columns.values())))])
    ]
    return ScoreTable(tuple(columns), rows)


def make_oracle(accuracies: list[float], **more: list[float]) -> Oracle:
    tables = {name: dict(zip(ARCHS, values)) for name, values in {"one": accuracies, **more}.items()}
    return Oracle("mine", "made up", dict.fromkeys(tables, "test"), tables)


def evaluate(table, oracle, rankings=None, **options):
    return evaluate_table(table, oracle, choose_rankings(table.columns, rankings), **options)


def test_missing_values_rank_last_and_are_counted():
    table = make_table({"a": [3.0, None, 5.0, None, 4.0]})
    done = evaluate(table, make_oracle([1, 2, 3, 4, 5, 6, 7, 8]))
    assert list(done.ranks["a"]) == [3, 4.5, 1, 4.5, 2]
    assert done.non_finite == {"a": 2}
    expected = scipy.stats.kendalltau([3, 0, 5, 0, 4], [1, 2, 3, 4, 5]).statistic
    assert done.metrics[0]["kendall"] == pytest.approx(expected, abs=1e-12)


def test_log_rank_aggregation_and_pairs():
    columns = {"aleph": [1.0, 1.0, 2.0, 2.0], "vkdnw": [0.1, 0.4, 0.2, 0.3], "jacov": [4.0, 3.0, 2.0, 1.0]}
    done = evaluate(make_table(columns), make_oracle([1, 2, 3, 4]), ["vkdnw_single", "aleph>vkdnw+jacov"])
    assert list(done.ranks["vkdnw_single"]) == [4, 3, 2, 1]
    by_hand = np.log([1, 2, 3, 4]) + np.log([4, 3, 2, 1])
    assert list(done.ranks["aleph>vkdnw+jacov"]) == list(5 - scipy.stats.rankdata(by_hand))


def test_ranks_are_among_all_metrics_among_the_known():
    table = make_table({"a": [8.0, 7.0, 6.0, 5.0, 4.0, 3.0, 2.0, 1.0]})
    oracle = Oracle(
        "mine", "made up", {"one": "test"}, {"one": {ARCHS[i]: acc for i, acc in ((6, 9), (1, 30), (4, 20))}}
    )
    done = evaluate(table, oracle, top_k=2)
    assert list(done.ranks["a"]) == list(range(1, 9))
    assert done.known == {"one": [1, 4, 6]}
    row = done.metrics[0]
    assert (row["n"], row["ndcg_k"], row["seeds"], row["split"]) == (3, 2, 1, "test")
    assert row["kendall"] == row["ndcg"] == pytest.approx(1.0)
    assert row["kendall_std"] is None


def test_mean_and_deviation_over_seeds():
    accuracies = [10.0, 20, 30, 40, 50, 60, 70, 80]
    rng = np.random.default_rng(0)
    scores = {seed: list(rng.normal(size=8)) for seed in (3, 1, 2)}
    rows = [row for seed, values in scores.items() for row in make_table({"a": values}, seed).rows]
    done = evaluate(ScoreTable(("a",), rows), make_oracle(accuracies), top_k=4)
    taus = [scipy.stats.kendalltau(values, accuracies).statistic for values in scores.values()]
    gains = [float(ndcg(values, accuracies, top_k=4)) for values in scores.values()]
    row = done.metrics[0]
    assert row["seeds"] == 3
    assert (row["kendall"], row["kendall_std"]) == pytest.approx((np.mean(taus), np.std(taus, ddof=1)), abs=1e-12)
    assert (row["ndcg"], row["ndcg_std"]) == pytest.approx((np.mean(gains), np.std(gains, ddof=1)), abs=1e-12)
    ranks = np.mean([9 - scipy.stats.rankdata(values) for values in scores.values()], axis=0)
    assert done.ranks["a"] == pytest.approx(ranks)


def test_architectures_without_a_row_for_every_seed_are_left_out():
    both = make_table({"a": [1.0, 2.0, 3.0]}, seed=1).rows + make_table({"a": [1.0, 2.0]}, seed=2).rows
    done = evaluate(ScoreTable(("a",), both), make_oracle([1, 2, 3]))
    assert done.archs == ARCHS[:2]
    assert done.metrics[0]["n"] == 2


def test_a_metric_that_is_undefined_is_an_empty_cell(tmp_path):
    done = evaluate(make_table({"a": [1.0, 1.0, 1.0]}), make_oracle([1, 2, 3]))
    assert done.metrics[0]["kendall"] is done.metrics[0]["ndcg"] is None
    write_metrics(tmp_path / "metrics.csv", done.metrics)
    header, line = (tmp_path / "metrics.csv").read_text().splitlines()
    assert header == ",".join(METRIC_COLUMNS)
    assert line.startswith("a,one,test,3,,,,")
    assert line.endswith(",3,1,,,,%,higher")
    write_ranking(tmp_path / "ranking.csv", done)
    assert (tmp_path / "ranking.csv").read_text() == "arch,a\narch0,2.0\narch1,2.0\narch2,2.0\n"


def test_of_a_latency_less_is_better_and_there_is_no_ndcg():
    archs = dict(zip(ARCHS, [300.0, 150.0, -2.0, 150.0]))
    oracle = Oracle("o", "d", {"ms": "test"}, {"ms": archs}, units={"ms": "ms"}, lower_is_better=["ms"])
    as_good = make_oracle([-value for value in archs.values()])
    scores = make_table({"a": [1.0, 2.0, 4.0, 3.0]})
    rows = [
        evaluate(scores, o).metrics[0] for o in (oracle, dataclasses.replace(as_good, units={"one": "negative ms"}))
    ]
    assert rows[0]["kendall"] == pytest.approx(scipy.stats.kendalltau([1, 2, 4, 3], [-300, -150, 2, -150]).statistic)
    assert rows[0]["kendall"] > 0.9
    assert [rows[0][name] for name in ("ndcg", "ndcg_k", "unit", "better")] == [None, None, "ms", "lower"]
    names = ("kendall", "spearman", "ndcg")
    assert [rows[0][name] for name in names] == [rows[1][name] for name in names]
    assert rows[1]["better"] == "higher"
    intervals = bootstrap_intervals(scores, oracle, choose_rankings(("a",), None), resamples=100)
    assert "ndcg" not in intervals.get(("a", "ms"), {})


def test_data_sets_with_architectures_of_their_own():
    oracle = Oracle(
        "o", "d", {"x": "test", "y": "test"}, {"x": {ARCHS[0]: 1.0, ARCHS[1]: 2.0}, "y": {ARCHS[1]: 5.0, ARCHS[2]: 4.0}}
    )
    done = evaluate(make_table({"a": [1.0, 2.0, 3.0]}), oracle)
    assert done.known == {"x": [0, 1], "y": [1, 2]}
    assert [(row["dataset"], row["n"], row["kendall"]) for row in done.metrics] == [("x", 2, 1.0), ("y", 2, -1.0)]


def test_several_data_sets_from_one_scoring():
    done = evaluate(make_table({"a": [1.0, 2.0, 3.0]}), make_oracle([1, 2, 3], two=[3, 2, 1]))
    assert [(row["dataset"], row["kendall"]) for row in done.metrics] == [("one", 1.0), ("two", -1.0)]


def test_ties_rule_reaches_ndcg():
    table, oracle = make_table({"a": [0.0] + [1.0] * 7}), make_oracle([1, 2, 3, 4, 5, 6, 7, 8])
    values = [evaluate(table, oracle, ties=ties, top_k=2).metrics[0]["ndcg"] for ties in ("average", "random")]
    assert values[0] != values[1]


def test_rankings_that_cannot_be_made():
    with pytest.raises(ValueError, match=r"rankings: 'vkdnw_agg': column 'aleph' is not in the score table"):
        choose_rankings(("macs",), ["macs", "vkdnw_agg"])
    with pytest.raises(ValueError, match="a ranking repeats"):
        choose_rankings(("macs",), ["macs", "macs"])
    with pytest.raises(ValueError, match="no column to rank by"):
        choose_rankings((), None)
    assert list(choose_rankings(("macs", "aleph", "vkdnw"), None)) == ["macs", "aleph", "vkdnw", "vkdnw_single"]


def test_a_ranking_is_measured_in_the_seeds_that_have_its_columns():
    """As in joined tables: column b was scored with seed 1 only."""
    first = make_table({"a": [1.0, 2, 3, 4], "b": [4.0, 3, 2, 1]}, seed=1)
    second = make_table({"a": [1.0, 2, 4, 3], "b": [None] * 4}, seed=2)
    done = evaluate(ScoreTable(("a", "b"), [*first.rows, *second.rows]), make_oracle([1, 2, 3, 4]), ["a", "b", "a>b"])
    rows = {row["ranking"]: row for row in done.metrics}
    assert [rows[name]["seeds"] for name in ("a", "b", "a>b")] == [2, 1, 1]
    assert rows["b"]["kendall"] == -1
    assert rows["b"]["kendall_std"] is None
    assert rows["a"]["kendall"] == pytest.approx((1 + 2 / 3) / 2)
    assert list(done.ranks["b"]) == [1, 2, 3, 4]


def test_scores_that_are_all_equal_have_no_metric():
    """The expectation of a random order is no merit of a column that is empty."""
    measured = rank_agreement(np.full(4, -1.0), np.array([90.0, 91.0, 92.0, 93.0]), 2, "average")
    assert measured == {"kendall": None, "spearman": None, "ndcg": None}
