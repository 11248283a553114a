"""The worked example of docs/add_a_space.md, done as the page says, in a folder of the reader's own."""

import csv
import importlib
import json
import os
import re
import runpy
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from vkdnw_pl.cli import main
from vkdnw_pl.spaces import SPACES

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "add_a_space.md").read_text(encoding="utf-8")
FILES = dict(re.findall(r'```python title="([^"]+)"\n(.*?)```', PAGE, re.DOTALL))
COMMANDS = dict(re.findall(r'```bash title="([^"]+)"\n(.*?)```', PAGE, re.DOTALL))
NAME = "plain_convs.PlainConvs"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    for name, code in FILES.items():
        (tmp_path / name).write_text(code, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    for module in ("plain_convs", "test_plain_convs"):
        sys.modules.pop(module, None)


def run(name):
    words = shlex.split(COMMANDS[name])
    assert words[:3] == ["python", "-m", "vkdnw_pl"]
    assert main([*words[3:], "--workers", "1", "--progress", "false"]) == 0


def in_a_new_process(folder, *arguments):
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, *arguments], cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_page_has_all_parts():
    assert set(FILES) == {"plain_convs.py", "test_plain_convs.py", "by_hand.py"}
    assert set(COMMANDS) == {"score", "search"}


def test_the_class_passes_its_tests(folder):
    own = vars(importlib.import_module("test_plain_convs"))
    tests = [test for name, test in own.items() if name.startswith("test_")]
    assert len(tests) == 4
    for test in tests:
        test()


def test_the_code_is_clean_and_runs(folder, capsys):
    runpy.run_path("by_hand.py")
    assert re.search(r"\d/.*Cost\(macs=\d+, num_params=\d+\) \{'vkdnw': \d", capsys.readouterr().out)
    config = str(ROOT / "pyproject.toml")
    in_a_new_process(folder, "-m", "ruff", "check", "--config", config, "plain_convs.py")
    in_a_new_process(folder, "-m", "ruff", "format", "--check", "--config", config, *FILES)


def test_scored(folder):
    run("score")
    with (folder / "runs" / "scored" / "scores.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 6
    assert {row["status"] for row in rows} == {"ok"}
    assert all(float(row["vkdnw"]) > 0 and float(row["expressivity"]) > 0 for row in rows)


def test_searched(folder):
    run("search")
    found = json.loads((folder / "runs" / "found" / "found.json").read_text(encoding="utf-8"))
    assert found["space"] == NAME
    assert found["macs"] <= 2_000_000
    assert found["layers"] <= 7
    assert found["evaluated"] == 30
    # Whoever takes the file finds the space where the user names it, in a process that has never heard of it.
    code = f"from vkdnw_pl.spaces.resolve import resolve_arch as r; print(r('runs/found/found.json', {NAME!r}).arch)"
    assert in_a_new_process(folder, "-c", code).strip() == found["arch"]


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("nowhere.Space", "there is no module 'nowhere' on Python's path"),
        ("plain_convs.PlainConv", "the module 'plain_convs' has no 'PlainConv'"),
        ("plain_convs.WIDTHS", "must be a subclass of vkdnw_pl.spaces.Space"),
        ("vkdnw_pl.spaces.Space", "cannot be made: Space is abstract, it lacks build"),
        (".Space", "write it like my_package.my_module.MySpace"),
    ],
)
def test_a_wrong_name_is_refused_with_the_reason(folder, capsys, name, reason):
    assert main(["score", "--space", name, "--progress", "false"]) == 2
    assert reason in capsys.readouterr().err


def test_what_the_module_lacks_is_said_as_it_is(folder):
    (folder / "plain_convs.py").write_text("import a_package_that_is_not_there\n")
    with pytest.raises(ModuleNotFoundError, match="a_package_that_is_not_there"):
        SPACES[NAME]
