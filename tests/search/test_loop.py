"""Never lost, never different: however a search is cut into pieces, its history is the same."""

import os
import random
import signal
import time
from pathlib import Path

import numpy as np
import pytest
from searches import lines_without_seconds, make_settings, make_table, run

from vkdnw_pl.oracles import Oracle
from vkdnw_pl.ranking import aggregate, columns_of, term_weights
from vkdnw_pl.search.constraints import Budget
from vkdnw_pl.search.folder import describe_found, rank_candidates
from vkdnw_pl.search.history import read_history
from vkdnw_pl.search.loop import HistoryMismatch
from vkdnw_pl.search.scores import NotInTable, TableScores
from vkdnw_pl.spaces import NB201, SPACES


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    return make_table(tmp_path_factory.mktemp("table") / "scores.csv")


@pytest.mark.parametrize("strategy", ["evolution", "ageing", "random", "local"])
def test_killed_anywhere_and_run_again(table, tmp_path, strategy):
    settings = make_settings(table, strategy=strategy, budget=Budget(max_macs=120_000_000))
    assert run(tmp_path / "whole", settings, 90) is None
    whole = lines_without_seconds(tmp_path / "whole")
    assert len(whole) == 91
    rng = random.Random(strategy)
    for _ in range(2):
        place = tmp_path / f"run-{rng.random()}"
        last = 0
        while last < 90:
            last = min(90, last + rng.randrange(1, 50))
            child = os.fork()
            if child == 0:

                def die(candidate, last=last):
                    if candidate.index == last:
                        os.kill(os.getpid(), signal.SIGKILL)
                        time.sleep(10)

                run(place, settings, 90, die)
                os._exit(0)
            assert os.waitpid(child, 0)[1] in (0, signal.SIGKILL)
            kept = lines_without_seconds(place)
            assert kept == whole[: last + 2]
            with (place / "history.csv").open("a") as file:
                file.write('91,"torn')
        run(place, settings, 90)
        assert lines_without_seconds(place) == whole


def test_weights_by_agreement(tmp_path):
    """They are made anew for each batch; a column without values takes no part, and its candidates did not fail."""
    rows = [line.split(",") for line in Path(make_table(tmp_path / "full.csv")).read_text().splitlines()]
    path = tmp_path / "scores.csv"
    path.write_text("".join(",".join([*row[:4], "" if i else "void", *row[4:]]) + "\n" for i, row in enumerate(rows)))
    ranking = "agreement(noisy+tied+macs+num_params+void)"
    settings = make_settings(str(path), ranking=ranking, columns=("noisy", "tied", "void"))
    run(tmp_path / "whole", settings, 61)
    for evaluations in (3, 14, 40, 61):
        run(tmp_path / "run", settings, evaluations)
    assert lines_without_seconds(tmp_path / "run") == lines_without_seconds(tmp_path / "whole")
    candidates = read_history(tmp_path / "run" / "history.csv")
    assert {one.reason for one in candidates if one.failed} <= {"out of luck"}
    found = describe_found(settings, settings.make_space(), rank_candidates(settings, candidates), 2)
    usable = [one for one in candidates if not one.failed]
    columns = {name: np.array([one.value(name) for one in usable], dtype=float) for name in columns_of(settings.terms)}
    assert found["weights"] == term_weights(columns, settings.terms)
    assert found["weights"]["void"] == 0 < found["weights"]["noisy"]


def test_records_of_rankings():
    """Those of plain ones are as ever: their runs go on."""
    assert make_settings(None).record()["terms"] == ["noisy", "tied", "macs"]
    assert make_settings(None, ranking="te_nas").record()["terms"] == [{"RankSum": ["ntk_condition", "linear_regions"]}]
    weighted = make_settings(None, ranking="agreement(noisy>tied+macs)")
    assert weighted.record()["terms"] == {"ByAgreement": [{"tuple": ["noisy", "tied"]}, "macs"]}
    assert weighted.digest() != make_settings(None, ranking="noisy>tied+macs").digest()


def test_more_evaluations_go_on(table, tmp_path):
    settings = make_settings(table)
    run(tmp_path / "whole", settings, 61)
    for evaluations in (3, 13, 14, 40, 61):
        run(tmp_path / "run", settings, evaluations)
        assert len(lines_without_seconds(tmp_path / "run")) == evaluations + 1
    assert lines_without_seconds(tmp_path / "run") == lines_without_seconds(tmp_path / "whole")


@pytest.mark.parametrize("change", [{"seed": 1}, {"batch": 4}, {"population": 20}, {"ranking": "noisy"}])
def test_settings_decide(table, tmp_path, change):
    run(tmp_path / "a", make_settings(table), 60)
    run(tmp_path / "b", make_settings(table, **change), 60)
    assert lines_without_seconds(tmp_path / "a") != lines_without_seconds(tmp_path / "b")
    assert make_settings(table).digest() != make_settings(table, **change).digest()


def test_a_history_of_other_settings_is_not_continued(table, tmp_path):
    run(tmp_path / "run", make_settings(table), 13)
    with pytest.raises(HistoryMismatch, match=r"cannot be continued: its candidate 8 is .*--overwrite"):
        run(tmp_path / "run", make_settings(table, seed=1), 20)


def test_failed_ones_stay_and_are_no_parents(table, tmp_path):
    run(tmp_path / "run", make_settings(table), 400)
    history = read_history(tmp_path / "run" / "history.csv")
    failed = {one.index for one in history if one.failed}
    assert failed
    assert not failed & {one.parent for one in history}
    assert all(one.reason == "out of luck" for one in history if one.failed)
    assert len({one.arch for one in history}) == 400
    record = rank_candidates(make_settings(table), history)
    columns = {
        name: np.array([np.nan if one.failed else one.value(name) for one in history], dtype=float)
        for name in ("noisy", "tied", "macs")
    }
    expected = aggregate(columns, make_settings(table).terms)
    usable = [one.index for one in history if not one.failed]
    np.testing.assert_array_equal(record.scores()[usable], expected[usable])
    assert record.best(1)[0] == usable[int(np.argmax(expected[usable]))]


def test_a_space_that_is_used_up_ends_the_search(tmp_path):
    space = NB201()
    archs = [arch for arch in space.enumerate(unique=True) if space.cost(arch).macs <= 9_000_000]
    table = make_table(tmp_path / "scores.csv", archs)
    settings = make_settings(table, strategy="random", budget=Budget(max_macs=9_000_000))
    outcome = run(tmp_path / "run", settings, 1000, max_tries=400)
    assert "in the history already" in outcome
    found = read_history(tmp_path / "run" / "history.csv")
    assert {one.arch for one in found} <= set(archs)
    assert len(archs) >= len(found) > 0.3 * len(archs)
    again = run(tmp_path / "run", settings, 1000, max_tries=400)
    assert again == outcome
    assert read_history(tmp_path / "run" / "history.csv") == found


def test_an_architecture_that_the_table_lacks(tmp_path):
    table = make_table(tmp_path / "scores.csv", list(NB201().enumerate(unique=True))[:500])
    with pytest.raises(NotInTable, match=r"has no scores of \|.*compute them"):
        run(tmp_path / "run", make_settings(table), 100)


def test_tables_that_do_not_fit(table, tmp_path):
    with pytest.raises(ValueError, match=r"has no column 'vkdnw' \(it has: noisy, tied\)"):
        TableScores(table, NB201(), ["noisy", "vkdnw"], 1)
    with pytest.raises(ValueError, match=r"proxy_seed=3 is not allowed: the seeds in .* are 1"):
        TableScores(table, NB201(), ["noisy"], 3)
    assert len(TableScores(table, NB201(), ["noisy"], 1)) == 9445


def test_evolution_beats_random_search(table, tmp_path):
    """By the score that both look for, ranked together with the whole space."""
    best = {}
    scores = TableScores(table, NB201(), ["noisy"], 1)
    for strategy in ("evolution", "ageing", "random"):
        found = []
        for seed in range(3):
            settings = make_settings(table, strategy=strategy, seed=seed, ranking="noisy", columns=("noisy",))
            run(tmp_path / f"{strategy}{seed}", settings, 200)
            history = read_history(tmp_path / f"{strategy}{seed}" / "history.csv")
            found.append(max(one.values["noisy"] for one in history if not one.failed))
        best[strategy] = sum(found)
    assert best["evolution"] > best["random"]
    assert best["ageing"] > best["random"]
    assert len(scores) == 9445


def test_what_was_found(table, tmp_path):
    settings = make_settings(table, network={"channels": 8, "num_classes": 100})
    run(tmp_path / "run", settings, 60)
    history = read_history(tmp_path / "run" / "history.csv")
    record = rank_candidates(settings, history)
    best = history[record.best(1)[0]]
    tables = {"a data set": {best.arch: 93.25}, "edge": {best.arch: 250.0}}
    oracle = Oracle("o", "d", dict.fromkeys(tables, "test"), tables, units={"edge": "ms"}, lower_is_better=["edge"])
    found = describe_found(settings, SPACES["nb201"], record, 3, oracle)
    assert found["arch"] == best.arch
    assert found["network"] == {"channels": 8}
    assert (found["num_classes"], found["input_size"]) == (100, [3, 32, 32])
    assert (found["index"], found["evaluated"], found["rank"], found["format"]) == (best.index, 60, 1, 1)
    assert found["accuracies"] == {"a data set": 93.25, "edge": 250.0}
    assert found["units"] == {"edge": "ms"}
    assert [one["rank"] for one in found["top"]] == [1, 2, 3]
    assert found["top"][0] == {name: value for name, value in found.items() if name != "top"}
    assert found["top"][1]["accuracies"] == {"a data set": None, "edge": None}
    scores = [one["score"] for one in found["top"]]
    assert scores == sorted(scores, reverse=True)
    assert describe_found(settings, SPACES["nb201"], rank_candidates(settings, []), 3) is None

    mbv2 = make_settings(None, space="mbv2", ranking="macs", columns=(), network={"image_size": 32})
    run(tmp_path / "mbv2", mbv2, 5)
    one = describe_found(
        mbv2, SPACES["mbv2"], rank_candidates(mbv2, read_history(tmp_path / "mbv2" / "history.csv")), 1
    )
    reference = SPACES["mbv2"].reference_cost(one["arch"], image_size=32)
    assert one["reference"] == {"macs": reference.macs, "num_params": reference.num_params}
    assert one["layers"] == SPACES["mbv2"].layers(one["arch"])


def test_settings_leave_out_what_has_no_use(table):
    record = make_settings(table).record()
    assert {"start", "population", "scores"} <= set(record)
    assert not {"tournament", "objectives", "how_to_measure", "operator_sampling", "batch_size"} & set(record)
    assert record["scores"]["file"] == table
    assert "tournament" in make_settings(table, strategy="ageing").record()
    assert not {"population", "start"} & set(make_settings(table, strategy="random").record())
    assert {"batch_size", "proxies", "device"} <= set(make_settings(None).record())
    assert "how_to_measure" in make_settings(None, budget=Budget(max_latency_ms=3.0)).record()
    for change in ({"ranking": "noisy>tied"}, {"proxy_seed": 2}, {"network": {"cells": 1}}):
        assert make_settings(table, **change).digest() != make_settings(table).digest()
