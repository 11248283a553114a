import gzip
import random
import shutil

import pytest
from small_runs import evaluate, results_of, run

from vkdnw_pl.errors import UsageError
from vkdnw_pl.runs.folder import RunFolder
from vkdnw_pl.runs.table import header_line, read_table, row_line
from vkdnw_pl.spaces import NB201


@pytest.fixture(scope="module")
def scored_once(tmp_path_factory):
    base = tmp_path_factory.mktemp("scored")
    assert run(base / "run") == 0
    return base


@pytest.fixture
def scored(scored_once, tmp_path):
    """A run folder of the test's own, with the oracle beside it."""
    shutil.copytree(scored_once, tmp_path, dirs_exist_ok=True)
    return tmp_path / "run"


def test_of_a_run_folder_gives_the_same_again(scored):
    before = results_of(scored)
    for name in ("metrics.csv", "ranking.csv"):
        (scored / name).unlink()
    assert evaluate(str(scored), oracle=str(scored.parent / "oracle.csv")) == 0
    assert results_of(scored) == before


def test_of_a_table_made_elsewhere(scored, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    space = NB201()
    rows = read_table(scored / "scores.csv").rows
    text = "num_params,arch\n" + "".join(
        f'{space.cost(row.arch).num_params},"index:{",".join(map(str, space.parse(row.arch)))}"\n' for row in rows
    )
    (tmp_path / "mine.csv.gz").write_bytes(gzip.compress(text.encode()))
    assert evaluate("mine.csv.gz", oracle="oracle.csv") == 0
    assert "evaluating 12 architectures, 12 rows of mine.csv.gz" in capsys.readouterr().out
    lines = (tmp_path / "runs" / "evaluate-mine" / "metrics.csv").read_text().splitlines()
    assert [line.split(",")[:4] for line in lines[1:]] == [["num_params", "made_up", "unspecified", "10"]]


def test_of_a_run_that_was_killed(scored, tmp_path):
    """Its rows are still in journals, in any order, the last perhaps torn."""
    table = read_table(scored / "scores.csv")
    rows = random.Random(0).sample(table.rows, 8)
    (scored / "scores.csv").unlink()
    (scored / "rows").mkdir()
    lines = [header_line(table.columns), *(row_line(row, table.columns) for row in rows)]
    (scored / "rows" / "0-0.csv").write_text("".join(lines)[:-5])
    assert evaluate(str(scored), oracle=str(tmp_path / "oracle.csv"), out=str(tmp_path / "evaluated")) == 0
    ranked = [line.split(",")[0] for line in (tmp_path / "evaluated" / "ranking.csv").read_text().splitlines()[1:]]
    kept = {row.arch for row in rows[:-1]}
    assert ranked == [arch for arch in table.archs if arch in kept]


def test_half_written_files_of_a_killed_process(scored, tmp_path):
    """They go, but not those of a process that is still there."""
    draft = scored / ".ranking.12345.tmp.csv"
    draft.touch()
    with RunFolder(scored).lock():
        draft.touch()
        assert evaluate(str(scored), oracle=str(tmp_path / "oracle.csv")) == 0
        assert draft.exists()
    assert evaluate(str(scored), oracle=str(tmp_path / "oracle.csv")) == 0
    assert not draft.exists()


def test_own_rankings_top_k_and_ties(scored, tmp_path):
    options = {"oracle": str(tmp_path / "oracle.csv"), "rankings": ["aleph>vkdnw+macs", "aleph"], "top_k": 3}
    for ties in ("average", "random", "arbitrary"):
        evaluate(str(scored), **options, ties=ties, out=str(tmp_path / ties))
    files = {ties: (tmp_path / ties / "metrics.csv").read_text() for ties in ("average", "random", "arbitrary")}
    assert [line.split(",")[0] for line in files["average"].splitlines()[1:]] == ["aleph>vkdnw+macs", "aleph"]
    assert all(line.split(",")[7] == "3" for line in files["average"].splitlines()[1:])
    assert len(set(files.values())) > 1  # aleph has ties


def test_failed_rows_are_the_exit_code(scored, tmp_path):
    scores = scored / "scores.csv"
    first, *others = scores.read_text().splitlines()
    arch = read_table(scores).rows[0].arch
    others[0] = f"{arch},1" + "," * 12 + ",failed,it broke,0.1"
    scores.write_text("\n".join([first, *others]) + "\n")
    assert evaluate(str(scored), oracle=str(tmp_path / "oracle.csv")) == 1


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("", "is empty: its first line must name the columns"),
        ("name,macs\na,1\n", "there is no column 'arch'"),
        ("arch,macs\n", "holds no scores"),
        ("arch,macs\n|none~0|,1\n", r"scores\.csv: nb201 architecture '\|none~0\|' has 1 part"),
        ('arch,macs\n"index:3,3,3,3,3,3",many\n', r"line 2, column 'macs': 'many' is not a number"),
        ('arch,macs\n"index:3,3,3,3,3,3"\n', r"line 2 has 1 cells, the first line has 2"),
        ('arch,macs\n"index:3,3,3,3,3,3",1\n"index:3,3,3,3,3,3",2\n', "have different scores"),
        ('arch,seed\n"index:3,3,3,3,3,3",1\n', "no column to rank by"),
    ],
)
def test_tables_that_are_refused(tmp_path, content, text):
    (tmp_path / "scores.csv").write_text(content)
    (tmp_path / "oracle.csv").write_text('arch,few\n"index:3,3,3,3,3,3",50\n"index:3,3,3,3,3,2",51\n')
    with pytest.raises(UsageError, match=text):
        evaluate(str(tmp_path / "scores.csv"), oracle=str(tmp_path / "oracle.csv"), out=str(tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_a_folder_that_is_no_run_is_refused(tmp_path):
    with pytest.raises(UsageError, match="is not a run folder"):
        evaluate(str(tmp_path))
