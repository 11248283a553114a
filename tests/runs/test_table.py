import gzip
import math
import struct
import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vkdnw_pl.runs.table import (
    FAILED,
    OK,
    ScoreRow,
    ScoreTable,
    join_rows,
    new_journal,
    read_journals,
    read_table,
    row_line,
    write_table,
)
from vkdnw_pl.scoring.score_tables import canonical
from vkdnw_pl.spaces import NB201

values = st.one_of(st.none(), st.floats(allow_nan=False, allow_infinity=False))
rows = st.builds(
    ScoreRow,
    arch=st.text(st.characters(codec="utf-8", exclude_characters="\r\n\0"), min_size=1).map(str.strip).filter(bool),
    seed=st.integers(0, 10**9),
    values=st.fixed_dictionaries({"a": values, "b, c": values}),
    status=st.just(OK),
    reason=st.text(st.characters(codec="utf-8", exclude_categories=["Cc"])).map(lambda text: " ".join(text.split())),
    seconds=st.integers(0, 10**6).map(lambda ms: ms / 1000),
)


def bits(value):
    return None if value is None else struct.pack("<d", value)


@settings(max_examples=50)
@given(st.lists(rows, max_size=5))
def test_reads_back_to_the_same_bits(tmp_path_factory, made):
    path = tmp_path_factory.mktemp("table") / "scores.csv"
    write_table(path, ScoreTable(("a", "b, c"), made))
    back = read_table(path)
    assert back == ScoreTable(("a", "b, c"), made)
    for row, other in zip(back.rows, made, strict=True):
        assert {name: bits(v) for name, v in row.values.items()} == {name: bits(v) for name, v in other.values.items()}


@given(rows, st.text())
def test_a_row_is_one_line_whatever_the_reason(row, reason):
    line = row_line(ScoreRow(row.arch, row.seed, row.values, FAILED, reason), ("a", "b, c"))
    assert line.count("\n") == 1
    assert line.endswith("\n")


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_value_that_is_not_finite_is_never_written(value):
    with pytest.raises(ValueError, match="cannot be written"):
        row_line(ScoreRow("x", 1, {"a": value}), ("a",))


def test_tables_of_other_programs(tmp_path):
    path = tmp_path / "theirs.csv.gz"
    path.write_bytes(gzip.compress(b"macs,arch\n1e3,x\nnan,y\n-inf,z\n,w\n"))
    table = read_table(path)
    assert table.columns == ("macs",)
    assert [(row.arch, row.seed, row.values["macs"], row.status) for row in table.rows] == [
        ("x", 1, 1000.0, OK),
        ("y", 1, None, OK),
        ("z", 1, None, OK),
        ("w", 1, None, OK),
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("arch,a,a\n", "line 1: a column repeats: 'a'"),
        ("a,b\n", "line 1: there is no column 'arch'"),
        ("", "t.csv is empty"),
        ("arch,seed\nx,one\n", "line 2, column 'seed': 'one' is not a whole number of at least 0"),
        ("arch,seed\nx,-1\n", "line 2, column 'seed': '-1' is not a whole number of at least 0"),
        ("arch,seed\nx,1\ny,1.0\n", "line 3, column 'seed': '1.0' is not a whole number of at least 0"),
        ("arch,seed\nx,1_0\n", "line 2, column 'seed': '1_0' is not a whole number of at least 0"),
        ("arch,seed\nx,\n", "line 2, column 'seed': '' is not"),
        ("arch,seed\nx,99999999999999999999\n", "line 2, column 'seed': '99999999999999999999' is not"),
        ("arch,a\nx,1_0\n", "line 2, column 'a': '1_0' is not a number"),
        ("arch,a\nx,\u0661\n", "line 2, column 'a': '\u0661' is not a number"),
        ("arch,note\nx,fine\n", "line 2, column 'note': 'fine' is not a number"),
        ("arch,status\nx,fine\n", r"line 2, column 'status': 'fine' is not allowed: give 'ok' or 'failed'"),
        ("arch,a,status\nx,1,failed\n", r"line 2, column 'status' is 'failed', but the row has all its values"),
        ("arch,a\nx,1\ny\n", "line 3 has 1 cells, the first line has 2"),
        ("arch,a\n ,1\n", "line 2, column 'arch' is empty"),
    ],
)
def test_faults_name_their_place(tmp_path, text, message):
    path = tmp_path / "t.csv"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=message) as error:
        read_table(path)
    assert str(path) in str(error.value)


def test_files_that_are_no_tables(tmp_path):
    (tmp_path / "a.csv.gz").write_bytes(b"not compressed")
    with pytest.raises(ValueError, match="is damaged: Not a gzipped file"):
        read_table(tmp_path / "a.csv.gz")
    with pytest.raises(ValueError, match="cannot be read: No such file"):
        read_table(tmp_path / "b.csv")


def test_joining_rows():
    ok, other = ScoreRow("x", 1, {"a": 1.0}, seconds=1.0), ScoreRow("x", 1, {"a": 2.0})
    failed, later = ScoreRow("x", 1, {"a": None}, FAILED, "first"), ScoreRow("x", 1, {"a": None}, FAILED, "second")
    same = ScoreRow("x", 1, {"a": 1.0}, seconds=2.0)
    assert join_rows([ok, same, ScoreRow("x", 2, {"a": 5.0})], "here").keys() == {("x", 1), ("x", 2)}
    assert join_rows([failed, ok], "here") == join_rows([ok, failed], "here") == {("x", 1): ok}
    assert join_rows([failed, later], "here") == {("x", 1): later}
    with pytest.raises(ValueError, match="here: two rows of x with seed 1 have different scores"):
        join_rows([ok, other], "here")


def test_rows_that_contradict_each_other_are_named_by_their_lines(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("arch,a\nx,1\ny,1\nx,1\nx,2\n")
    with pytest.raises(ValueError, match=r"t.csv, line 2 and .*t.csv, line 5"):
        join_rows(read_table(path).rows, str(path))


BAD_REASONS = ["x" * 200_000, "a lone \ud800 surrogate", "zero \0 byte, \x1b[31m and \x85 line", "a\nb\rc\u2028d"]


@pytest.mark.parametrize("reason", BAD_REASONS, ids=["long", "surrogate", "control", "lines"])
def test_no_reason_makes_a_run_folder_unreadable(tmp_path, reason):
    journal = new_journal(tmp_path, ("a",))
    journal.append(row_line(ScoreRow("x", 1, {"a": None}, FAILED, reason), ("a",)))
    journal.close()
    (row,) = read_journals(tmp_path)
    assert row.failed
    assert len(row.reason) <= 20_000
    assert row.reason[:2] == reason.replace("\n", " ")[:2]
    assert not any(unicodedata.category(letter) in ("Cc", "Cs") for letter in row.reason)


def test_what_was_once_written_at_any_length_is_read(tmp_path):
    path = tmp_path / "scores.csv"
    path.write_text(f"arch,seed,a,status,reason\nx,1,,failed,{'long ' * 100_000}\n")
    assert read_table(path).rows[0].reason == ("long " * 100_000).strip()


def test_canonical_spelling():
    table = ScoreTable((), [ScoreRow("index:3,3,3,1,2,2", 1, {})])
    assert canonical(table, NB201(), "here").archs == [NB201().format((3, 3, 3, 1, 2, 2))]
    with pytest.raises(ValueError, match="here: nb201 architecture"):
        canonical(ScoreTable((), [ScoreRow("x", 1, {})]), NB201(), "here")


def test_journals_are_never_shared_and_survive_a_torn_end(tmp_path):
    made = [ScoreRow(name, 1, {"a": i / 3}) for i, name in enumerate("uvwxyz")]
    first, second = (new_journal(tmp_path, ("a",)) for _ in range(2))
    assert first.path != second.path
    for row in made[:3]:
        first.append(row_line(row, ("a",)))
    for row in made[3:]:
        second.append(row_line(row, ("a",)))
    first.close()
    second.close()
    assert read_journals(tmp_path) == made
    whole = second.path.read_bytes()
    start = whole.rstrip(b"\n").rfind(b"\n") + 1
    for end in range(start, len(whole)):
        second.path.write_bytes(whole[:end])
        assert read_journals(tmp_path) == made[:5]
    for end in range(len(b"arch,seed,a,status,reason,seconds")):
        second.path.write_bytes(whole[:end])
        assert read_journals(tmp_path) == made[:3]
