import pytest

from vkdnw_pl.runs.table import ScoreRow, ScoreTable
from vkdnw_pl.scoring.score_tables import RecordedTable, join_columns


def table(path, columns, rows):
    table_rows = [ScoreRow(arch, seed, dict(zip(columns, values)), **more) for arch, seed, values, more in rows]
    return RecordedTable(path, ScoreTable(tuple(columns), table_rows))


A = table(
    "a.csv", ["macs", "zen"], [("x", 1, (1.0, 2.0), {"seconds": 1.0}), ("y", 1, (3.0, None), {"reason": "zen is NaN"})]
)


def test_columns_come_together():
    b = table(
        "b.csv", ["macs", "zico"], [("y", 1, (3.0, 7.0), {"seconds": 2.0}), ("x", 1, (1.0, 5.0), {"seconds": 2.0})]
    )
    done = join_columns([A, b])
    assert done.columns == ("macs", "zen", "zico")
    assert [dict(row.values) for row in done.rows] == [
        {"macs": 1.0, "zen": 2.0, "zico": 5.0},
        {"macs": 3.0, "zen": None, "zico": 7.0},
    ]
    assert [(row.seconds, row.reason, row.failed) for row in done.rows] == [
        (3.0, "", False),
        (2.0, "zen is NaN", False),
    ]


def test_rows_that_a_table_lacks_are_said_to_be():
    b = table("b.csv", ["zico"], [("x", 1, (5.0,), {}), ("z", 1, (6.0,), {"status": "failed", "reason": "it broke"})])
    done = {row.arch: row for row in join_columns([A, b]).rows}
    assert done["y"].values["zico"] is None
    assert done["y"].reason == "zen is NaN; b.csv has no row of it"
    assert done["z"].failed
    assert done["z"].reason == "a.csv has no row of it; it broke"


def test_contradictions_are_refused():
    b = table("b.csv", ["macs"], [("x", 1, (1.5,), {})])
    with pytest.raises(ValueError, match=r"a\.csv and b\.csv contradict each other: macs of x with seed 1 is 1\.0"):
        join_columns([A, b])


def test_tables_may_have_other_seeds():
    b = table("b.csv", ["macs", "zico"], [("x", seed, (1.0, 1.5), {}) for seed in (1, 2)])
    done = {row.key: row for row in join_columns([A, b]).rows}
    assert done["x", 2].values["zico"] == 1.5
    assert done["x", 2].values["zen"] is None
    assert done["x", 2].reason == ""


def test_one_table_stays_as_it_is():
    assert join_columns([A]) is A.table
