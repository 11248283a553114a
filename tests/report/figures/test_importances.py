"""The figure of importances: legible, equal for equal input, and of the features that matter."""

import itertools
import math

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.text import Text

from vkdnw_pl.ranking.graph_features import PAPER_COLUMNS
from vkdnw_pl.report.figures.importances import feature_importances
from vkdnw_pl.report.figures.style import save_figure

FEATURES = [*(f"vkdnw_decile_{i}" for i in range(1, 10)), "aleph", "macs", "zico", *PAPER_COLUMNS]


def panels(count, seeds=3):
    rng = np.random.default_rng(0)
    return {
        f"model {i}, cifar10": {name: list(rng.exponential(0.01, seeds)) for name in FEATURES} for i in range(count)
    }


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5])
def test_figure_is_legible(count):
    figure = feature_importances(panels(count), top=12)
    renderer = FigureCanvasAgg(figure).get_renderer()
    figure.draw(renderer)
    width, height = figure.canvas.get_width_height()
    hidden = set()
    for ax in figure.axes:
        for axis in (ax.xaxis, ax.yaxis):
            low, high = sorted(axis.get_view_interval())
            hidden |= {t.label1 for t in axis.get_major_ticks() if not (ax.axison and low <= t.get_loc() <= high)}
    texts = [t for t in figure.findobj(Text) if t.get_visible() and t.get_text().strip() and t not in hidden]
    boxes = [(text, text.get_window_extent(renderer)) for text in texts]
    for text, box in boxes:
        assert box.x0 >= -1, text
        assert box.y0 >= -1, text
        assert box.x1 <= width + 1, text
        assert box.y1 <= height + 1, text
    for (a, box_a), (b, box_b) in itertools.combinations(boxes, 2):
        overlap_x = min(box_a.x1, box_b.x1) - max(box_a.x0, box_b.x0)
        overlap_y = min(box_a.y1, box_b.y1) - max(box_a.y0, box_b.y0)
        assert overlap_x <= 1 or overlap_y <= 1, (a, b)


def test_equal_importances_give_equal_files(tmp_path):
    first, second = (save_figure(feature_importances(panels(2)), tmp_path / f"{i}.png") for i in range(2))
    assert first.read_bytes() == second.read_bytes()


def test_figure_shows_the_top_and_the_sum_of_the_rest():
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
def test_mistakes_in_a_figure_are_named(drawn, message):
    with pytest.raises(ValueError, match=message):
        feature_importances(drawn)
    with pytest.raises(ValueError, match="top=0"):
        feature_importances({"one": {"a": 1.0}}, top=0)
