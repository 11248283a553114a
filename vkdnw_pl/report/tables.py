"""Tables of rank metrics: rankings down, data sets and metrics across, the best of each column marked."""

from __future__ import annotations

import math
import shutil
import sys
import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TextIO

METRICS = {"kendall": "KT", "spearman": "SPR", "ndcg": "nDCG"}
"""The metric columns of ``metrics.csv`` and their short names; all are higher = better."""

_DIGITS = 3
_GAP = "  "

Row = Mapping[str, Any]
"""One row of ``metrics.csv``: ``ranking, dataset, split, n, kendall, spearman, ndcg, ndcg_k, seeds`` and, empty with
one seed, ``kendall_std, spearman_std, ndcg_std``; numbers or the text of a CSV file."""


@dataclass(frozen=True)
class Value:
    """A metric's mean over seeds and its standard deviation (None with one seed); mean None where undefined."""

    mean: float | None
    std: float | None

    def __str__(self) -> str:
        if self.mean is None:
            return "n/a"
        return f"{self.mean:.{_DIGITS}f}" + ("" if self.std is None else f" ± {self.std:.{_DIGITS}f}")


def metric_value(row: Row, metric: str) -> Value:
    """Read one metric of a row.

    Raises:
        ValueError: if the column is missing or holds something else than a number.
    """
    return Value(_number(row, metric), _number(row, f"{metric}_std", optional=True))


def text_table(rows: Iterable[Row], ansi: bool = False, width: int | None = None) -> str:
    """Render metric rows for a terminal.

    Args:
        rows: rows of ``metrics.csv``; rankings and data sets appear in the order in which they come.
        ansi: print the best of each column bold with ANSI codes; otherwise it is followed by ``*``.
        width: columns of the terminal; data sets that do not fit side by side go below each other.

    Raises:
        ValueError: if a row lacks a column, holds text where a number belongs, or comes twice.
    """
    table = _Table(rows)
    if not table.rankings:
        return "no metrics: no ranking has known accuracies\n"
    names = ["ranking", *table.rankings]
    name_width = max(map(len, names))
    blocks = [_text_block(table, group, ansi) for group in table.groups]
    lines: list[str] = []
    for some in pack_blocks(blocks, name_width, width):
        heads = ["", "ranking", *table.rankings]
        if lines:
            lines.append("")
        for i, head in enumerate(heads):
            lines.append(_GAP.join([head.ljust(name_width), *(block.lines[i] for block in some)]).rstrip())
            if i == 1:
                lines.append(_GAP.join(["-" * name_width, *("-" * block.width for block in some)]))
    caption = table.caption(f"the best of each column is {'bold' if ansi else 'marked *'}")
    return "\n".join([*lines, "", *textwrap.wrap(caption, min(width or 120, 120))]) + "\n"


def markdown_table(rows: Iterable[Row]) -> str:
    """Render metric rows as a Markdown table, the best of each column bold.

    Raises:
        ValueError: as `text_table`.
    """
    table = _Table(rows)
    if not table.rankings:
        return "No metrics: no ranking has known accuracies.\n"
    columns = [(group, metric) for group in table.groups for metric in METRICS]
    head = ["ranking", *(f"{_title(group)} {group.label(metric)}" for group, metric in columns)]
    lines = [head, ["---", *("---:" for _ in columns)]]
    for ranking in table.rankings:
        cells = [group.cell(ranking, metric, lambda text: f"**{text}**") for group, metric in columns]
        lines.append([f"`{ranking}`", *cells])
    caption = table.caption("the best of each column is bold")
    sizes = "; ".join(f"{_title(group)}: {group.sizes()}" for group in table.groups)
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + f"\n\n{caption} {sizes}.\n"


def print_table(rows: Iterable[Row], file: TextIO | None = None) -> None:
    """Print `text_table` to ``file`` (default: standard output), bold and in the terminal's width if it is one.

    Raises:
        ValueError: as `text_table`.
    """
    file = file or sys.stdout
    tty = file.isatty()
    file.write(text_table(rows, ansi=tty, width=shutil.get_terminal_size().columns if tty else None))


class _Group:
    """The rows of one data set and split."""

    def __init__(self, dataset: str, split: str) -> None:
        self.dataset, self.split = dataset, split
        self.rows: dict[str, Row] = {}
        self.values: dict[tuple[str, str], Value] = {}

    def add(self, row: Row) -> None:
        ranking = str(row["ranking"])
        if ranking in self.rows:
            raise ValueError(f"the metrics of ranking {ranking!r} on {self.dataset} ({self.split}) come twice")
        self.rows[ranking] = row
        for metric in METRICS:
            self.values[ranking, metric] = metric_value(row, metric)

    def cell(self, ranking: str, metric: str, mark: Callable[[str], str]) -> str:
        """The text of a cell, through ``mark`` if it is among the best as printed; empty where there is no row."""
        if ranking not in self.rows:
            return ""
        value = self.values[ranking, metric]
        return mark(str(value)) if value.mean is not None and _shown(value) == self.best(metric) else str(value)

    def best(self, metric: str) -> float:
        shown = [_shown(value) for (_, name), value in self.values.items() if name == metric]
        return max((value for value in shown if not math.isnan(value)), default=math.nan)

    def label(self, metric: str) -> str:
        cut = self._range("ndcg_k") if metric == "ndcg" else ""
        return METRICS[metric] + (f"@{cut}" if cut else "")

    def sizes(self) -> str:
        return f"n = {self._range('n')}"

    def _range(self, column: str) -> str:
        numbers = sorted({int(number) for row in self.rows.values() if (number := _number(row, column)) is not None})
        return f"{numbers[0]}-{numbers[-1]}" if len(numbers) > 1 else "".join(map(str, numbers))


class _Table:
    """All rows, by data set."""

    def __init__(self, rows: Iterable[Row]) -> None:
        groups: dict[tuple[str, str], _Group] = {}
        self.rankings: list[str] = []
        seeds: set[int] = set()
        for row in rows:
            for column in ("ranking", "dataset", "split"):
                if column not in row:
                    raise ValueError(f"a metric row has no column {column!r} (it has: {', '.join(row)})")
            key = (str(row["dataset"]), str(row["split"] or ""))
            groups.setdefault(key, _Group(*key)).add(row)
            if row["ranking"] not in self.rankings:
                self.rankings.append(str(row["ranking"]))
            if (number := _number(row, "seeds")) is not None:
                seeds.add(int(number))
        self.groups = list(groups.values())
        self.seeds = seeds
        self.has_std = any(value.std is not None for group in self.groups for value in group.values.values())

    def caption(self, best: str) -> str:
        spread = ""
        if self.has_std:
            spread = f"mean ± standard deviation over {max(self.seeds, default=0)} seeds; "
        return f"KT Kendall's tau-b, SPR Spearman's rho, nDCG@k of the k that rank first; {spread}higher is better, {best}."


@dataclass(frozen=True)
class Block:
    """Lines of text, all equally wide."""

    lines: list[str]
    width: int


def _text_block(table: _Table, group: _Group, ansi: bool) -> Block:
    """One data set's columns: a line with its name, one with the metrics, one for each ranking; all equally wide."""

    def mark(text: str) -> str:
        return f"\033[1m{text}\033[0m" if ansi else f"{text}*"

    columns: list[list[str]] = []
    for metric in METRICS:
        # Cells that are not marked with a star leave its place empty, so that the digits stand below each other.
        plain = [group.cell(ranking, metric, str if ansi else mark) for ranking in table.rankings]
        plain = [text if ansi or text.endswith("*") else text + " " for text in plain]
        head = group.label(metric) + ("" if ansi else " ")
        cell_width = max(len(head), *map(len, plain))
        shown = [group.cell(ranking, metric, mark) if ansi else text for ranking, text in zip(table.rankings, plain)]
        pads = [" " * (cell_width - len(text)) for text in plain]
        columns.append([head.rjust(cell_width), *(pad + text for pad, text in zip(pads, shown))])
    body = [_GAP.join(cells) for cells in zip(*columns)]
    title = f"{_title(group)}, {group.sizes()}"
    wide = max(len(body[0]), len(title))
    extra = " " * (wide - len(body[0]))
    return Block([title.rjust(wide), *(extra + line for line in body)], wide)


def pack_blocks(blocks: Sequence[Block], name_width: int, width: int | None, gap: str = _GAP) -> list[list[Block]]:
    """Put blocks side by side, ``gap`` between them, as long as they fit into ``width``."""
    packed: list[list[Block]] = []
    used = 0
    for block in blocks:
        if packed and (width is None or used + len(gap) + block.width <= width):
            packed[-1].append(block)
            used += len(gap) + block.width
        else:
            packed.append([block])
            used = name_width + len(gap) + block.width
    return packed


def _title(group: _Group) -> str:
    return f"{group.dataset} ({group.split})" if group.split else group.dataset


def _shown(value: Value) -> float:
    """The mean as it is printed, so that values which look equal are marked alike."""
    return math.nan if value.mean is None else float(f"{value.mean:.{_DIGITS}f}")


def _number(row: Row, column: str, optional: bool = False) -> float | None:
    """A number of a row; None where the cell is empty or NaN."""
    if column not in row and not optional:
        raise ValueError(f"a metric row has no column {column!r} (it has: {', '.join(row)})")
    cell = row.get(column)
    if cell is None or cell == "":
        return None
    try:
        number = float(cell)
    except ValueError:
        raise ValueError(f"{column}={cell!r} of ranking {row.get('ranking')!r} is not a number") from None
    return None if math.isnan(number) else number
