"""The paper's values beside the rank metrics of runs."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence

from vkdnw_pl.report.paper.comparison import Cell, ComparedRow, compare
from vkdnw_pl.report.paper.tables import ACCURACY, PAPER_TABLES, PaperTable
from vkdnw_pl.report.runs import Run
from vkdnw_pl.report.tables import Line

_ALL, _UNIQUE = 15_625, 9_445
_PAPER_CUT = 1000
_COMPARED = ("table1", "table3", "table5", "robustness_tensors", "robustness_weights", "robustness_entry")


def paper_parts(runs: Sequence[Run]) -> list[Line]:
    """What the paper prints for rankings and data sets that some run has metrics of.

    A part has the paper's ``table``, ``lines`` (``run``, ``label``, and ``cells`` by column, then metric), ``remarks``, and
    ``columns``: the label of each, with place among the cells and name of its metrics that both sides have somewhere.
    The paper's nDCG looks at the first 1,000 of all its networks; that of a sample is another quantity, and is left out.
    """
    metrics = [_for_paper(run) for run in runs]
    parts = []
    seen: set[tuple[int, str]] = set()
    for name in _COMPARED:
        table = PAPER_TABLES[name]
        datasets = {column.dataset for column in table.columns if column.target == ACCURACY}
        lines, remarks = [], dict[str, None]()
        for i, (variant, rows) in enumerate(metrics):
            if not any(row["dataset"] in datasets for row in rows):
                continue
            try:
                comparison = compare(table, rows, variant, notes=())
            except ValueError:
                continue  # the paper has no such table for this set of networks
            new_rows = [row for row in comparison.rows if _is_new(row, i, seen)]
            if not new_rows:
                continue
            lines += [Line(run=i, label=row.row.label, cells=row.all_cells) for row in new_rows]
            notes = [*comparison.column_notes, *(row.notes for row in new_rows)]
            footnotes = [comparison.footnotes[number - 1] for number in sorted({*itertools.chain(*notes)})]
            remarks |= dict.fromkeys([*_sample_remark(runs[i], variant, rows), *footnotes, *comparison.remarks])
        # Tables repeat rows of those before them, under other names.
        seen |= {(line.run, cell.ranking) for line in lines for cell in line.cells}
        if lines:
            order = [row.label for row in table.rows]
            lines.sort(key=lambda line: order.index(line.label))
            parts.append(Line(table=table, lines=lines, remarks=list(remarks), columns=_columns(table, lines)))
    return parts


def _for_paper(run: Run) -> tuple[str, list[dict[str, str]]]:
    """The paper's set of networks that a run is nearest to, and its rows, nDCG only where it is the paper's."""
    rows: dict[tuple[str, str], dict[str, str]] = {}
    sizes = [int(float(row["n"])) for row in run.metrics if row["n"]]
    variant = "all" if sizes and max(sizes) > _UNIQUE else "unique"
    whole = _ALL if variant == "all" else _UNIQUE
    for row in run.metrics:
        if row["split"] not in ("test", ""):
            continue
        same_cut = row["n"] == str(whole) and row.get("ndcg_k") == str(_PAPER_CUT)
        kept = row if same_cut else {**row, "ndcg": "", "ndcg_std": ""}
        rows.setdefault((row["ranking"], row["dataset"]), kept)
    return variant, list(rows.values())


def _is_new(row: ComparedRow, run: int, seen: set[tuple[int, str]]) -> bool:
    """Whether both sides have a value of a ranking that was not shown."""
    return any(_compared(cell) and (run, cell.ranking) not in seen for cell in row.all_cells)


def _columns(table: PaperTable, lines: Sequence[Line]) -> list[tuple[str, list[tuple[int, str]]]]:
    columns = []
    for i, column in enumerate(table.columns):
        places = enumerate(table.metrics, i * len(table.metrics))
        shown = [(k, metric) for k, metric in places if any(_compared(line.cells[k]) for line in lines)]
        if shown:
            columns.append((column.label, shown))
    return columns


def _compared(cell: Cell) -> bool:
    """Whether both sides have a value."""
    return cell.ours is not None and cell.paper is not None


def _sample_remark(run: Run, variant: str, rows: Iterable[Mapping[str, str]]) -> Iterable[str]:
    whole = _ALL if variant == "all" else _UNIQUE
    size = min((int(float(row["n"])) for row in rows if row["n"]), default=whole)
    if size < whole:
        yield (
            f"{run.name}: a sample of {size:,} of the paper's {whole:,} networks, so that values differ by chance; "
            "intervals, and nDCG as the paper cuts it, are what evaluate --paper makes"
        )
