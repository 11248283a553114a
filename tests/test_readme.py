"""The README does what it says, and is short; its other commands are tried with those of the documentation."""

import csv
import re
import shlex
import statistics
from pathlib import Path

import pytest

README = Path(__file__).parents[1] / "README.md"
TEXT = README.read_text(encoding="utf-8")


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", TEXT, re.S)


@pytest.mark.parametrize("code", blocks("python"), ids=lambda code: code.split("\n")[0])
def test_python_examples_run(code, capsys):
    exec(compile(code, str(README), "exec"), {})
    assert capsys.readouterr().out.strip()


def test_library_example_takes_five_lines():
    (code,) = [code for code in blocks("python") if "vkdnw_pl.score" in code]
    assert len([line for line in code.splitlines() if line.strip()]) <= 5


def test_it_is_short_and_has_two_figures():
    assert len(TEXT.split()) <= 900
    assert len(re.findall(r"!\[[^\]]+\]\(", TEXT)) == 2


def test_the_two_commands_are_there():
    first, *_ = blocks("bash")
    assert shlex.split(first) == shlex.split("pip install -e . && python -m vkdnw_pl score --config configs/nb201.yaml")
    assert 'pip install -e ".[test]" && python -m pytest' in TEXT


def rows_of(table):
    with (README.parent / "benchmarks" / table).open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def interval(value, low, high):
    return f"{float(value):.3f}" + (f" [{float(low):.3f}, {float(high):.3f}]" if low else "")


def test_its_evidence_is_that_of_the_benchmarks():
    """Rows ``| `ranking` ... | CIFAR-10 | CIFAR-100 | ImageNet16-120 | timm |``, and those of the paper."""
    ours, papers = {}, {}
    for row in rows_of("paper/table1.csv"):
        if row["metric"] == "kendall":
            ours.setdefault(row["ranking"], []).append(interval(row["ours"], row["low"], row["high"]))
            papers.setdefault(row["ranking"], []).append(row["paper"])
    ours["params"] = ours["macs"]  # which order NAS-Bench-201's networks alike
    timm = {
        row["ranking"]: interval(row["kendall"], row["low"], row["high"]) for row in rows_of("timm_zoo/intervals.csv")
    }
    table = TEXT.partition("| ranking | CIFAR-10 |")[2].partition("\n\n")[0]
    lines = re.findall(r"^\| `(\w+)`(.*?) \| (.*) \| (.*) \| (.*) \| ?(.*) \|$", table, re.MULTILINE)
    assert len(lines) == 6
    for name, note, *cells, on_timm in lines:
        if "paper" in note:
            assert [float(cell) for cell in cells] == [float(value) for value in papers[name]]
        else:
            assert (cells, on_timm.strip("*")) == (ours[name], timm[name]), name


def test_its_spaces_are_those_of_the_comparison():
    values = {}
    for row in rows_of("spaces/results/spaces.csv"):
        if row["metric"] == "kendall" and row["value"]:
            values.setdefault((row["ranking"], row["space"]), []).append(float(row["value"]))
    table = TEXT.partition("| ranking | NAS-Bench-201 |")[2].partition("\n\n")[0]
    lines = re.findall(r"^\| `(\w+)` \| (.*) \|$", table, re.MULTILINE)
    assert len(lines) == 4
    for name, cells in lines:
        means = [statistics.fmean(values[name, space]) for space in ("nb201", "nasbench_macro", "sss_digits", "pit")]
        assert cells.split(" | ") == [f"{mean:.3f}" for mean in means], name
