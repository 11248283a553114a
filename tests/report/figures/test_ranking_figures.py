"""Figures: what they show, that nothing overlaps, and that equal input gives equal files."""

import itertools
import math

import matplotlib
import numpy as np
import pytest
from matplotlib import pyplot
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.text import Text

from vkdnw_pl.oracles import Measure
from vkdnw_pl.ranking.graph_features import PAPER_COLUMNS
from vkdnw_pl.report.figures.rankings import feature_importances, ndcg_bars, rank_panel, rank_scatter
from vkdnw_pl.report.figures.style import save_figure

NAMES = ["vkdnw_agg", "vkdnw_single", "jacov", "expressivity", "trainability", "macs", "progressivity", "az_nas"]
DATASETS = ["cifar10", "cifar100", "ImageNet16-120"]


def rows(std=None, names=NAMES, datasets=DATASETS):
    rng = np.random.default_rng(0)
    return [
        {
            "ranking": name,
            "dataset": dataset,
            "split": "test",
            "n": 9445,
            "ndcg_k": 1000,
            "seeds": 3,
            **dict(zip(("kendall", "spearman", "ndcg"), rng.uniform(0.1, 0.99, 3))),
            **{f"{metric}_std": std for metric in ("kendall", "spearman", "ndcg")},
        }
        for dataset in datasets
        for name in names
    ]


def ranks(count, n, rng=None):
    rng = rng or np.random.default_rng(1)
    accuracy = 90 - rng.exponential(3, n)
    accuracy[0] = 10
    return {name: np.argsort(np.argsort(-accuracy + rng.normal(0, 3, n))) + 1 for name in NAMES[:count]}, accuracy


def texts(figure):
    """Visible texts with their boxes in pixels."""
    renderer = FigureCanvasAgg(figure).get_renderer()
    figure.draw(renderer)
    hidden = set()
    for ax in figure.axes:
        for axis in (ax.xaxis, ax.yaxis):
            low, high = sorted(axis.get_view_interval())
            # Ticks outside of the view, and of panels without axes, have texts that are not drawn.
            hidden |= {t.label1 for t in axis.get_major_ticks() if not (ax.axison and low <= t.get_loc() <= high)}
    found = [t for t in figure.findobj(Text) if t.get_visible() and t.get_text().strip() and t not in hidden]
    return [(text, text.get_window_extent(renderer)) for text in found]


def assert_legible(figure):
    width, height = figure.canvas.get_width_height()
    boxes = texts(figure)
    assert boxes
    for text, box in boxes:
        assert box.x0 >= -1, text
        assert box.y0 >= -1, text
        assert box.x1 <= width + 1, text
        assert box.y1 <= height + 1, text
    for (a, box_a), (b, box_b) in itertools.combinations(boxes, 2):
        overlap_x = min(box_a.x1, box_b.x1) - max(box_a.x0, box_b.x0)
        overlap_y = min(box_a.y1, box_b.y1) - max(box_a.y0, box_b.y0)
        assert overlap_x <= 1 or overlap_y <= 1, (a, b)


@pytest.mark.parametrize(("count", "n"), [(1, 3), (2, 300), (4, 15_625), (6, 300), (8, 9445)])
def test_scatter_is_legible(count, n):
    assert_legible(rank_scatter(*ranks(count, n), rows(std=0.01), "ImageNet16-120"))


@pytest.mark.parametrize("std", [None, 0.2])
@pytest.mark.parametrize("count", [1, 8])
@pytest.mark.parametrize("datasets", [["digits"], DATASETS])
def test_bars_are_legible(std, count, datasets):
    assert_legible(ndcg_bars(rows(std, NAMES[:count], datasets)))


def test_scatter_shows_every_architecture_and_the_metrics():
    given, accuracy = ranks(2, 300)
    figure = rank_scatter(given, accuracy, rows(), "cifar10")
    panels = [ax for ax in figure.axes if ax.axison]
    assert len(panels) == 2
    for ax, name in zip(panels, given):
        dots, triangles = (collection.get_offsets() for collection in ax.collections)
        assert len(dots) + len(triangles) == 300
        assert len(triangles) == sum(accuracy < ax.get_ylim()[0]) >= 1
        np.testing.assert_allclose(np.sort(np.r_[dots[:, 0], triangles[:, 0]]), np.sort(given[name]))
        assert ax.get_xlim()[0] > ax.get_xlim()[1]  # the best rank, 1, on the right
        shown = " ".join(t.get_text() for t in ax.findobj(Text))
        values = next(r for r in rows() if r["ranking"] == name and r["dataset"] == "cifar10")
        assert name in shown
        assert f"KT {values['kendall']:.3f}   SPR {values['spearman']:.3f}   nDCG {values['ndcg']:.3f}" in shown


def test_the_axis_of_a_part_of_the_ranked_architectures_is_as_long_as_its_label_says():
    figure = rank_scatter({"macs": [15_000, 30, 4]}, [50, 60, 70], rows(), "cifar10")
    ax = figure.axes[0]
    assert figure.get_supxlabel().startswith("predicted rank of 3 architectures")
    drawn = np.concatenate([collection.get_offsets() for collection in ax.collections])
    assert sorted(drawn[:, 0]) == [1, 2, 3]
    assert 3 < ax.get_xlim()[0] < 4


def test_many_architectures_are_drawn_as_their_density():
    given, accuracy = ranks(1, 9445)
    ax = rank_scatter(given, accuracy, rows(), "cifar10").axes[0]
    (image,) = ax.images
    opacity = image.get_array()[..., 3]
    assert opacity.max() == 255
    assert 0 < (opacity > 0).mean() < 0.9
    (left, right, low, high), (xlim, ylim) = image.get_extent(), (ax.get_xlim(), ax.get_ylim())
    assert (left, right, low, high) == (*xlim, *ylim)
    column = int((1 - xlim[0]) / (xlim[1] - xlim[0]) * opacity.shape[1])
    best = accuracy[np.argmin(given["vkdnw_agg"])]
    assert opacity[int((best - ylim[0]) / (ylim[1] - ylim[0]) * opacity.shape[0]), column] > 0


def test_bars_are_sorted_with_errors_and_highlights():
    given = rows(std=0.02)
    figure = ndcg_bars(given)
    assert len(figure.axes) == 3
    for ax, dataset in zip(figure.axes, DATASETS):
        values = {row["ranking"]: row["ndcg"] for row in given if row["dataset"] == dataset}
        names = [tick.get_text() for tick in ax.get_yticklabels()]
        assert names == sorted(values, key=values.get, reverse=True)
        bars = [patch for patch in ax.patches if patch.get_width() in values.values()]
        assert [bar.get_width() for bar in bars] == sorted(values.values(), reverse=True)
        colours = {name.startswith("vkdnw"): bar.get_facecolor() for name, bar in zip(names, bars)}
        assert colours[True] != colours[False]
        whiskers = [tuple(line[:, 0]) for collection in ax.collections for line in collection.get_segments()]
        assert whiskers == [pytest.approx((value - 0.02, value + 0.02)) for value in sorted(values.values())[::-1]]
        assert ax.get_title() == f"{dataset} (test)"
    assert not ndcg_bars(rows()).axes[0].collections


def test_undefined_values_are_said_to_be():
    given = rows(names=NAMES[:2])
    given[0]["ndcg"] = "nan"
    ax = ndcg_bars(given).axes[0]
    assert ax.get_yticklabels()[-1].get_text() == "vkdnw_agg"
    assert "n/a" in [text.get_text() for text in ax.texts]
    given[0]["kendall"] = ""
    assert any("KT n/a" in t.get_text() for t in rank_scatter(*ranks(1, 9), given, "cifar10").findobj(Text))


def test_files_are_equal_and_no_global_state_is_touched(tmp_path):
    given, accuracy = ranks(3, 50)
    before, backend = dict(matplotlib.rcParams), matplotlib.get_backend()
    first = [save_figure(rank_scatter(given, accuracy, rows(0.1), "cifar10"), tmp_path / "a" / "scatter.png")]
    first.append(save_figure(ndcg_bars(rows(0.1)), tmp_path / "a" / "bars.png"))
    assert dict(matplotlib.rcParams) == before
    assert matplotlib.get_backend() == backend
    assert pyplot.get_fignums() == []
    with matplotlib.rc_context({"font.size": 30, "axes.facecolor": "black", "figure.dpi": 20}):
        second = [save_figure(rank_scatter(given, accuracy, rows(0.1), "cifar10"), tmp_path / "b" / "scatter.png")]
        second.append(save_figure(ndcg_bars(rows(0.1)), tmp_path / "b" / "bars.png"))
    for a, b in zip(first, second):
        assert a.read_bytes() == b.read_bytes()
        assert a.read_bytes().startswith(b"\x89PNG")
        for key in (b"Software", b"tIME", b"Creation"):
            assert key not in a.read_bytes()


def test_mistakes_are_named():
    given, accuracy = ranks(2, 10)
    with pytest.raises(ValueError, match="'vkdnw_agg' has no metrics on 'digits'"):
        rank_scatter(given, accuracy, rows(), "digits")
    with pytest.raises(ValueError, match=r"'vkdnw_agg' has shape \(10,\) and accuracy \(9,\)"):
        rank_scatter(given, accuracy[1:], rows(), "cifar10")
    with pytest.raises(ValueError, match="at least one ranking"):
        rank_scatter({}, accuracy, rows(), "cifar10")
    with pytest.raises(ValueError, match="no metrics to draw"):
        ndcg_bars([])


FEATURES = [*(f"vkdnw_decile_{i}" for i in range(1, 10)), "aleph", "macs", "zico", *PAPER_COLUMNS]


def panels(count, seeds=3):
    rng = np.random.default_rng(0)
    return {
        f"model {i}, cifar10": {name: list(rng.exponential(0.01, seeds)) for name in FEATURES} for i in range(count)
    }


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5])
def test_importances_are_legible(count):
    assert_legible(feature_importances(panels(count), top=12))


def test_equal_importances_give_equal_files(tmp_path):
    first, second = (save_figure(feature_importances(panels(2)), tmp_path / f"{i}.png") for i in range(2))
    assert first.read_bytes() == second.read_bytes()


def test_importances_show_the_top_and_the_sum_of_the_rest():
    importances = {"macs": 0.1, "aleph": 0.5, "graf_op_count_nor_conv_3x3": 0.3, "zico": 0.07, "snip": 0.03}
    ax = feature_importances({"one": importances}, top=3).axes[0]
    assert [text.get_text() for text in ax.get_yticklabels()] == [
        "aleph",
        "op_count_3x3",
        "macs",
        "the other 2 together",
    ]
    assert [bar.get_width() for bar in ax.patches] == pytest.approx([0.5, 0.3, 0.1, 0.1])
    assert len(feature_importances({"one": importances}, top=4).axes[0].patches) == 5
    names = {
        "graf_max_op_on_path_allowed_none-skip_connect": "max_op_on_path {none,skip}",
        "graf_min_path_len_banned_nothing": "min_path_len not {}",
        "graf_node_degree_allowed_nor_conv_1x1-avg_pool_3x3_avg_in": "avg_in {1x1,pool}",
    }
    ax = feature_importances({"one": {name: 1.0 - i / 10 for i, name in enumerate(names)}}).axes[0]
    assert [text.get_text() for text in ax.get_yticklabels()] == list(names.values())


@pytest.mark.parametrize(
    ("drawn", "message"),
    [
        ({}, "panels is empty"),
        ({"one": {}}, "holds an empty one"),
        ({"one": {"a": 1.0, "b": math.nan}}, r"panels\['one'\]: the importance of 'b' is not finite"),
        ({"one": {"a": [1.0, 2.0], "b": [1.0]}}, "different numbers of seeds"),
    ],
)
def test_mistakes_in_importances_are_named(drawn, message):
    with pytest.raises(ValueError, match=message):
        feature_importances(drawn)
    with pytest.raises(ValueError, match="top=0"):
        feature_importances({"one": {"a": 1.0}}, top=0)


def test_where_less_is_better_the_best_is_above_and_the_axes_say_it():
    places, accuracy = ranks(2, 200)
    latency = 100 - accuracy  # one is far worse than the others
    metric_rows = [{**row, "ndcg": None, "unit": "ms", "better": "lower"} for row in rows(datasets=["edge"])]
    figure = rank_scatter(places, latency, metric_rows, "edge")
    shown = " ".join(text.get_text() for text, _ in texts(figure))
    assert "test edge (ms, lower is better)" in shown
    assert "worse than" in shown
    assert "%" not in shown
    low, high = figure.axes[0].get_ylim()
    assert low > high
    assert high < latency.min() < low < latency.max() == 90
    with pytest.raises(ValueError, match="no metrics to draw"):
        ndcg_bars(metric_rows)


def test_a_panel_names_unit_and_direction():
    figure = rank_panel(
        np.arange(1, 4), np.array([5.0, 6.0, 7.5]), list("abc"), Measure("edge", "test", "mJ", higher_is_better=False)
    )
    assert figure.axes[0].get_ylabel() == "edge (mJ, lower is better)"
    low, high = figure.axes[0].get_ylim()
    assert low > 7.5 > 5 > high
