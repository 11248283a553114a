"""The paper's numbers in the package are those that the paper prints."""

import csv
import itertools
import math
from importlib import resources

import pytest

from vkdnw_pl.report.paper.tables import PAPER_CHOICES, PAPER_TABLES, paper_values

FILES = sorted(file for file in resources.files("vkdnw_pl.report.paper").iterdir() if file.name.endswith(".csv"))
C10, C100, IN16 = DATASETS = ("cifar10", "cifar100", "ImageNet16-120")
METRICS = ("kendall", "spearman", "ndcg")

# Typed by hand from the paper: table, row, column, (KT, SPR, nDCG).
TYPED = [
    ("table1", "flops", C10, (0.623, 0.799, 0.745)),
    ("table1", "grad_norm", IN16, (0.310, 0.418, 0.265)),
    ("table1", "snip", C100, (0.440, 0.597, 0.286)),
    ("table1", "jacov", IN16, (0.602, 0.779, 0.356)),
    ("table1", "zen", C10, (0.102, 0.103, 0.120)),
    ("table1", "grad_sign", C100, (None, 0.793, None)),
    ("table1", "te_nas", C100, (0.537, 0.723, 0.327)),
    ("table1", "az_nas", IN16, (0.673, 0.859, 0.534)),
    ("table1", "aleph", C10, (0.626, 0.767, 0.671)),
    ("table1", "vkdnw_single", IN16, (0.622, 0.814, 0.608)),
    ("table1", "vkdnw_agg", C100, (0.753, 0.919, 0.636)),
    ("table1", "graf", C10, (0.820, 0.953, 0.935)),
    ("table1", "vkdnw_m", IN16, (0.611, 0.798, 0.575)),
    ("table1", "vkdnw_zcs_m", C10, (0.840, 0.963, 0.922)),
    ("table1", "vkdnw_zcs_graf_m", IN16, (0.842, 0.963, 0.867)),
    ("table3", "V", IN16, (0.622, 0.814, 0.608)),
    ("table3", "T", IN16, (0.353, 0.517, 0.233)),
    ("table3", "VJET", IN16, (0.717, 0.891, 0.623)),
    ("table3", "VJEF", IN16, (0.706, 0.871, 0.553)),
    ("table3", "VJTF", IN16, (0.736, 0.905, 0.695)),
    ("table3", "VETF", IN16, (0.722, 0.896, 0.658)),
    ("table3", "JETF", IN16, (0.735, 0.901, 0.646)),
    ("table3", "VJETF", IN16, (0.743, 0.906, 0.664)),
    ("table3", "JF", C10, (None, None, 0.806)),
    ("table5", "8", "random", (0.615, 0.808, 0.617)),
    ("table5", "16", "real", (0.608, 0.800, 0.595)),
    ("table5", "128", "random", (0.621, 0.814, 0.616)),
    ("table5", "128", "real", (0.615, 0.806, 0.591)),
    ("robustness_tensors", "8", C100, (0.593, 0.788, 0.556)),
    ("robustness_weights", "2", IN16, (0.634, 0.824, 0.608)),
    ("robustness_entry", "0.4", "vkdnw_single", (0.625, 0.817, 0.606)),
    ("fig2", "damaged_top", "toy", (0.82, 0.90, 0.50)),
]


@pytest.mark.parametrize(("table", "row", "column", "printed"), TYPED)
def test_cells_typed_by_hand(table, row, column, printed):
    for metric, value in zip(METRICS, printed):
        cell = paper_values(table).get((row, column, metric))
        assert (cell and cell.value) == value
        assert cell is None or cell.source


def test_table_2_and_4():
    table2 = paper_values("table2")
    assert table2["vkdnw_agg", "ImageNet-1K", "top1"].value == 78.8
    assert table2["ofa", "ImageNet-1K", "search_gpu_days"].value == 50
    assert ("rlnas", "ImageNet-1K", "search_gpu_days") not in table2
    for row, printed in {"vkdnw": (0.041, -0.090, -0.107), "progressivity": (0.398, 0.398, 0.385)}.items():
        assert tuple(paper_values("table4")[row, dataset, "kendall"].value for dataset in DATASETS) == printed


def test_numbers_of_all_networks():
    for metric, value in zip(METRICS, (0.740, 0.911, 0.743)):
        assert paper_values("table1", "all")["vkdnw_agg", C10, metric].value == value
    # Of the first 128 tensors, as the main table; the notebook's cell 16 has the last 128.
    assert paper_values("table1", "all")["vkdnw_single", IN16, "ndcg"].value == 0.583
    assert paper_values("table3", "all")["VJTF", IN16, "ndcg"].value == 0.665
    with pytest.raises(ValueError, match=r"no table5 for variant='all' \(it has: unique\)"):
        paper_values("table5", "all")


def test_tables_are_complete():
    """Every cell of Tables 1, 3, 4 and 5 that the paper fills."""
    table1 = {key for key, value in paper_values("table1").items() if value.source == "paper Table 1"}
    methods = [
        row.key for row in PAPER_TABLES["table1"].rows if row.key not in ("grad_sign", "grad_sign_own") and not row.ours
    ]
    assert len(methods) == 18
    assert table1 == {
        *itertools.product(methods, DATASETS, METRICS),
        *(("grad_sign", dataset, "spearman") for dataset in DATASETS),
    }
    table3 = [key for key, value in paper_values("table3").items() if value.source == "paper Table 3"]
    assert len(table3) == 11 * 3
    ndcg = {key[:2] for key in paper_values("table3") if key[2] == "ndcg"}
    assert ndcg == {(row.key, dataset) for row in PAPER_TABLES["table3"].rows for dataset in DATASETS}
    assert len(ndcg) == 31 * 3
    assert len(paper_values("table3", "all")) == 31 * 3
    assert len(paper_values("table4")) == 4 * 3
    assert len(paper_values("table5")) == 5 * 6


@pytest.mark.parametrize("table", PAPER_TABLES.values(), ids=PAPER_TABLES)
def test_every_number_has_its_place_and_every_row_a_ranking(table):
    rows, columns = ({one.key: one for one in part} for part in (table.rows, table.columns))
    for variant in ("unique", "all"):
        try:
            values = paper_values(table.name, variant)
        except ValueError:
            continue
        assert {key[0] for key in values} <= set(rows)
        assert {key[1] for key in values} <= set(columns)
        assert {key[2].removesuffix("_std") for key in values} <= set(table.metrics)
    assert {key[0] for key in paper_values(table.name)} == {row.key for row in table.rows if not row.ours}
    for row, column in itertools.product(table.rows, table.columns):
        assert row.ranking_for(column.key)


def test_choices_name_tables():
    assert {name for names in PAPER_CHOICES.values() for name in names} == set(PAPER_TABLES)


def test_what_does_not_exist_is_named():
    with pytest.raises(ValueError, match=r"table='table11' is not known; did you mean 'table1'\?.*table2"):
        paper_values("table11")
    with pytest.raises(ValueError, match=r"variant='everything' is not known \(allowed: unique, all\)"):
        paper_values("table1", "everything")


@pytest.mark.parametrize("file", FILES, ids=[file.stem for file in FILES])
def test_every_line_of_the_numbers_is_whole_and_comes_once(file):
    with file.open(newline="", encoding="utf-8") as text:
        lines = list(csv.DictReader(text))
    assert all(list(line) == ["table", "variant", "row", "column", "metric", "value", "source"] for line in lines)
    assert all(all(line.values()) and math.isfinite(float(line["value"])) for line in lines)
    keys = [tuple(line.values())[:5] for line in lines]
    assert len(set(keys)) == len(keys)
