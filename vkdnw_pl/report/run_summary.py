"""Runs in short: a line for each, what searches found and trainings reached, what failed, and how to make it again."""

from __future__ import annotations

import math
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeGuard

from vkdnw_pl.report.clean_text import counted
from vkdnw_pl.report.run_figures import epoch_values, final_accuracy, found_accuracies, relative
from vkdnw_pl.report.run_metrics import best_ranking
from vkdnw_pl.report.runs import Run, parse_time

SHOWN_ROWS = 3
_BEST = 5


@dataclass(frozen=True)
class SummaryLine:
    """One run in a line."""

    run: int
    command: str
    space: str
    networks: str
    best: str
    """Ranking with the highest tau, ranking that a search used, or network that was trained."""
    tau: float | None
    result: str
    status: str
    seconds: float | None
    started: str


@dataclass(frozen=True)
class SearchLine:
    """What a search found."""

    run: int
    strategy: str
    ranking: str
    evaluated: int
    failed: int
    arch: str
    macs: float | None
    num_params: float | None
    layers: float | None
    accuracies: str
    top: tuple[str, ...]


@dataclass(frozen=True)
class TrainingLine:
    """What a training reached; accuracies in percent."""

    run: int
    network: str
    epochs: str
    last: float | None
    best: float | None
    test: float | None
    images_per_s: float | None


@dataclass(frozen=True)
class FailedGroup:
    """Rows that failed for one reason."""

    reason: str
    count: int
    rows: tuple[str, ...]
    """The first few, with their seeds."""


@dataclass(frozen=True)
class FailedRun:
    """What failed in a run."""

    run: int
    failed: int
    of: int
    noun: str
    groups: tuple[FailedGroup, ...]


def summary_lines(runs: Sequence[Run]) -> list[SummaryLine]:
    """One line per run.

    Raises:
        ValueError: if a file is damaged.
    """
    return [_summary(i, run) for i, run in enumerate(runs)]


def search_lines(runs: Sequence[Run]) -> list[SearchLine]:
    """One line per search.

    Raises:
        ValueError: if a file is damaged.
    """
    lines = []
    for i, run in enumerate(runs):
        if run.command != "search":
            continue
        found = run.found or {}
        top = found.get("top")
        lines.append(
            SearchLine(
                run=i,
                strategy=str(run.settings.get("strategy") or ""),
                ranking=str(run.settings.get("ranking") or ""),
                evaluated=len(run.candidates),
                failed=len(run.failures),
                arch=str(found.get("arch") or ""),
                macs=_number(found.get("macs")),
                num_params=_number(found.get("num_params")),
                layers=_number(found.get("layers")),
                accuracies=", ".join(f"{name} {value:.2f} %" for name, value in found_accuracies(found).items()),
                top=tuple(str(one.get("arch")) for one in (top if isinstance(top, list) else []) if _is_mapping(one)),
            )
        )
    return lines


def training_lines(runs: Sequence[Run]) -> list[TrainingLine]:
    """One line per training.

    Raises:
        ValueError: if a file is damaged.
    """
    lines = []
    for i, run in enumerate(runs):
        if run.command != "fit":
            continue
        curve = [value for _, value in epoch_values(run, "val/top1") if math.isfinite(value)]
        done = max((epoch for epoch, _ in epoch_values(run, "train/loss")), default=0)
        trainer = run.config.get("trainer")
        wanted = trainer.get("max_epochs") if _is_mapping(trainer) else None
        lines.append(
            TrainingLine(
                run=i,
                network=_network(run),
                epochs=f"{done:g} of {wanted}" if isinstance(wanted, int) and wanted > 0 else f"{done:g}",
                last=curve[-1] if curve else None,
                best=max(curve, default=None),
                test=run.results.get("test/top1"),
                images_per_s=run.results.get("images_per_s"),
            )
        )
    return lines


def failed_runs(runs: Sequence[Run]) -> list[FailedRun]:
    """Runs with rows that failed, by reason, the most frequent first.

    Raises:
        ValueError: if a file is damaged.
    """
    found = []
    for i, run in enumerate(runs):
        if not run.failures:
            continue
        groups: dict[str, list[str]] = {}
        for one in run.failures:
            seed = "" if one.seed is None else f" (seed {one.seed})"
            groups.setdefault(one.reason or "no reason was recorded", []).append(f"{one.arch}{seed}")
        order = sorted(groups.items(), key=lambda item: -len(item[1]))
        made = tuple(FailedGroup(reason, len(rows), tuple(rows[:SHOWN_ROWS])) for reason, rows in order)
        of = len(run.candidates) if run.command == "search" else len(run.scores.archs) if run.scores else 0
        found.append(FailedRun(i, len(run.failures), of, "networks" if run.command == "search" else "rows", made))
    return found


def best_networks(run: Run) -> tuple[str, list[str]] | None:
    """Ranking with the highest tau (without metrics: ``vkdnw_agg``, or the first), and its first few architectures.

    Raises:
        ValueError: if a file is damaged.
    """
    ranking = run.ranking
    if ranking is None or not ranking.ranks or not ranking.archs:
        return None
    best = best_ranking(run)
    name = best[0] if best else "vkdnw_agg"
    name = name if name in ranking.ranks else next(iter(ranking.ranks))
    order = ranking.ranks[name].argsort(kind="stable")[:_BEST]
    return name, [ranking.archs[place] for place in order.tolist()]


def again(run: Run) -> str:
    """The command that makes the run again, or goes on with it where it was not finished."""
    if not run.config:
        return ""
    return f"python -m vkdnw_pl {run.command} --config {shlex.quote(relative(run.path / 'config.yaml'))}"


def _summary(place: int, run: Run) -> SummaryLine:
    best, tau, result, networks = "", None, "", ""
    if run.command == "search":
        best = str(run.settings.get("ranking") or "")
        networks = f"{len(run.candidates):,}"
        found = run.found
        if found:
            macs, params = _number(found.get("macs")), _number(found.get("num_params"))
            costs = [(macs, "MACs"), (params, "parameters")]
            result = "found " + ", ".join(f"{value / 1e6:,.1f} M {noun}" for value, noun in costs if value is not None)
    elif run.command == "fit":
        best, networks = _network(run), "1"
        reached = final_accuracy(run)
        result = f"{reached[0]} {reached[1]:.2f} %" if reached else ""
    else:
        top = best_ranking(run)
        if top:
            best, result, tau = top[0], f"on {top[1]}", top[2]
        if run.ranking is not None:
            networks = f"{len(run.ranking.archs):,}"
        elif run.scores is not None:
            networks = f"{len(set(run.scores.archs)):,}"
        if run.failures:
            result = "; ".join(part for part in (result, counted(len(run.failures), "failed row")) if part)
    began = parse_time(run.attempts[0].get("started_at")) if run.attempts else None
    started = "" if began is None else began.strftime("%Y-%m-%d %H:%M ") + (began.strftime("%Z") or "local time")
    space = "" if run.space == "auto" else run.space
    return SummaryLine(place, run.command, space, networks, best, tau, result, run.status, run.seconds, started)


def _network(run: Run) -> str:
    model = run.config.get("model")
    return str(model.get("arch") or "") if _is_mapping(model) else ""


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _is_mapping(value: Any) -> TypeGuard[Mapping[str, Any]]:
    return isinstance(value, Mapping)
