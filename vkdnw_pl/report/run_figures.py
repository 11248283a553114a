"""The figures of the page: metrics as bars, ranks against accuracies, search curves, training curves.

What cannot be drawn says why; a damaged file is a ``ValueError``. Known accuracies come from the embedded table, from
files that were downloaded before, or from the user's CSV file; nothing is downloaded here.
"""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from markupsafe import Markup

from vkdnw_pl.oracles import Oracle, find_oracle
from vkdnw_pl.report.figures.rankings import Bars, accuracy_limits, metric_bars, rank_panel
from vkdnw_pl.report.figures.searches import (
    SearchScores,
    cheapest_best,
    compared_best,
    compared_costs,
    cost_axis,
    history_scores,
)
from vkdnw_pl.report.figures.style import MAX_NAMES, run_style, to_svg
from vkdnw_pl.report.figures.trainings import Curve, NamedPoint, epoch_curves, named_scatter
from vkdnw_pl.report.run_contents import epoch_values, final_accuracy, trained_costs
from vkdnw_pl.report.run_rankings import ranking_seconds
from vkdnw_pl.report.runs import Run, mapping_or_empty
from vkdnw_pl.report.tables import METRICS, MetricTable, Value, metric_value

MAX_BARS = 14
"""Rankings that a bar chart has; the best ones."""
MAX_BAR_RUNS = 6
_PANELS = 150  # ranks against accuracies, of all runs together: each takes some kilobytes of the page
_FEWEST, _MOST = 2, 6  # rankings that are drawn of one run and data set
_CURVES = {"val/top1": "validation top-1 (%)", "train/loss": "training loss", "val/loss": "validation loss"}
_LEAST_MS = 0.001  # what closed forms take is drawn as no less
_SAME_SCORES = (
    *("space", "network", "ranking", "proxies", "batch_size", "input", "data", "init", "proxy_seed", "scores"),
)
"""Settings of searches whose scores mean the same where they are equal."""


class Figure(NamedTuple):
    """A drawing with its caption, and the runs whose colours are in it."""

    caption: str
    svg: Markup
    runs: tuple[int, ...] = ()
    note: str = ""


class Scatter(NamedTuple):
    """Ranks against accuracies on one data set, one drawing per ranking; the note says which rankings."""

    dataset: str
    figures: tuple[Figure, ...]
    note: str


def bar_figures(table: MetricTable, runs: Sequence[Run]) -> list[Figure]:
    """One bar chart per data set and metric; the rankings that are best in some run, with a bar for every run."""
    all_runs = list(dict.fromkeys(row.run for row in table.rows))
    first = all_runs[:MAX_BAR_RUNS]
    figures = []
    for column, label in enumerate(table.heads):
        values: dict[str, dict[int, Value]] = {}
        for row in table.rows:
            cell = row.cells[column]
            if cell is not None and cell.mean is not None and row.run in first:
                values.setdefault(row.ranking, {})[row.run] = cell
        if not values:
            continue
        tops = {name: max(value.mean or 0.0 for value in of_runs.values()) for name, of_runs in values.items()}
        names = sorted(values, key=lambda name: (-tops[name], name))[:MAX_BARS]
        drawn = [run for run in first if any(run in values[name] for name in names)]
        colors = {run: run_style(run)["color"] for run in drawn}
        groups = [Bars(runs[run].name, colors[run], [values[name].get(run) for name in names]) for run in drawn]
        caption = f"{label} on {table.titles[column // len(METRICS)]}"
        cuts = [(len(names), len(values), "the best", "rankings"), (len(first), len(all_runs), "the first", "runs")]
        note = ", ".join(f"{which} {count} of {of} {noun}" for count, of, which, noun in cuts if count < of)
        figures.append(Figure(caption, to_svg(metric_bars(names, groups, label), caption), tuple(drawn), note))
    return figures


def cost_figures(runs: Sequence[Run]) -> list[Figure]:
    """Kendall's tau of rankings against the time of their proxies, one figure per data set of the runs that recorded it.

    Where there is room for few names, those come first that no ranking beats in less time, then the best.
    """
    seconds = {i: of_run for i, run in enumerate(runs) if (of_run := ranking_seconds(run))}
    points: dict[str, list[tuple[int, NamedPoint]]] = {}
    for i, of_run in seconds.items():
        for row in runs[i].metrics:
            name, tau = row["ranking"], metric_value(row, "kendall").mean
            if name in of_run and tau is not None:
                ms = max(1000 * of_run[name], _LEAST_MS)
                text = f"{runs[i].name}, {name}: KT {tau:.3f}, {1000 * of_run[name]:.3g} ms"
                point = NamedPoint(name, run_style(i)["color"], ms, tau, text)
                points.setdefault(row["dataset"], []).append((i, point))
    figures = []
    for dataset, of_dataset in points.items():
        drawn = [point for _, point in of_dataset]
        front = cheapest_best(np.array([point.x for point in drawn]), np.array([point.y for point in drawn])).tolist()
        order = [drawn[i] for i in dict.fromkeys([*front, *sorted(range(len(drawn)), key=lambda i: -drawn[i].y)])]
        first = {point.name: place for place, point in reversed([*enumerate(order)])}  # a name stands once
        named = sorted(first.values())[:MAX_NAMES]
        ordered = [point if i in named else point._replace(name="") for i, point in enumerate(order)]
        caption = f"KT on {dataset} against time"
        svg = to_svg(named_scatter(ordered, "ms a network", f"KT on {dataset}", log=True), caption)
        figures.append(Figure(caption, svg, tuple(dict.fromkeys(i for i, _ in of_dataset))))
    return figures


def rank_scatters(runs: Sequence[Run]) -> dict[int, list[Scatter] | str]:
    """For each run with metrics, its scatter plots, or why there are none."""
    with_metrics = [i for i, run in enumerate(runs) if run.metrics]
    num_datasets = sum(len({row["dataset"] for row in runs[i].metrics}) for i in with_metrics)
    panels = min(_MOST, max(_FEWEST, _PANELS // max(num_datasets, 1)))
    load = functools.cache(_load_oracle)
    return {i: _run_scatters(runs[i], panels, load) for i in with_metrics}


def search_curves(runs: Sequence[Run]) -> list[Figure | str]:
    """For searches that can be compared, the best score so far in one figure; or why there is none.

    Scores are ranks among candidates: those of all searches of a figure are ranked together.
    """
    groups = _grouped(
        [i for i, run in enumerate(runs) if run.command == "search" and run.candidates],
        lambda i: {name: runs[i].settings.get(name) for name in _SAME_SCORES},
    )
    return [figure for members in groups for figure in _search_figures(runs, members)]


def training_curves(runs: Sequence[Run]) -> list[Figure]:
    """Validation accuracy and losses over the epochs, all trainings in one figure each."""
    figures = []
    for key, label in _CURVES.items():
        curves = {}
        for i, run in enumerate(runs):
            points = epoch_values(run, key) if run.command == "fit" else []
            if any(math.isfinite(value) for _, value in points):
                epochs, values = zip(*points)
                curves[i] = Curve(run.name, run_style(i), epochs, values)
        if curves:
            caption = f"{label} over epochs"
            svg = to_svg(epoch_curves(list(curves.values()), label), caption)
            figures.append(Figure(caption, svg, tuple(curves)))
    return figures


def proxies_and_accuracy(runs: Sequence[Run]) -> list[Figure]:
    """Each proxy at initialization against the accuracy after the training, for trainings on the same data."""
    trained = {i: final_accuracy(run) for i, run in enumerate(runs) if run.command == "fit" and run.initial_proxies}
    accuracies = {i: accuracy for i, accuracy in trained.items() if accuracy is not None}
    figures = []
    for members in _grouped(accuracies, lambda i: runs[i].config.get("data")):
        names = dict.fromkeys(name for i in members for name in runs[i].initial_proxies if "_decile_" not in name)
        for name in names:
            drawn = [i for i in members if name in runs[i].initial_proxies]
            if len(drawn) < 2:
                continue
            points = []
            for i in drawn:
                value, accuracy = runs[i].initial_proxies[name], accuracies[i][1]
                text = f"{runs[i].name}: {name} {value:.6g}, {accuracy:.2f} %"
                points.append(NamedPoint(runs[i].name, run_style(i)["color"], value, accuracy, text))
            kinds = {accuracies[i][0] for i in drawn}
            caption = f"{name} before the training"
            figure = named_scatter(points, name, f"{' or '.join(sorted(kinds))} (%)")
            figures.append(Figure(caption, to_svg(figure, f"{caption} against accuracy"), tuple(drawn)))
    return figures


def accuracy_and_macs(runs: Sequence[Run]) -> list[Figure]:
    """The accuracy of trained networks against their MACs, one figure for the trainings on the same data."""
    trained = {
        i: (final_accuracy(run), trained_costs(run)["macs"]) for i, run in enumerate(runs) if run.command == "fit"
    }
    known = {i: (accuracy, macs) for i, (accuracy, macs) in trained.items() if accuracy and macs}
    figures = []
    for members in _grouped(known, lambda i: runs[i].config.get("data")):
        xlabel, unit = cost_axis("macs", [known[i][1] for i in members])
        points = [
            NamedPoint(
                runs[i].name,
                run_style(i)["color"],
                macs / unit,
                accuracy,
                f"{runs[i].name}: {accuracy:.2f} %, {macs / 1e6:,.2f} M MACs",
            )
            for i, ((_, accuracy), macs) in ((i, known[i]) for i in members)
        ]
        if len(points) > 1:
            kinds = {known[i][0][0] for i in members}
            svg = to_svg(named_scatter(points, xlabel, f"{' or '.join(sorted(kinds))} (%)"), "accuracy against MACs")
            figures.append(Figure("accuracy against MACs", svg, tuple(members)))
    return figures


def _grouped(runs: Iterable[int], settings: Callable[[int], Any]) -> list[list[int]]:
    """The places of runs, those with equal settings together."""
    groups: dict[str, list[int]] = {}
    for run in runs:
        groups.setdefault(json.dumps(settings(run), sort_keys=True, default=str), []).append(run)
    return list(groups.values())


def _load_oracle(name: str, path: str | None, space: str, measures: tuple[tuple[str, str], ...]) -> Oracle | str:
    """The accuracies that a run was compared with, or why they are not here."""
    if name == "nats":
        return "NATS-Bench's files would run code when they are read; a report reads none such"
    try:
        return find_oracle(name, path, space, dict(measures)) or f"no known accuracies of {space} are here"
    except (ValueError, KeyError, OSError) as error:
        return f"the accuracies cannot be read: {error}"


def _run_scatters(run: Run, panels: int, load: Callable[..., Oracle | str]) -> list[Scatter] | str:
    if run.ranking is None:
        return "there is no ranking.csv"
    if not run.config:
        return "the folder has no config.yaml that says which accuracies were used"
    path, name = run.config.get("oracle_path"), str(run.config.get("oracle") or "auto")
    measures = tuple(mapping_or_empty(run.config.get("oracle_measures")).items())
    oracle = load(name, None if path is None else str(path), run.space or "nb201", measures)
    if isinstance(oracle, str):
        return oracle
    names = ", ".join(oracle.datasets)
    return list(_scatters(run, run.ranking, oracle, panels)) or (
        f"the accuracies that are here ({oracle.name}: {names}) are not those of the metrics"
    )


def _scatters(run: Run, ranking: pd.DataFrame, oracle: Oracle, panels: int) -> Iterator[Scatter]:
    for dataset in dict.fromkeys(row["dataset"] for row in run.metrics):
        if dataset not in oracle.tables:
            continue
        accuracies, measure = oracle.tables[dataset], oracle.measure(dataset)
        accuracy = np.array([accuracies.get(arch, math.nan) for arch in ranking.index], dtype=np.float64)
        if not np.isfinite(accuracy).any():
            continue
        taus = {
            row["ranking"]: metric_value(row, "kendall").mean
            for row in run.metrics
            if row["dataset"] == dataset and row["ranking"] in ranking
        }
        order = sorted(taus, key=lambda name: -math.inf if taus[name] is None else taus[name] or 0.0, reverse=True)
        figures = []
        for name in order[:panels]:
            ranks = ranking[name].to_numpy()
            drawn = np.isfinite(accuracy) & np.isfinite(ranks)
            if drawn.any():
                figure = rank_panel(ranks[drawn], accuracy[drawn], ranking.index[drawn], measure)
                svg = to_svg(figure, f"{name} on {dataset}: rank against accuracy")
                figures.append(Figure(name, svg, note="" if taus[name] is None else f"KT {taus[name]:.3f}"))
        finite = accuracy[np.isfinite(accuracy)]
        note = f"{len(finite):,} architectures"
        beyond = (measure.sign * (finite - accuracy_limits(finite, measure)[0]) < 0).any()
        note += "; triangles lie below the edge" if beyond else ""
        note += f"; {oracle.cautions[dataset]}" if dataset in oracle.cautions else ""
        if len(order) > len(figures):
            note += f"; the {len(figures)} rankings with the best Kendall's tau of {len(order)}"
        yield Scatter(dataset, tuple(figures), note)


def _search_figures(runs: Sequence[Run], members: Sequence[int]) -> Iterable[Figure | str]:
    names = ", ".join(runs[i].name for i in members)
    ranking = str(runs[members[0]].settings.get("ranking") or "")
    everyone = [candidate for i in members for candidate in runs[i].candidates]
    try:
        scores = history_scores([replace(candidate, index=i) for i, candidate in enumerate(everyone)], ranking)
    except ValueError as error:
        return [f"{names}: no search curve: {error}"]
    ends = np.cumsum([len(runs[i].candidates) for i in members])[:-1]
    searches = {
        i: SearchScores(runs[i].name, run_style(i), runs[i].candidates, of_run)
        for i, of_run in zip(members, np.split(scores, ends))
        if np.isfinite(of_run).any()
    }
    caption = f"best score so far by {ranking}"
    note = "candidates of these searches ranked together" if len(members) > 1 else ""
    best = to_svg(compared_best(list(searches.values())), caption)
    figure, shown = compared_costs(list(searches.values()))
    costs = to_svg(figure, "MACs against score of the best networks")
    return [
        Figure(caption, best, tuple(searches), note),
        Figure("cost of the best networks", costs, tuple(searches), f"the best {shown:,} of {len(everyone):,}"),
    ]
