"""The run folder of a scoring."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from vkdnw_pl.runs.files import write_atomically
from vkdnw_pl.runs.folder import RunFolder
from vkdnw_pl.runs.journal import read_journals
from vkdnw_pl.runs.table import Key, ScoreRow, ScoreTable, join_rows, read_table, write_table

FIGURES = ("figures/ndcg.png", "figures/ranks_*.png")


class ScoreFolder(RunFolder):
    """A run folder with ``archs.txt`` the architectures of the whole run in order, ``rows/`` journals of unfinished runs,
    ``scores.csv``, ``ranking.csv``, ``metrics.csv`` and figures."""

    command = "score"
    files = ("archs.txt", "rows", "scores.csv", "ranking.csv", "metrics.csv", *FIGURES)
    evidence = ("scores.csv", "rows")

    def __init__(self, path: str | Path) -> None:
        super().__init__(path)
        self.archs = self.path / "archs.txt"
        self.journals = self.path / "rows"

    def read_archs(self) -> list[str]:
        """Architectures of the whole run in order."""
        return self.archs.read_text(encoding="utf-8").splitlines()

    def write_archs(self, archs: Sequence[str]) -> None:
        """Replace the list of architectures."""
        self.path.mkdir(parents=True, exist_ok=True)
        write_atomically(self.archs, "".join(f"{arch}\n" for arch in archs))

    def read_rows(self) -> dict[Key, ScoreRow]:
        """Rows that are on the disk, finished table and journals joined.

        Raises:
            ValueError: if a file is damaged or two rows contradict each other.
        """
        rows = read_table(self.scores).rows if self.scores.is_file() else []
        return join_rows([*rows, *read_journals(self.journals)], str(self.path))

    def write_scores(self, table: ScoreTable) -> None:
        """Write the table, then drop the journals whose rows it holds."""
        write_table(self.scores, table)
        if self.journals.exists():
            shutil.rmtree(self.journals)

    def remove_figures(self) -> None:
        """Delete figures of an earlier evaluation, and no others."""
        for pattern in FIGURES:
            for figure in self.path.glob(pattern):
                figure.unlink(missing_ok=True)
