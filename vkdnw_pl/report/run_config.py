"""What runs were asked to do and where they ran, option by option, and where they differ."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from vkdnw_pl.report.runs import Run
from vkdnw_pl.report.text import as_text

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
        places = [i for i, run in enumerate(runs) if run.command == command and run.config]
        if places:
            flat = [_config(runs[i]) for i in places]
            tables.append(OptionTable(command, tuple(places), _lines(flat)))
    return tables


def environment_table(runs: Sequence[Run]) -> OptionTable | None:
    """Versions, commit, host, processor and device; None where no run says."""
    places = [i for i, run in enumerate(runs) if run.environment]
    if not places:
        return None
    flat = [
        {name.removeprefix("versions."): value for name, value in flattened(runs[i].environment).items()}
        for i in places
    ]
    return OptionTable("", tuple(places), _lines(flat))


def flattened(tree: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Values of a tree of options by dotted name, as text."""
    flat: dict[str, str] = {}
    for key, value in tree.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping) and value:
            flat |= flattened(value, f"{name}.")
        elif isinstance(value, list) and value and all(map(_item_name, value)):
            flat[name] = ", ".join(map(_item_name, value))
            for item in value:
                rest = {key: inner for key, inner in item.items() if key not in ("name", "label", "class_path")}
                flat |= flattened(rest, f"{name}.{_item_name(item)}.")
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


def _item_name(item: Any) -> str:
    """Label, name, or class of an item of a list of options; empty where it has none."""
    if not isinstance(item, Mapping):
        return ""
    for key in ("label", "name"):
        if isinstance(item.get(key), str):
            return item[key]
    path = item.get("class_path")
    return path.rpartition(".")[2] if isinstance(path, str) else ""
