"""The run folder of an accuracy table: its rows, and the table that ``--oracle`` takes."""

from __future__ import annotations

import shutil
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path

from vkdnw_pl.labels.archs import TIMM_PREFIX
from vkdnw_pl.labels.settings import expand_groups
from vkdnw_pl.oracles.csv_file import ACCURACIES
from vkdnw_pl.runs.files import csv_line, write_atomically, write_csv
from vkdnw_pl.runs.folder import Record
from vkdnw_pl.runs.table import (
    AFTER,
    BEFORE,
    Key,
    ScoreRow,
    ScoreTable,
    join_rows,
    read_journals,
    read_table,
    reason_cell,
)
from vkdnw_pl.scoring.folder import ScoreFolder
from vkdnw_pl.scoring.plan import Shard

GROUP = "group"
"""Column of ``labels.csv`` that tells how a network was chosen."""


class LabelFolder(ScoreFolder):
    """A run folder with ``labels.csv`` one row for each training, ``accuracies.csv`` the means over seeds, ``rows/``
    journals and ``unfinished/`` checkpoints of a run that is not finished, and a figure."""

    command = "label"
    files = ("archs.txt", "rows", "unfinished", "labels.csv", ACCURACIES, "figures/accuracy_and_macs.png")
    evidence = ("labels.csv", "rows")

    def __init__(self, path: str | Path) -> None:
        super().__init__(path)
        self.scores = self.path / "labels.csv"
        self.accuracies = self.path / ACCURACIES
        self.unfinished = self.path / "unfinished"
        self.figure = self.figures / "accuracy_and_macs.png"

    def check_continues(self, settings: Record, overwrite: bool = False, partial: bool = False) -> None:
        """As `RunFolder.check_continues`; settings with which nothing was trained may be replaced."""
        if self.scores.is_file() or read_journals(self.journals) or not self.meta.is_file():
            super().check_continues(settings, overwrite, partial)
        else:
            self.earlier_meta()

    def read_rows(self) -> dict[Key, ScoreRow]:
        """Rows that are on the disk; see `ScoreFolder.read_rows`."""
        rows = read_table(self.scores, texts=(GROUP,)).rows if self.scores.is_file() else []
        return join_rows([*rows, *read_journals(self.journals)], str(self.path))

    def read_groups(self) -> dict[str, str]:
        """Architecture -> group, of this run or shard."""
        settings = self.read_meta()["settings"]
        groups, shard = expand_groups(settings), settings.get("shard")
        return dict(zip(self.read_archs(), groups if shard is None else Shard.parse(shard).of(groups)))

    def write_labels(self, table: ScoreTable, groups: Mapping[str, str]) -> None:
        """Write the rows with their groups, then drop the journals that hold them."""
        lines = [csv_line([*BEFORE, GROUP, *table.columns, *AFTER])]
        for row in table.rows:
            cells = [row.values.get(name) for name in table.columns]
            numbers = [int(cell) if cell is not None and float(cell).is_integer() else cell for cell in cells]
            after = (row.status, reason_cell(row.reason), f"{row.seconds:.3f}")
            lines.append(csv_line([row.arch, row.seed, groups[row.arch], *numbers, *after]))
        write_atomically(self.scores, "".join(lines))
        self.remove_journals()

    def remove_unfinished(self) -> None:
        """Delete checkpoints of trainings that have ended."""
        shutil.rmtree(self.unfinished, ignore_errors=True)


def write_accuracies(path: Path, rows: Sequence[ScoreRow], seeds: Sequence[int], dataset: str, accuracy: str) -> int:
    """Write mean, standard deviation and every seed's accuracy of the architectures that have all seeds.

    Models of timm among another space's architectures have no place in its table.

    Returns:
        How many architectures the table has; it is not written where there are none.
    """
    by_arch: dict[str, dict[int, float]] = {}
    for row in rows:
        value = row.values.get(accuracy)
        if not row.failed and value is not None and not row.arch.startswith(TIMM_PREFIX):
            by_arch.setdefault(row.arch, {})[row.seed] = round(value, 4)  # mean and deviation are of what stands there
    whole = {arch: [of_seed[seed] for seed in seeds] for arch, of_seed in by_arch.items() if set(of_seed) >= set(seeds)}
    spread = [f"{dataset}_std"] if len(seeds) > 1 else []
    header = ["arch", dataset, *spread, *(f"{dataset}_seed{seed}" for seed in seeds)]
    lines = []
    for arch, values in whole.items():
        std = [statistics.stdev(values)] if spread else []
        lines.append([arch, *(f"{value:.4f}" for value in (statistics.fmean(values), *std, *values))])
    if lines:
        write_csv(path, header, lines)
    else:
        path.unlink(missing_ok=True)
    return len(lines)
