"""Lint, format and types are clean, and no code is dead, so that it stays so."""

import fnmatch
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from vulture import Vulture

from vkdnw_pl.callbacks import CALLBACKS
from vkdnw_pl.data import DATA_MODULES
from vkdnw_pl.proxies import PROXIES
from vkdnw_pl.spaces import SPACES

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize(
    "command", ["ruff check .", "ruff format --check .", pytest.param("mypy", marks=pytest.mark.slow)]
)
def test_clean(command):
    done = subprocess.run([sys.executable, "-m", *command.split()], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="module")
def unused():
    """Names that the package defines and does not use, with their places; without classes that users name in options."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["vulture"]
    named_in_options = {*DATA_MODULES, *CALLBACKS, *(PROXIES.find(name).__name__ for name in PROXIES)}
    named_in_options |= {SPACES.find(name).__name__ for name in SPACES}
    templates = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "vkdnw_pl").rglob("*.html*"))
    used_by_templates = set(re.findall(r"\.(\w+)", templates))
    vulture = Vulture()
    vulture.scavenge([str(ROOT / path) for path in settings["paths"]])
    items = vulture.get_unused_code(min_confidence=settings["min_confidence"])
    return settings["ignore_names"], [x for x in items if x.name not in named_in_options | used_by_templates]


def test_no_dead_code(unused):
    allowed, items = unused
    dead = [item for item in items if not any(fnmatch.fnmatchcase(item.name, pattern) for pattern in allowed)]
    assert not dead, "\n".join(item.get_report() for item in dead)


def test_allowed_names_are_needed(unused):
    allowed, items = unused
    names = {item.name for item in items}
    assert [pattern for pattern in allowed if not fnmatch.filter(names, pattern)] == []
