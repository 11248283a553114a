import pytest

from vkdnw_pl.search.history import Candidate
from vkdnw_pl.search.proposals import DrawCounts
from vkdnw_pl.search.ranked_history import RankedHistory
from vkdnw_pl.tracking.curves import ScoreCurve, SearchCurve, effective_number


def candidate(index, value, parent=None, status="ok"):
    return Candidate(index, f"arch{index}", parent, "mutation", 10 * index, 5, values={"v": value}, status=status)


def test_points_of_a_search():
    points = []
    curve, history = SearchCurve(points.append, every_s=0), RankedHistory(["v"])
    curve.close()
    assert points == []
    batches = [[candidate(0, 1.0), candidate(1, 3.0, 0)], [candidate(2, 2.0, 1), candidate(3, None, 1, "failed")]]
    for batch in batches:
        for one in batch:
            curve.candidate(one, DrawCounts(accepted=one.index + 1, duplicates=1))
        history.add(batch)
        curve.batch(history)
    first, second = points
    assert (first["search/evaluated"], second["search/evaluated"]) == (2, 4)
    assert (first["search/failed"], second["search/failed"]) == (0, 1)
    assert second["search/acceptance"] == 4 / 5
    assert second["search/best/v"] == 3.0
    assert second["search/best/macs"] == 10
    assert second["search/effective_parents"] == pytest.approx(effective_number({0: 1, 1: 2}))
    curve.close()
    assert len(points) == 3


def test_effective_number():
    assert effective_number({0: 5}) == pytest.approx(1)
    assert effective_number({0: 2, 1: 2, 2: 2}) == pytest.approx(3)


def test_rows_of_a_scoring():
    points = []
    curve = ScoreCurve(points.append, before=10, every_s=0)
    curve.add()
    curve.close()
    assert [point["score/rows"] for point in points] == [11, 11]
    curve = ScoreCurve(points.append, before=10, every_s=100)
    for _ in range(3):
        curve.add()
    assert len(points) == 2
    curve.close()
    assert points[-1]["score/rows"] == 13
