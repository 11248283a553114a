import numpy as np
import pytest

from vkdnw_pl.metrics.functional import kendall_tau
from vkdnw_pl.oracles import Oracle
from vkdnw_pl.runs.table import ScoreRow, ScoreTable
from vkdnw_pl.scoring.space_tables import SpaceTable, rankings_of
from vkdnw_pl.scoring.spaces_evaluation import best_marks, count_steps, evaluate_spaces
from vkdnw_pl.scoring.spaces_folder import read_spaces, write_spaces

N = 60


def make_space(name, columns, accuracies, cautions=(), known=N):
    archs = [f"arch{i}" for i in range(N)]
    rows = [
        ScoreRow(arch, 1, {key: float(values[i]) for key, values in columns.items()}) for i, arch in enumerate(archs)
    ]
    tables = {dataset: dict(list(zip(archs, values))[:known]) for dataset, values in accuracies.items()}
    oracle = Oracle(name, "made up", dict.fromkeys(tables, "test"), tables, cautions=dict(cautions))
    return SpaceTable(name, ScoreTable(tuple(columns), rows), oracle, tuple(tables))


@pytest.fixture(scope="module")
def spaces():
    rng = np.random.default_rng(0)
    accuracy = 50 + rng.permutation(N) / 2
    good, macs = accuracy + rng.normal(0, 3, N), accuracy + rng.normal(0, 15, N)
    one = make_space("one", {"macs": macs, "good": good, "copy": good, "noise": rng.normal(size=N)}, {"x": accuracy})
    two = make_space("two", {"macs": macs, "bad": -good}, {"x": accuracy, "y": accuracy[::-1]}, {"y": "suspect"})
    return [one, two]


@pytest.fixture(scope="module")
def evaluation(spaces):
    rankings = rankings_of(spaces, ["macs", "good", "copy", "noise", "bad"])
    steps = []
    done = evaluate_spaces(spaces, rankings, ["macs"], 200, lambda: steps.append(1))
    assert len(steps) == count_steps(spaces, rankings) == 15
    return done


def of(evaluation, space, ranking, metric="kendall", dataset="x"):
    key = (space, dataset, ranking, metric)
    (row,) = [row for row in evaluation.metrics if (row.space, row.dataset, row.ranking, row.metric) == key]
    return row


def test_differences_are_paired(evaluation, spaces):
    """That of a ranking with itself is nothing, and that of two alike is narrower than their intervals."""
    assert of(evaluation, "one", "macs").differences["macs"] == (0, 0, 0)
    good, copy = (of(evaluation, "one", name) for name in ("good", "copy"))
    assert good.differences == copy.differences
    values = [spaces[0].table.rows[i].values for i in range(N)]
    accuracy = list(spaces[0].oracle.tables["x"].values())
    taus = {name: float(kendall_tau([row[name] for row in values], accuracy)) for name in ("good", "macs")}
    difference = good.differences["macs"]
    assert difference.value == pytest.approx(taus["good"] - taus["macs"])
    assert 0 < difference.low < difference.value < difference.high
    assert difference.side == 1
    assert of(evaluation, "one", "noise").differences["macs"].side == -1
    draws = np.random.default_rng(0).multinomial(N, np.full(N, 1 / N), size=200)
    by_hand = []
    for draw in draws:
        chosen = np.repeat(np.arange(N), draw)
        by_hand.append(
            float(kendall_tau([values[i]["good"] for i in chosen], [accuracy[i] for i in chosen]))
            - float(kendall_tau([values[i]["macs"] for i in chosen], [accuracy[i] for i in chosen]))
        )
    assert (difference.low, difference.high) == pytest.approx(tuple(np.quantile(by_hand, [0.025, 0.975])), abs=1e-9)


def test_a_ranking_that_a_table_lacks_is_an_empty_cell_with_a_reason(evaluation):
    row = of(evaluation, "two", "good")
    assert row.estimate.value is None
    assert row.reason == "the table has no column good"
    assert row.differences["macs"].value is None
    assert of(evaluation, "one", "bad").reason == "the table has no column bad"


def test_only_a_clear_winner_is_the_best(evaluation):
    marks = {name: of(evaluation, "one", name).best for name in ("macs", "good", "copy", "noise")}
    assert marks == {"macs": "", "good": "tied", "copy": "tied", "noise": ""}
    assert of(evaluation, "two", "macs").best == "best"  # the other one is the reverse of good
    spread = np.array([-0.1, 0.0, 0.1] * 100)
    values = {"a": 0.5, "b": 0.45, "c": 0.3}
    samples = {"a": 0.5 + spread, "b": 0.45 - spread, "c": 0.3 + spread}
    assert best_marks(values, samples) == {"a": "tied", "b": "tied"}
    assert best_marks(values, samples | {"b": 0.45 + spread}) == {"a": "best"}  # always 0.05 below
    assert best_marks(values | {"b": None}, samples) == {"a": "best"}
    assert best_marks({"a": 0.5}, samples) == best_marks(values, {}) == {}


def test_size_is_held_fixed(evaluation):
    rows = {(row.space, row.dataset, row.ranking): row for row in evaluation.fixed_size}
    macs, good, noise = (rows["one", "x", name] for name in ("macs", "good", "noise"))
    assert macs.partial.value is None
    assert "macs alone decides" in macs.reason
    assert good.partial.side == 1
    assert noise.partial.side == noise.within.side == 0
    assert ("two", "x", "good") not in rows


def test_rankings_that_agree(evaluation):
    pairs = {(pair.space, pair.ranking, pair.other): pair for pair in evaluation.correlations}
    assert pairs["one", "good", "copy"][3:5] == (1, 1)
    assert len([key for key in pairs if key[0] == "one"]) == 6
    assert len([key for key in pairs if key[0] == "two"]) == 1


def test_cautions_and_known_values_stay_with_the_data_set(evaluation, spaces):
    assert of(evaluation, "two", "macs", dataset="y").caution == "suspect"
    few = make_space("few", {"macs": np.arange(N)}, {"x": np.arange(N)}, known=1)
    done = evaluate_spaces([few], rankings_of([few], ["macs"]), ["macs"], 100)
    assert done.metrics[0].reason == f"values are known for 1 of the {N} architectures"
    assert done.fixed_size == []


def test_no_intervals(spaces):
    done = evaluate_spaces(spaces, rankings_of(spaces, ["macs", "good"]), ["macs"], 0)
    row = of(done, "one", "good")
    assert row.estimate.value > 0.5
    assert row.estimate.low is None
    assert row.best == ""
    assert row.differences["macs"].side == 0


def test_files_read_back_to_the_same(evaluation, tmp_path):
    write_spaces(tmp_path, evaluation)
    assert read_spaces(tmp_path) == evaluation
    text = (tmp_path / "spaces.csv").read_text()
    (tmp_path / "spaces.csv").write_text(text.replace(",kendall,", ",kendal,", 1))
    with pytest.raises(ValueError, match=r"spaces.csv, line 2, column 'metric': 'kendal' is not allowed"):
        read_spaces(tmp_path)
