"""Reads YAML and JSON: plain values, no name twice, nothing nested or repeated so often that it cannot be meant.

What is damaged is a ``ValueError`` of one line that names the file, and the line where there is one.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from vkdnw_pl.errors import one_line, shown, what_it_says
from vkdnw_pl.runs.files import read_text

MAX_VALUES = 200_000
"""Values that a YAML text may have when its aliases are written out: a small file can stand for a huge one."""
MAX_DEPTH = 100
"""How deep values may be nested."""

_MERGE = "tag:yaml.org,2002:merge"
_INT = "tag:yaml.org,2002:int"
_INTEGER = re.compile(r"[-+]?(?:0b[01_]+|0[0-7_]+|0x[0-9a-fA-F_]+|0|[1-9][0-9_]*)$")


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object."""
    return _object(parse_json(read_text(path), str(path)), path)


def read_yaml(path: Path) -> dict[str, Any]:
    """A YAML mapping of plain values; tags that would make other objects are an error."""
    return _object(parse_yaml(read_text(path), str(path)), path)


def parse_yaml(text: str, where: str) -> Any:
    """Plain values of a YAML text; ``where`` names it in errors."""
    try:
        return yaml.load(text, Loader=_PlainLoader)
    except Exception as error:  # what PyYAML makes of a text that is none of its kind raises nearly every kind of error
        raise ValueError(f"{where}{_fault(error)}") from None


def check_yaml(text: str, where: str) -> None:
    """Refuse a YAML text in which a name comes twice, or that is nested or repeated too often; not what is no YAML."""
    try:
        _PlainLoader(text).get_single_node()
    except _Refused as error:
        mark = error.problem_mark
        line = f", line {mark.line + 1}" if mark is not None and "\n" in text else ""
        raise ValueError(f"{where}{line} is not allowed: {error.problem}") from None
    except Exception:  # the parser of the options will say what is wrong
        return


def read_base_60_as_text(loader: type[Any]) -> None:
    """Let a class of PyYAML's loaders read 8:8:8:8:8 as a text; in YAML 1.1 it is a number in base 60, 105,437,288."""
    loader.yaml_implicit_resolvers = {
        first: [(tag, _INTEGER if tag == _INT else pattern) for tag, pattern in resolvers]
        for first, resolvers in loader.yaml_implicit_resolvers.items()
    }


def parse_json(text: str, where: str) -> Any:
    """Plain values of a JSON text; ``where`` names it in errors."""
    twice: list[str] = []

    def pairs(items: list[tuple[str, Any]]) -> dict[str, Any]:
        made = dict(items)
        if len(made) < len(items):
            twice.extend(name for i, (name, _) in enumerate(items) if name in dict(items[:i]))
        return made

    try:
        content = json.loads(text, object_pairs_hook=pairs)
    except RecursionError:
        raise ValueError(f"{where} is damaged: it is nested more than {MAX_DEPTH} times") from None
    except ValueError as error:
        raise ValueError(f"{where} is damaged: it is not JSON ({error})") from None
    if twice:
        raise ValueError(f"{where}{_line_of_second(text, twice[0])} is damaged: {shown(twice[0])} stands there a second time")
    if _deeper_than(content, MAX_DEPTH):
        raise ValueError(f"{where} is damaged: it is nested more than {MAX_DEPTH} times")
    return content


def _object(content: Any, path: Path) -> dict[str, Any]:
    if not isinstance(content, dict):
        raise ValueError(f"{path} is damaged: it must hold 'name: value' pairs, it holds {type(content).__name__}")
    return {str(key): value for key, value in content.items()}


def _fault(error: Exception) -> str:
    """What is wrong, behind the name of the text."""
    mark = getattr(error, "problem_mark", None)
    line = f", line {mark.line + 1}" if mark is not None else ""
    if isinstance(error, _Refused):
        return f"{line} is damaged: {error.problem}"
    problem = getattr(error, "problem", None)
    return f"{line} is damaged: it is not YAML ({one_line(problem) if problem else what_it_says(error)})"


class _Refused(yaml.MarkedYAMLError):
    """It is YAML, but nobody can mean it."""

    def __init__(self, problem: str, mark: yaml.Mark) -> None:
        super().__init__(None, None, problem, mark)  # type: ignore[no-untyped-call]


class _PlainLoader(yaml.SafeLoader):
    """Counts while it reads, so that a small text that stands for a huge one costs nothing."""

    def __init__(self, stream: str) -> None:
        super().__init__(stream)
        self._depth = 0
        self._sizes: dict[int, int] = {}

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        """As that of PyYAML, but for what is nested too deep, repeated too often, or within itself."""
        mark = self.peek_event().start_mark
        is_alias = self.check_event(yaml.AliasEvent)
        if self._depth == MAX_DEPTH:
            raise _Refused(f"it is nested more than {MAX_DEPTH} times", mark)
        self._depth += 1
        node = super().compose_node(parent, index)  # type: ignore[no-untyped-call]
        self._depth -= 1
        if is_alias and id(node) not in self._sizes:
            raise _Refused("an alias stands within what it names", mark)
        if id(node) not in self._sizes:
            self._sizes[id(node)] = 1 + sum(self._sizes[id(part)] for part in _parts(node))
        if self._sizes[id(node)] > MAX_VALUES:
            raise _Refused(f"it stands for more than {MAX_VALUES:,} values", mark)
        return node

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        """As that of PyYAML, but for a name that comes twice."""
        node = super().compose_mapping_node(anchor)
        names: set[Any] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.tag != _MERGE:
                name = self.construct_object(key)  # type: ignore[no-untyped-call]
                if name in names:
                    raise _Refused(f"{shown(name)} stands there a second time", key.start_mark)
                names.add(name)
        return node


read_base_60_as_text(_PlainLoader)


def _parts(node: yaml.Node | None) -> list[yaml.Node]:
    if isinstance(node, yaml.MappingNode):
        return [part for pair in node.value for part in pair]
    return node.value if isinstance(node, yaml.SequenceNode) else []


def _line_of_second(text: str, name: str) -> str:
    """``, line N`` of a name that comes twice in one object of a JSON text."""
    seen: list[set[str]] = []
    for match in re.finditer(r'("(?:[^"\\]|\\.)*")(\s*:)?|[{}]', text):
        if match[0] == "{":
            seen.append(set())
        elif match[0] == "}":
            seen.pop()
        elif match[2] is not None and seen:
            key = json.loads(match[1])
            if key == name and key in seen[-1]:
                return f", line {text.count(chr(10), 0, match.start()) + 1}"
            seen[-1].add(key)
    return ""


def _deeper_than(content: Any, depth: int) -> bool:
    """Whether lists and mappings stand more than so many times within each other."""
    level = [content]
    for _ in range(depth + 1):
        if not level:
            return False
        level = [
            part
            for value in level
            if isinstance(value, list | Mapping)
            for part in (value.values() if isinstance(value, Mapping) else value)
            if isinstance(part, list | dict)
        ]
    return True
