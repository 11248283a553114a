"""Data flows downward: a module imports only from lines above its own."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "vkdnw_pl"
LAYERS = [
    *(
        "errors",
        "registry",
        "runs",
        "metrics",
        "networks",
        "data",
        "spaces",
        "proxies",
        "oracles",
        "ranking",
        "options",
        "option_parser",
        "scoring",
    ),
    *(
        "search",
        "callbacks",
        "report",
        "tracking",
        "training",
        "labels",
        "cluster",
        "commands",
        "api",
        "cli",
        "__main__",
    ),
]
ROOT = {"", "_version"}  # the package itself, which imports lazily
MODULES = sorted(PACKAGE.rglob("*.py"))


def layer(module: str) -> str:
    """`vkdnw_pl.runs.table` -> `scoring`."""
    return module.partition(".")[2].partition(".")[0]


def name_of(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports_of(path: Path) -> set[str]:
    """Our own modules that a module imports anywhere, also inside functions and for types only."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute here"
            found.update([f"{node.module}.{alias.name}" for alias in node.names] if node.module == "vkdnw_pl" else [])
            found.add(node.module or "")
    return {name for name in found if name.partition(".")[0] == "vkdnw_pl"}


def upward(importer: str, imported: str) -> bool:
    """Whether an import goes from a layer to one below it."""
    return LAYERS.index(imported) > LAYERS.index(importer)


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_imports_go_downward(path):
    here = layer(name_of(path))
    if here in ROOT:
        return
    assert here in LAYERS, f"{path}: the layer {here!r} has no place yet"
    for imported in imports_of(path):
        there = layer(imported)
        # `from vkdnw_pl import __version__` names an attribute of the package
        if there in LAYERS:
            assert not upward(here, there), f"{name_of(path)} imports {imported}"


def test_the_test_can_fail():
    assert upward("spaces", "scoring")
    assert not upward("scoring", "spaces")
    assert "vkdnw_pl.oracles" in imports_of(PACKAGE / "scoring" / "evaluation.py")


@pytest.mark.parametrize(
    ("layer_name", "never"),
    [
        ("proxies", {"spaces", "oracles"}),
        ("metrics", {"networks", "spaces", "oracles", "data", "proxies"}),
        ("report", {"networks", "data"}),
    ],
)
def test_what_some_layers_never_see(layer_name, never):
    for path in (PACKAGE / layer_name).rglob("*.py"):
        assert not never & {layer(imported) for imported in imports_of(path)}, name_of(path)


@pytest.mark.parametrize("module", ["vkdnw_pl", "vkdnw_pl.spaces", "vkdnw_pl.oracles", "vkdnw_pl.cli"])
def test_imports_without_torch(module):
    code = (
        f"import sys, {module}; sys.exit(any(name in sys.modules for name in ('torch', 'torchmetrics', 'matplotlib')))"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
