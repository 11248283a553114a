"""The run folder of an evaluation on several spaces."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, ClassVar

from vkdnw_pl.ranking import METRICS
from vkdnw_pl.runs.csv_table import CsvTable, read_csv
from vkdnw_pl.runs.files import write_csv
from vkdnw_pl.runs.folder import Record, RunFolder
from vkdnw_pl.scoring.space_tables import SpaceSource
from vkdnw_pl.scoring.spaces_evaluation import (
    BEST,
    TIED,
    Correlation,
    Estimate,
    FixedSize,
    SpaceMetric,
    SpacesEvaluation,
)

SPACES, FIXED_SIZE, CORRELATIONS = "spaces.csv", "fixed_size.csv", "correlations.csv"
_METRIC_COLUMNS = (
    *(
        "space",
        "dataset",
        "split",
        "unit",
        "better",
        "ranking",
        "metric",
        "value",
        "value_low",
        "value_high",
        "best",
        "n",
        "ndcg_k",
    ),
    *("seeds", "reason", "caution"),
)
_FIXED_COLUMNS = (
    *("space", "dataset", "ranking", "spearman", "partial_spearman", "partial_spearman_low", "partial_spearman_high"),
    *("kendall", "within_kendall", "within_kendall_low", "within_kendall_high", "n", "groups", "reason"),
)
_CORRELATION_COLUMNS = ("space", "ranking", "other", "spearman", "kendall", "n")
_MINUS = "minus_"


class SpacesFolder(RunFolder):
    """A run folder with ``spaces.csv`` every metric of every ranking, ``fixed_size.csv``, ``correlations.csv``,
    ``spaces.md``, ``spaces.html`` and figures."""

    command = "evaluate"
    files: ClassVar[tuple[str, ...]] = (
        *(SPACES, FIXED_SIZE, CORRELATIONS, "spaces.md", "spaces.html"),
        *(f"figures/{name}.png" for name in ("spaces", "differences", "fixed_size", "correlations")),
    )
    evidence = (SPACES,)

    def clear(self) -> None:
        """Delete what an earlier evaluation on several spaces wrote, but not its record."""
        for name in self.files:
            (self.path / name).unlink(missing_ok=True)


def spaces_settings(
    sources: Iterable[SpaceSource], rankings: Sequence[str], baselines: Sequence[str], resamples: int
) -> Record:
    """What decides the result."""
    tables = {source.name: {**asdict(source), "scores": [*source.scores]} for source in sources}
    return {"spaces": tables, "rankings": [*rankings], "baselines": [*baselines], "bootstrap": resamples}


def write_spaces(folder: Path, evaluation: SpacesEvaluation) -> None:
    """Write the three tables; a cell is empty where a value is undefined or absent."""
    baselines = list(evaluation.metrics[0].differences) if evaluation.metrics else []
    minus = [f"{_MINUS}{name}{end}" for name in baselines for end in ("", "_low", "_high")]
    lines: list[list[Any]] = [
        [
            *(
                row.space,
                row.dataset,
                row.split,
                row.unit,
                row.better,
                row.ranking,
                row.metric,
                *row.estimate,
                row.best,
            ),
            *(row.n, row.ndcg_k, row.seeds, row.reason, row.caution),
            *(end for name in baselines for end in row.differences[name]),
        ]
        for row in evaluation.metrics
    ]
    write_csv(folder / SPACES, [*_METRIC_COLUMNS, *minus], lines)
    fixed = (
        [
            *(row.space, row.dataset, row.ranking, row.spearman, *row.partial, row.kendall, *row.within),
            *(row.n, row.groups, row.reason),
        ]
        for row in evaluation.fixed_size
    )
    write_csv(folder / FIXED_SIZE, _FIXED_COLUMNS, fixed)
    write_csv(folder / CORRELATIONS, _CORRELATION_COLUMNS, evaluation.correlations)


def read_spaces(folder: Path) -> SpacesEvaluation:
    """Read what `write_spaces` wrote; damage is a ``ValueError`` that names file, line and column."""
    table = read_csv(folder / SPACES, _METRIC_COLUMNS)
    baselines = [
        name.removeprefix(_MINUS)
        for name in table.names
        if name.startswith(_MINUS) and {f"{name}_low", f"{name}_high"} <= set(table.names)
    ]
    differences = {name: _estimates(table, f"{_MINUS}{name}") for name in baselines}
    columns = zip(
        *(table.texts(name) for name in ("space", "dataset", "split", "unit")),
        table.choices("better", ("higher", "lower")),
        table.texts("ranking"),
        table.choices("metric", METRICS),
        _estimates(table, "value"),
        table.choices("best", ("", BEST, TIED)),
        _wholes(table, "n"),
        table.wholes("ndcg_k"),
        _wholes(table, "seeds"),
        [{name: differences[name][i] for name in baselines} for i in range(len(table))],
        *(table.texts(name) for name in ("reason", "caution")),
    )
    metrics = [SpaceMetric(*row) for row in columns]
    table = read_csv(folder / FIXED_SIZE, _FIXED_COLUMNS)
    fixed = [
        FixedSize(*row)
        for row in zip(
            *(table.texts(name) for name in ("space", "dataset", "ranking")),
            table.numbers("spearman"),
            _estimates(table, "partial_spearman"),
            table.numbers("kendall"),
            _estimates(table, "within_kendall"),
            *(_wholes(table, name) for name in ("n", "groups")),
            table.texts("reason"),
        )
    ]
    table = read_csv(folder / CORRELATIONS, _CORRELATION_COLUMNS)
    pairs = [
        Correlation(*row)
        for row in zip(
            *(table.texts(name) for name in ("space", "ranking", "other")),
            *(table.numbers(name) for name in ("spearman", "kendall")),
            _wholes(table, "n"),
        )
    ]
    return SpacesEvaluation(metrics, fixed, pairs)


def _wholes(table: CsvTable, column: str) -> Sequence[int]:
    return table.required(column, table.wholes(column))


def _estimates(table: CsvTable, column: str) -> list[Estimate]:
    return list(map(Estimate, *(table.numbers(f"{column}{end}") for end in ("", "_low", "_high"))))
