import dataclasses
import subprocess
import sys
from pathlib import Path

import pytest

from vkdnw_pl.oracles import Oracle, cache_dir

TABLES = {"a": {"x": 1.5, "y": 2.5}, "b": {"x": 3.0, "y": 4.0}}


def make(**changes):
    return Oracle(**({"name": "n", "description": "d", "split": {"a": "test", "b": "val"}, "tables": TABLES} | changes))


def test_what_it_says():
    oracle = make()
    assert oracle.datasets == ("a", "b")
    assert oracle.archs == ["x", "y"]
    assert oracle.accuracies("b") == {"x": 3.0, "y": 4.0}
    assert oracle.split["b"] == "val"


def test_the_answer_is_the_callers_own():
    oracle = make()
    oracle.accuracies("a")["x"] = 0
    assert oracle.accuracies("a")["x"] == 1.5


def test_unknown_dataset_names_the_nearest_and_all():
    oracle = make(split={"cifar10": "t", "digits": "t"}, tables={"cifar10": {"x": 1}, "digits": {"x": 2}})
    with pytest.raises(ValueError, match=r"'cifar'.*did you mean 'cifar10'.*known: cifar10, digits"):
        oracle.accuracies("cifar")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tables": {}, "split": {}}, "at least one data set"),
        ({"split": {"a": "test"}}, "one split for each"),
        ({"tables": {"a": {"x": 1.0}, "b": {}}}, "knows no architecture on b"),
        ({"units": {"c": "ms"}}, r"units names \['c'\], which are none of \['a', 'b'\]"),
        ({"lower_is_better": ["c"]}, "lower_is_better names"),
    ],
)
def test_broken_oracles_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        make(**changes)


def test_data_sets_of_their_own_kind_and_of_different_architectures():
    oracle = make(
        tables={"a": {"x": 1.5, "y": 2.5}, "b": {"z": 300.0, "x": -4.0}},
        units={"b": "ms"},
        lower_is_better=["b"],
        cautions={"b": "measured once"},
    )
    assert oracle.archs == ["x", "y", "z"]
    assert oracle.coverage(["x", "y"]) == [
        "values of b are known for 1 of the 2 architectures; metrics are of these alone"
    ]
    assert oracle.coverage(["x", "z", "w"]) == [
        "values of a are known for 1 of the 3 architectures; metrics are of these alone",
        "values of b are known for 2 of the 3 architectures; metrics are of these alone",
    ]
    assert oracle.doubts() == ["b: measured once"]
    both = dataclasses.replace(oracle, cautions={"a": "measured once", "b": "measured once"})
    assert both.doubts() == ["a, b: measured once"]
    a, b = map(oracle.measure, "ab")
    assert (a.axis, a.is_accuracy, a.text(1.5), a.best([1, 2])) == ("accuracy (%)", True, "1.50 %", 2)
    assert (b.axis, b.is_accuracy, b.text(300), b.best([1, 2])) == ("b (ms, lower is better)", False, "300 ms", 1)
    only = oracle.only(["b"])
    assert (only.datasets, only.units, [*only.lower_is_better], only.split) == (
        ("b",),
        {"b": "ms"},
        ["b"],
        {"b": "val"},
    )


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"VKDNW_CACHE": "/own", "XDG_CACHE_HOME": "/xdg"}, "/own"),
        ({"VKDNW_CACHE": "~/own"}, "/home/me/own"),
        ({"VKDNW_CACHE": "", "XDG_CACHE_HOME": "/xdg"}, "/xdg/vkdnw_pl"),
        ({"XDG_CACHE_HOME": "relative/is/invalid"}, "/home/me/.cache/vkdnw_pl"),
        ({"XDG_CACHE_HOME": ""}, "/home/me/.cache/vkdnw_pl"),
        ({}, "/home/me/.cache/vkdnw_pl"),
    ],
)
def test_cache_dir(monkeypatch, environment, expected):
    for name in ("VKDNW_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", "/home/me")
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert cache_dir() == Path(expected)


def test_oracles_and_download_import_without_torch():
    code = (
        "import sys, vkdnw_pl.oracles, vkdnw_pl.commands.download; "
        "print(*({'torch', 'numpy', 'nats_bench'} & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
