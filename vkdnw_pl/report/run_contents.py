"""What the report says of runs: a line for each, what searches found and trainings reached, options, failures.

`Line`s are named fields for the templates; each function says which ones. Damaged files raise ``ValueError``.
"""

from __future__ import annotations

import json
import math
import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from vkdnw_pl.oracles import Measure
from vkdnw_pl.oracles.base import PERCENT
from vkdnw_pl.report.labels import group_results
from vkdnw_pl.report.runs import Run, is_number, mapping_or_empty, parse_time
from vkdnw_pl.report.tables import Line, metric_value
from vkdnw_pl.report.text import counted

SHOWN_ROWS = 3
_BEST = 5
_COSTS = {"macs": "MACs", "num_params": "parameters"}
_NOT_COMPARED = ("out", "overwrite", "progress", "retry_failed", "config", "wandb", "wandb_group", "wandb_tags")
"""Options that say where and how a run is shown, not what it does."""


def summary_lines(runs: Sequence[Run]) -> list[Line]:
    """Each run in short: ``run`` (its place), ``command``, ``space``, ``networks`` (how many), ``best`` (the ranking with
    the highest tau or that a search used, or the trained network), ``tau``, ``result``, ``status``, ``seconds``, ``started``.
    """
    return [_summary(i, run) for i, run in enumerate(runs)]


def search_lines(runs: Sequence[Run]) -> list[Line]:
    """What each search found: ``run``, ``strategy``, ``ranking``, ``evaluated`` (how many), ``arch`` and its ``macs``,
    ``num_params``, ``layers`` and ``accuracies`` (text), and the ``top`` architectures."""
    lines = []
    for i, run in enumerate(runs):
        if run.command != "search":
            continue
        best = run.found or {}
        accuracies = mapping_or_empty(best.get("accuracies")).items()
        units = mapping_or_empty(best.get("units"))
        top = best.get("top")
        lines.append(
            Line(
                run=i,
                strategy=str(run.settings.get("strategy") or ""),
                ranking=str(run.settings.get("ranking") or ""),
                evaluated=len(run.candidates),
                arch=str(best.get("arch") or ""),
                **{name: _number(best.get(name)) for name in ("macs", "num_params", "layers")},
                accuracies=", ".join(
                    f"{name} {Measure(name, '', str(units.get(name, PERCENT))).text(value)}"
                    for name, value in accuracies
                    if is_number(value)
                ),
                top=[
                    str(item.get("arch")) for item in (top if isinstance(top, list) else []) if isinstance(item, dict)
                ],
            )
        )
    return lines


def training_lines(runs: Sequence[Run]) -> list[Line]:
    """What each training reached: ``run``, ``network`` with its ``macs`` and ``num_params``, ``epochs`` (text), accuracies in
    percent: ``last`` and ``best`` on the validation images and ``test``; ``images_per_s``."""
    lines = []
    for i, run in enumerate(runs):
        if run.command != "fit":
            continue
        curve = [value for _, value in epoch_values(run, "val/top1") if math.isfinite(value)]
        done = max((epoch for epoch, _ in epoch_values(run, "train/loss")), default=0)
        planned = mapping_or_empty(run.config.get("trainer")).get("max_epochs")
        lines.append(
            Line(
                run=i,
                network=_network(run),
                **trained_costs(run),
                epochs=f"{done:g} of {planned}" if isinstance(planned, int) and planned > 0 else f"{done:g}",
                last=curve[-1] if curve else None,
                best=max(curve, default=None),
                test=run.results.get("test/top1"),
                images_per_s=run.results.get("images_per_s"),
            )
        )
    return lines


def failed_runs(runs: Sequence[Run]) -> list[Line]:
    """What failed in each run with failures: ``run``, ``failed`` ``of`` how many, their ``noun``, and ``groups`` by reason,
    the most frequent first: ``reason``, ``count``, and the first few ``rows`` with their seeds."""
    lines = []
    for i, run in enumerate(runs):
        rows: dict[str, list[str]] = {}
        for failure in run.failures:
            seed = "" if failure.seed is None else f" (seed {failure.seed})"
            rows.setdefault(failure.reason or "no reason was recorded", []).append(f"{failure.arch}{seed}")
        if rows:
            order = sorted(rows.items(), key=lambda item: -len(item[1]))
            groups = [Line(reason=reason, count=len(names), rows=names[:SHOWN_ROWS]) for reason, names in order]
            noun, everything = ("networks", run.candidates) if run.command == "search" else ("rows", run.scores)
            count = 0 if everything is None else len(everything)
            if run.command == "label":
                noun, count = "trainings", sum(len(item.accuracies) + len(item.failures) for item in run.trained)
            lines.append(Line(run=i, failed=len(run.failures), of=count, noun=noun, groups=groups))
    return lines


def best_ranking(run: Run) -> tuple[str, str, float] | None:
    """Ranking with the highest Kendall's tau on the run's first data set, that data set, and the tau."""
    first = run.metrics[0]["dataset"] if run.metrics else ""
    taus = {row["ranking"]: metric_value(row, "kendall").mean for row in run.metrics if row["dataset"] == first}
    defined = [(name, first, tau) for name, tau in taus.items() if tau is not None]
    return max(defined, key=lambda best: best[2], default=None)


def best_networks(run: Run) -> tuple[str, list[str]] | None:
    """Ranking with the highest tau (without metrics: ``vkdnw_agg``, or the first), and its first few architectures."""
    ranking = run.ranking
    if ranking is None or ranking.empty:
        return None
    best = best_ranking(run)
    name = best[0] if best else "vkdnw_agg"
    name = name if name in ranking else ranking.columns[0]
    return name, ranking[name].sort_values(kind="stable").index[:_BEST].tolist()


def epoch_values(run: Run, key: str) -> list[tuple[float, float]]:
    """Epochs behind -> a value of the history, NaN where it was not finite; the last one of each epoch."""
    values: dict[float, float] = {}
    for line in run.history:
        epoch = line.get("epoch")
        if key in line and isinstance(epoch, int) and not isinstance(epoch, bool):
            values[epoch + 1] = float(line[key]) if is_number(line[key]) else math.nan
    return sorted(values.items())


def trained_costs(run: Run) -> dict[str, float | None]:
    """``macs`` and ``num_params`` of the network that was trained, None where they are not known: as ``fit`` recorded them,
    or, of older runs, as proxies counted them before the training."""
    recorded, counted_before = mapping_or_empty(run.meta.get("network")), run.initial_proxies
    names = {"macs": "macs", "num_params": "params"}
    return {cost: _number(recorded.get(cost, counted_before.get(proxy))) for cost, proxy in names.items()}


def final_accuracy(run: Run) -> tuple[str, float] | None:
    """What the training reached: on the test images where it was tested, else on the validation images."""
    for key, label in (("test/top1", "test top-1"), ("val/top1", "validation top-1")):
        value = run.results.get(key)
        if value is not None and math.isfinite(value):
            return label, value
    return None


def again(run: Run) -> str:
    """The command that makes the run again, or goes on with it where it was not finished."""
    if not run.config:
        return ""
    file = (run.path / "config.yaml").resolve()
    file = file.relative_to(Path.cwd()) if file.is_relative_to(Path.cwd()) else file
    return f"python -m vkdnw_pl {run.command} --config {shlex.quote(str(file))}"


def config_tables(runs: Sequence[Run]) -> list[Line]:
    """Configurations, one table for the runs of each command; runs without a configuration are left out.

    A table has ``command``, ``runs`` (their places), all ``lines``, and those that are ``different`` or ``equal``. A line has
    ``name``, ``values`` (one per run, empty where it does not have the option), and ``unusual``: which values differ from the
    one that most runs have; where two are equally frequent, from the first run's.
    """
    configs: dict[str, dict[int, dict[str, str]]] = {}
    for i, run in enumerate(runs):
        if run.config:
            configs.setdefault(run.command, {})[i] = _config(run)
    return [_options(command, of_runs) for command, of_runs in configs.items()]


def environment_table(runs: Sequence[Run]) -> Line | None:
    """Versions, commit, host, processor and device, as a table of `config_tables`; None where no run says."""
    environments = {
        i: {name.removeprefix("versions."): value for name, value in flattened(run.environment).items()}
        for i, run in enumerate(runs)
        if run.environment
    }
    return _options("", environments) if environments else None


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
            flat[name] = _value_text(value)
    return flat


def _summary(place: int, run: Run) -> Line:
    best, tau, result, networks = "", None, "", ""
    if run.command == "search":
        best = str(run.settings.get("ranking") or "")
        networks = f"{len(run.candidates):,}"
        costs = [(_number((run.found or {}).get(key)), noun) for key, noun in _COSTS.items()]
        result = ", ".join(f"{value / 1e6:,.1f} M {noun}" for value, noun in costs if value is not None)
        result = f"found {result}" if result else ""
    elif run.command == "label":
        networks = f"{len(run.trained):,}"
        results = group_results(run.trained)
        result = ", ".join(f"{of_group.name} {of_group.accuracy}" for of_group in results if of_group.group != "timm")
    elif run.command == "fit":
        best, networks = _network(run), "1"
        accuracy = final_accuracy(run)
        result = f"{accuracy[0]} {accuracy[1]:.2f} %" if accuracy else ""
    else:
        if top := best_ranking(run):
            best, result, tau = top[0], f"on {top[1]}", top[2]
        if run.ranking is not None:
            networks = f"{len(run.ranking):,}"
        elif run.scores is not None:
            networks = f"{run.scores['arch'].nunique():,}"
        if run.failures:
            result = "; ".join(part for part in (result, counted(len(run.failures), "failed row")) if part)
    began = parse_time(run.attempts[0].get("started_at")) if run.attempts else None
    started = "" if began is None else began.strftime("%Y-%m-%d %H:%M ") + (began.strftime("%Z") or "local time")
    space = "" if run.space == "auto" else run.space
    of_run = {"command": run.command, "space": space, "status": run.status, "seconds": run.seconds, "started": started}
    return Line(run=place, networks=networks, best=best, tau=tau, result=result, **of_run)


def _config(run: Run) -> dict[str, str]:
    flat = flattened({name: value for name, value in run.config.items() if name not in _NOT_COMPARED})
    archs = mapping_or_empty(run.settings.get("archs"))
    if "count" in archs:  # the option may name a file, which may have changed
        flat["archs (as they were read)"] = f"{archs['count']}, digest {str(archs.get('sha256') or '')[:8]}"
    return flat


def _options(command: str, flat: Mapping[int, Mapping[str, str]]) -> Line:
    """A table of options of runs, by their places."""
    lines = []
    for name in dict.fromkeys(name for options in flat.values() for name in options):
        values = tuple(options.get(name, "") for options in flat.values())
        usual = Counter(values).most_common(1)[0][0]  # of equally frequent ones, the first
        lines.append(Line(name=name, values=values, unusual=tuple(value != usual for value in values)))
    different = [line for line in lines if any(line.unusual)]
    equal = [line for line in lines if not any(line.unusual)]
    return Line(command=command, runs=tuple(flat), lines=lines, different=different, equal=equal)


def _value_text(value: Any) -> str:
    """A value as in YAML, in one line; a long list by its first items and its length."""
    if isinstance(value, list) and len(value) > 40:
        return f"{_value_text(value[:3])[:-1]}, … {len(value):,} in all]"
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list | dict):
        return json.dumps(value, ensure_ascii=False, default=str)
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _item_name(item: Any) -> str:
    """Label, name, or class of an item of a list of options; empty where it has none."""
    item = mapping_or_empty(item)
    name = next((item[key] for key in ("label", "name") if isinstance(item.get(key), str)), None)
    return str(item.get("class_path") or "").rpartition(".")[2] if name is None else name


def _network(run: Run) -> str:
    return str(mapping_or_empty(run.config.get("model")).get("arch") or "")


def _number(value: Any) -> float | None:
    return float(value) if is_number(value) else None
