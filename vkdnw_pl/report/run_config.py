"""What runs were asked to do and where they ran, option by option, and where they differ."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from vkdnw_pl.report.clean_text import as_text
from vkdnw_pl.report.runs import Run

_NOT_COMPARED = (
    *("out", "overwrite", "progress", "retry_failed", "config"),
    *("wandb", "wandb_group", "wandb_tags"),
)
"""Options that say where and how a run is shown, not what it does."""


@dataclass(frozen=True)
class OptionLine:
    """One option of several runs."""

    name: str
    values: tuple[str, ...]
    """One per run, empty where a run does not have the option."""
    unusual: tuple[bool, ...]
    """Which values differ from the one that most runs have; where two are equally frequent, from the first run's."""

    @property
    def differs(self) -> bool:
        """Whether the runs do not agree."""
        return len(set(self.values)) > 1


@dataclass(frozen=True)
class OptionTable:
    """Options of the runs of one command."""

    command: str
    runs: tuple[int, ...]
    """Places of the runs."""
    lines: tuple[OptionLine, ...]

    @property
    def different(self) -> list[OptionLine]:
        """Options in which the runs differ."""
        return [line for line in self.lines if line.differs]

    @property
    def equal(self) -> list[OptionLine]:
        """Options that all have alike."""
        return [line for line in self.lines if not line.differs]


def config_tables(runs: Sequence[Run]) -> list[OptionTable]:
    """Configurations, one table for the runs of each command; runs without a configuration are left out."""
    tables = []
    for command in dict.fromkeys(run.command for run in runs):
        there = [i for i, run in enumerate(runs) if run.command == command and run.config]
        if there:
            flat = [_config(runs[i]) for i in there]
            tables.append(OptionTable(command, tuple(there), _lines(flat)))
    return tables


def environment_table(runs: Sequence[Run]) -> OptionTable | None:
    """Versions, commit, host, processor and device; None where no run says."""
    there = [i for i, run in enumerate(runs) if run.environment]
    if not there:
        return None
    flat = []
    for i in there:
        options = flattened(runs[i].environment)
        flat.append({name.removeprefix("versions."): value for name, value in options.items()})
    return OptionTable("", tuple(there), _lines(flat))


def flattened(tree: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Values of a tree of options by dotted name, as text."""
    flat: dict[str, str] = {}
    for key, value in tree.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping) and value:
            flat |= flattened(value, f"{name}.")
        elif isinstance(value, list) and value and all(isinstance(one, Mapping) and _own_name(one) for one in value):
            flat[name] = ", ".join(_own_name(one) for one in value)
            for one in value:
                rest = {key: inner for key, inner in one.items() if key not in ("name", "label", "class_path")}
                flat |= flattened(rest, f"{name}.{_own_name(one)}.")
        else:
            flat[name] = value_text(value)
    return flat


def value_text(value: Any) -> str:
    """A value as in YAML, in one line; a long list by its first items and its length."""
    if isinstance(value, list) and len(value) > 40:
        return f"{value_text(value[:3])[:-1]}, … {len(value):,} in all]"
    if value is None:
        return "null"
    if isinstance(value, list | Mapping):
        return json.dumps(value, ensure_ascii=False, default=str)
    return as_text(value)


def _config(run: Run) -> dict[str, str]:
    options = {name: value for name, value in run.config.items() if name not in _NOT_COMPARED}
    flat = flattened(options)
    archs = run.settings.get("archs")
    if isinstance(archs, Mapping) and "count" in archs:  # the option may name a file, which may have changed
        flat["archs (as they were read)"] = f"{as_text(archs['count'])}, digest {as_text(archs.get('sha256'))[:8]}"
    return flat


def _lines(flat: Sequence[Mapping[str, str]]) -> tuple[OptionLine, ...]:
    names = dict.fromkeys(name for options in flat for name in options)
    lines = []
    for name in names:
        values = tuple(options.get(name, "") for options in flat)
        counts = Counter(values)
        most = max(counts.values())
        usual = next(value for value in values if counts[value] == most)
        lines.append(OptionLine(name, values, tuple(value != usual for value in values)))
    return tuple(lines)


def _own_name(value: Mapping[str, Any]) -> str:
    """Name of an item of a list of options: its label, name, or class."""
    for key in ("label", "name"):
        if isinstance(value.get(key), str):
            return value[key]
    path = value.get("class_path")
    return path.rpartition(".")[2] if isinstance(path, str) else ""
