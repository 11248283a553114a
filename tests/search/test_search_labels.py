"""Searches that known accuracies guide: what a label is, that each network costs one, and what a predictor makes of them."""

import random

import numpy as np
import pytest
from searches import lines_without_seconds, make_settings, make_table, run

from vkdnw_pl.oracles import Oracle
from vkdnw_pl.search.folder import describe_found, rank_candidates
from vkdnw_pl.search.history import Candidate, read_history
from vkdnw_pl.search.labels import Labels
from vkdnw_pl.search.predictor import features
from vkdnw_pl.spaces import NB201, Space

SPACE = NB201()
ARCHS = list(SPACE.enumerate(unique=True))


def accuracy(arch: str) -> float:
    """What a forest can learn: kernels of 3 x 3 help, most of all on the edge to the output, and pooling there spoils."""
    ops = SPACE.parse(arch)
    return 10.0 + 8 * ops.count(3) + 4 * ops.count(2) + 9 * (ops[3] == 3) - 12 * (ops[5] == 4) + (hash_of(arch) % 7) / 7


def hash_of(arch: str) -> int:
    return sum((i + 1) * ord(letter) for i, letter in enumerate(arch))


LABELS = Labels("made_up", "a", "val", {arch: accuracy(arch) for arch in ARCHS})
BEST = max(LABELS.values.values())


def guided(strategy: str, scores=None, **changed):
    changed = {"columns": (), "labels": LABELS, "ranking": "label", "pool": 64, **changed}
    return make_settings(scores, strategy=strategy, **changed)


@pytest.mark.parametrize("strategy", ["random", "evolution", "ageing", "local", "predictor"])
def test_each_network_costs_one_label(tmp_path, strategy):
    labels = Labels("made_up", "a", "val", {arch: accuracy(arch) for arch in ARCHS[::3]})
    assert run(tmp_path / "run", guided(strategy, labels=labels, population=10), 40) is None
    history = read_history(tmp_path / "run" / "history.csv")
    assert len({one.arch for one in history}) == 40
    assert all(one.values["label"] == labels.values[one.arch] for one in history)  # none that the table lacks
    settings = guided(strategy, labels=labels, population=10)
    found = describe_found(settings, SPACE, rank_candidates(settings, history), 1)
    assert found["scores"]["label"] == max(one.values["label"] for one in history)
    assert (found["labels"]["used"], found["labels"]["count"]) == (40, len(labels))
    if strategy == "predictor":
        predicted = [one.values["predicted"] for one in history]
        assert predicted[:16] == [None] * 16  # the second batch begins with 8 labels
        assert None not in predicted[16:]


@pytest.mark.parametrize("scores", [False, True])
def test_a_predictor_that_is_cut_into_pieces_goes_on(tmp_path, scores):
    table = make_table(tmp_path / "scores.csv") if scores else None
    settings = guided("predictor", table, columns=("noisy", "tied") if scores else (), batch=6, pool=30)
    run(tmp_path / "whole", settings, 32)
    for evaluations in (4, 17, 20, 32):
        run(tmp_path / "pieces", settings, evaluations)
    assert lines_without_seconds(tmp_path / "pieces") == lines_without_seconds(tmp_path / "whole")
    run(tmp_path / "other", guided("predictor", batch=6, pool=30, seed=1), 32)
    assert lines_without_seconds(tmp_path / "other") != lines_without_seconds(tmp_path / "whole")


def test_a_predictor_finds_the_best_where_random_search_does_not(tmp_path):
    regret = {}
    for strategy in ("random", "predictor"):
        run(tmp_path / strategy, guided(strategy, batch=10, pool=200), 80)
        history = read_history(tmp_path / strategy / "history.csv")
        regret[strategy] = BEST - max(one.values["label"] for one in history)
    assert regret["predictor"] < 0.3 * regret["random"]
    chosen = [one for one in history if one.values["predicted"] is not None]
    values = [[one.values[name] for one in chosen] for name in ("predicted", "label")]
    assert np.corrcoef(values)[0, 1] > 0.5


def test_features_are_costs_proxies_and_decisions():
    archs = ["|none~0|+|nor_conv_3x3~0|skip_connect~1|+|none~0|none~1|nor_conv_3x3~2|", ARCHS[0]]
    rows = [
        Candidate(i, arch, None, "random", 10 + i, 20, values={"a": None if i else 3.0, "label": 50.0})
        for i, arch in enumerate(archs)
    ]
    values = features(rows, SPACE.decisions)
    assert values.shape == (2, 3 + 1 + 5 + 6 * 5)
    np.testing.assert_array_equal(values[0, :9], [10, 20, np.nan, 3, 3, 1, 0, 0, 2])
    np.testing.assert_array_equal(values[1, :9], [11, 20, np.nan, np.nan, 6, 0, 0, 0, 0])
    places = values[0, 9:].reshape(6, 5)
    assert [["none", "skip", "pool", "1x1", "3x3"][row.argmax()] for row in places] == [
        *("none", "3x3", "skip", "none", "none", "3x3")
    ]
    assert (places.sum(axis=1) == 1).all()
    # Numbers stay numbers, and a place that a network does not have is empty.
    rows = [Candidate(i, arch, None, "random", 1, 1) for i, arch in enumerate(["8:24", "8:16:64"])]
    values = features(rows, {"width": (r"\d+", ("8", "16", "24", "64"))})
    np.testing.assert_array_equal(values[:, -3:], [[8, 24, np.nan], [8, 16, 64]])


def test_labels_of_an_oracle():
    known = {"|none~0|+|none~0|none~1|+|none~0|none~1|skip_connect~2|": 12.0, ARCHS[0]: 10.0, ARCHS[5]: 30.0}
    oracle = Oracle("mine", "", {"a": "val", "b": "test"}, {"a": known, "b": known}, lower_is_better=["a"])
    with pytest.raises(ValueError, match="of a lower values are the better ones"):
        Labels.of(oracle, "a", SPACE)
    with pytest.raises(ValueError, match=r"several data sets; choose one with dataset \(a, b\)"):
        Labels.of(oracle, None, SPACE)
    with pytest.raises(ValueError, match="dataset='c' is not known"):
        Labels.of(oracle, "c", SPACE)
    labels = Labels.of(oracle, "b", SPACE)
    # The first is another string of the network that ARCHS[0] is, whose own accuracy counts.
    assert labels.values == {ARCHS[0]: 10.0, ARCHS[5]: 30.0}
    assert labels.text == "b (test) of mine"
    assert labels.record() == Labels("mine", "b", "test", dict(reversed(labels.values.items()))).record()
    assert labels.record() != Labels("mine", "b", "test", {**labels.values, ARCHS[5]: 31.0}).record()


def test_a_predictor_needs_no_neighbours(tmp_path, monkeypatch):
    monkeypatch.setattr(NB201, "neighbour", Space.neighbour)
    assert run(tmp_path / "run", guided("predictor"), 24) is None
    assert [one.origin for one in read_history(tmp_path / "run" / "history.csv")] == ["initial"] * 16 + ["random"] * 8


def test_a_table_that_is_used_up_ends_the_search(tmp_path):
    labels = Labels("mine", "a", "val", {arch: accuracy(arch) for arch in random.Random(0).sample(ARCHS, 20)})
    outcome = run(tmp_path / "run", guided("predictor", labels=labels), 40, max_tries=300)
    assert "in the history already" in outcome
    assert "break labels (none is known)" in outcome
    assert {one.arch for one in read_history(tmp_path / "run" / "history.csv")} == set(labels.values)
