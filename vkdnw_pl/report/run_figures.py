"""Figures of several runs: metrics as bars, ranks against accuracies, search curves, training curves.

What cannot be drawn says why. Known accuracies come from the embedded table, from files that were downloaded before, or
from the user's CSV file; nothing is downloaded here.
"""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup

from vkdnw_pl.oracles import Oracle, find_oracle
from vkdnw_pl.report.charts import MAX_DOTS, Dots, Line, bar_chart, dot_chart, line_chart
from vkdnw_pl.report.clean_text import clean
from vkdnw_pl.report.run_metrics import MetricTable
from vkdnw_pl.report.runs import Run
from vkdnw_pl.report.tables import METRICS, Value, metric_value
from vkdnw_pl.search.history import Candidate

MAX_BARS = 14
"""Rankings that a bar chart has; the best ones."""
MAX_BAR_RUNS = 6
_SCATTERS = 150  # of all runs together: each takes some kilobytes of the page
_FEWEST, _MOST = 2, 6  # rankings that are drawn of one run and data set
_CUT = 0.02  # the share of architectures, from the worst, that may be drawn on the edge of a scatter plot
_CURVES = {
    "val/top1": "validation top-1 (%)",
    "train/loss": "training loss",
    "val/loss": "validation loss",
}


@dataclass(frozen=True)
class Figure:
    """A drawing with its caption, and the runs whose colours are in it."""

    caption: str
    svg: Markup
    runs: tuple[int, ...] = ()
    note: str = ""


@dataclass(frozen=True)
class Scatter:
    """Ranks against accuracies on one data set, one drawing per ranking."""

    dataset: str
    figures: tuple[Figure, ...]
    note: str
    """Which of the rankings are shown."""


def metric_bars(table: MetricTable, runs: Sequence[Run]) -> list[Figure]:
    """One bar chart per data set and metric; the rankings that are best in some run, with a bar for every run."""
    every = list(dict.fromkeys(row.run for row in table.rows))
    there = every[:MAX_BAR_RUNS]
    figures = []
    for i, (dataset, split) in enumerate(table.datasets):
        for j, (metric, short) in enumerate(METRICS.items()):
            values: dict[str, dict[int, Value]] = {}
            for row in table.rows:
                cell = row.cells[i * len(METRICS) + j]
                if cell is not None and cell.value.mean is not None and row.run in there:
                    values.setdefault(row.ranking, {})[row.run] = cell.value
            if not values:
                continue
            tops = {name: max(value.mean or 0.0 for value in some.values()) for name, some in values.items()}
            names = sorted(values, key=lambda name: (-tops[name], name))[:MAX_BARS]
            drawn = [run for run in there if any(run in values[name] for name in names)]
            groups = [(run, runs[run].name, [values[name].get(run) for name in names]) for run in drawn]
            label = f"{short}@{table.cuts[i]}" if metric == "ndcg" and table.cuts[i] else short
            caption = f"{label} on {dataset}" + (f" ({split})" if split else "")
            cuts = [(len(names), len(values), "the best", "rankings"), (len(there), len(every), "the first", "runs")]
            note = ", ".join(f"{which} {some} of {of} {noun}" for some, of, which, noun in cuts if some < of)
            figures.append(Figure(caption, bar_chart(names, groups, caption, label), tuple(drawn), note))
    return figures


def rank_scatters(runs: Sequence[Run]) -> dict[int, list[Scatter] | str]:
    """For each run with metrics, its scatter plots, or why there are none.

    Raises:
        ValueError: if a file of a run is damaged.
    """
    with_metrics = [i for i, run in enumerate(runs) if run.metrics]
    sets = sum(len({row["dataset"] for row in runs[i].metrics}) for i in with_metrics)
    panels = min(_MOST, max(_FEWEST, _SCATTERS // max(sets, 1)))
    load = functools.cache(_load_oracle)
    made: dict[int, list[Scatter] | str] = {}
    for i in with_metrics:
        run = runs[i]
        if run.ranking is None:
            made[i] = "there is no ranking.csv"
            continue
        config = run.config
        if not config:
            made[i] = "the folder has no config.yaml that says which accuracies were used"
            continue
        path = config.get("oracle_path")
        oracle = load(str(config.get("oracle") or "auto"), None if path is None else str(path), run.space or "nb201")
        made[i] = (
            oracle
            if isinstance(oracle, str)
            else list(_scatters(run, oracle, panels))
            or (
                f"the accuracies that are here ({oracle.name}: {', '.join(oracle.datasets)}) are not those of the metrics"
            )
        )
    return made


def search_curves(runs: Sequence[Run]) -> list[Figure | str]:
    """For searches that can be compared, the best score so far in one figure; or why there is none.

    Scores are ranks among candidates: those of all searches of a figure are ranked together.

    Raises:
        ValueError: if a history is damaged.
    """
    groups: dict[str, list[int]] = {}
    for i, run in enumerate(runs):
        if run.command == "search" and run.candidates:
            groups.setdefault(_comparable(run), []).append(i)
    return [figure for members in groups.values() for figure in _search_figures(runs, members)]


def training_curves(runs: Sequence[Run]) -> list[Figure]:
    """Validation accuracy and losses over the epochs, all trainings in one figure each.

    Raises:
        ValueError: if a history is damaged.
    """
    figures = []
    for key, label in _CURVES.items():
        lines = []
        for i, run in enumerate(runs):
            points = epoch_values(run, key) if run.command == "fit" else []
            if any(math.isfinite(value) for _, value in points):
                lines.append(Line(run.name, i, [epoch for epoch, _ in points], [value for _, value in points]))
        if lines:
            svg = line_chart(lines, f"{label} over epochs", "epoch", label, whole=True)
            figures.append(Figure(f"{label} over epochs", svg, tuple(line.color for line in lines)))
    return figures


def epoch_values(run: Run, key: str) -> list[tuple[float, float]]:
    """Epochs behind -> a value of the history, NaN where it was not finite; the last one of each epoch.

    Raises:
        ValueError: if the history is damaged.
    """
    found: dict[float, float] = {}
    for line in run.history:
        epoch = line.get("epoch")
        if key in line and isinstance(epoch, int) and not isinstance(epoch, bool):
            value = line[key]
            number = isinstance(value, int | float) and not isinstance(value, bool)
            found[epoch + 1] = float(value) if number else math.nan
    return sorted(found.items())


def proxies_and_accuracy(runs: Sequence[Run]) -> list[Figure]:
    """Each proxy at initialization against the accuracy after the training, for trainings on the same data.

    Raises:
        ValueError: if a file is damaged.
    """
    groups: dict[str, list[int]] = {}
    for i, run in enumerate(runs):
        if run.command == "fit" and run.initial_proxies and final_accuracy(run) is not None:
            data = run.config.get("data")
            groups.setdefault(json.dumps(data, sort_keys=True, default=str), []).append(i)
    figures = []
    for members in groups.values():
        if len(members) < 2:
            continue
        names = dict.fromkeys(name for i in members for name in runs[i].initial_proxies if "_decile_" not in name)
        for name in names:
            there = [i for i in members if name in runs[i].initial_proxies]
            if len(there) < 2:
                continue
            dots, kinds = [], set()
            for i in there:
                kind, accuracy = final_accuracy(runs[i]) or ("", math.nan)
                value = runs[i].initial_proxies[name]
                kinds.add(kind)
                dots.append(Dots(i, [value], [accuracy], [f"{runs[i].name}: {name} {value:.6g}, {accuracy:.2f} %"]))
            caption = f"{name} before the training"
            svg = dot_chart(dots, f"{caption} against accuracy", name, f"{' or '.join(sorted(kinds))} (%)")
            figures.append(Figure(caption, svg, tuple(there)))
    return figures


def final_accuracy(run: Run) -> tuple[str, float] | None:
    """What the training reached: on the test images where it was tested, else on the validation images.

    Raises:
        ValueError: if a file is damaged.
    """
    for key, label in (("test/top1", "test top-1"), ("val/top1", "validation top-1")):
        value = run.results.get(key)
        if value is not None and math.isfinite(value):
            return label, value
    return None


def _load_oracle(name: str, path: str | None, space: str) -> Oracle | str:
    """The accuracies that a run was compared with, or why they are not here."""
    if name == "nats":
        return "NATS-Bench's files would run code when they are read; a report reads none such"
    try:
        oracle = find_oracle(name, path, space)
    except (ValueError, KeyError, OSError) as error:
        return f"the accuracies cannot be read: {error}"
    return oracle if oracle is not None else f"no known accuracies of {space} are here"


def _scatters(run: Run, oracle: Oracle, panels: int) -> Iterator[Scatter]:
    ranking = run.ranking
    assert ranking is not None
    for dataset in dict.fromkeys(row["dataset"] for row in run.metrics):
        if dataset not in oracle.tables:
            continue
        known = oracle.tables[dataset]
        accuracy = np.array([known.get(arch, math.nan) for arch in ranking.archs])
        there = np.isfinite(accuracy)
        if not there.any():
            continue
        taus = {
            row["ranking"]: metric_value(row, "kendall").mean
            for row in run.metrics
            if row["dataset"] == dataset and row["ranking"] in ranking.ranks
        }
        order = sorted(taus, key=lambda name: -math.inf if taus[name] is None else taus[name] or 0.0, reverse=True)
        y = accuracy[there]
        worst, top = np.quantile(y, [_CUT, 1])
        floor = float(worst - 0.06 * max(top - worst, 1e-9))
        floor = floor if (y < floor).any() else None  # type: ignore[assignment]
        archs = [arch for arch, one in zip(ranking.archs, there) if one]
        figures = []
        for name in order[:panels]:
            x = ranking.ranks[name][there]
            finite = np.isfinite(x)
            if not finite.any():
                continue
            texts = []
            if finite.all() and len(x) <= MAX_DOTS:
                values = zip(archs, x.tolist(), y.tolist())
                texts = [f"{clean(arch)}: rank {rank:g}, {value:.2f} %" for arch, rank, value in values]
            dots = Dots(0, x[finite], y[finite], texts)
            tau = taus[name]
            title = f"{name} on {dataset}: rank against accuracy"
            svg = dot_chart([dots], title, "rank (best on the right)", "accuracy (%)", True, floor)
            figures.append(Figure(name, svg, note="" if tau is None else f"KT {tau:.3f}"))
        more = len(order) - len(figures)
        note = f"{len(y):,} architectures; triangles lie below the edge" if floor else f"{len(y):,} architectures"
        note += f"; the {len(figures)} rankings with the best Kendall's tau of {len(order)}" if more > 0 else ""
        yield Scatter(dataset, tuple(figures), note)


def _comparable(run: Run) -> str:
    """Equal for searches whose scores mean the same."""
    names = ("space", "network", "ranking", "proxies", "batch_size", "input", "data", "init", "proxy_seed", "scores")
    return json.dumps({name: run.settings.get(name) for name in names}, sort_keys=True, default=str)


def _search_figures(runs: Sequence[Run], members: Sequence[int]) -> Iterator[Figure | str]:
    names = ", ".join(runs[i].name for i in members)
    ranking = str(runs[members[0]].settings.get("ranking") or "")
    try:
        scores = _together([runs[i].candidates for i in members], ranking)
    except ValueError as error:
        yield f"{names}: no search curve: {error}"
        return
    lines = []
    for i, some in zip(members, scores):
        best = np.maximum.accumulate(np.where(np.isfinite(some), some, -np.inf))
        # Where the best changes is all that a line needs.
        steps = np.flatnonzero((best > np.concatenate([[-np.inf], best[:-1]])) & np.isfinite(best))
        if len(steps):
            xs, ys = [*(steps + 1).tolist(), len(some)], [*best[steps].tolist(), float(best[-1])]
            lines.append(Line(runs[i].name, i, xs, ys))
    if not lines:
        yield f"{names}: no search curve: every network failed"
        return
    caption = f"best score so far by {ranking}"
    note = "candidates of these searches ranked together" if len(members) > 1 else ""
    drawn = tuple(line.color for line in lines)
    yield Figure(
        caption, line_chart(lines, caption, "evaluated networks", "score", steps=True, whole=True), drawn, note
    )
    clouds = []
    for i, some in zip(members, scores):
        places = np.flatnonzero(np.isfinite(some))
        places = places[np.argsort(-some[places], kind="stable")][:100]
        candidates = [runs[i].candidates[place] for place in places.tolist()]
        texts = [f"{runs[i].name}, network {one.index}: {clean(one.arch)}" for one in candidates]
        if candidates:
            clouds.append(Dots(i, [one.macs / 1e6 for one in candidates], some[places].tolist(), texts))
    # Few enough that each stays a point that can be asked for its name.
    clouds = [_first(cloud, max(10, 300 // len(clouds))) for cloud in clouds]
    shown = sum(len(cloud.x) for cloud in clouds)
    yield Figure(
        "cost of the best networks",
        dot_chart(clouds, "MACs against score of the best networks", "MACs (millions)", "score", size=(440, 270)),
        drawn,
        f"the best {shown:,} of {sum(map(len, scores)):,}",
    )


def _first(cloud: Dots, count: int) -> Dots:
    return replace(cloud, x=cloud.x[:count], y=cloud.y[:count], texts=cloud.texts[:count])


def _together(histories: Sequence[Sequence[Candidate]], ranking: str) -> list[np.ndarray[Any, np.dtype[np.float64]]]:
    """Scores of each history when the candidates of all are ranked together; NaN for those that failed.

    Raises:
        ValueError: if no candidate has a score, or a column of the ranking is missing.
    """
    from vkdnw_pl.report.search_figures import history_scores  # imports matplotlib

    everyone = [candidate for history in histories for candidate in history]
    pooled = [replace(candidate, index=i) for i, candidate in enumerate(everyone)]
    ends = np.cumsum([len(history) for history in histories])[:-1]
    return np.split(history_scores(pooled, ranking), ends)


def found_accuracies(found: Mapping[str, Any]) -> dict[str, float]:
    """Known accuracies of the best network of a search, by data set."""
    known = found.get("accuracies")
    if not isinstance(known, Mapping):
        return {}
    return {str(name): float(value) for name, value in known.items() if isinstance(value, int | float)}


def relative(path: Path) -> str:
    """A path as a user would type it: below the working directory without it."""
    try:
        return str(path.resolve().relative_to(Path.cwd()))
    except ValueError:
        return str(path)
