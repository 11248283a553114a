"""The paper's values beside the rank metrics of runs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from vkdnw_pl.report.paper.comparison import Cell, Comparison, compare
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
            new_lines, numbers = _lines(i, comparison, seen)
            if not new_lines:
                continue
            lines += new_lines
            numbers |= {number for notes in comparison.column_notes for number in notes}
            remarks |= dict.fromkeys(_remarks(runs[i], variant, rows))
            remarks |= dict.fromkeys(comparison.footnotes[number - 1] for number in sorted(numbers))
            remarks |= dict.fromkeys(comparison.remarks)
        # Tables repeat rows of those before them, under other names.
        seen |= {(line.run, cell.ranking or "") for line in lines for cell in line.cells}
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


def _lines(run: int, comparison: Comparison, seen: set[tuple[int, str]]) -> tuple[list[Line], set[int]]:
    """Rows of which both sides have a value, without rankings that were shown, and the numbers of their footnotes."""
    lines, numbers = [], set[int]()
    for row in comparison.rows:
        cells = tuple(cell for column in row.cells for cell in column)
        both = [cell for cell in cells if _compared(cell)]
        if any((run, cell.ranking or "") not in seen for cell in both):
            lines.append(Line(run=run, label=row.row.label, cells=cells))
            numbers.update(row.notes)
    return lines, numbers


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


def _remarks(run: Run, variant: str, rows: Iterable[Mapping[str, str]]) -> Iterable[str]:
    whole = _ALL if variant == "all" else _UNIQUE
    sizes = sorted({int(float(row["n"])) for row in rows if row["n"]})
    if sizes and sizes[0] < whole:
        yield (
            f"{run.name}: a sample of {sizes[0]:,} of the paper's {whole:,} networks, so that values differ by chance; "
            "intervals, and nDCG as the paper cuts it, are what evaluate --paper makes"
        )
