from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vkdnw_pl.oracles.csv_file import accuracies, load_csv
from vkdnw_pl.runs.csv_table import CsvTable
from vkdnw_pl.spaces import NB201

SPACE = NB201()
A = "|nor_conv_3x3~0|+|none~0|none~1|+|none~0|none~1|skip_connect~2|"
B = "|skip_connect~0|+|none~0|none~1|+|none~0|skip_connect~1|none~2|"


def parse(text):
    return accuracies(CsvTable(text, "t.csv", ("arch",)), SPACE)


def test_datasets_and_their_details():
    tables = parse(
        "arch,digits,digits_std,digits_seed0,digits_seed12,cifar10,other_std,cifar10_seedling\n"
        f"{A},71.25,0.5,71,71.5,90,3,4\n{B},60.5,,60,61,80,5,6\n"
    )
    assert tables == {
        "digits": {A: 71.25, B: 60.5},
        "cifar10": {A: 90.0, B: 80.0},
        "other_std": {A: 3.0, B: 5.0},  # no data set "other" beside it
        "cifar10_seedling": {A: 4.0, B: 6.0},
    }
    assert list(tables["digits"]) == [A, B]


def test_keys_are_canonical():
    assert parse('arch,x\n"index:3,0,0,0,0,1",50\n')["x"] == {A: 50.0}
    assert parse('arch,coding,x\n"(2, 1, 1, 1, 1, 0)",naslib,50\n') == {"x": {A: 50.0}}
    with pytest.raises(
        ValueError, match="line 2, column 'arch': nb201 architecture '2,1,1,1,1,0' does not say what its integers mean"
    ):
        parse('arch,x\n"2,1,1,1,1,0",50\n')


def test_spaces_blank_lines_and_missing_newline_at_the_end():
    assert parse(f"arch , x\n\n {A} , 50 \n\n{B},60")["x"] == {A: 50.0, B: 60.0}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"t\.csv is empty: its first line must name the columns"),
        ("cifar10\n", r"t\.csv, line 1: there is no column 'arch'"),
        (f"{A},50\n", "line 1: there is no column 'arch'"),
        ("arch\n", "line 1: no data set"),
        ("arch,x,\n", "line 1: column 3 has no name"),
        ("arch,x,x\n", "line 1: a column repeats: 'x'"),
        ("arch,arch\n", "a column repeats: 'arch'"),
        ("arch,x\n", "no architecture below the first line"),
        (f"arch,x\n{A},50\n{B}\n", "line 3 has 1 cells, the first line has 2"),
        (f"arch,x\n{A},50,60\n", "line 2 has 3 cells, the first line has 2"),
        (f"arch,x\n{A},fifty\n", "line 2, column 'x': 'fifty' is not a number"),
        (f"arch,x\n{A},\n", "column 'x': every cell is empty"),
        (f"arch,x\n{A},nan\n", "line 2, column 'x': 'nan' is not a finite number"),
        (f"arch,x\n{A},inf\n", "'inf' is not a finite number"),
        (f"arch,x\n{A},100.01\n", "100.01 is not an accuracy"),
        (f"arch,x\n{A},-0.1\n", "-0.1 is not an accuracy"),
        (f"arch,x,y\n{A},50,0.5\n{B},60,1.0\n", "column 'y': no value is above 1, so these look like fractions"),
        (f"arch,x\n{A.replace('nor_', 'non_')},50\n", "line 2, column 'arch': .*did you mean 'nor_conv_3x3'"),
        (f'arch,x\n{A},50\n{B},60\n"index:3,0,0,0,0,1",50\n', "line 4: architecture .* stands in line 2 already"),
        (f'arch,x\n"{A},50\n', "line 2 is damaged: a quotation mark is not closed"),
    ],
)
def test_what_is_refused(text, message):
    with pytest.raises(ValueError, match=message):
        parse(text)


def test_columns_say_what_they_hold(tmp_path):
    path = tmp_path / "mine.csv"
    path.write_text(
        'arch,top1,cifar10[% test],latency [ms lower],"loss[nat, lower, val]",gain[dB higher],error[% lower],error_std\n'
        f"{A},50,60,300.5,-2,-1e3,150,9\n{B},,70,,3,4,5,9\n"
    )
    oracle = load_csv(path, SPACE)
    assert {name: vars(oracle.measure(name)) for name in oracle.datasets} == {
        name: {"dataset": name, "split": split, "unit": unit, "higher_is_better": higher}
        for name, split, unit, higher in [
            ("top1", "unspecified", "%", True),
            ("cifar10", "test", "%", True),
            ("latency", "unspecified", "ms", False),
            ("loss", "val", "nat", False),
            ("gain", "unspecified", "dB", True),
            ("error", "unspecified", "%", False),
        ]
    }
    assert oracle.tables["top1"] == {A: 50.0}
    assert oracle.tables["latency"] == {A: 300.5}
    assert oracle.archs == [A, B]
    assert oracle.description.endswith("top1, cifar10, latency (ms, lower is better), " + ", ".join([
        "loss (nat, lower is better)", "gain (dB, higher is better)", "error (%, lower is better)"]))  # fmt: skip


def test_a_table_whose_header_cannot_be_changed(tmp_path):
    path = tmp_path / "mine.csv"
    path.write_text(f"arch,top1,edge,edge_std\n{A},50,300,1\n")
    oracle = load_csv(path, SPACE, {"edge": "ms lower", "edge_std": "ms lower test"})
    assert oracle.units == {"top1": "%", "edge": "ms", "edge_std": "ms"}
    assert oracle.lower_is_better == ["edge", "edge_std"]
    assert oracle.split["edge_std"] == "test"
    for measures, message in [
        ({"egde": "ms lower"}, r"oracle_measures: 'egde' is not known; did you mean 'edge'\? \(.* has: top1, edge, edge_std\)"),
        ({"edge": "ms"}, "oracle_measures: 'edge': 'ms' does not say whether higher or lower is better"),
        ({}, r"300.0 is not an accuracy in percent.*edge\[UNIT lower\]"),
    ]:  # fmt: skip
        with pytest.raises(ValueError, match=message):
            load_csv(path, SPACE, measures)
    path.write_text(f"arch,edge[ms lower]\n{A},300\n")
    with pytest.raises(ValueError, match=r"oracle_measures: 'edge' is not allowed: .*says itself what it holds"):
        load_csv(path, SPACE, {"edge": "ms lower"})


@pytest.mark.parametrize(
    ("column", "message"),
    [
        (
            "x[ms]",
            r"column 'x\[ms\]': 'ms' does not say whether higher or lower is better; allowed is UNIT DIRECTION SPLIT",
        ),
        ("x[]", "there is no unit in ''"),
        ("x[lower]", "there is no unit in 'lower'"),
        ("x[ms lowr]", "'lowr' is not known; did you mean 'lower'"),
        ("x[ms test lower]", "'lower' is not known"),
        ("x[ms lower val best]", "'best' is not known"),
        ("x[ms lower", r"a column that says what it holds is written NAME\[UNIT"),
        ("x[ms lower]y", r"is written NAME\[UNIT"),
        ("[ms lower]", r"is written NAME\[UNIT"),
        ("arch[ms lower]", "architectures have no unit"),
        ("y[ms lower]", "a column repeats: 'y'"),
        ('"y[ms, lower"', r"is written NAME\[UNIT"),
    ],
)
def test_declarations_that_are_refused(column, message):
    with pytest.raises(ValueError, match=message):
        parse(f"arch,y,{column}\n{A},50,50\n")


def test_a_file(tmp_path):
    path = tmp_path / "mine.csv"
    path.write_text(f"arch,x,y\n{A},50,60\n", encoding="utf-8-sig")  # as spreadsheets write it
    oracle = load_csv(path, SPACE)
    assert oracle.name == str(path)
    assert oracle.datasets == ("x", "y")
    assert oracle.split == {"x": "unspecified", "y": "unspecified"}
    assert oracle.accuracies("y") == {A: 60.0}
    assert str(path) in oracle.description
    assert "\n" not in oracle.description


@pytest.mark.parametrize("kind", ["missing", "folder", "binary"])
def test_unreadable_files(tmp_path, kind):
    path = tmp_path / "mine.csv"
    if kind == "folder":
        path.mkdir()
    elif kind == "binary":
        path.write_bytes(b"\xff\xfe\x00\x80")
    with pytest.raises(
        ValueError,
        match=r"mine\.csv'?(, line 1)? (cannot be read|is damaged|holds a zero byte|is not allowed: the folder)",
    ):
        load_csv(path, SPACE)


@settings(max_examples=50, deadline=None)
@given(st.dictionaries(st.tuples(*[st.integers(0, 4)] * 6), st.floats(1.001, 100), min_size=1, max_size=20))
def test_what_is_written_comes_back(table):
    expected = {SPACE.format(genotype): value for genotype, value in table.items()}
    text = "arch,x\n" + "".join(f"{arch},{value!r}\n" for arch, value in expected.items())
    found = parse(text)["x"]
    assert found == expected
    assert list(found) == list(expected)


def test_the_table_of_the_docs(tmp_path):
    page = (Path(__file__).parents[2] / "docs" / "sources.md").read_text(encoding="utf-8")
    path = tmp_path / "t.csv"
    path.write_text("arch," + page.split("```\narch,", 1)[1].partition("```")[0])
    oracle = load_csv(path, SPACE)
    assert oracle.datasets == ("cifar10", "edge", "energy", "loss", "robust")
    assert oracle.lower_is_better == ["edge", "energy", "loss"]
    assert [len(oracle.tables[dataset]) for dataset in oracle.datasets] == [2, 1, 2, 2, 1]
