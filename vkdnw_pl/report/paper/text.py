"""A comparison with the paper as text: for a terminal, as Markdown, and as one HTML page that needs no other file."""

from __future__ import annotations

import base64
import html
import re
import shutil
import sys
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined
from tabulate import tabulate

from vkdnw_pl._version import __version__
from vkdnw_pl.report.paper.comparison import (
    CLOSE,
    COVERED,
    DIFFERS,
    MARKS,
    NO_PAPER,
    NOT_COMPUTED,
    VERDICTS,
    Cell,
    Comparison,
    comparison_csv,
)
from vkdnw_pl.report.paper.figures import save_comparison_figures
from vkdnw_pl.report.tables import METRICS, markdown_table
from vkdnw_pl.runs.files import write_atomically
from vkdnw_pl.runs.table import ScoreTable

LEGEND = (
    "KT Kendall's tau-b, SPR Spearman's rho, nDCG of the first 1,000 of the paper's networks (a sample stands for all); "
    "ours ± standard deviation over seeds [95 % interval over samples of architectures], the paper's value, ours minus "
    f"the paper's; {'; '.join(f'{MARKS[verdict]} {VERDICTS[verdict]}' for verdict in (CLOSE, COVERED, DIFFERS))}"
)
_ANSI = {CLOSE: "32", COVERED: "33", DIFFERS: "31"}
_CSS = {CLOSE: "close", COVERED: "covered", DIFFERS: "differs", NO_PAPER: "none", NOT_COMPUTED: "missing"}


def comparison_text(comparison: Comparison, ansi: bool = False, width: int | None = None) -> str:
    """Render for a terminal: rows down, data sets and metrics across; what is wider than ``width`` continues below."""
    names, *columns = zip(*_cell_texts(comparison, ansi))
    groups: list[list[tuple[str, ...]]] = []
    for column in columns:
        fits = groups and (width is None or sum(map(_width, [names, *groups[-1], column])) <= width)
        groups = [*groups[:-1], [*groups[-1], column]] if fits else [*groups, [column]]
    lines = [comparison.table.title, ""]
    for group in groups:
        align = ["left", *["right"] * len(group)]
        lines += [tabulate(zip(names, *group), tablefmt="plain", disable_numparse=True, colalign=align), ""]
    below = [*_captions(comparison), *(f"- {text}" for texts in _explanations(comparison) for text in texts)]
    for text in below:
        lines += textwrap.wrap(text, min(width or 120, 120), subsequent_indent="  ")
    return "\n".join(lines) + "\n"


def print_comparison(comparison: Comparison) -> None:
    """Print `comparison_text`, coloured and in the terminal's width if there is one."""
    tty = sys.stdout.isatty()
    width = shutil.get_terminal_size().columns if tty else 160
    sys.stdout.write(comparison_text(comparison, ansi=tty, width=width))


def comparison_markdown(comparison: Comparison) -> str:
    """Render as Markdown: a cell is ``ours ± std [interval] / paper / difference``."""
    head, *rows = ([_escaped(text) for text in line] for line in _cell_texts(comparison))
    lists = ["\n".join(f"- {_escaped(text)}" for text in texts) for texts in _explanations(comparison) if texts]
    title = f"## {_escaped(comparison.table.title)}"
    return "\n\n".join([title, markdown_table(head, rows), " ".join(_captions(comparison)), *lists]) + "\n"


def comparison_html(
    comparisons: Sequence[Comparison], title: str, subtitle: str, figures: Mapping[str, Sequence[Path]] | None = None
) -> str:
    """Render comparisons as an HTML page, above each the PNG files in ``figures`` of its name; every value is escaped."""
    environment = Environment(
        loader=PackageLoader("vkdnw_pl.report"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    pictures = {
        name: [(path.stem, base64.b64encode(path.read_bytes()).decode("ascii")) for path in paths]
        for name, paths in (figures or {}).items()
    }
    return environment.get_template("paper.html.j2").render(
        title=title,
        subtitle=subtitle,
        key=[(_CSS[verdict], VERDICTS[verdict]) for verdict in (CLOSE, COVERED, DIFFERS, NOT_COMPUTED)],
        legend=LEGEND,
        comparisons=[(comparison, pictures.get(comparison.table.name, [])) for comparison in comparisons],
        metric_names=METRICS,
        css=_CSS,
        cell_title=_cell_title,
    )


def write_comparisons(
    folder: Path, paper: str, comparisons: Sequence[Comparison], table: ScoreTable | None
) -> list[str]:
    """Write ``<table>.csv``, ``<table>.md``, ``figures/<table>.png`` and ``<paper>.html``, and return their names."""
    folder.mkdir(parents=True, exist_ok=True)
    shown: dict[str, list[Path]] = {}
    names = [f"{paper}.html"]
    for comparison in comparisons:
        name = comparison.table.name
        write_atomically(folder / f"{name}.csv", comparison_csv(comparison))
        write_atomically(folder / f"{name}.md", comparison_markdown(comparison))
        figures = save_comparison_figures(comparison, table, folder / "figures")
        names += [f"{name}.csv", f"{name}.md", *(f"figures/{path.name}" for path in figures)]
        # The page has the table itself, so its picture is left out there.
        shown[name] = figures if name.startswith("fig") else []
    networks = {"unique": "the 9,445 unique structures", "all": "all 15,625 networks"}[comparisons[0].variant]
    about = "" if paper == "fig2" else f" The paper's numbers are those of {networks}."
    subtitle = f"VKDNW (CVPR 2025), computed by vkdnw_pl {__version__}.{about}"
    page = comparison_html(comparisons, f"{paper}: this toolkit beside the paper", subtitle, shown)
    write_atomically(folder / names[0], page)
    return names


def _cell_title(cell: Cell) -> str:
    parts = [cell.problem or VERDICTS[cell.verdict], f"ranking {cell.ranking}", cell.source]
    if cell.paper_std is not None:
        parts.append(f"the authors' standard deviation over 5 seeds: {cell.paper_std}")
    return "; ".join(part for part in parts if part)


def _cell_texts(comparison: Comparison, ansi: bool = False) -> list[list[str]]:
    """The table as text, first the head: ``ours ± std [interval] / paper / difference`` in each cell."""
    lines = [[""]]
    for column, numbers in zip(comparison.table.columns, comparison.column_notes):
        lines[0] += [f"{column.label} {METRICS[metric]}{_marks(numbers)}" for metric in comparison.table.metrics]
    for row in comparison.rows:
        lines.append([row.row.label + _marks(row.notes), *(_cell_text(cell, ansi) for cell in row.all_cells)])
    return lines


def _cell_text(cell: Cell, ansi: bool) -> str:
    if cell.is_empty:
        return ""
    ours = f"{cell.ours_text} {cell.interval_text}".strip()
    text = " / ".join([ours, cell.paper_text, f"{cell.difference_text} {MARKS[cell.verdict]}".strip() or "–"])
    return f"\033[{_ANSI[cell.verdict]}m{text}\033[0m" if ansi and cell.verdict in _ANSI else text


def _captions(comparison: Comparison) -> list[str]:
    return [f"{comparison.summary}.", f"{LEGEND}."]


def _explanations(comparison: Comparison) -> list[list[str]]:
    """What stands below a table: rows that were not computed, footnotes, and remarks."""
    return [
        [f"{row.row.label}: {row.problem}" for row in comparison.rows if row.problem],
        [f"[{number}] {text}" for number, text in enumerate(comparison.footnotes, 1)],
        list(comparison.remarks),
    ]


def _width(column: Sequence[str]) -> int:
    return 2 + max(len(re.sub("\033.*?m", "", text)) for text in column)


def _marks(numbers: Sequence[int]) -> str:
    return f" [{','.join(map(str, numbers))}]" if numbers else ""


def _escaped(text: str) -> str:
    """Text whose characters mean nothing to Markdown's tables and to HTML."""
    return html.escape(text, quote=False).replace("|", "\\|").replace("\n", " ")
