"""The worked example of docs/add_a_proxy.md, done as the page says."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "add_a_proxy.md").read_text(encoding="utf-8")
BLOCKS = dict(re.findall(r'```(?:python|text) title="([^"]+)"\n(.*?)```', PAGE, re.DOTALL))
LINE = "tests/proxies/test_proxy_registry.py: NAMES"


def test_the_example_works(tmp_path):
    shutil.copytree(ROOT / "vkdnw_pl", tmp_path / "vkdnw_pl", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "tests" / "proxies", tmp_path / "tests" / "proxies")
    shutil.copy(ROOT / "tests" / "conftest.py", tmp_path / "tests")
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    for title, code in BLOCKS.items():
        if title != LINE:
            (tmp_path / title).write_text(code, encoding="utf-8")
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
    run("-m", "ruff", "check", "vkdnw_pl/proxies/path_norm.py")
    run("-m", "ruff", "format", "--check", "vkdnw_pl/proxies/path_norm.py")
