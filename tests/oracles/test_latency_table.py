import pytest

from vkdnw_pl.oracles.latency_table import read_latencies
from vkdnw_pl.spaces import NB201

SPACE = NB201()
A, B = list(SPACE.enumerate())[-2:]


@pytest.mark.parametrize(
    ("header", "column"),
    [
        ("arch,latency,acc", "#latency"),
        ("arch,edge[ms lower],acc", ""),
        ("arch,edge[ms lower test],pixel[ms lower]", "#edge"),
        ("arch,edge[ms lower],energy[mJ lower]", ""),
    ],
)
def test_the_column_of_the_latency(tmp_path, header, column):
    path = tmp_path / "t.csv"
    path.write_text(f"{header}\n{A},250.5,3\n{B},,4\n")
    assert read_latencies(f"{path}{column}", SPACE) == {A: 250.5}


def test_a_table_of_latencies_alone(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text(f"arch,whatever\n{A},2\n{B},0.5\n")
    assert read_latencies(str(path), SPACE) == {A: 2.0, B: 0.5}


@pytest.mark.parametrize(
    ("header", "values", "column", "message"),
    [
        ("arch,x,y", "1,2", "", r"does not say which column is the latency \(it has: x, y\); give FILE.csv#COLUMN"),
        ("arch,x[ms lower],y[ms lower]", "1,2", "", "does not say which column"),
        ("arch,latency,y", "1,2", "#latenzy", "has no column 'latenzy'; did you mean 'latency'"),
        ("arch,x[s lower],y", "1,2", "#x", "'x' is declared as s, lower is better, not as ms lower"),
        ("arch,x[ms higher],y", "1,2", "#x", "'x' is declared as ms, higher is better"),
        ("arch,x[%],y", "1,2", "#x", "'x' is declared as %, not as ms lower"),
        ("arch,x,y", "0,2", "#x", "0 ms of .* is not above 0"),
        ("arch,x,y", "fast,2", "#x", "line 2, column 'x': 'fast' is not a number"),
    ],
)
def test_what_is_refused(tmp_path, header, values, column, message):
    path = tmp_path / "t.csv"
    path.write_text(f"{header}\n{A},{values}\n")
    with pytest.raises(ValueError, match=message):
        read_latencies(f"{path}{column}", SPACE)


def test_no_file():
    with pytest.raises(ValueError, match=r"latency_table='nowhere\.csv' is not allowed: there is no such file"):
        read_latencies("nowhere.csv", SPACE)
