"""The history reads back to the same bits, and a torn last line does no harm."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vkdnw_pl.search.history import Candidate, HistoryFile, read_history

COLUMNS = ("a", "b_decile_1")
FLOATS = st.none() | st.floats(allow_nan=False, allow_infinity=False)
CANDIDATES = st.lists(
    st.builds(
        Candidate,
        index=st.just(0),
        arch=st.sampled_from(["|x~0|", "Super(1,2)K(3)", 'with "quotes", and a comma']),
        parent=st.none() | st.integers(0, 9),
        origin=st.sampled_from(["initial", "random", "mutation"]),
        macs=st.integers(1, 10**12),
        num_params=st.integers(1, 10**9),
        layers=st.none() | st.integers(1, 30),
        latency_ms=st.none() | st.floats(0, 1e6),
        peak_mb=st.none() | st.floats(0, 1e6),
        values=st.fixed_dictionaries(dict.fromkeys(COLUMNS, FLOATS)),
        status=st.sampled_from(["ok", "failed"]),
        reason=st.sampled_from(["", "out of memory", 'a "reason", with a comma']),
    ),
    max_size=6,
)


def write(path, candidates):
    file = HistoryFile(path, COLUMNS)
    for candidate in candidates:
        file.append(candidate)
    file.close()


@settings(max_examples=60, deadline=None)
@given(CANDIDATES, st.integers(0, 200))
def test_round_trip_and_a_torn_last_line(tmp_path_factory, candidates, cut):
    import dataclasses

    candidates = [
        dataclasses.replace(one, index=i, parent=None if one.parent is None or one.parent >= i else one.parent)
        for i, one in enumerate(candidates)
    ]
    path = tmp_path_factory.mktemp("history") / "history.csv"
    write(path, candidates)
    assert read_history(path) == candidates
    whole = path.read_bytes()
    torn = whole[: max(0, len(whole) - cut)]
    path.write_bytes(torn)
    kept = max(torn.count(b"\n") - 1, 0)
    assert read_history(path) == candidates[:kept]
    write(path, candidates[kept:])
    assert path.read_bytes() == whole


def test_a_reason_of_several_lines_is_one_line(tmp_path):
    path = tmp_path / "history.csv"
    one = Candidate(
        0, "x", None, "random", 1, 2, values={"a": 1.0, "b_decile_1": None}, status="failed", reason="no\n  way"
    )
    write(path, [one])
    assert read_history(path)[0].reason == "no way"
    assert read_history(path)[0].failed


def test_columns_to_rank_by():
    one = Candidate(0, "x", None, "random", 1, 2, layers=3, values={"a": 1.5})
    assert (one.value("a"), one.value("macs"), one.value("layers")) == (1.5, 1, 3)
    with pytest.raises(KeyError):
        one.value("status")


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda t: t.replace("index,arch", "arch"), "line 1: there is no column 'index'"),
        (lambda t: t.replace("\n0,", "\n7,"), "line 2, column 'index': index is 7, it must be 0"),
        (lambda t: t.replace("random", "heaven"), "line 2, column 'origin': 'heaven' is not allowed"),
        (lambda t: t.replace("1.5", "much"), "line 2, column 'a': 'much' is not a number"),
        (lambda t: t.replace(",,random", ",0,random"), "line 2, column 'parent' is 0, which must stand before"),
        (lambda t: t.replace(",ok", ""), "line 2 has 13 cells, the first line has 14"),
    ],
)
def test_damage_is_named(tmp_path, change, text):
    path = tmp_path / "history.csv"
    write(path, [Candidate(0, "x", None, "random", 1, 2, values={"a": 1.5, "b_decile_1": 0.25})])
    path.write_text(change(path.read_text()))
    with pytest.raises(ValueError, match=text):
        read_history(path)


def test_other_columns_are_refused(tmp_path):
    write(tmp_path / "history.csv", [])
    with pytest.raises(ValueError, match="is of something else: its first line must be index"):
        HistoryFile(tmp_path / "history.csv", ("a",))
    with pytest.raises(ValueError, match="cannot be read"):
        read_history(tmp_path / "nowhere.csv")
