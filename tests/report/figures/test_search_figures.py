"""Figures of a search: what they show, that they are legible, quick and repeatable."""

import itertools
import math
import random
import time
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.text import Text

from vkdnw_pl.report.figures.searches import (
    best_so_far,
    cheapest_best,
    choice_shares,
    cost_and_score,
    diversity,
    history_scores,
    search_figures,
)
from vkdnw_pl.search.history import Candidate
from vkdnw_pl.spaces import SPACES

LONG = "vkdnw>jacov+jacov+num_params+macs+rank_sum(jacov,vkdnw)"


def made_up(count, space="mbv2", distinct=200, parents=True):
    """A history of the given length; its networks repeat where there are more than ``distinct``."""
    rng, space = random.Random(0), SPACES[space]
    archs = [space.sample(rng) for _ in range(min(count, distinct))]
    costs = [space.cost(arch) for arch in archs]
    history = []
    for i in range(count):
        parent = rng.randrange(max(0, i - 500), i) if parents and i >= 10 else None
        failed = i % 50 == 7
        values = {"vkdnw": i / count + rng.gauss(0, 0.3), "jacov": rng.gauss(0, 1)}
        history.append(
            Candidate(
                i,
                archs[i % len(archs)],
                parent,
                "initial" if parent is None else "mutation",
                costs[i % len(archs)].macs + rng.randrange(10**6),
                costs[i % len(archs)].num_params,
                values=dict.fromkeys(values) if failed else values,
                status="failed" if failed else "ok",
            )
        )
    return history


def boxes(figure):
    """Visible texts with their boxes in pixels."""
    renderer = FigureCanvasAgg(figure).get_renderer()
    figure.draw(renderer)
    hidden = set()
    for ax in figure.axes:
        for axis in (ax.xaxis, ax.yaxis):
            low, high = sorted(axis.get_view_interval())
            hidden |= {t.label1 for t in axis.get_major_ticks() if not low <= t.get_loc() <= high}
    found = [t for t in figure.findobj(Text) if t.get_visible() and t.get_text().strip() and t not in hidden]
    return [(text, text.get_window_extent(renderer)) for text in found]


def figures_of(history, ranking="vkdnw+jacov+macs", space="mbv2", **bounds):
    scores = history_scores(history, ranking)
    return [
        best_so_far(scores, ranking),
        cost_and_score([c.macs for c in history], scores, ranking, "macs", **bounds),
        diversity(history),
        choice_shares(history, SPACES[space].decisions),
    ]


@pytest.mark.parametrize(
    ("count", "space", "ranking", "bounds"),
    [
        (2, "mbv2", "vkdnw", {}),
        (30, "nb201", "vkdnw+jacov", {"most": 3e8}),
        (700, "mbv2", LONG, {"most": 6e8, "least": 1e8}),
        (4000, "mbv2", "vkdnw+jacov+macs", {"most": 45e9}),
    ],
)
def test_figures_are_legible(count, space, ranking, bounds):
    history = made_up(count, space)
    for figure in figures_of(history, ranking, space, **bounds):
        width, height = figure.canvas.get_width_height()
        found = boxes(figure)
        assert found
        for text, box in found:
            assert box.x0 >= -1, text
            assert box.y0 >= -1, text
            assert box.x1 <= width + 1, text
            assert box.y1 <= height + 1, text
        for (a, one), (b, other) in itertools.combinations(found, 2):
            overlap_x = min(one.x1, other.x1) - max(one.x0, other.x0)
            overlap_y = min(one.y1, other.y1) - max(one.y0, other.y0)
            assert overlap_x <= 1 or overlap_y <= 1, (a, b)


def test_scores_are_those_of_all_that_did_not_fail():
    history = made_up(120)
    scores = history_scores(history, "vkdnw")
    failed = [c.index for c in history if c.failed]
    assert np.isnan(scores[failed]).all()
    usable = [c for c in history if not c.failed]
    best = max(usable, key=lambda c: c.values["vkdnw"])
    assert scores[best.index] == pytest.approx(0)
    worst = min(usable, key=lambda c: c.values["vkdnw"])
    assert scores[worst.index] == pytest.approx(math.log(1 / len(usable)))
    with pytest.raises(ValueError, match=r"column 'snip' of the ranking 'snip' is not in the history \(there: macs, "):
        history_scores(history, "snip")
    with pytest.raises(ValueError, match="nothing to draw"):
        history_scores([c for c in history if c.failed], "vkdnw")


def test_best_so_far_never_falls_and_ends_at_the_best():
    scores = np.array([np.nan, -3.0, -4.0, -1.0, np.nan, -2.0, -0.5, -2.0, -0.5])
    ax = best_so_far(scores, "vkdnw").axes[0]
    step = max(ax.lines, key=lambda line: line.get_linewidth())
    places, values = step.get_data()
    assert list(places) == [2, 4, 7, 9]
    assert list(values) == [-3, -1, -0.5, -0.5]
    assert "number 7" in ax.get_title()


def test_all_candidates_and_their_front_are_drawn():
    history = made_up(300)
    scores = history_scores(history, "jacov")
    ax = cost_and_score([c.macs for c in history], scores, "jacov", "macs", None, 1e9).axes[0]
    usable = [c for c in history if not c.failed]
    dots = ax.collections[0]
    np.testing.assert_allclose(
        dots.get_offsets()[:, 0] * (1e9 if "thousand" in ax.get_xlabel() else 1e6), [c.macs for c in usable]
    )
    np.testing.assert_array_equal(dots.get_array(), [c.index + 1 for c in usable])
    front = ax.lines[0].get_xydata()
    assert (np.diff(front[:, 0]) > 0).all()
    assert (np.diff(front[:, 1]) > 0).all()
    assert front[-1, 1] == pytest.approx(0)


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=1, max_size=12))
def test_front_is_what_nothing_beats(points):
    macs, scores = np.array(points, dtype=float).T

    def beaten(i):
        return any(
            macs[j] <= macs[i] and scores[j] >= scores[i] and (macs[j] < macs[i] or scores[j] > scores[i])
            for j in range(len(points))
        )

    expected = {points[i] for i in range(len(points)) if not beaten(i)}
    front = cheapest_best(macs, scores)
    assert [points[i] for i in front] == sorted(expected)
    assert all(points.index(points[i]) == i for i in front)


def lines_of(history):
    return [ax.lines[0].get_ydata() for ax in diversity(history).axes]


def candidates(archs, parents):
    return [
        Candidate(i, a, p, "mutation", 1, 1, values={}) for i, (a, p) in enumerate(zip(archs, parents, strict=True))
    ]


def test_diversity_of_equal_and_of_different_candidates():
    equal, one_parent = lines_of(candidates(["|a~0|"] * 10, [3] * 10))
    assert list(equal) == [0]
    assert list(one_parent) == pytest.approx([1])
    different, parents = lines_of(candidates([f"w{i}" for i in range(12)], [1, 2, 3, 4] * 3))
    assert list(different) == [1]
    assert list(parents) == pytest.approx([4])
    half, _ = lines_of(candidates([f"{i} {7}" for i in range(10, 20)], [0] * 10))
    assert list(half) == [0.5]


def test_a_search_without_parents_says_so():
    figure = diversity(made_up(40, parents=False))
    assert any("no candidate has a parent" in text.get_text() for text in figure.findobj(Text))


def test_shares_of_choices_add_up():
    archs = ["SuperResIDWE6K3(8,8,1,8,1)SuperResIDWE1K7(8,8,1,8,1)", "SuperResIDWE6K3(8,8,1,8,1)"] * 5
    figure = choice_shares(candidates(archs, [0] * 10), SPACES["mbv2"].decisions)
    kernels, expansions = (
        {c.get_label(): c.get_paths()[0].vertices[:, 1] for c in ax.collections} for ax in figure.axes
    )
    assert kernels["3"].max() == pytest.approx(100 * 10 / 15)
    assert (kernels["7"].min(), kernels["7"].max()) == pytest.approx((100 * 10 / 15, 100))
    assert expansions["6"].min() == pytest.approx(100 * 5 / 15)
    with pytest.raises(ValueError, match="choices is empty"):
        choice_shares([], {})


def test_other_costs_are_drawn_where_they_were_looked_at(tmp_path):
    history = [replace(c, latency_ms=float(c.index)) for c in made_up(60)]
    objectives = ["score", "macs", "latency_ms", "num_params", "vkdnw"]
    paths = search_figures(history, "vkdnw", tmp_path, objectives=objectives)
    names = ["best_so_far", "macs_and_score", "num_params_and_score", "latency_ms_and_score", "diversity"]
    assert [path.stem for path in paths] == names
    scores = history_scores(history, "vkdnw")
    latencies = [None if c.index % 2 else c.latency_ms for c in history]
    ax = cost_and_score(latencies, scores, "vkdnw", "latency_ms").axes[0]
    assert len(ax.collections[0].get_offsets()) == sum(not c.failed and c.index % 2 == 0 for c in history)
    with pytest.raises(ValueError, match="no candidate has a score and peak_mb"):
        cost_and_score([None] * 60, scores, "vkdnw", "peak_mb")


def test_files_are_small_quick_and_equal(tmp_path):
    history = made_up(15_000)
    began_at = time.process_time()
    paths = search_figures(history, "vkdnw+jacov+macs", tmp_path / "a", "mbv2", max_macs=500_000_000)
    assert time.process_time() - began_at < 3
    assert [path.name for path in paths] == ["best_so_far.png", "macs_and_score.png", "diversity.png", "choices.png"]
    assert sum(path.stat().st_size for path in paths) < 1_000_000
    few = history[:500]
    first, second = (search_figures(few, "vkdnw", tmp_path / name) for name in "bc")
    assert len(first) == 3  # no choices are known of a space without name
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]
