"""Spaces and proxies that are plugged in: by entry point, dotted name, class and object, for both kinds alike."""

import ast
import csv
import json
import os
import re
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

from vkdnw_pl import score
from vkdnw_pl.cli import main
from vkdnw_pl.options import NetworkOptions, ProxyOptions
from vkdnw_pl.proxies import PROXIES, make_proxies
from vkdnw_pl.registry import Registry
from vkdnw_pl.spaces import MBV2, NB201, SPACES, make_space
from vkdnw_pl.spaces.resolve import resolve_arch

ROOT = Path(__file__).parents[1]
PLUGINS = '''
"""A space and a proxy of somebody's own."""

from vkdnw_pl.proxies import Proxy, ProxyInfo
from vkdnw_pl.spaces import NB201


class SmallCells(NB201):
    """NAS-Bench-201 cells; the network is narrow if and only if the space's name is its own."""

    name = "small_cells"

    def build(self, arch, **network):
        return super().build(arch, **{"channels": 4 if self.name == "small_cells" else 32, "cells": 1, **network})


class NamedByHand(NB201):
    name = "by_hand"

    def __init__(self, width=3):
        self.width = width


class Halves(Proxy):
    """Parameters times a factor. Higher is better."""

    info = ProxyInfo(name="halves", title="Halves", source="here")

    def __init__(self, factor=0.5):
        self.factor = factor

    def compute(self, borrowed):
        return {self.name: self.factor * sum(p.numel() for p in borrowed.network.parameters())}


class Forgetful(Halves):
    info = ProxyInfo(name="forgetful", title="Forgetful", source="here")

    def __init__(self, memory=1):
        super().__init__()


class Thief(Halves):
    info = ProxyInfo(name="vkdnw", title="Another", source="here")


class Unnamed(Halves):
    info = None


class Unfinished(Proxy):
    info = ProxyInfo(name="unfinished", title="Unfinished", source="here")


def inner():
    class Inner(Halves):
        info = ProxyInfo(name="inner", title="Inner", source="here")

    return Inner
'''
ENTRY_POINTS = """
[vkdnw_pl.spaces]
small_cells = plugins:SmallCells
broken_space = plugins:Nothing

[vkdnw_pl.proxies]
halves = plugins:Halves
broken_proxy = a_package_that_is_not_there:Proxy
macs = plugins:Halves
"""
ARCH = "|nor_conv_3x3~0|+|none~0|none~1|+|skip_connect~0|none~1|none~2|"


@pytest.fixture
def plugins(tmp_path, monkeypatch):
    """A module on Python's path, which no entry point names."""
    (tmp_path / "plugins.py").write_text(PLUGINS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    import plugins

    yield plugins
    del sys.modules["plugins"]


@pytest.fixture
def installed(plugins, tmp_path, monkeypatch):
    """The same, as an installed package with entry points; registries as in a process that has just begun."""
    info = tmp_path / "own_things-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: own-things\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(ENTRY_POINTS)
    for registry in (SPACES, PROXIES):
        vars(registry).pop("_entry_points", None)
    yield plugins
    for registry in (SPACES, PROXIES):
        vars(registry).pop("_entry_points", None)


@pytest.mark.usefixtures("installed")
def test_entry_points_are_names_like_built_in_ones(installed):
    assert type(SPACES["small_cells"]) is installed.SmallCells
    assert PROXIES["halves"] is installed.Halves
    assert [SPACES["small_cells"].key, make_proxies(["halves"])[0].record()] == [
        "small_cells",
        {"name": "halves", "factor": 0.5},
    ]
    assert list(SPACES) == [*SPACES.builtin, "small_cells", "broken_space"]
    assert {"halves", "broken_proxy"} <= set(PROXIES)


def test_an_entry_point_is_loaded_only_when_it_is_asked_for(installed):
    del sys.modules["plugins"]
    assert "small_cells" in SPACES
    assert "halves" in PROXIES
    with pytest.raises(ValueError, match="'halfs' is not known; did you mean 'halves'"):
        make_proxies(["halfs"])
    assert "plugins" not in sys.modules
    import plugins  # noqa: F401


@pytest.mark.parametrize(
    ("registry", "name", "reason"),
    [
        (SPACES, "broken_space", "own-things says 'plugins:Nothing', which raises AttributeError"),
        (
            PROXIES,
            "broken_proxy",
            "own-things says .*, which raises ModuleNotFoundError: .*a_package_that_is_not_there",
        ),
        (PROXIES, "macs", "'macs' is defined more than once: by vkdnw_pl and the installed package own-things"),
    ],
)
def test_a_broken_entry_point_is_one_clear_message(installed, registry, name, reason):
    with pytest.raises(ValueError, match=reason):
        registry[name]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        others = dict(registry.items())
    assert any(re.search(reason, str(warning.message)) for warning in caught)
    assert name not in others
    assert len(others) >= 3
    assert resolve_arch(ARCH).space == "nb201"


def test_a_space_keeps_its_own_name_whatever_it_is_called(plugins):
    space = SPACES["plugins.SmallCells"]
    assert (space.name, space.key) == ("small_cells", "plugins.SmallCells")
    assert sum(p.numel() for p in space.build(ARCH).parameters()) < 10_000
    assert resolve_arch(ARCH, "plugins.SmallCells").space == "plugins.SmallCells"


def test_a_space_given_as_class_or_object(plugins):
    space = plugins.SmallCells()
    assert make_space(space) is space
    assert type(make_space(plugins.SmallCells)) is plugins.SmallCells
    assert resolve_arch(ARCH, space).space == "plugins.SmallCells"
    assert make_space("mbv2", {"operator_sampling": "reference"}).parameters() == {"operator_sampling": "reference"}
    with pytest.raises(ValueError, match="other processes make the class without width"):
        make_space(plugins.NamedByHand(5))
    with pytest.raises(ValueError, match=r"must be a subclass of vkdnw_pl\.spaces\.Space"):
        make_space(plugins.Halves)
    with pytest.raises(ValueError, match="operator_sampling='reference' has a meaning for mbv2 only"):
        make_space("nb201", {"operator_sampling": "reference"})


def test_a_proxy_given_as_dotted_name_class_or_object(plugins):
    specs = [
        {"name": "plugins.Halves", "label": "named"},
        plugins.Halves,
        *make_proxies([{"name": "plugins.Halves", "factor": 2, "label": "made"}]),
        "params",
    ]
    values = score(NB201().build(ARCH, channels=4, cells=1), (3, 16, 16), proxies=specs, batch_size=2)
    assert values["named"] == values["halves"] == values["params"] / 2
    assert values["made"] == 2 * values["params"]
    record = json.loads(json.dumps(plugins.Halves(factor=3).record()))
    assert record == {"name": "plugins.Halves", "factor": 3}
    assert make_proxies([record])[0].record() == record


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("Thief", "calls itself 'vkdnw', which names a built-in one"),
        ("Unnamed", "does not say its name"),
        ("Unfinished", "Unfinished is abstract, it lacks compute"),
        ("SmallCells", "must be a subclass of vkdnw_pl.proxies.Proxy"),
        ("Nobody", "the module 'plugins' has no 'Nobody'"),
    ],
)
def test_a_wrong_class_is_refused_with_the_reason(plugins, name, reason):
    with pytest.raises(ValueError, match=reason) as error:
        make_proxies([f"plugins.{name}"])
    assert str(error.value).startswith("proxies: ")
    if name != "Nobody":
        with pytest.raises(ValueError, match=reason):
            make_proxies([getattr(plugins, name)])


def test_what_no_other_process_could_make_has_no_record(plugins):
    inner = plugins.inner()
    network = NB201().build(ARCH, channels=4, cells=1)
    assert score(network, (3, 16, 16), proxies=[inner()], batch_size=2)["inner"] > 0
    with pytest.raises(ValueError, match=r"'inner\.<locals>\.Inner' is not allowed here: define the class at the top"):
        inner().record()
    with pytest.raises(ValueError, match="Forgetful does not store its argument 'memory'"):
        plugins.Forgetful().record()


def test_registered_classes_have_a_short_name_here_and_a_dotted_one_in_records(plugins, monkeypatch):
    for registry in (SPACES, PROXIES):
        monkeypatch.setattr(registry, "_registered", {})
    assert PROXIES.register(plugins.Halves) is PROXIES.register(plugins.Halves) is plugins.Halves
    assert SPACES.register(plugins.SmallCells, "cells")
    assert make_proxies(["halves"])[0].record()["name"] == "plugins.Halves"
    assert SPACES["cells"].key == "plugins.SmallCells"
    for registry, cls, name in [(PROXIES, plugins.Forgetful, "halves"), (SPACES, plugins.SmallCells, "nb201")]:
        with pytest.raises(ValueError, match=f"'{name}' is taken"):
            registry.register(cls, name)


def test_built_in_classes_of_one_name_are_a_fault():
    twice = Registry("space=", NB201.__mro__[1], "vkdnw_pl.spaces", lambda cls: "same", lambda cls: cls())
    with pytest.raises(RuntimeError, match="'same' names two classes"):
        twice["same"]


def test_options_of_commands_take_classes_and_objects_and_hold_what_other_processes_read(plugins):
    assert NetworkOptions(space=plugins.SmallCells()).space == "plugins.SmallCells"
    assert NetworkOptions(space=plugins.SmallCells).search_space.name == "small_cells"
    with pytest.raises(ValueError, match="operator_sampling='reference': give that as an option of the search"):
        NetworkOptions(space=MBV2("reference"))
    options = ProxyOptions(proxies=[plugins.Halves(factor=2), "params"])
    assert options.proxies == [{"name": "plugins.Halves", "factor": 2}, {"name": "params"}]


@pytest.mark.usefixtures("plugins")
def test_two_workers_score_with_a_space_and_a_proxy_by_dotted_name(tmp_path):
    options = ["--space", "plugins.SmallCells", "--archs", "sample:3", "--batch_size", "2", "--oracle", "auto"]
    proxies = ["--proxies", "[{name: plugins.Halves, factor: 0.25}, params]", "--network", "{image_size: 16}"]
    assert main(["score", *options, *proxies, "--workers", "2", "--progress", "false", "--out", "run"]) == 0
    with (tmp_path / "run" / "scores.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["status"] for row in rows] == ["ok"] * 3
    assert all(float(row["halves"]) == float(row["params"]) / 4 for row in rows)
    settings = json.loads((tmp_path / "run" / "meta.json").read_text())["settings"]
    assert settings["space"] == "plugins.SmallCells"
    assert settings["proxies"][0] == {"name": "plugins.Halves", "factor": 0.25}


@pytest.mark.usefixtures("plugins")
def test_run_folders_import_no_space_for_merge_and_report(tmp_path, capsys):
    archs = list(NB201().enumerate())[:4]
    Path("archs.txt").write_text("".join(f"{arch}\n" for arch in archs))
    Path("oracle.csv").write_text("arch,made_up\n" + "".join(f"{arch},{50 + i}\n" for i, arch in enumerate(archs)))
    options = ["--space", "plugins.SmallCells", "--archs", "archs.txt", "--proxies", "[macs]", "--oracle", "oracle.csv"]
    for i in (0, 1):
        shard = ["--shard", f"{i}/2", "--workers", "1", "--network", "{image_size: 16}", "--out", f"shard-{i}"]
        assert main(["score", *options, *shard]) == 0
    del sys.modules["plugins"]
    (tmp_path / "plugins.py").write_text(f"{PLUGINS}\nopen('was_run', 'w').close()")
    merge = ["merge", "shard-0", "shard-1", "--out", "merged"]
    capsys.readouterr()
    assert main(merge) == 2
    assert "names the space 'plugins.SmallCells'" in (error := capsys.readouterr().err)
    assert "give --space plugins.SmallCells" in error
    assert main(["report", "shard-0", "--out", "page.html"]) == 0
    assert not Path("was_run").exists()
    assert main([*merge, "--space", "nb201"]) == 2
    assert main([*merge, "--space", "plugins.SmallCells"]) == 0
    assert Path("was_run").exists()
    assert (tmp_path / "merged" / "metrics.csv").read_text().count("made_up") == 1


def test_a_new_process_finds_what_a_package_declares(installed, tmp_path):
    code = (
        "from vkdnw_pl.spaces import SPACES; from vkdnw_pl.proxies import make_proxies; "
        "print(SPACES['small_cells'].key, make_proxies(['halves'])[0].record()['name'])"
    )
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{tmp_path}"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert done.stdout.split() == ["small_cells", "halves"], done.stderr


def _branches_on_spaces(path):
    """Comparisons with the name of a space, and questions about what a space can."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Compare):
            for part in ast.walk(node):
                is_name = isinstance(part, ast.Constant) and part.value in SPACES.builtin
                is_class = (
                    isinstance(part, ast.Attribute) and part.attr == "name" and "space" in ast.unparse(part).lower()
                )
                if (
                    is_name
                    or is_class
                    or ast.unparse(part) in {f"{cls.__name__}.name" for cls in SPACES.builtin.values()}
                ):
                    yield f"{path}:{node.lineno}: {ast.unparse(node)}"
        if isinstance(node, ast.Call) and node.args:
            asks = ast.unparse(node.func) in ("hasattr", "getattr", "inspect.signature")
            if asks and "space" in ast.unparse(node.args[0]).lower():
                yield f"{path}:{node.lineno}: {ast.unparse(node)}"


def test_nobody_asks_a_space_for_its_name_or_abilities():
    package = ROOT / "vkdnw_pl"
    own_files = {*(package / "spaces").glob("*.py"), *(package / "networks").glob("*.py")}
    assert [
        branch for path in package.rglob("*.py") if path not in own_files for branch in _branches_on_spaces(path)
    ] == []


@pytest.mark.parametrize(
    "code",
    ["space.name == 'x'", "x in (None, 'mbv2')", "self.space == MBV2.name", "hasattr(space, 'layers')"],
)
def test_such_branches_are_seen(code, tmp_path):
    path = tmp_path / "module.py"
    path.write_text(code)
    assert list(_branches_on_spaces(path))
