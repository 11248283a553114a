"""The README does what it says, and is short; its other commands are tried with those of the documentation."""

import re
import shlex
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
