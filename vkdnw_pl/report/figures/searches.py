"""Figures of searches: how they got better, what they looked at, and whether they still look at different things."""

from __future__ import annotations

import itertools
import random
import re
import textwrap
from collections import Counter
from collections.abc import Mapping, Sequence
from difflib import SequenceMatcher
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from vkdnw_pl.ranking import aggregate, columns_of, parse_ranking
from vkdnw_pl.report.figures import style
from vkdnw_pl.report.figures.style import ACCENT, BLUE, GREY, Floats, drawing, new_figure, panel
from vkdnw_pl.search.history import Candidate
from vkdnw_pl.spaces import SPACES

WINDOWS = 50
"""Stretches of a search that curves are made of; fewer where a stretch would be shorter than `SHORTEST`."""
SHORTEST = 10
PAIRS = 60
"""Pairs of candidates of a window whose difference is looked at."""

COSTS = {
    "macs": ("MACs", True),
    "num_params": ("parameters", True),
    "layers": ("layers", False),
    "latency_ms": ("latency of a batch (ms)", False),
    "peak_mb": ("peak memory of a batch (MB)", False),
}
"""Cost -> what it is called, and whether it is counted in thousands, millions, ..."""

_UNITS = ((1e9, "thousand millions"), (1e6, "millions"), (1e3, "thousands"), (1.0, ""))
_WORD = re.compile(r"[A-Za-z_][A-Za-z_0-9]*|\d+")


class SearchScores(NamedTuple):
    """One of several searches that are compared."""

    name: str
    line: Mapping[str, Any]
    """Its colour and style."""
    candidates: Sequence[Candidate]
    scores: Floats
    """When the candidates of all are ranked together; NaN for those that failed."""


def search_figures(
    history: Sequence[Candidate],
    ranking: str,
    folder: str | Path,
    space: str | None = None,
    min_macs: float | None = None,
    max_macs: float | None = None,
    objectives: Sequence[str] = (),
) -> list[Path]:
    """Draw all figures of a search as PNG files into a folder, and return their paths.

    Args:
        history: the candidates in the order of the search.
        ranking: what they are ranked by, see `ranking.parse_ranking`.
        folder: where the files go.
        space: its name; shares of its choices are drawn where it names some (`Space.decisions`).
        min_macs: lower bound of the search, to be drawn.
        max_macs: upper bound of the search, to be drawn.
        objectives: what else the search looked at; those in `COSTS` are drawn against the score as MACs are.

    Raises:
        ValueError: if no candidate has a score, or a column of the ranking is not in the history.
    """
    scores = history_scores(history, ranking)
    figures = {"best_so_far": best_so_far(scores, ranking)}
    for cost in COSTS:
        if cost == "macs" or cost in objectives:
            bounds = (min_macs, max_macs) if cost == "macs" else ()
            values = [getattr(candidate, cost) for candidate in history]
            figures[f"{cost}_and_score"] = cost_and_score(values, scores, ranking, cost, *bounds)
    figures["diversity"] = diversity(history)
    if space is not None and (decisions := SPACES[space].decisions):
        figures["choices"] = choice_shares(history, decisions)
    return [style.save_figure(figure, Path(folder) / f"{name}.png") for name, figure in figures.items()]


def history_scores(history: Sequence[Candidate], ranking: str) -> Floats:
    """Scores of all candidates when ranked together, higher is better, at most 0; NaN for those that failed."""
    usable = [candidate for candidate in history if not candidate.failed]
    if not usable:
        raise ValueError("no candidate of the history has a score: there is nothing to draw")
    terms = parse_ranking(ranking)
    try:
        columns = {name: [candidate.value(name) for candidate in usable] for name in columns_of(terms)}
    except KeyError as error:
        known = ", ".join(["macs", "num_params", "layers", *usable[0].values])
        raise ValueError(f"column {error} of the ranking {ranking!r} is not in the history (there: {known})") from None
    scores = np.full(len(history), np.nan)
    scores[[candidate.index for candidate in usable]] = aggregate(columns, terms)
    return scores


def best_so_far(scores: Floats, ranking: str) -> Figure:
    """Draw the best score so far over the evaluations, above the scores of the candidates of each stretch."""
    edges = _windows(len(scores))
    stretches = pd.Series(scores).groupby(np.repeat(_middles(edges), np.diff(edges)))
    quantiles = stretches.quantile([0.1, 0.5, 0.9]).unstack()
    with panel(6.4, 3.9) as (figure, ax):
        ax.fill_between(quantiles.index, quantiles[0.1], quantiles[0.9], color=BLUE, alpha=0.2, linewidth=0)
        ax.plot(quantiles.index, quantiles[0.5], color=BLUE, linewidth=1.2)
        at, best = draw_best(ax, scores, {"color": ACCENT})
        ax.plot(at, best, marker="*", markersize=12, color=ACCENT, clip_on=False)
        ax.set(xlim=(0, len(scores)), ylabel=_score_by(ranking))
        ax.set_title(f"best of {len(scores):,}: number {at:,}", pad=22)
        _caption(ax, [("best so far", ACCENT), ("median and 80 % of the candidates at the time", BLUE)])
    return figure


def draw_best(ax: Axes, scores: Floats, line: Mapping[str, Any], name: str = "") -> tuple[int, float]:
    """Draw the best score so far as steps, ``name`` where one points at them; return number and score of the best."""
    best = np.maximum.accumulate(np.where(np.isfinite(scores), scores, -np.inf))
    # Where the best changes is all that a line needs.
    steps = np.flatnonzero(best > np.concatenate([[-np.inf], best[:-1]]))
    (steps_line,) = ax.step([*(steps + 1), len(scores)], [*best[steps], best[-1]], where="post", linewidth=1.8, **line)
    style.hover(steps_line, [name])
    _number_axis(ax)
    return int(steps[-1]) + 1, float(best[-1])


def cost_and_score(
    costs: Sequence[float | None],
    scores: Floats,
    ranking: str,
    cost: str = "macs",
    least: float | None = None,
    most: float | None = None,
) -> Figure:
    """Draw all candidates by cost and score, coloured by when they came, with bounds and the front of both.

    ``costs`` are those of the candidates in the order of the search, None or NaN is not drawn; ``cost`` is one of `COSTS`.
    """
    values = np.array(costs, dtype=np.float64)
    drawn = np.flatnonzero(np.isfinite(scores) & np.isfinite(values))
    if not len(drawn):
        raise ValueError(f"no candidate has a score and {cost}: there is nothing to draw")
    xlabel, unit = cost_axis(cost, values[drawn])
    x, y = values[drawn] / unit, scores[drawn]
    bounds = [bound / unit for bound in (least, most) if bound is not None]
    # Most candidates are far from the best; a few bad ones would squeeze all others into the top of the figure.
    floor = float(np.quantile(y, 0.01))
    floor -= 0.04 * (float(y.max()) - floor)
    below = int((y < floor).sum())
    front = cheapest_best(x, y)
    front = front[y[front] >= floor]
    with panel(6.4, 4.4) as (figure, ax):
        size = float(np.clip(6000 / len(x), 1.5, 14))
        dots = ax.scatter(x, np.maximum(y, floor), c=drawn + 1, s=size, linewidths=0, cmap="viridis")
        ax.step(x[front], y[front], where="post", color=ACCENT, linewidth=1.3)
        star: dict[str, Any] = {"marker": "*", "markersize": 12, "markeredgecolor": "white", "clip_on": False}
        ax.plot(x[front[-1]], y[front[-1]], color=ACCENT, **star)
        for bound in bounds:
            ax.axvline(bound, color=GREY, linewidth=1, linestyle="--")
        left, right = min([*bounds, x.min()]), max([*bounds, x.max()])
        margin = 0.03 * max(right - left, 0.01 * right, 1e-9)
        note = f"\n{below:,} with a score below {floor:.1f} are drawn there" if below else ""
        ax.set(xlim=(left - margin, right + margin), xlabel=f"{xlabel}{note}", ylabel=_score_by(ranking))
        ax.set_title(f"{len(x):,} candidates", pad=22)
        _caption(ax, [("best at this cost or less", ACCENT), ("budget", GREY)][: 2 if bounds else 1])
        ticks: dict[str, Any] = {"ticks": MaxNLocator(5, integer=True), "format": "{x:,.0f}"}
        figure.colorbar(dots, ax=ax, pad=0.02, label="evaluated as number", **ticks)
    return figure


def compared_best(searches: Sequence[SearchScores]) -> Figure:
    """Draw the best score so far of several searches, each in its colour."""
    with panel(style.PAGE_WIDTH, 2.5) as (figure, ax):
        for search in searches:
            draw_best(ax, search.scores, search.line, search.name)
        ax.set(xlim=(0, max(len(search.scores) for search in searches)), ylabel="score")
    return figure


def compared_costs(searches: Sequence[SearchScores], most: int = 300) -> tuple[Figure, int]:
    """Draw MACs and score of the best candidates of several searches, at most about ``most``; return also how many."""
    count = min(100, max(10, most // len(searches)))
    shown = 0
    with panel(style.PAGE_WIDTH, 2.5) as (figure, ax):
        xlabel, unit = cost_axis(
            "macs", np.array([c.macs for search in searches for c in search.candidates], dtype=float)
        )
        for search in searches:
            order = np.argsort(-search.scores, kind="stable")[: min(count, int(np.isfinite(search.scores).sum()))]
            best = [search.candidates[i] for i in order]
            names = [f"{search.name}, network {candidate.index}: {candidate.arch}" for candidate in best]
            x = np.array([candidate.macs for candidate in best]) / unit
            style.draw_points(ax, x, search.scores[order], search.line["color"], names)
            shown += len(best)
        ax.set(xlabel=xlabel, ylabel="score")
    return figure, shown


def diversity(history: Sequence[Candidate]) -> Figure:
    """Draw how different the candidates of each stretch are, and from how many parents they come.

    Above, the difference of two candidates of a stretch: the share of the words and numbers of their strings that do not
    match in order, the mean of `PAIRS` pairs drawn at random (the same ones each time). Below, the effective number of
    parents, exp of the entropy of their shares: n where n parents have equally many children.
    """
    edges = _windows(len(history))
    stretches = [history[a:b] for a, b in pairwise(edges)]
    differences = np.array([_difference(stretch) for stretch in stretches])
    parents = np.array([_effective_parents(stretch) for stretch in stretches])
    with drawing():
        figure = new_figure(6.4, 4.8)
        above, below = figure.subplots(2, 1, sharex=True)
        for ax, numbers, color in ((above, differences, BLUE), (below, parents, ACCENT)):
            ax.plot(_middles(edges), numbers, color=color, linewidth=1.6, marker=".")
            ax.set_ylim(0, 1.1 * max(np.nanmax(numbers, initial=0), 1e-9))
        title = f"diversity of {np.diff(edges).max():,} candidates in a row"
        above.set(title=title, ylabel="difference of\ntwo candidates")
        if np.isnan(parents).all():
            below.text(0.5, 0.5, "no candidate has a parent", transform=below.transAxes, ha="center", color=GREY)
            below.set_yticks([])
        below.set(ylabel="effective number\nof parents", xlim=(0, len(history)))
        _number_axis(below)
    return figure


def choice_shares(history: Sequence[Candidate], choices: Mapping[str, tuple[str, tuple[str, ...]]]) -> Figure:
    """Draw which share each of the ``choices`` (see `Space.decisions`) has among the candidates of each stretch."""
    if not choices:
        raise ValueError("choices is empty: there are no shares to draw")
    edges = _windows(len(history))
    with drawing():
        figure = new_figure(7.2, 0.6 + 2.3 * len(choices))
        axes = figure.subplots(len(choices), 1, sharex=True, squeeze=False).ravel()
        for ax, (title, (pattern, values)) in zip(axes, choices.items()):
            picks = [re.findall(pattern, candidate.arch) for candidate in history]
            windows = [Counter(itertools.chain(*picks[a:b])) for a, b in pairwise(edges)]
            counts = np.array([[window[value] for window in windows] for value in values])
            shares = 100 * counts / np.maximum(counts.sum(axis=0), 1)
            # The stretches reach from the first candidate to the last.
            x = [0, *_middles(edges), len(history)]
            colors = [style.SHADES[i % len(style.SHADES)] for i in range(len(values))]
            ax.stackplot(x, np.pad(shares, ((0, 0), (1, 1)), "edge"), colors=colors, labels=values, linewidth=0)
            ax.set(title=title, ylabel="share (%)", ylim=(0, 100), xlim=(0, len(history)))
            handles, labels = ax.get_legend_handles_labels()
            ax.legend(handles[::-1], labels[::-1], loc="center left", bbox_to_anchor=(1.01, 0.5))
        _number_axis(axes[-1])
    return figure


def cheapest_best(macs: Floats, scores: Floats) -> np.ndarray[Any, np.dtype[np.intp]]:
    """Places of the candidates that none beats in both, by ascending MACs; of equals the first. Shapes (n,), finite."""
    order = np.lexsort((-scores, macs))
    before = np.concatenate([[-np.inf], np.maximum.accumulate(scores[order])[:-1]])
    return order[scores[order] > before]


def _windows(count: int) -> np.ndarray[Any, np.dtype[np.intp]]:
    """Ends of stretches that are as nearly equal as can be, from 0 to ``count``."""
    windows = max(1, min(WINDOWS, count // SHORTEST))
    return np.linspace(0, count, windows + 1).round().astype(np.intp)


def _middles(edges: np.ndarray[Any, np.dtype[np.intp]]) -> Floats:
    return (edges[:-1] + edges[1:]) / 2


def _difference(stretch: Sequence[Candidate]) -> float:
    """Mean over pairs of the share of their words that differ; NaN where there are no two."""
    if len(stretch) < 2:
        return float("nan")
    rng = random.Random(0)
    pairs = [rng.sample(range(len(stretch)), 2) for _ in range(PAIRS)]
    words = {i: _WORD.findall(stretch[i].arch) for pair in pairs for i in pair}
    return float(np.mean([1 - SequenceMatcher(None, words[a], words[b], autojunk=False).ratio() for a, b in pairs]))


def _effective_parents(stretch: Sequence[Candidate]) -> float:
    counts = np.array(list(Counter(c.parent for c in stretch if c.parent is not None).values()), dtype=np.float64)
    shares = counts / counts.sum()
    return float(np.exp(-(shares * np.log(shares)).sum())) if len(counts) else float("nan")


def _number_axis(ax: Axes) -> None:
    ax.set_xlabel("evaluated candidates")
    ax.xaxis.set_major_formatter("{x:,.0f}")


def _caption(ax: Axes, lines: Sequence[tuple[str, str]]) -> None:
    """What the colours mean, in the order of ``lines``, in one line above the panel."""
    for (text, color), place, side in zip(lines, (0.0, 1.0), ("left", "right")):
        text_style: dict[str, Any] = {"ha": side, "fontsize": style.SMALL, "color": color}
        ax.annotate(f"— {text}", (place, 1), (0, 5), "axes fraction", "offset points", **text_style)


def _score_by(ranking: str) -> str:
    """Label of an axis; a ranking that is a long sum takes several lines."""
    return "\n".join(textwrap.wrap("score by " + ranking.replace("+", " + "), 40))


def cost_axis(cost: str, values: Sequence[float] | Floats) -> tuple[str, float]:
    """Label of the axis of a cost, and the unit that its values are divided by."""
    label, counted = COSTS[cost]
    unit, words = next((size, words) for size, words in _UNITS if size == 1 or (counted and max(values) >= size))
    return (f"{label} ({words})" if words else label), unit
