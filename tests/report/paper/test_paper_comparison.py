"""Cells, verdicts, footnotes, and the forms that a comparison is shown in."""

import csv
import io
import re

import pytest
from matplotlib.text import Text

from vkdnw_pl.report.figures.style import save_figure
from vkdnw_pl.report.paper.comparison import (
    CLOSE,
    COVERED,
    CSV_COLUMNS,
    DIFFERS,
    NO_PAPER,
    NOT_COMPUTED,
    Cell,
    compare,
    comparison_csv,
)
from vkdnw_pl.report.paper.figures import paired_bars, table_figure
from vkdnw_pl.report.paper.tables import (
    PAPER_TABLES,
    Note,
    PaperColumn,
    PaperRow,
    PaperTable,
    known_reasons,
    parse_notes,
    read_notes,
)
from vkdnw_pl.report.paper.text import comparison_html, comparison_markdown, comparison_text

HOSTILE = """<script>alert("1")</script>|'&"""


def row(ranking, dataset="ImageNet16-120", kendall=0.6, spearman=0.8, ndcg=0.6, std=None, **more):
    values = {"kendall": kendall, "spearman": spearman, "ndcg": ndcg}
    stds = {f"{name}_std": std for name in values}
    return {
        "ranking": ranking,
        "dataset": dataset,
        "split": "test",
        "n": 1000,
        "ndcg_k": 106,
        "seeds": 3,
        **values,
        **stds,
    } | more


@pytest.mark.parametrize(
    ("cell", "difference", "verdict"),
    [
        (Cell("a", "kendall", 0.6204, paper=0.6), 0.02, CLOSE),  # as printed: 0.620
        (Cell("a", "kendall", 0.5796, paper=0.6), -0.02, CLOSE),
        (Cell("a", "kendall", 0.6206, paper=0.6), 0.021, DIFFERS),
        (Cell("a", "kendall", 0.65, interval=(0.5996, 0.7), paper=0.6), 0.05, COVERED),
        (Cell("a", "kendall", 0.65, interval=(0.61, 0.7), paper=0.6), 0.05, DIFFERS),
        (Cell("a", "kendall", 0.65), None, NO_PAPER),
        (Cell("a", "kendall", None, paper=0.6), None, NOT_COMPUTED),
        (Cell("a", "kendall", 0.8788, paper=0.89, decimals=2), -0.01, CLOSE),
    ],
)
def test_verdicts(cell, difference, verdict):
    assert cell.difference == difference
    assert cell.verdict == verdict


def table1(**options):
    metrics = [row("macs", kendall=0.545, std=0.001), row("aleph", kendall=0.7), row("vkdnw_single", kendall=None)]
    intervals = {("aleph", "ImageNet16-120"): {"kendall": (0.62, 0.75)}}
    problems = {"grasp": "not computed: needs the column grasp, which the scores do not have"}
    return compare(PAPER_TABLES["table1"], metrics, intervals=intervals, problems=problems, **options)


def test_every_row_stays_and_says_what_it_lacks():
    done = table1()
    assert [one.row.key for one in done.rows] == [one.key for one in PAPER_TABLES["table1"].rows]
    by_key = {one.row.key: one for one in done.rows}
    assert "needs the column grasp" in by_key["grasp"].problem
    assert "a model-driven ranking" in by_key["graf"].problem
    assert "no metrics of 'macs' on cifar10" in by_key["flops"].problem
    assert "kendall of 'vkdnw_single' is undefined" in by_key["vkdnw_single"].problem
    kendall, spearman, _ = by_key["flops"].cells[2]
    assert (kendall.ours, kendall.std, kendall.paper, kendall.difference) == (0.545, 0.001, 0.545, 0.0)
    assert spearman.difference == pytest.approx(0.082)
    assert by_key["aleph"].cells[2][0].verdict == COVERED
    # GradSign: the paper has one metric only.
    assert [cell.paper for cell in by_key["grad_sign"].cells[0]] == [None, 0.765, None]
    text = comparison_text(done)
    for key in ("grasp", "graf"):
        assert by_key[key].problem in " ".join(text.split())


def test_model_driven_rows_come_from_any_source():
    done = compare(PAPER_TABLES["table1"], [row("graf", kendall=0.79)])
    cells = {one.row.key: one.cells[2][0] for one in done.rows}
    assert (cells["graf"].ours, cells["graf"].difference) == (0.79, -0.006)


def test_table_4_compares_with_a_column_on_every_data_set():
    done = compare(PAPER_TABLES["table4"], [row("vkdnw", "aleph", kendall=0.01)])
    assert [cells[0].difference for cells in done.rows[0].cells] == [-0.031, 0.1, 0.117]


def test_footnotes_are_those_of_the_row_column_and_variant():
    done = table1()
    notes = {one.row.key: [done.footnotes[number - 1] for number in one.notes] for one in done.rows}
    assert any("quotes Spearman" in text for text in notes["grad_sign"])
    assert any("L J in place of L^T J" in text for text in notes["vkdnw_agg"])
    assert not notes["az_nas"]
    assert done.column_notes[0] == ()
    assert "separate networks for each data set" in done.footnotes[done.column_notes[1][0] - 1]
    assert any("test accuracies" in text for text in done.remarks)
    of_all = " ".join(compare(PAPER_TABLES["table1"], [], "all").footnotes)
    assert "Of all 15,625 networks" in of_all
    assert "Of all 15,625 networks" not in " ".join(done.footnotes)


def test_own_notes_and_remarks_are_shown(tmp_path):
    file = tmp_path / "notes.yaml"
    file.write_text(
        "- {text: my own reason, tables: [table1], rows: [az_nas]}\n- {text: my remark, tables: [table1]}\n"
    )
    done = table1(notes=read_notes(file), remarks=["done on a Monday"], row_remarks={"zico": "saw noise"})
    for shown in (comparison_text(done), comparison_markdown(done), comparison_html([done], "t", "s")):
        for text in ("my own reason", "my remark", "done on a Monday", "saw noise"):
            assert text in shown


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("text: a", "must hold a list"),
        ("- {text: a}", "note 1: it must have text and tables"),
        ("- {text: a, tables: [table9]}", "note 1: table='table9' is not known"),
        ("- {text: a, tables: [table1], rows: [zenn]}", "row='zenn' is not known; did you mean 'zen'"),
        ("- {text: a, tables: [table1], columns: [digits]}", "column='digits' is not known"),
        ("- {text: a, tables: [table1], variants: [some]}", "variant='some' is not known"),
        ("- {text: a, tables: table1}", "tables is 'table1', give a list"),
        ("- {text: a, tables: [table5], rows: [8]}", "numbers in quotes"),
        ("- {text: '', tables: [table1]}", "give a sentence"),
        ("- {text: a, tables: [table1], row: [zen]}", "key='row' is not known; did you mean 'rows'"),
        ("- {", "is not YAML"),
    ],
)
def test_notes_that_are_refused(text, fault):
    with pytest.raises(ValueError, match=re.escape(fault) if fault.startswith("numbers") else fault):
        parse_notes(text, "mine.yaml")
    with pytest.raises(ValueError, match="cannot be read"):
        read_notes("there/is/none.yaml")


def test_known_reasons_have_words_for_rows_that_exist():
    assert len(known_reasons()) > 10
    assert all(note.text.endswith(".") for note in known_reasons())


def test_csv_holds_every_cell_with_its_reason():
    lines = list(csv.DictReader(io.StringIO(comparison_csv(table1()))))
    assert tuple(lines[0]) == CSV_COLUMNS
    assert len(lines) == len(PAPER_TABLES["table1"].rows) * 9
    of = {(line["row"], line["column"], line["metric"]): line for line in lines}
    flops = of["flops", "ImageNet16-120", "kendall"]
    assert (flops["ours"], flops["ours_std"], flops["paper"], flops["difference"]) == ("0.545", "0.001", "0.545", "0.0")
    assert (flops["n"], flops["ndcg_k"], flops["seeds"], flops["verdict"]) == ("1000", "106", "3", CLOSE)
    aleph = of["aleph", "ImageNet16-120", "kendall"]
    assert (aleph["low"], aleph["high"], aleph["in_interval"], aleph["verdict"]) == ("0.62", "0.75", "true", COVERED)
    assert of["grasp", "cifar10", "kendall"]["reason"].startswith("not computed: needs")
    assert of["grasp", "cifar10", "kendall"]["source"] == "paper Table 1"
    assert of["te_nas", "ImageNet16-120", "kendall"]["paper_std"] == "0.0017"


def test_text_puts_blocks_below_each_other():
    wide, narrow = comparison_text(table1()), comparison_text(table1(), width=100)
    assert wide.count("No. of trainable layers") == 1 + wide.count("- No. of")
    assert narrow.count("No. of trainable layers") > 3
    assert all(len(line) <= 100 for line in narrow.splitlines())
    assert "\033[32m" in comparison_text(table1(), ansi=True)
    assert "\033" not in wide


def hostile_table():
    rows = (PaperRow("flops", HOSTILE, "macs"), PaperRow("zen", "zen", HOSTILE))
    columns = (PaperColumn("ImageNet16-120", HOSTILE, "ImageNet16-120"),)
    table = PaperTable("table1", HOSTILE, rows, columns)
    note = Note(HOSTILE, ("table1",), rows=("flops",))
    return compare(
        table, [row("macs")], problems={HOSTILE: HOSTILE}, remarks=[HOSTILE], notes=[note, Note(HOSTILE, ("table1",))]
    )


def test_html_and_markdown_escape_every_value(tmp_path):
    done = hostile_table()
    figure = save_figure(table_figure(done), tmp_path / "<b>.png")
    page = comparison_html([done], HOSTILE, HOSTILE, {"table1": [figure]})
    assert "<script" not in page
    assert "<b>" not in page.replace("<b>zen</b>", "")
    assert page.count("&lt;script&gt;") >= 8
    for title in re.findall(r'title="([^"]*)"', page):
        assert "<" not in title
    markdown = comparison_markdown(done)
    assert "<script" not in markdown
    for line in markdown.splitlines():
        if line.startswith("| "):
            assert len(re.findall(r"(?<!\\)\|", line)) == 5  # a stray | would open another cell


def test_html_is_self_contained_and_coloured(tmp_path):
    done = table1()
    picture = save_figure(table_figure(done), tmp_path / "table1.png")
    page = comparison_html([done], "title", "subtitle", {"table1": [picture]})
    assert not re.search(r'(?:src|href)="(?!data:|#)', page)
    assert "data:image/png;base64,iVBOR" in page
    for css in ("close", "covered", "differs", "missing"):
        assert f'<td class="{css}"' in page
    assert set(re.findall(r'href="#([^"]+)"', page)) <= set(re.findall(r'id="([^"]+)"', page))


def test_pictures_show_every_row():
    for name, figure in (
        ("table1", table_figure(table1())),
        ("fig1", paired_bars(compare(PAPER_TABLES["fig1"], [row("macs", ndcg=0.39)]))),
        ("fig3", paired_bars(compare(PAPER_TABLES["fig3"], [row("vkdnw", "aleph", kendall=-0.2)]))),
    ):
        texts = [text.get_text() for text in figure.findobj(Text)]
        cells = [cell for ax in figure.axes for table in ax.tables for cell in table.get_celld().values()]
        texts += [cell.get_text().get_text() for cell in cells]
        for paper_row in PAPER_TABLES[name].rows:
            assert paper_row.label in texts
    assert "not computed" in texts


def test_mistakes_are_named():
    with pytest.raises(ValueError, match="the metrics of ranking 'macs' on cifar10 come twice"):
        compare(PAPER_TABLES["table1"], [row("macs", "cifar10"), row("macs", "cifar10")])
    with pytest.raises(ValueError, match="no table5 for variant='all'"):
        compare(PAPER_TABLES["table5"], [], "all")
    assert compare(PAPER_TABLES["table1"], []).summary.endswith(" not computed here")
