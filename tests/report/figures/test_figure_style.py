"""Figures as SVG of a page: its colours and font, hover texts, nothing that runs, no names that could clash."""

import itertools
import math
import re
from xml.etree import ElementTree

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from vkdnw_pl.report.figures.rankings import Bars, metric_bars, rank_panel
from vkdnw_pl.report.figures.style import (
    DARK,
    LIGHT,
    MAX_POINTS,
    PAGE_WIDTH,
    css_colors,
    draw_points,
    drawing,
    new_figure,
    to_svg,
)
from vkdnw_pl.report.figures.trainings import Curve, NamedPoint, epoch_curves, named_scatter, outlier_limit
from vkdnw_pl.report.tables import Value

HOSTILE = "<b>\"&'$x^2$\x00\ud800"
LINE = {"color": LIGHT["c0"], "linestyle": "solid"}


def panel(n=40, **kwargs):
    return to_svg(
        rank_panel(np.arange(n, dtype=float), np.linspace(50, 90, n), [f"net {i}" for i in range(n)]), "title"
    )


def test_colours_are_those_of_the_page():
    svg = panel()
    colours = set(re.findall(r'(?:fill|stroke)="([^"]+)"', svg))
    assert {"var(--c0)", "var(--soft)", "var(--line)"} <= colours
    assert all(colour == "none" or colour.startswith("var(--") for colour in colours)
    assert set(LIGHT) == set(DARK)
    for name in LIGHT:
        assert css_colors().count(f"--{name}: ") == 3  # light, dark by the system, dark by choice


def test_nothing_has_an_id_a_style_or_a_font():
    svg = panel()
    for name in ("id=", "style=", "font-family", "clip-path", "<g", "<defs", "<use"):
        assert name not in svg
    root = ElementTree.fromstring(svg)
    assert (root.get("role"), root.get("aria-label")) == ("img", "title")
    assert [float(number) for number in root.get("viewBox").split()] == pytest.approx([0, 0, 72 * PAGE_WIDTH, 172.8])


def test_every_point_says_what_it_is():
    titles = re.findall(r"<title>(.*?)</title>", panel())
    assert sorted(titles) == sorted(f"net {i}: rank {i + 1}, {50 + i * 40 / 39:.2f} %" for i in range(40))


def test_circles_are_where_the_points_are():
    with drawing():
        figure = new_figure(2, 2)
        figure.set_layout_engine("none")
        ax = figure.add_axes((0, 0, 1, 1))
        ax.set(xlim=(0, 144), ylim=(0, 144))
        draw_points(ax, np.array([36.0]), np.array([36.0]), LIGHT["c1"], ["here"])
    (circle,) = re.findall(r"<circle ([^>]*)><title>here</title></circle>", to_svg(figure, "t"))
    assert 'cx="36"' in circle
    assert 'cy="108"' in circle
    assert 'fill="var(--c1)"' in circle


def test_many_points_are_one_picture():
    rng = np.random.default_rng(0)
    n = 15_625
    svg = to_svg(rank_panel(rng.permutation(n) + 1.0, rng.uniform(0, 90, n), ["net"] * n), "t")
    assert svg.count("<circle") == 0
    assert svg.count("<image") == 1
    assert svg.count("<path") < 80  # triangles below the edge are thinned
    assert len(svg) < 40_000
    assert panel(MAX_POINTS + 1).count("<image") == 1
    assert panel(MAX_POINTS).count("<image") == 0


def test_texts_are_escaped_and_odd_values_survive():
    value, undefined = Value(0.5, None), Value(None, None)
    figures = (
        epoch_curves([Curve(HOSTILE, LINE, [1, 2, 3], [1.0, math.nan, 2.0]), Curve("same", LINE, [1], [1.0])], HOSTILE),
        epoch_curves([Curve("flat", LINE, [1, 2], [5.0, 5.0])], "y"),
        named_scatter([NamedPoint(HOSTILE, LIGHT["c0"], 1.0, 2.0, HOSTILE)], HOSTILE, HOSTILE),
        metric_bars(
            [HOSTILE, "none"],
            [Bars(HOSTILE, LIGHT["c0"], [value, None]), Bars("x", LIGHT["c1"], [Value(-0.4, 0.1), undefined])],
            HOSTILE,
        ),
    )
    for figure in figures:
        svg = to_svg(figure, HOSTILE)
        svg.encode()
        ElementTree.fromstring(svg)
        assert "<b>" not in svg
        assert not re.search(r"\b(nan|inf)\b", svg)


def test_a_curve_has_gaps_and_dots_between_them():
    svg = to_svg(epoch_curves([Curve("a", LINE, list(range(40)), [1.0, math.nan, 2.0, *[3.0] * 37])], "loss"), "t")
    assert svg.count("<circle") == 1  # of many epochs, only what no line would show has a dot
    (line,) = re.findall(r'<path d="([^"]+)"[^>]*><title>a</title>', svg)
    assert line.count("M") >= 2 or line.startswith("M")


def test_a_loss_of_two_million_flattens_nothing():
    wild = [2e6, 3.2, 0.3, 0.2, 3e4, 0.12, 0.11, 0.1]
    curves = [Curve("wild", LINE, range(1, 9), wild), Curve("tame", LINE, range(1, 9), [4.0, *wild[1:4], *[0.1] * 4])]
    svg = to_svg(epoch_curves(curves, "loss"), "t")
    assert "▲ 2 values above 4.5" in svg  # said, with their values
    assert {">2e+06</text>", ">3e+04</text>"} <= set(re.findall(r">[^<]*</text>", svg))
    assert ">wild: 2e+06 at 1</title>" in svg.replace("<title", "")
    heights = [float(height) for height in re.findall(r'cy="([\d.]+)"', svg)]
    assert max(heights) - min(heights) > 80  # of the others, of a panel of some 120


@pytest.mark.parametrize("values", [[2.3, 0.9, 0.5, 0.3, 0.2], [4.06, 3.28, 0.27, 0.25, 0.24, 0.14, 0.18, 0.11, 0.13]])
def test_a_loss_that_falls_fast_has_no_outliers(values):
    assert outlier_limit([values]) is None
    assert outlier_limit([[math.nan], [], values]) is None
    assert outlier_limit([values, [10 * values[0], *[0.1] * 5]]) == pytest.approx(values[0] + 0.15 * (values[0] - 0.1))


def test_names_stand_beside_their_points_and_on_nothing_else():
    rng = np.random.default_rng(0)
    points = [NamedPoint(f"network {i}", LIGHT["c0"], *rng.normal(0, 1, 2), f"hover {i}") for i in range(12)]
    figure = named_scatter(points, "x", "y")
    renderer = FigureCanvasAgg(figure).get_renderer()
    figure.draw(renderer)
    (ax,) = figure.axes
    boxes = [text.get_window_extent(renderer) for text in ax.texts]
    assert len(boxes) >= 8
    assert not any(a.overlaps(b) for a, b in itertools.combinations(boxes, 2))
    for x, y in ax.transData.transform([(point.x, point.y) for point in points]):
        assert not any(box.contains(x, y) for box in boxes)
    many = [point for point in points for _ in range(2)]
    assert named_scatter(many, "x", "y").axes[0].texts[:] == []
