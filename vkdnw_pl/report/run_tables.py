"""Tables with a line for each run, by columns: what page and Markdown show of runs, searches and trainings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

from vkdnw_pl.report.tables import Line
from vkdnw_pl.runs.files import duration


class Column(NamedTuple):
    """A column of a table."""

    head: str
    cells: Sequence[Any]
    """One for each line; None and empty texts have no content."""
    kind: Literal["text", "run", "arch", "number", "seconds", "status"] = "text"
    """``run`` is a run's place; an ``arch`` or name of that kind may be long."""
    form: str = "{}"
    """Format of a number."""
    scale: float = 1.0
    """What a number is divided by."""

    @property
    def numeric(self) -> bool:
        return self.kind in ("number", "seconds")

    def text(self, cell: Any) -> str:
        """A cell as it is shown."""
        if cell is None:
            return ""
        if self.kind == "seconds":
            return duration(cell)
        return self.form.format(cell / self.scale if self.kind == "number" and self.scale != 1 else cell)


def with_content(columns: Sequence[Column]) -> list[Column]:
    """The columns that have content in some line."""
    return [column for column in columns if any(cell not in (None, "") for cell in column.cells)]


def summary_columns(lines: Sequence[Line]) -> list[Column]:
    """Of `run_contents.summary_lines`."""
    return with_content(
        [
            _column(lines, "run", "run", "run"),
            _column(lines, "command"),
            _column(lines, "space"),
            _column(lines, "networks", kind="number"),
            _column(lines, "best", kind="arch"),
            _column(lines, "tau", "KT", "number", "{:.3f}"),
            _column(lines, "result"),
            _column(lines, "status", kind="status"),
            _column(lines, "seconds", "time", "seconds"),
        ]
    )


def search_columns(lines: Sequence[Line]) -> list[Column]:
    """Of `run_contents.search_lines`."""
    return with_content(
        [
            _column(lines, "run", "run", "run"),
            _column(lines, "strategy"),
            _column(lines, "ranking"),
            _column(lines, "evaluated", kind="number", form="{:,}"),
            *_costs(lines),
            _column(lines, "layers", kind="number", form="{:.0f}"),
            _column(lines, "accuracies", "known accuracy"),
            _column(lines, "arch", "network", "arch"),
        ]
    )


def training_columns(lines: Sequence[Line]) -> list[Column]:
    """Of `run_contents.training_lines`."""
    return with_content(
        [
            _column(lines, "run", "run", "run"),
            _column(lines, "epochs", kind="number"),
            *_costs(lines),
            _column(lines, "last", "last val top-1", "number", "{:.2f}"),
            _column(lines, "best", "best val top-1", "number", "{:.2f}"),
            _column(lines, "test", "test top-1", "number", "{:.2f}"),
            _column(lines, "images_per_s", "images/s", "number", "{:,.0f}"),
            _column(lines, "network", kind="arch"),
        ]
    )


def _costs(lines: Sequence[Line]) -> list[Column]:
    return [
        _column(lines, "macs", "MACs (M)", "number", "{:,.2f}", 1e6),
        _column(lines, "num_params", "params (M)", "number", "{:,.3f}", 1e6),
    ]


def _column(
    lines: Sequence[Line], name: str, head: str | None = None, kind: Any = "text", *form: Any, **more: Any
) -> Column:
    return Column(head or name, [getattr(line, name) for line in lines], kind, *form, **more)
