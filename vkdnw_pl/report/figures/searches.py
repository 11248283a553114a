"""Figures of searches: how they got better, what they looked at, and whether they still look at different things."""

from __future__ import annotations

import random
import re
import textwrap
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from vkdnw_pl.ranking import aggregate, parse_ranking
from vkdnw_pl.report.figures.style import (
    ACCENT,
    BLUE,
    GREY,
    SHADES,
    Floats,
    draw_points,
    drawing,
    hover,
    new_figure,
    save_figure,
    thousands,
)
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


@dataclass(frozen=True)
class SearchScores:
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
    """Draw all figures of a search into a folder, and return their paths.

    Args:
        history: the candidates in the order of the search.
        ranking: what they are ranked by, see `ranking.parse_ranking`.
        folder: where the PNG files go.
        space: its name; shares of its choices are drawn where it names some (`Space.decisions`).
        min_macs: lower bound of the search, to be drawn.
        max_macs: upper bound of the search, to be drawn.
        objectives: what else the search looked at; those in `COSTS` are drawn against the score as MACs are.
    """
    folder = Path(folder)
    scores = history_scores(history, ranking)
    figures = {"best_so_far": best_so_far(scores, ranking)}
    for cost in COSTS:
        if cost == "macs" or cost in objectives:
            costs = [getattr(candidate, cost) for candidate in history]
            bounds = (min_macs, max_macs) if cost == "macs" else (None, None)
            figures[f"{cost}_and_score"] = cost_and_score(costs, scores, ranking, cost, *bounds)
    figures["diversity"] = diversity(history)
    if space is not None and (decisions := SPACES[space].decisions):
        figures["choices"] = choice_shares(history, decisions)
    return [save_figure(figure, folder / f"{name}.png") for name, figure in figures.items()]


def history_scores(history: Sequence[Candidate], ranking: str) -> Floats:
    """Scores of all candidates when ranked together, higher is better, at most 0; NaN for those that failed."""
    usable = [candidate for candidate in history if not candidate.failed]
    if not usable:
        raise ValueError("no candidate of the history has a score: there is nothing to draw")
    terms = parse_ranking(ranking)
    names = {name for term in terms for name in ((term,) if isinstance(term, str) else term)}
    try:
        columns = {name: [candidate.value(name) for candidate in usable] for name in names}
    except KeyError as error:
        columns_text = ", ".join(["macs", "num_params", "layers", *usable[0].values])
        raise ValueError(
            f"column {error} of the ranking {ranking!r} is not in the history (there: {columns_text})"
        ) from None
    scores = np.full(len(history), np.nan)
    scores[[candidate.index for candidate in usable]] = aggregate(columns, terms)
    return scores


def best_so_far(scores: Floats, ranking: str) -> Figure:
    """Draw the best score so far over the evaluations, above the scores of the candidates of each stretch."""
    with drawing():
        figure = new_figure(6.4, 3.9)
        ax = figure.subplots()
        middles, quantiles = _quantiles(scores)
        ax.fill_between(middles, quantiles[0], quantiles[2], color=BLUE, alpha=0.2, linewidth=0)
        ax.plot(middles, quantiles[1], color=BLUE, linewidth=1.2)
        at, best = draw_best(ax, scores, {"color": ACCENT})
        ax.plot(at, best, marker="*", markersize=12, color=ACCENT, clip_on=False)
        ax.set_xlim(0, len(scores))
        ax.set_ylabel(_score_by(ranking))
        ax.set_title(f"best of {len(scores):,}: number {at:,}", pad=22)
        _caption(ax, [("best so far", ACCENT), ("median and 80 % of the candidates at the time", BLUE)])
    return figure


def draw_best(ax: Axes, scores: Floats, line: Mapping[str, Any], name: str = "") -> tuple[int, float]:
    """Draw the best score so far as steps, and return the number of the best candidate and its score."""
    best = np.maximum.accumulate(np.where(np.isfinite(scores), scores, -np.inf))
    # Where the best changes is all that a line needs.
    steps = np.flatnonzero(best > np.concatenate([[-np.inf], best[:-1]]))
    (steps_line,) = ax.step([*(steps + 1), len(scores)], [*best[steps], best[-1]], where="post", linewidth=1.8, **line)
    hover(steps_line, [name])
    ax.set_xlabel("evaluated candidates")
    ax.xaxis.set_major_formatter(thousands())
    return int(steps[-1]) + 1, float(best[-1])


def cost_and_score(
    costs: Sequence[float | None],
    scores: Floats,
    ranking: str,
    cost: str = "macs",
    least: float | None = None,
    most: float | None = None,
) -> Figure:
    """Draw all candidates by cost and score, coloured by when they came, with the search's bounds and the front of both."""
    values = np.array(costs, dtype=np.float64)
    drawn = np.flatnonzero(np.isfinite(scores) & np.isfinite(values))
    if not len(drawn):
        raise ValueError(f"no candidate has a score and {cost}: there is nothing to draw")
    xlabel, unit = _axis(cost, values[drawn])
    x, y = values[drawn] / unit, scores[drawn]
    bounds = [bound / unit for bound in (least, most) if bound is not None]
    # Most candidates are far from the best; a few bad ones would squeeze all others into the top of the figure.
    floor = float(np.quantile(y, 0.01))
    floor -= 0.04 * (float(y.max()) - floor)
    below = int((y < floor).sum())
    front = cheapest_best(x, y)
    front = front[y[front] >= floor]
    with drawing():
        figure = new_figure(6.4, 4.4)
        ax = figure.subplots()
        dots = ax.scatter(
            x, np.maximum(y, floor), c=drawn + 1, s=float(np.clip(6000 / len(x), 1.5, 14)), linewidths=0, cmap="viridis"
        )
        ax.step(x[front], y[front], where="post", color=ACCENT, linewidth=1.3)
        ax.plot(
            x[front[-1]], y[front[-1]], marker="*", markersize=12, color=ACCENT, markeredgecolor="white", clip_on=False
        )
        for bound in bounds:
            ax.axvline(bound, color=GREY, linewidth=1, linestyle="--")
        left, right = min([*bounds, x.min()]), max([*bounds, x.max()])
        margin = 0.03 * max(right - left, 0.01 * right, 1e-9)
        ax.set_xlim(left - margin, right + margin)
        note = f"\n{below:,} with a score below {floor:.1f} are drawn there" if below else ""
        ax.set_xlabel(f"{xlabel}{note}")
        ax.set_ylabel(_score_by(ranking))
        ax.set_title(f"{len(x):,} candidates", pad=22)
        lines = [("best at this cost or less", ACCENT)]
        _caption(ax, [*lines, ("budget", GREY)] if bounds else lines)
        bar = figure.colorbar(dots, ax=ax, pad=0.02)
        bar.set_label("evaluated as number")
        bar.locator = MaxNLocator(5, integer=True)
        bar.formatter = thousands()
        bar.update_ticks()
    return figure


def compared_best(searches: Sequence[SearchScores]) -> Figure:
    """Draw the best score so far of several searches, each in its colour."""
    with drawing():
        figure = new_figure(5.4, 3.2)
        ax = figure.subplots()
        for search in searches:
            draw_best(ax, search.scores, search.line, search.name)
        ax.set_xlim(0, max(len(search.scores) for search in searches))
        ax.set_ylabel("score")
    return figure


def compared_costs(searches: Sequence[SearchScores], most: int = 300) -> tuple[Figure, int]:
    """Draw the MACs and the score of the best candidates of several searches, each in its colour.

    At most about ``most`` are drawn, so that each stays a point that can be asked for its name; returns how many.
    """
    count = min(100, max(10, most // len(searches)))
    shown = 0
    with drawing():
        figure = new_figure(5.4, 3.2)
        ax = figure.subplots()
        xlabel, unit = _axis("macs", np.array([c.macs for search in searches for c in search.candidates], dtype=float))
        for search in searches:
            order = np.argsort(-search.scores, kind="stable")[: min(count, int(np.isfinite(search.scores).sum()))]
            best = [search.candidates[i] for i in order]
            names = [f"{search.name}, network {candidate.index}: {candidate.arch}" for candidate in best]
            x = np.array([candidate.macs for candidate in best]) / unit
            draw_points(ax, x, search.scores[order], search.line["color"], names)
            shown += len(best)
        ax.set_xlabel(xlabel)
        ax.set_ylabel("score")
    return figure, shown


def diversity(history: Sequence[Candidate]) -> Figure:
    """Draw how different the candidates of each stretch are, and from how many parents they come.

    Above, the difference of two candidates of a stretch: the share of the words and numbers of their strings that do not
    match in order, the mean of `PAIRS` pairs drawn at random (the same ones each time). Below, the effective number of
    parents, exp of the entropy of their shares: n where n parents have equally many children.
    """
    edges = _windows(len(history))
    stretches = [history[a:b] for a, b in pairwise(edges)]
    middles = (edges[:-1] + edges[1:]) / 2
    parents = np.array([_effective_parents(stretch) for stretch in stretches])
    with drawing():
        figure = new_figure(6.4, 4.8)
        above, below = figure.subplots(2, 1, sharex=True)
        differences = np.array([_difference(stretch) for stretch in stretches])
        above.plot(middles, differences, color=BLUE, linewidth=1.6, marker=".")
        above.set_ylabel("difference of\ntwo candidates")
        below.plot(middles, parents, color=ACCENT, linewidth=1.6, marker=".")
        if np.isnan(parents).all():
            below.text(0.5, 0.5, "no candidate has a parent", transform=below.transAxes, ha="center", color=GREY)
            below.set_yticks([])
        below.set_ylabel("effective number\nof parents")
        below.set_xlabel("evaluated candidates")
        below.xaxis.set_major_formatter(thousands())
        below.set_xlim(0, len(history))
        width = int(np.diff(edges).max())
        above.set_title(f"diversity of {width:,} candidates in a row")
        for ax, numbers in ((above, differences), (below, parents)):
            ax.set_ylim(0, 1.1 * max(np.nanmax(numbers, initial=0), 1e-9))
    return figure


def choice_shares(history: Sequence[Candidate], choices: Mapping[str, tuple[str, tuple[str, ...]]]) -> Figure:
    """Draw which share each of the choices (`Space.decisions`) has among the candidates of each stretch."""
    if not choices:
        raise ValueError("choices is empty: there are no shares to draw")
    edges = _windows(len(history))
    middles = (edges[:-1] + edges[1:]) / 2
    with drawing():
        figure = new_figure(7.2, 0.6 + 2.3 * len(choices))
        axes = figure.subplots(len(choices), 1, sharex=True, squeeze=False).ravel()
        for ax, (title, (pattern, values)) in zip(axes, choices.items()):
            find = re.compile(pattern)
            counts = np.zeros((len(values), len(middles)))
            for column, (a, b) in enumerate(pairwise(edges)):
                picks = Counter(choice for candidate in history[a:b] for choice in find.findall(candidate.arch))
                counts[:, column] = [picks[value] for value in values]
            shares = 100 * counts / np.maximum(counts.sum(axis=0), 1)
            # The stretches reach from the first candidate to the last.
            x = np.concatenate([[0], middles, [len(history)]])
            shares = np.concatenate([shares[:, :1], shares, shares[:, -1:]], axis=1)
            colors = [SHADES[i % len(SHADES)] for i in range(len(values))]
            ax.stackplot(x, shares, colors=colors, labels=values, linewidth=0)
            ax.set_title(title)
            ax.set_ylabel("share (%)")
            ax.set_ylim(0, 100)
            ax.set_xlim(0, len(history))
            handles, labels = ax.get_legend_handles_labels()
            ax.legend(handles[::-1], labels[::-1], loc="center left", bbox_to_anchor=(1.01, 0.5))
        axes[-1].set_xlabel("evaluated candidates")
        axes[-1].xaxis.set_major_formatter(thousands())
    return figure


def cheapest_best(macs: Floats, scores: Floats) -> np.ndarray[Any, np.dtype[np.intp]]:
    """Places of the candidates than which none is at once as cheap, as good, and better in one, by ascending MACs.

    Of equals in both, the first. All are finite, shape (n,).
    """
    order = np.lexsort((-scores, macs))
    before = np.concatenate([[-np.inf], np.maximum.accumulate(scores[order])[:-1]])
    return order[scores[order] > before]


def _windows(count: int) -> np.ndarray[Any, np.dtype[np.intp]]:
    """Ends of stretches that are as nearly equal as can be, from 0 to ``count``."""
    windows = max(1, min(WINDOWS, count // SHORTEST))
    return np.linspace(0, count, windows + 1).round().astype(np.intp)


def _quantiles(scores: Floats) -> tuple[Floats, Floats]:
    """Middles of the stretches, and the 10 %, 50 % and 90 % quantiles of the scores there, shape (3, windows)."""
    edges = _windows(len(scores))
    quantiles = np.full((3, len(edges) - 1), np.nan)
    for column, (a, b) in enumerate(pairwise(edges)):
        stretch = scores[a:b][np.isfinite(scores[a:b])]
        if len(stretch):
            quantiles[:, column] = np.quantile(stretch, [0.1, 0.5, 0.9])
    return (edges[:-1] + edges[1:]) / 2, quantiles


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


def _caption(ax: Axes, lines: Sequence[tuple[str, str]]) -> None:
    """What the colours mean, in the order of ``lines``, in one line above the panel."""
    for (text, color), place, side in zip(lines, (0.0, 1.0), ("left", "right")):
        ax.annotate(
            f"— {text}", (place, 1), (0, 5), "axes fraction", "offset points", ha=side, fontsize=8.5, color=color
        )


def _score_by(ranking: str) -> str:
    """Label of an axis; a ranking that is a long sum takes several lines."""
    return "\n".join(textwrap.wrap("score by " + ranking.replace("+", " + "), 40))


def _axis(cost: str, values: Floats) -> tuple[str, float]:
    """Label of the axis of a cost, and the unit that its values are divided by."""
    label, counted = COSTS[cost]
    unit, words = next((size, words) for size, words in _UNITS if size == 1 or (counted and values.max() >= size))
    return (f"{label} ({words})" if words else label), unit
