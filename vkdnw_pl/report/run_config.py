"""What runs were asked to do and where they ran, option by option, and where they differ."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from vkdnw_pl.report.runs import Run
from vkdnw_pl.report.tables import Line
from vkdnw_pl.report.text import as_text

_NOT_COMPARED = (
    *("out", "overwrite", "progress", "retry_failed", "config"),
    *("wandb", "wandb_group", "wandb_tags"),
)
"""Options that say where and how a run is shown, not what it does."""


def config_tables(runs: Sequence[Run]) -> list[Line]:
    """Configurations, one table for the runs of each command; runs without a configuration are left out.

    A table has ``command``, ``runs`` (their places), all ``lines``, and those that are ``different`` or ``equal``. A line has
    ``name``, ``values`` (one per run, empty where it does not have the option), and ``unusual``: which values differ from the
    one that most runs have; where two are equally frequent, from the first run's.
    """
    tables = []
    for command in dict.fromkeys(run.command for run in runs):
        places = [i for i, run in enumerate(runs) if run.command == command and run.config]
        if places:
            flat = [_config(runs[i]) for i in places]
            tables.append(_table(command, places, flat))
    return tables


def environment_table(runs: Sequence[Run]) -> Line | None:
    """Versions, commit, host, processor and device; None where no run says."""
    places = [i for i, run in enumerate(runs) if run.environment]
    if not places:
        return None
    flat = [
        {name.removeprefix("versions."): value for name, value in flattened(runs[i].environment).items()}
        for i in places
    ]
    return _table("", places, flat)


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


def _table(command: str, places: Sequence[int], flat: Sequence[Mapping[str, str]]) -> Line:
    lines = []
    for name in dict.fromkeys(name for options in flat for name in options):
        values = tuple(options.get(name, "") for options in flat)
        usual = Counter(values).most_common(1)[0][0]  # of equally frequent ones, the first
        lines.append(Line(name=name, values=values, unusual=tuple(value != usual for value in values)))
    different = [line for line in lines if any(line.unusual)]
    equal = [line for line in lines if not any(line.unusual)]
    return Line(command=command, runs=tuple(places), lines=lines, different=different, equal=equal)


def _item_name(item: Any) -> str:
    """Label, name, or class of an item of a list of options; empty where it has none."""
    if not isinstance(item, Mapping):
        return ""
    for key in ("label", "name"):
        if isinstance(item.get(key), str):
            return item[key]
    path = item.get("class_path")
    return path.rpartition(".")[2] if isinstance(path, str) else ""
