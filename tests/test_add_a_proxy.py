"""The worked example of docs/add_a_proxy.md, done as the page says."""

import csv
import os
import re
import runpy
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from vkdnw_pl.cli import main

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "add_a_proxy.md").read_text(encoding="utf-8")
BLOCKS = dict(re.findall(r'```(?:python|text|bash) title="([^"]+)"\n(.*?)```', PAGE, re.DOTALL))
LINE = "tests/proxies/test_proxy_registry.py: NAMES"
CLASS, TEST = "vkdnw_pl/proxies/path_norm.py", "tests/proxies/test_path_norm.py"


def test_the_page_has_all_parts():
    assert set(BLOCKS) == {CLASS, TEST, LINE, "score", "by_hand.py"}


def test_the_class_works_in_a_file_of_ones_own(tmp_path, monkeypatch, capsys):
    (tmp_path / "path_norm.py").write_text(BLOCKS[CLASS], encoding="utf-8")
    (tmp_path / "by_hand.py").write_text(BLOCKS["by_hand.py"], encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    words = shlex.split(BLOCKS["score"])
    assert words[:3] == ["python", "-m", "vkdnw_pl"]
    try:
        assert main([*words[3:], "--workers", "1", "--progress", "false"]) == 0
        capsys.readouterr()
        runpy.run_path("by_hand.py")
    finally:
        sys.modules.pop("path_norm", None)
    with (tmp_path / "runs" / "path_norm" / "scores.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["status"] for row in rows] == ["ok"] * 4
    assert all(float(row["path_norm"]) > 0 for row in rows)
    assert re.match(r"\{'path_norm': [\d.e+]+, 'params': 3504872.0\}", capsys.readouterr().out)


@pytest.mark.slow
def test_the_example_works_in_the_package(tmp_path):
    shutil.copytree(ROOT / "vkdnw_pl", tmp_path / "vkdnw_pl", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "tests" / "proxies", tmp_path / "tests" / "proxies")
    shutil.copy(ROOT / "tests" / "conftest.py", tmp_path / "tests")
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    for title in (CLASS, TEST):
        (tmp_path / title).write_text(BLOCKS[title], encoding="utf-8")
    registry = tmp_path / "tests" / "proxies" / "test_proxy_registry.py"
    text = registry.read_text(encoding="utf-8")
    assert text.count("NAMES = (\n") == 1
    registry.write_text(text.replace("NAMES = (\n", f"NAMES = (\n{BLOCKS[LINE]}"), encoding="utf-8")

    def run(*arguments):
        done = subprocess.run(
            [sys.executable, *arguments],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(tmp_path)},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    suite = ["test_proxy_registry.py", "test_path_norm.py", "test_borrowing.py"]
    said = run("-m", "pytest", "-q", *(f"tests/proxies/{name}" for name in suite), "-k", "path_norm or test_names")
    assert int(re.search(r"(\d+) passed", said)[1]) >= 12
    run("-m", "ruff", "check", CLASS)
    run("-m", "ruff", "format", "--check", CLASS)
