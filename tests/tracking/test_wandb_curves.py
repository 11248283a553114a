import json

import pytest

from vkdnw_pl.search.history import Candidate
from vkdnw_pl.search.proposals import Tally
from vkdnw_pl.search.record import Record
from vkdnw_pl.tracking.curves import CurveReader, RowCounter, SearchCurve, effective_number


def candidate(index, value, parent=None, status="ok"):
    return Candidate(index, f"arch{index}", parent, "mutation", 10 * index, 5, values={"v": value}, status=status)


def test_points_of_a_search(tmp_path):
    path = tmp_path / "curve.jsonl"
    path.write_text("of an earlier search\n")
    reader = CurveReader(path)
    assert list(reader()) == []
    curve, record = SearchCurve(path, every_s=0), Record(["v"])
    curve.start(0, 4)
    batches = [[candidate(0, 1.0), candidate(1, 3.0, 0)], [candidate(2, 2.0, 1), candidate(3, None, 1, "failed")]]
    for batch in batches:
        for one in batch:
            curve.candidate(one, Tally(accepted=one.index + 1, duplicates=1))
        record.add(batch)
        curve.batch(record)
    first, second = reader()
    assert list(reader()) == []
    assert (first["search/evaluated"], second["search/evaluated"]) == (2, 4)
    assert (first["search/failed"], second["search/failed"]) == (0, 1)
    assert second["search/acceptance"] == 4 / 5
    assert second["search/best/v"] == 3.0
    assert second["search/best/macs"] == 10
    assert second["search/effective_parents"] == pytest.approx(effective_number({0: 1, 1: 2}))
    curve.end()
    assert len(list(reader())) == 1
    with path.open("a") as file:
        file.write('{"half": ')
    assert list(reader()) == []
    with path.open("a") as file:
        file.write("1}\n")
    assert list(reader()) == [{"half": 1}]


def test_a_curve_that_cannot_be_written_does_no_harm(tmp_path):
    curve, record = SearchCurve(tmp_path / "no" / "folder", every_s=0), Record(["v"])
    curve.start(0, 1)
    record.add([candidate(0, 1.0)])
    curve.batch(record)
    curve.end()


def test_effective_number():
    assert effective_number({0: 5}) == pytest.approx(1)
    assert effective_number({0: 2, 1: 2, 2: 2}) == pytest.approx(3)


def test_rows_of_a_scoring(tmp_path):
    counter = RowCounter(tmp_path, before=10)
    assert list(counter()) == []
    (tmp_path / "0-0.csv").write_text("header\nrow\nrow\n")
    (tmp_path / "1-0.csv").write_text("header\nrow\ntorn")
    (point,) = counter()
    assert point["score/rows"] == 13
    assert list(counter()) == []
    json.dumps(point)
