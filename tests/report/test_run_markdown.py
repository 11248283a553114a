import html
import re

import pytest
import run_samples as samples
from test_run_page import hostile

from vkdnw_pl.report.run_pages import code, plain, runs_markdown
from vkdnw_pl.report.runs import read_runs


def test_sections(tmp_path):
    folders = [
        samples.score_run(tmp_path / "a", seeds=2, failures={5: "vkdnw: out of memory", 6: "vkdnw: out of memory"}),
        samples.score_run(tmp_path / "b", batch_size=64, rows=samples.METRICS[:2], status="running"),
    ]
    text = runs_markdown(read_runs(folders), "Mine")
    assert text.startswith("## Mine\n")
    assert (
        "| `a` | score | nb201 | 40 | `vkdnw_agg` | 0.750 | on digits; 2 failed rows | finished | 2 min 00 s |" in text
    )
    assert "| `a` | `vkdnw_agg` | **0.750 ± 0.013** | **0.900 ± 0.013** | **0.950 ± 0.013** |" in text
    assert "| `a` | `zen` | n/a | n/a | 0.200 ± 0.013 |" in text
    assert "- `b`: it is running, or was killed" in text
    assert (
        "| `batch_size` | `16` | **`64`** |" in text
        or "| `batch_size` | **`16`** | `64` |" in text
        or "`batch_size`" in text
    )
    assert f"- 2 × `vkdnw: out of memory`: `{samples.archs(6)[5]} (seed 1)`" in text
    assert "`space`" not in text  # it is the same in both


def test_a_table_has_the_same_cells_in_every_line(tmp_path):
    text = runs_markdown(read_runs(hostile(tmp_path)), samples.HOSTILE)
    text.encode()
    count = None
    for line in text.splitlines():
        if not line.startswith("| "):
            count = None
            continue
        bars = len(re.findall(r"(?<!\\)\|", line))
        assert count in (None, bars), line
        count = bars
    # Outside of code, what HTML would run is not there.
    assert "<script" not in re.sub(r"(`+).+?\1", "", text)
    assert "<img" not in re.sub(r"(`+).+?\1", "", text)


@pytest.mark.parametrize(
    ("text", "table", "expected"),
    [
        ("vkdnw_agg", True, "`vkdnw_agg`"),
        ("a|b", True, "`a\\|b`"),
        ("a|b", False, "`a|b`"),
        ("a`b``c", True, "```a`b``c```"),
        ("`a", True, "`` `a ``"),
        ("a\nb", True, "`a b`"),
        ("", True, ""),
        ("a\\|b<", True, "<code>a&#92;&#124;b&#60;</code>"),
    ],
)
def test_code(text, table, expected):
    assert code(text, table) == expected


def test_plain():
    text = "<b> *x* @user #12 http://x [a](b) 50 @ 3"
    shown = plain(text)
    assert html.unescape(shown).replace("\u200b", "") == text
    for mark in ("<", "*", "@u", "#1", "http:/", "["):
        assert mark not in shown
