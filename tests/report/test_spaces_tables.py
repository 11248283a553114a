import numpy as np
import pytest

from vkdnw_pl.report.spaces import mean_correlations, notes, spaces_grids, spaces_text
from vkdnw_pl.report.spaces_pages import BEGIN, END, renewed
from vkdnw_pl.scoring.spaces_evaluation import Correlation, Estimate, FixedSize, SpaceMetric, SpacesEvaluation
from vkdnw_pl.scoring.spaces_folder import write_spaces

NOTHING = Estimate()


def metric(space, ranking, value, best="", dataset="x", reason="", caution="", unit="%", name="kendall"):
    difference = NOTHING if value is None else Estimate(value - 0.5, value - 0.6, value - 0.4)
    estimate = NOTHING if value is None else Estimate(value, value - 0.1, value + 0.1)
    better = "higher" if unit == "%" else "lower"
    head = (space, dataset, "test", unit, better, ranking, name)
    return SpaceMetric(*head, estimate, best, 1000, 100, 1, {"macs": difference}, reason, caution)


@pytest.fixture
def evaluation():
    metrics = [
        metric("one", "macs", 0.5),
        metric("one", "a|b", 0.7, "best"),
        metric("two", "macs", 0.25, "tied"),
        metric("two", "a|b", 0.2, "tied"),
        metric("two", "macs", 0.9, dataset="y", caution="suspect"),
        metric("two", "a|b", None, dataset="y", reason="the table has no column b", caution="suspect"),
        metric("one", "macs", 0.8, dataset="latency", unit="ms"),
        metric("one", "a|b", 0.8, dataset="latency", unit="ms"),
    ]
    fixed = [FixedSize("one", "x", "macs", 0.6, NOTHING, 0.5, Estimate(0.2, 0.1, 0.3), 1000, 5, "macs alone decides")]
    fixed.append(FixedSize("one", "x", "a|b", 0.8, Estimate(-0.4, -0.5, -0.3), 0.7, NOTHING, 1000, 5))
    pairs = [Correlation("one", "macs", "a|b", 0.5, 0.4, 9), Correlation("two", "macs", "a|b", 0.1, 0.1, 9)]
    return SpacesEvaluation(metrics, fixed, pairs)


def test_cells_marks_and_means(evaluation):
    kendall, difference, partial, within = spaces_grids(evaluation)  # no tables without a line
    assert kendall.heads == (
        *("one\nx\nn = 1,000", "two\nx\nn = 1,000", "two\ny\nn = 1,000"),
        *("one\nlatency (ms, lower is better)\nn = 1,000", "mean"),
    )
    assert [cell.text for cell in kendall.lines["a|b"]] == [
        "0.700 [0.60, 0.80]",
        "0.200 [0.10, 0.30]",
        "–",
        "0.800 [0.70, 0.90]",
        "",
    ]
    assert [cell.mark for cell in kendall.lines["a|b"]] == ["best", "tied", "", "", ""]
    # Of each space the mean over its data sets, then over spaces; none where a column has no value.
    assert kendall.lines["macs"][-1].value == pytest.approx(((0.5 + 0.8) / 2 + (0.25 + 0.9) / 2) / 2)
    (line,) = difference.lines.values()
    assert [cell.text for cell in line][:2] == ["+0.200 [+0.10, +0.30]", "−0.300 [−0.40, −0.20]"]
    assert [cell.mark for cell in line] == ["better", "worse", "", "better", ""]
    assert line[-1].text == "2 / 1 of 3"
    assert partial.lines["macs"][0].text == "–"
    assert partial.lines["a|b"][0].mark == "worse"
    assert within.lines["macs"][0].text == "0.200 [0.10, 0.30]"


def test_what_must_be_known_is_said(evaluation):
    assert notes(evaluation, {"pit": "get it with: download pit"}) == [
        "pit is left out: get it with: download pit",
        "two y: suspect",
        "no value on two of a|b: the table has no column b",
    ]
    text = spaces_text(evaluation, {}, width=80)
    assert max(map(len, text.splitlines())) <= 80
    assert "0.700 [0.60, 0.80]*" in text
    assert "0.200 [0.10, 0.30]~" in text
    assert "note: two y: suspect" in text


def test_mean_correlations(evaluation):
    names, rho = mean_correlations(evaluation.correlations)
    assert names == ["macs", "a|b"]
    assert rho == pytest.approx(np.array([[1, 0.3], [0.3, 1]]))


def test_the_documentation_is_renewed_between_its_markers(evaluation, tmp_path):
    write_spaces(tmp_path, evaluation)
    text = renewed(f"before\n{BEGIN}\nstale words\n{END}\nafter\n", tmp_path)
    assert text.startswith(f"before\n{BEGIN}\n\n### Kendall's tau\n")
    assert text.endswith(f"{END}\nafter\n")
    assert "stale words" not in text
    assert "| **0.700 [0.60, 0.80]** | 0.200 [0.10, 0.30] ≈ |" in text
    assert "_−0.300 [−0.40, −0.20]_" in text
    assert "`a\\|b`" in text  # a bar would begin the next cell
    assert renewed(text, tmp_path) == text
    with pytest.raises(ValueError, match="the text has no lines"):
        renewed("nothing", tmp_path)
