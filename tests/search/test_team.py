"""Several processes give the history of one, also when one of them dies."""

import os
import signal
import sys

import pytest
from searches import Silent, lines_without_seconds, make_settings

from vkdnw_pl.proxies import make_proxies
from vkdnw_pl.ranking import parse_ranking
from vkdnw_pl.runs.table import ScoreRow
from vkdnw_pl.search.columns import columns_to_look_up, proxies_to_compute
from vkdnw_pl.search.folder import SearchFolder
from vkdnw_pl.search.history import read_history
from vkdnw_pl.search.launch import Job, launch
from vkdnw_pl.search.proposals import Proposal
from vkdnw_pl.search.team import NOBODY, Team
from vkdnw_pl.spaces import NB201

NETWORK = {"channels": 2, "cells": 0, "image_size": 8}
RANKING = "aleph>vkdnw+macs"


def settings(**changed):
    proxies = proxies_to_compute(RANKING, parse_ranking(RANKING), [])
    return make_settings(
        None,
        network=NETWORK,
        ranking=RANKING,
        proxies=[proxy.record() for proxy in proxies],
        columns=tuple(column for proxy in proxies for column in proxy.table_columns),
        **changed,
    )


def job(folder, evaluations, **changed):
    place = SearchFolder(folder)
    place.path.mkdir(exist_ok=True)
    return Job(settings(**changed), place, evaluations, Silent())


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    folder = tmp_path_factory.mktemp("alone") / "run"
    launch(job(folder, 22), 1)
    return lines_without_seconds(folder)


def test_two_workers_agree_with_one(alone, tmp_path):
    assert launch(job(tmp_path / "run", 13), 2).exhausted is None
    assert lines_without_seconds(tmp_path / "run") == alone[:14]
    launch(job(tmp_path / "run", 22), 2)
    assert lines_without_seconds(tmp_path / "run") == alone
    assert all(one.status == "ok" for one in read_history(tmp_path / "run" / "history.csv"))


@pytest.mark.skipif(sys.platform != "linux", reason="workers are forked there")
@pytest.mark.parametrize("deaths", [1, 2])
def test_a_worker_that_dies(alone, tmp_path, monkeypatch, capfd, deaths):
    third = read_history_arch(alone, 3)
    build = NB201.build

    def deadly(self, arch, **network):
        died = tmp_path / "died"
        times = len(died.read_text()) if died.exists() else 0
        if arch == third and times < deaths:
            died.write_text("x" * (times + 1))
            os.kill(os.getpid(), signal.SIGKILL)
        return build(self, arch, **network)

    monkeypatch.setattr(NB201, "build", deadly)
    launch(job(tmp_path / "run", 8), 2)
    assert "a worker died while evaluating candidate 3" in capfd.readouterr().err
    history = read_history(tmp_path / "run" / "history.csv")
    assert len(history) == 8
    assert history[3].failed == (deaths == 2)
    if deaths == 2:
        assert "its worker died 2 times" in history[3].reason
    else:
        assert lines_without_seconds(tmp_path / "run") == alone[:9]


def read_history_arch(lines, index):
    return lines[index + 1].split(",")[1]


def test_proxies_of_a_ranking():
    def names(ranking, extra=()):
        return [proxy.record() for proxy in proxies_to_compute(ranking, parse_ranking(ranking), extra)]

    assert [one["name"] for one in names("vkdnw_agg")] == ["aleph", "vkdnw", "jacov", "expressivity", "trainability"]
    assert [one["name"] for one in names("vkdnw_mbv2_official")] == [
        *("expressivity", "progressivity", "vkdnw_official", "trainability")
    ]
    assert [one["name"] for one in names("vkdnw_official_single")] == ["vkdnw_official"]  # one proxy with both columns
    assert names("macs+layers+num_params") == []
    assert names("vkdnw", [{"name": "vkdnw", "alpha": 0.1}, "macs"])[0]["alpha"] == 0.1
    labelled = names("mine+macs", [{"name": "vkdnw", "label": "mine"}])
    assert [(one["name"], one["label"]) for one in labelled] == [("vkdnw", "mine")]
    with pytest.raises(ValueError, match=r"ranking='vkdnv': 'vkdnv' is not known; did you mean 'vkdnw'\?"):
        names("vkdnv")
    assert columns_to_look_up(parse_ranking("vkdnw_single+macs"), ["zico", {"name": "vkdnw", "label": "b"}]) == [
        *("aleph", "vkdnw", "zico", "b")
    ]
    assert make_proxies(names("vkdnw_agg"))


def test_a_process_that_comes_late_misses_nothing():
    """The first one may have done whole batches before another has begun."""
    store = SharedStore()
    first, late = team(store, 0), team(store, 1)
    scores = Scores()
    evaluate = first.evaluation(scores)
    batches = [[proposal(8 * batch + i) for i in range(3)] for batch in range(2)]
    assert [[row.arch for row in evaluate(batch)] for batch in batches] == [["0", "1", "2"], ["8", "9", "10"]]
    first.dismiss()
    late.help(scores)  # returns
    assert scores.asked == ["0", "1", "2", "8", "9", "10"]


def test_rows_of_others_come_in_order():
    store = SharedStore()
    first, other = team(store, 0), team(store, 1)
    mine, theirs = Scores(), Scores()

    class Slow(Scores):
        """While the first process works on its candidate, the other one does all the rest."""

        def score(self, arch):
            if not self.asked:
                first.dismiss()  # so that `help` returns after this batch
                other.help(theirs)
            return super().score(arch)

    mine = Slow()
    rows = list(first.evaluation(mine)([proposal(i) for i in range(5)]))
    assert [row.arch for row in rows] == ["0", "1", "2", "3", "4"]
    assert mine.asked == ["0"]
    assert theirs.asked == ["1", "2", "3", "4"]
    assert [row.values for row in rows] == [{"a": float(i), "b": None} for i in range(5)]


def proposal(index):
    return Proposal(index, str(index), None, "random", 1, 1, None)


def team(store, rank):
    made = Team.__new__(Team)
    made.rank, made._store, made._batches = rank, store, 0
    made._working_on, made._given_up = [NOBODY] * 2, {}
    return made


class Scores:
    """Evaluates an architecture to the number that it is."""

    def __init__(self):
        self.asked = []

    def score(self, arch):
        self.asked.append(arch)
        return ScoreRow(arch, 1, {"a": float(arch), "b": None})


class SharedStore(dict):
    """What a TCPStore does, within one process; to wait for a key is an error here."""

    def set(self, key, value):
        self[key] = value

    def get(self, key):
        return self[key]

    def add(self, key, amount):
        self[key] = self.get(key) + amount if key in self else amount
        return self[key]

    def check(self, keys):
        return all(key in self for key in keys)

    def delete_key(self, key):
        del self[key]
