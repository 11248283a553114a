"""Model-driven rankings of score tables: rows, seeds and notes; the paper's numbers; the figure of importances."""

import csv
import itertools
import random
from pathlib import Path

import numpy as np
import pytest

from vkdnw_pl.oracles import Oracle, load_oracle
from vkdnw_pl.ranking.learned import LearnedRanking, make_features
from vkdnw_pl.report.tables import text_table
from vkdnw_pl.runs.table import FAILED, ScoreRow, ScoreTable, read_table
from vkdnw_pl.scoring.evaluation import METRIC_COLUMNS, write_metrics
from vkdnw_pl.scoring.learned_evaluation import LEARNED_COLUMNS, evaluate_learned
from vkdnw_pl.spaces import NB201

SPACE = NB201()
VKDNW_M = [*(f"vkdnw_decile_{i}" for i in range(1, 10)), "vkdnw", "aleph", "macs"]
REAL = Path(__file__).resolve().parents[3] / "shared" / "data" / "nb201"
SCORES = Path(__file__).resolve().parents[2] / "benchmarks" / "nb201_1000" / "scores.csv.gz"
needs_accuracies = pytest.mark.skipif(
    not REAL.is_dir(), reason="the public NAS-Bench-201 accuracies are not here (../shared/data/nb201)"
)


def some_archs(n):
    rng = random.Random(0)
    return sorted({SPACE.sample(rng, unique=True) for _ in range(3 * n)})[:n]


def make_table(n=40, seeds=(1, 2), columns=VKDNW_M):
    rng = np.random.default_rng(0)
    return ScoreTable(
        tuple(columns),
        [
            ScoreRow(arch, seed, {name: float(rng.normal()) for name in columns})
            for arch in some_archs(n)
            for seed in seeds
        ],
    )


def make_oracle(archs, *datasets):
    tables = {name: {arch: 50 + 5.0 * arch.count("conv_3x3") for arch in archs} for name in datasets or ("mine",)}
    return Oracle("mine", "made up", dict.fromkeys(tables, "test"), tables)


def test_rows_of_all_that_the_table_allows(tmp_path):
    table, models = make_table(), []
    done = evaluate_learned(
        table,
        make_oracle(table.archs, "one", "two"),
        models=["random_forest", "extra_trees"],
        top_k=7,
        on_model=models.append,
    )
    names = ["vkdnw_m", "vkdnw_m:extra_trees", "graf", "graf:extra_trees"]
    assert sorted((row["ranking"], row["dataset"]) for row in done.metrics) == sorted(
        itertools.product(names, ["one", "two"])
    )
    assert len(models) == 16
    assert [(one.seed, one.dataset) for one in models[:4]] == [(1, "one"), (2, "one"), (1, "one"), (2, "one")]
    row = done.metrics[0]
    assert tuple(row) == LEARNED_COLUMNS
    assert {name: row[name] for name in ("n", "train_size", "ndcg_k", "seeds", "split", "num_features", "missing")} == {
        **{"n": 20, "train_size": 20, "ndcg_k": 7, "seeds": 2, "split": "test", "num_features": 12, "missing": ""}
    }
    # The mean over seeds, each with its own scores and its own split.
    each = [one.metrics["kendall"] for one in models[:2]]
    assert row["kendall"] == pytest.approx(np.mean(each))
    assert row["kendall_std"] == pytest.approx(np.std(each, ddof=1))
    assert done.importances["vkdnw_m", "one"]["macs"] == [one.impurity_importances()["macs"] for one in models[:2]]
    assert done.notes == [
        "trained on 20 of 40 architectures: half of them, because the paper's 1024 need 2048 (train_size sets another "
        "number)"
    ]
    # The rows go where those of other rankings go.
    write_metrics(tmp_path / "metrics.csv", done.metrics)
    with (tmp_path / "metrics.csv").open() as file:
        assert tuple(next(csv.reader(file))) == METRIC_COLUMNS
    assert "graf:extra_trees" in text_table(done.metrics)


def test_a_model_of_a_seed_is_the_one_that_can_be_made_by_hand():
    table = make_table()
    models = []
    evaluate_learned(table, make_oracle(table.archs), ["vkdnw_m"], seeds=[2], train_size=10, on_model=models.append)
    scores = {name: [row.values[name] for row in table.rows if row.seed == 2] for name in VKDNW_M}
    features = make_features("vkdnw_m", scores, table.archs, "nb201")
    by_hand = LearnedRanking.fit(
        features, [50 + 5.0 * a.count("conv_3x3") for a in table.archs], "random_forest", 2, 10
    )
    np.testing.assert_array_equal(models[0].predict(scores, table.archs), by_hand.predict(scores, table.archs))


def test_seeds():
    def seeds_of(table, **options):
        models = []
        evaluate_learned(table, make_oracle(table.archs), ["vkdnw_m"], on_model=models.append, **options)
        return [ranking.seed for ranking in models]

    assert seeds_of(make_table(seeds=(3, 7))) == [3, 7]
    assert seeds_of(make_table(seeds=(3,))) == [1, 2, 3, 4, 5]
    assert seeds_of(make_table(seeds=(3,)), seeds=[9]) == [9]
    with pytest.raises(ValueError, match=r"no scores of seed 9 \(it has \[3, 7\]\)"):
        seeds_of(make_table(seeds=(3, 7)), seeds=[7, 9])


def test_missing_companions_are_said():
    table = make_table(columns=[*VKDNW_M, "zico", "snip", "grasp"])
    for row in table.rows:
        row.values["snip"] = None  # a column without any value is as good as none
    done = evaluate_learned(table, make_oracle(table.archs), seeds=[1])
    assert [row["ranking"] for row in done.metrics] == [
        "vkdnw_m",
        "vkdnw_zcs_m_partial",
        "vkdnw_zcs_graf_m_partial",
        "graf",
    ]
    row = done.metrics[1]
    assert row["num_features"] == 13
    assert len(row["missing"].split()) == 12
    assert {"snip", "jacov"} < set(row["missing"].split())
    assert any(
        note.startswith("vkdnw_zcs_m is partial: without expressivity") and note.endswith("(12 of 14 companions)")
        for note in done.notes
    )
    with pytest.raises(
        ValueError, match=r"'vkdnw_m' needs columns that the score table lacks.*: vkdnw_decile_1, .*vkdnw_decile_9$"
    ):
        evaluate_learned(make_table(columns=["vkdnw", "aleph", "macs"]), make_oracle(table.archs), ["vkdnw_m"])


def test_only_known_and_complete_architectures_count():
    table = make_table()
    archs = table.archs
    table.rows.pop()  # the last architecture has no row of seed 2
    table.rows[0] = ScoreRow(archs[0], 1, dict.fromkeys(VKDNW_M), FAILED, "no memory")  # stays, without values
    tables = {"many": {arch: 50.0 + i for i, arch in enumerate(archs)}}
    done = evaluate_learned(table, Oracle("mine", "", {"many": "test"}, tables), ["vkdnw_m"])
    assert done.metrics[0]["n"] + done.metrics[0]["train_size"] == 39
    assert done.notes[0] == "left out: 1 architectures without a row for every seed"
    few = evaluate_learned(table, make_oracle(archs[:3]), ["vkdnw_m"])
    assert few.metrics == []
    assert "nothing on mine: accuracies of 3 architectures are known, and 4 are needed" in few.notes


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rows": ["graff"]}, r"rows='graff' is not known; did you mean 'graf'\?"),
        ({"rows": []}, r"rows=\[\]"),
        ({"models": ["forest"]}, "models='forest' is not known"),
        ({"models": ["extra_trees"] * 2}, "none of them twice"),
        ({"seeds": []}, r"seeds=\[\] is not allowed"),
        ({"seeds": [1, 1]}, "none of them twice"),
        ({"train_size": 40}, "train_size=40 is not allowed for 40 architectures"),
        ({"rows": ["graf"], "space": "mbv2"}, "not for 'mbv2'"),
    ],
)
def test_mistakes_are_named(options, message):
    table = make_table()
    with pytest.raises(ValueError, match=message):
        evaluate_learned(table, make_oracle(table.archs), **options)
    with pytest.raises(ValueError, match="no model-driven ranking"):
        evaluate_learned(make_table(columns=["zico"]), make_oracle(table.archs), space="mbv2")


# KT, SPR, nDCG. "unique": the paper's Table 1; "all": the reference notebook's own table of all 15,625 networks.
@needs_accuracies
@pytest.mark.slow
@pytest.mark.parametrize(
    ("networks", "dataset", "num_test", "seeds", "paper"),
    [
        ("unique", "cifar10", 8421, [1, 2, 3, 4, 5], (0.820, 0.953, 0.935)),
        ("all", "cifar10", 14601, [1, 2], (0.832, 0.957, 0.921)),
    ],
)
def test_graph_features_reach_the_paper(networks, dataset, num_test, seeds, paper):
    archs = SPACE.enumerate(unique=networks == "unique")
    table = ScoreTable((), [ScoreRow(arch, 1, {}) for arch in archs])
    whole = load_oracle("nb201", REAL)
    oracle = Oracle("nb201", "", {dataset: whole.split[dataset]}, {dataset: whole.tables[dataset]})
    done = evaluate_learned(table, oracle, ["graf"], seeds=seeds)
    row = done.metrics[0]
    assert (row["train_size"], row["n"], row["seeds"], row["num_features"]) == (1024, num_test, len(seeds), 160)
    assert (row["kendall"], row["spearman"], row["ndcg"]) == pytest.approx(paper, abs=0.02)
    assert done.notes == []


@needs_accuracies
@pytest.mark.skipif(not SCORES.is_file(), reason="the score table of 1,000 networks is not here")
@pytest.mark.slow
def test_scores_and_graph_features_beat_either_alone():
    table = read_table(SCORES)
    whole = load_oracle("nb201", REAL)
    oracle = Oracle("nb201", "", {"cifar10": "test"}, {"cifar10": whole.tables["cifar10"]})
    done = evaluate_learned(table, oracle, models=["random_forest"], seeds=[1, 2])
    kendall = {row["row"]: row["kendall"] for row in done.metrics}
    assert kendall["vkdnw_m"] < kendall["vkdnw_zcs_m"] < kendall["vkdnw_zcs_graf_m"]
    assert kendall["graf"] < kendall["vkdnw_zcs_graf_m"]
    assert kendall["vkdnw_zcs_graf_m"] > 0.8
