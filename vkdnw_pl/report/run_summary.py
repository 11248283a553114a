"""What the report says of runs: each in short, what searches found and trainings reached, failures, and options."""

from __future__ import annotations

import json
import math
import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from vkdnw_pl.report.runs import Run, is_number, parse_time
from vkdnw_pl.report.tables import Line, metric_value
from vkdnw_pl.report.text import as_text, counted

SHOWN_ROWS = 3
_BEST = 5
_COSTS = {"macs": "MACs", "num_params": "parameters"}
# Options that say where and how a run is shown, not what it does.
_NOT_COMPARED = ("out", "overwrite", "progress", "retry_failed", "config", "wandb", "wandb_group", "wandb_tags")


def summary_lines(runs: Sequence[Run]) -> list[Line]:
    """Each run in short: ``run`` (its place), ``command``, ``space``, ``networks`` (how many), ``best`` (the ranking with
    the highest tau or that a search used, or the trained network), ``tau``, ``result``, ``status``, ``seconds``, ``started``.
    """
    return [_summary(i, run) for i, run in enumerate(runs)]


def search_lines(runs: Sequence[Run]) -> list[Line]:
    """What each search found: ``run``, ``strategy``, ``ranking``, ``evaluated`` (how many), ``arch`` and its ``macs``,
    ``num_params``, ``layers`` and ``accuracies`` (text), and the ``top`` architectures.
    """
    return [_found(i, run, run.found or {}) for i, run in enumerate(runs) if run.command == "search"]


def training_lines(runs: Sequence[Run]) -> list[Line]:
    """What each training reached: ``run``, ``network``, ``epochs`` (text), accuracies in percent: ``last`` and ``best`` on
    the validation images and ``test``; ``images_per_s``.
    """
    lines = []
    for i, run in enumerate(runs):
        if run.command != "fit":
            continue
        curve = [value for _, value in epoch_values(run, "val/top1") if math.isfinite(value)]
        done = max((epoch for epoch, _ in epoch_values(run, "train/loss")), default=0)
        trainer = run.config.get("trainer")
        planned = trainer.get("max_epochs") if isinstance(trainer, Mapping) else None
        lines.append(
            Line(
                run=i,
                network=_network(run),
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
    the most frequent first: ``reason``, ``count``, and the first few ``rows`` with their seeds.
    """
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
            lines.append(Line(run=i, failed=len(run.failures), of=count, noun=noun, groups=groups))
    return lines


def best_ranking(run: Run) -> tuple[str, str, float] | None:
    """Ranking with the highest Kendall's tau on the run's first data set, that data set, and the tau."""
    first = run.metrics[0]["dataset"] if run.metrics else ""
    taus = {row["ranking"]: metric_value(row, "kendall").mean for row in run.metrics if row["dataset"] == first}
    defined = {name: tau for name, tau in taus.items() if tau is not None}
    if not defined:
        return None
    best = max(defined, key=defined.__getitem__)
    return best, first, defined[best]


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
    tables = []
    for command in dict.fromkeys(run.command for run in runs):
        if flat := {i: _config(run) for i, run in enumerate(runs) if run.command == command and run.config}:
            tables.append(_table(command, flat))
    return tables


def environment_table(runs: Sequence[Run]) -> Line | None:
    """Versions, commit, host, processor and device; None where no run says."""
    flat = {i: flattened(run.environment) for i, run in enumerate(runs) if run.environment}
    return _table("", flat, "versions.") if flat else None


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


def _found(place: int, run: Run, best: Mapping[str, Any]) -> Line:
    accuracies = best["accuracies"] if isinstance(best.get("accuracies"), Mapping) else {}
    top = best["top"] if isinstance(best.get("top"), list) else []
    return Line(
        run=place,
        strategy=str(run.settings.get("strategy") or ""),
        ranking=str(run.settings.get("ranking") or ""),
        evaluated=len(run.candidates),
        arch=str(best.get("arch") or ""),
        **{name: _number(best.get(name)) for name in ("macs", "num_params", "layers")},
        accuracies=", ".join(f"{name} {value:.2f} %" for name, value in accuracies.items() if is_number(value)),
        top=[str(network.get("arch")) for network in top if isinstance(network, Mapping)],
    )


def _summary(place: int, run: Run) -> Line:
    best, tau, result, networks = "", None, "", ""
    if run.command == "search":
        best = str(run.settings.get("ranking") or "")
        networks = f"{len(run.candidates):,}"
        costs = [(_number((run.found or {}).get(key)), noun) for key, noun in _COSTS.items()]
        shown = [f"{value / 1e6:,.1f} M {noun}" for value, noun in costs if value is not None]
        result = f"found {', '.join(shown)}" if shown else ""
    elif run.command == "fit":
        best, networks = _network(run), "1"
        reached = final_accuracy(run)
        result = f"{reached[0]} {reached[1]:.2f} %" if reached else ""
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


def _network(run: Run) -> str:
    model = run.config.get("model")
    return str(model.get("arch") or "") if isinstance(model, Mapping) else ""


def _number(value: Any) -> float | None:
    return float(value) if is_number(value) else None


def _config(run: Run) -> dict[str, str]:
    options = {name: value for name, value in run.config.items() if name not in _NOT_COMPARED}
    flat = flattened(options)
    archs = run.settings.get("archs")
    if isinstance(archs, Mapping) and "count" in archs:  # the option may name a file, which may have changed
        flat["archs (as they were read)"] = f"{as_text(archs['count'])}, digest {as_text(archs.get('sha256'))[:8]}"
    return flat


def _table(command: str, flat: Mapping[int, Mapping[str, str]], prefix: str = "") -> Line:
    """A table of options by place of the run; ``prefix`` is not shown."""
    lines = []
    for name in dict.fromkeys(name for options in flat.values() for name in options):
        values = tuple(options.get(name, "") for options in flat.values())
        usual = Counter(values).most_common(1)[0][0]  # of equally frequent ones, the first
        unusual = tuple(value != usual for value in values)
        lines.append(Line(name=name.removeprefix(prefix), values=values, unusual=unusual))
    different = [line for line in lines if any(line.unusual)]
    equal = [line for line in lines if not any(line.unusual)]
    return Line(command=command, runs=tuple(flat), lines=lines, different=different, equal=equal)


def _item_name(item: Any) -> str:
    """Label, name, or class of an item of a list of options; empty where it has none."""
    if not isinstance(item, Mapping):
        return ""
    for key in ("label", "name"):
        if isinstance(item.get(key), str):
            return item[key]
    path = item.get("class_path")
    return path.rpartition(".")[2] if isinstance(path, str) else ""
