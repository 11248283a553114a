"""YAML and JSON of strangers: plain values, or one line that says what is wrong and where, at once."""

import json
import time

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from vkdnw_pl.networks.arch_file import read_arch_file
from vkdnw_pl.runs.documents import MAX_DEPTH, check_yaml, parse_json, parse_yaml, read_json, read_yaml
from vkdnw_pl.runs.folder import RunFolder

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@settings(max_examples=25, deadline=None)
@given(st.dictionaries(st.text(), VALUES, max_size=4))
def test_what_is_written_comes_back(content):
    assert parse_json(json.dumps(content), "f") == content
    assert parse_yaml(yaml.safe_dump(content), "f") == content
    check_yaml(json.dumps(content), "f")


def aliases(open_, close, merge=""):
    """Eight lines that stand for nine to the power of eight values."""
    lines = [f"a0: &a0 {{{', '.join(f'k{i}: 1' for i in range(9))}}}"]
    for i in range(8):
        lines.append(f"a{i + 1}: &a{i + 1} {open_}{merge}{'[' * bool(merge)}{', '.join([f'*a{i}'] * 9)}{']' * bool(merge)}{close}")
    return "\n".join(lines) + "\n"


def test_numbers_with_colons_are_texts():
    """In YAML 1.1 they are integers in base 60."""
    text = "[8:8:8:8:8, 1:30, -8, 0, +5, 010, 0x10, 0b11, 1_000, 2.5, 64:8:8:8:8]"
    expected = ["8:8:8:8:8", "1:30", -8, 0, 5, 8, 16, 3, 1000, 2.5, "64:8:8:8:8"]
    assert parse_yaml(text, "f") == expected
    assert parse_yaml(yaml.safe_dump(expected), "f") == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\nb: 2\na: 3\n", "f, line 3 is damaged: 'a' stands there a second time"),
        ("b: {c: 1,\n  'c': 2}\n", "f, line 2 is damaged: 'c' stands there a second time"),
        ("1: a\n1.0: b\n", "f, line 2 is damaged: 1.0 stands there a second time"),
        ("[" * 3000, "f, line 1 is damaged: it is nested more than 100 times"),
        ("{a: " * 3000, "f, line 1 is damaged: it is nested more than 100 times"),
        ("- " * 3000, "f, line 1 is damaged: it is nested more than 100 times"),
        ("".join(" " * i + "a:\n" for i in range(3000)), "is damaged: it is nested more than 100 times"),
        (aliases("[", "]"), "is damaged: it stands for more than 200,000 values"),
        (aliases("{", "}", "<<: "), "is damaged: it stands for more than 200,000 values"),
        ("a: &a [*a]", "f, line 1 is damaged: an alias stands within what it names"),
        ("a: [\n", "is damaged: it is not YAML"),
        ("!!python/object/apply:os.system [ls]", "f, line 1 is damaged: it is not YAML"),
        ("!!timestamp 5", "f is damaged: it is not YAML"),
        ("2026-99-99", "f is damaged: it is not YAML"),
        ("!!int ''", "f is damaged: it is not YAML"),
        ("? [a]\n: 1", "f, line 1 is damaged: it is not YAML"),
    ],
)
def test_yaml_that_is_refused(text, message):
    began_at = time.perf_counter()
    with pytest.raises(ValueError, match=message) as error:
        parse_yaml(text, "f")
    assert time.perf_counter() - began_at < 1
    assert "\n" not in str(error.value)


def test_yaml_that_means_something():
    text = "base: &base {a: 1, b: 2}\nother: {<<: *base, a: 3}\nlist: [*base, *base]\n"
    assert parse_yaml(text, "f") == yaml.safe_load(text)
    nested = "[" * MAX_DEPTH + "]" * MAX_DEPTH
    assert parse_yaml(nested, "f") == parse_json(nested, "f") == json.loads(nested)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"a": 1,\n"a": 2}', "f, line 2 is damaged: 'a' stands there a second time"),
        ('{"a": {"b": "}"},\n"c": [{"b": 1,\n"\\u0062": 2}]}', "f, line 3 is damaged: 'b' stands there a second time"),
        ("[" * 3000 + "]" * 3000, "f is damaged: it is nested more than 100 times"),
        ("[" * 101 + "]" * 101, "f is damaged: it is nested more than 100 times"),
        ('{"a":' * 100_000, "f is damaged: it is nested more than 100 times"),
        ("1" * 5000, "f is damaged: it is not JSON"),
        ("{", "f is damaged: it is not JSON"),
    ],
)
def test_json_that_is_refused(text, message):
    began_at = time.perf_counter()
    with pytest.raises(ValueError, match=message):
        parse_json(text, "f")
    assert time.perf_counter() - began_at < 1


@pytest.mark.parametrize("content", ['{"a": 1, "a": 2}', "[" * 3000 + "]" * 3000, "[1]", "\0", ""])
def test_every_file_of_a_run_has_this_reader(tmp_path, content):
    for name in ("meta.json", "found.json", "config.yaml"):
        (tmp_path / name).write_text(content)
    for read in (
        lambda: read_json(tmp_path / "meta.json"),
        lambda: read_yaml(tmp_path / "config.yaml"),
        lambda: RunFolder(tmp_path).read_meta(),
        lambda: read_arch_file(tmp_path / "found.json"),
    ):
        with pytest.raises(ValueError, match=r"(meta|found)\.json|config\.yaml"):
            read()
