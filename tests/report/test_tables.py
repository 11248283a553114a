"""Tables of metrics: what is shown, what is marked, what is refused."""

import csv
import io

import pytest

from vkdnw_pl.report.tables import Value, markdown_table, metric_value, print_table, text_table


def row(ranking, dataset="digits", kendall=0.5, spearman=0.6, ndcg=0.7, std=None, **more):
    stds = {f"{metric}_std": std for metric in ("kendall", "spearman", "ndcg")}
    values = {"kendall": kendall, "spearman": spearman, "ndcg": ndcg}
    base = {"ranking": ranking, "dataset": dataset, "split": "test", "n": 300, "ndcg_k": 300}
    return base | values | {"seeds": 1 if std is None else 3} | stds | more


ROWS = [
    row("macs", kendall=0.61, spearman=0.8, ndcg=0.9),
    row("vkdnw_agg", kendall=0.75, spearman=0.92, ndcg=0.85),
    row("macs", "cifar10", kendall=0.4, n=1500, ndcg_k=1000),
    row("vkdnw_agg", "cifar10", kendall=0.39996, spearman=None, ndcg=float("nan"), n=1499, ndcg_k=1000),
]


def test_text_table_word_for_word():
    assert text_table(ROWS).splitlines() == [
        "                digits (test), n = 300      cifar10 (test), n = 1,499–1,500",
        "ranking       KT     SPR     nDCG@300         KT        SPR     nDCG@1,000",
        "---------  ------  ------  -----------  ---------  ---------  -------------",
        "macs       0.610   0.800        0.900*     0.400*     0.600*         0.700*",
        "vkdnw_agg  0.750*  0.920*       0.850      0.400*       n/a            n/a",
        "",
        "KT Kendall's tau-b, SPR Spearman's rho, nDCG@k of the k that rank first; higher is better, the best of each column is",
        "marked *.",
    ]


def test_ansi_marks_the_same_cells_and_keeps_the_columns():
    plain = text_table(ROWS)
    bold = text_table(ROWS, ansi=True)
    assert bold.count("\033[1m") == plain.count("*") - 1 == 7  # one star stands in the caption
    stripped = bold.replace("\033[1m", "").replace("\033[0m", "").splitlines()
    assert stripped[3:5] == [
        "macs        0.610   0.800       0.900      0.400      0.600         0.700",
        "vkdnw_agg   0.750   0.920       0.850      0.400        n/a           n/a",
    ]
    assert "\033[1m0.750\033[0m" in bold


def test_narrow_terminals_get_data_sets_below_each_other():
    wide, narrow = text_table(ROWS), text_table(ROWS, width=60)
    assert wide.count("ranking ") == 1
    assert narrow.count("ranking ") == 2
    assert max(len(line) for line in narrow.splitlines()) <= 60


def test_markdown():
    assert markdown_table(["a", "b"], [["1", "**2**"]], right=[1]).splitlines() == [
        "| a | b |",
        "| --- | ---: |",
        "| 1 | **2** |",
    ]


def test_several_seeds_show_their_spread():
    rows = [row("macs", std=0.0), row("vkdnw", kendall=0.7312, std=0.0123)]
    text = text_table(rows)
    assert "0.731 ± 0.012*" in text
    assert "0.500 ± 0.000 " in text
    assert "standard deviation over 3 seeds" in " ".join(text.split())
    assert "standard deviation" not in text_table(ROWS)


def test_rows_of_a_csv_file_look_the_same():
    file = io.StringIO()
    writer = csv.DictWriter(file, ROWS[0])
    writer.writeheader()
    writer.writerows(ROWS)
    file.seek(0)
    assert text_table(csv.DictReader(file)) == text_table(ROWS)


def test_a_ranking_may_be_missing_on_a_data_set():
    text = text_table([row("vkdnw"), row("macs", "cifar10"), row("vkdnw", "cifar10", kendall=0.9)])
    line = next(line for line in text.splitlines() if line.startswith("macs"))
    assert line.split() == ["macs", "0.500", "0.600*", "0.700*"]
    assert line.index("0.500") > text.splitlines()[1].index("nDCG")


def test_no_rows():
    assert "no metrics" in text_table([])


def test_print_table_is_plain_for_a_file():
    file = io.StringIO()
    print_table(ROWS, file)
    assert file.getvalue() == text_table(ROWS)


def test_metric_value():
    assert metric_value(row("macs", kendall="0.25", std="0.5"), "kendall") == Value(0.25, 0.5)
    assert metric_value(row("macs", kendall="nan", std=""), "kendall") == Value(None, None)


def test_mistakes_are_named():
    with pytest.raises(ValueError, match="kendall='high' of ranking 'macs' is not a number"):
        text_table([row("macs", kendall="high")])
    with pytest.raises(ValueError, match="no column 'spearman'"):
        text_table([{k: v for k, v in row("macs").items() if k != "spearman"}])
    with pytest.raises(ValueError, match="no column 'dataset'"):
        text_table([{"ranking": "macs"}])
    with pytest.raises(ValueError, match=r"'macs' on digits .test. come twice"):
        text_table([row("macs"), row("macs")])
