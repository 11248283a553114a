"""A comparison with the paper as text: for a terminal, and as Markdown."""

from __future__ import annotations

import shutil
import sys
import textwrap
from collections.abc import Sequence
from typing import TextIO

from vkdnw_pl.report.paper_comparison import CLOSE, COVERED, DIFFERS, MARKS, VERDICTS, Cell, Comparison
from vkdnw_pl.report.tables import METRICS, Block, pack_blocks

_GAP = "   "
_ANSI = {CLOSE: "32", COVERED: "33", DIFFERS: "31"}


def ours_text(cell: Cell) -> str:
    """``0.612 ± 0.003``, or a dash."""
    if cell.ours is None:
        return "–"
    return f"{cell.ours:.{cell.decimals}f}" + ("" if cell.std is None else f" ± {cell.std:.{cell.decimals}f}")


def interval_text(cell: Cell) -> str:
    """``[0.580, 0.641]``, or nothing."""
    return "" if cell.interval is None else "[{:.{d}f}, {:.{d}f}]".format(*cell.interval, d=cell.decimals)


def paper_text(cell: Cell) -> str:
    """The paper's value, or a dot, as the paper marks an empty cell."""
    return "·" if cell.paper is None else f"{cell.paper:.{cell.decimals}f}"


def difference_text(cell: Cell) -> str:
    """``+0.012``, or nothing."""
    return "" if cell.difference is None else f"{cell.difference:+.{cell.decimals}f}"


def summary(comparison: Comparison) -> str:
    """How many cells have which verdict, in one sentence."""
    parts = [f"{count} {VERDICTS[verdict]}" for verdict, count in comparison.count().items()]
    return f"cells: {'; '.join(parts)}" if parts else "cells: none"


def legend() -> str:
    """What the columns and marks say."""
    marks = "; ".join(f"{MARKS[verdict]} {VERDICTS[verdict]}" for verdict in (CLOSE, COVERED, DIFFERS))
    return (
        "KT Kendall's tau-b, SPR Spearman's rho, nDCG of the first 1,000 of the paper's networks (a "
        f"sample stands for all); ours ± standard deviation over seeds [95 % interval over samples of architectures], the paper's value, "
        f"ours minus the paper's; {marks}"
    )


def comparison_text(comparison: Comparison, ansi: bool = False, width: int | None = None) -> str:
    """Render for a terminal: rows down, one block of columns per metric, blocks below each other where they do not fit.

    Args:
        comparison: what to show.
        ansi: colour the differences.
        width: columns of the terminal; None for no limit.
    """
    names = [f"{row.row.label}{_marks(row.notes)}" for row in comparison.rows]
    name_width = max(map(len, names))
    blocks = [
        _block(comparison, i, j, ansi)
        for i in range(len(comparison.table.columns))
        for j in range(len(comparison.table.metrics))
    ]
    lines = [comparison.table.title, ""]
    for some in pack_blocks(blocks, name_width, width, _GAP):
        for k, name in enumerate(["", "", *names]):
            lines.append(_GAP.join([name.ljust(name_width), *(block.lines[k] for block in some)]).rstrip())
        lines.append("")
    lines += [*_wrapped(summary(comparison), width), *_wrapped(legend(), width), ""]
    for row in comparison.rows:
        if row.problem:
            lines += _wrapped(f"- {row.row.label}: {row.problem}", width)
    lines += [
        line for number, text in enumerate(comparison.footnotes, 1) for line in _wrapped(f"[{number}] {text}", width)
    ]
    lines += [line for text in comparison.remarks for line in _wrapped(f"* {text}", width)]
    return "\n".join(lines) + "\n"


def comparison_markdown(comparison: Comparison) -> str:
    """Render as Markdown: a cell is ``ours ± std [interval] / paper / difference``."""
    table = comparison.table
    head = [""] + [
        f"{column.label} {METRICS[metric]}{_marks(numbers)}"
        for column, numbers in zip(table.columns, comparison.column_notes)
        for metric in table.metrics
    ]
    lines = [head, ["---"] * len(head)]
    for row in comparison.rows:
        cells = [_markdown_cell(cell) for cells in row.cells for cell in cells]
        lines.append([f"{row.row.label}{_marks(row.notes)}", *cells])
    body = "\n".join("| " + " | ".join(_escaped(cell) for cell in line) + " |" for line in lines)
    problems = [f"- {_escaped(row.row.label)}: {_escaped(row.problem)}" for row in comparison.rows if row.problem]
    notes = [f"- [{number}] {_escaped(text)}" for number, text in enumerate(comparison.footnotes, 1)]
    remarks = [f"- {_escaped(text)}" for text in comparison.remarks]
    parts = [f"## {_escaped(table.title)}", body, f"{summary(comparison)}. {legend()}."]
    return "\n\n".join([*parts, *("\n".join(some) for some in (problems, notes, remarks) if some)]) + "\n"


def print_comparison(comparison: Comparison, file: TextIO | None = None) -> None:
    """Print `comparison_text` to ``file`` (default: standard output), coloured and in its width if it is a terminal."""
    file = file or sys.stdout
    tty = file.isatty()
    file.write(comparison_text(comparison, ansi=tty, width=shutil.get_terminal_size().columns if tty else 160))


def _block(comparison: Comparison, column: int, metric: int, ansi: bool) -> Block:
    """One metric of one column: two lines of titles, one line per row; all equally wide."""
    cells = [row.cells[column][metric] for row in comparison.rows]
    parts = [
        _filled("ours", [ours_text(cell) for cell in cells]),
        _filled("interval", [interval_text(cell) for cell in cells]),
        _filled("paper", [paper_text(cell) for cell in cells]),
        _filled("diff", [difference_text(cell) for cell in cells]),
    ]
    marks = [" ", *(MARKS[cell.verdict] for cell in cells)]
    kept = [part for part in parts if any(text.strip() for text in part[1:])]
    lines = [" ".join(texts) for texts in zip(*kept, marks)]
    title = f"{comparison.table.columns[column].label} {METRICS[comparison.table.metrics[metric]]}"
    title += _marks(comparison.column_notes[column])
    width = max(len(title), len(lines[0]))
    lines = [title.rjust(width), *(line.rjust(width) for line in lines)]
    if ansi:
        for i, cell in enumerate(cells, 2):
            if cell.verdict in _ANSI:
                lines[i] = f"\033[{_ANSI[cell.verdict]}m{lines[i]}\033[0m"
    return Block(lines, width)


def _filled(head: str, texts: Sequence[str]) -> list[str]:
    width = max(map(len, [head, *texts]))
    return [text.rjust(width) for text in [head, *texts]]


def _marks(numbers: Sequence[int]) -> str:
    return f" [{','.join(map(str, numbers))}]" if numbers else ""


def _markdown_cell(cell: Cell) -> str:
    if cell.ours is None and cell.paper is None:
        return ""
    ours = " ".join(part for part in (ours_text(cell), interval_text(cell)) if part)
    return " / ".join([ours, paper_text(cell), f"{difference_text(cell)} {MARKS[cell.verdict]}".strip() or "–"])


def _escaped(text: str) -> str:
    """Text whose characters mean nothing to Markdown's tables and to HTML."""
    for special, harmless in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;"), ("|", "\\|"), ("\n", " ")):
        text = text.replace(special, harmless)
    return text


def _wrapped(text: str, width: int | None) -> list[str]:
    return textwrap.wrap(text, min(width or 120, 120), subsequent_indent="  ")
