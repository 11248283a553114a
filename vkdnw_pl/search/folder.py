"""The run folder of a search."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vkdnw_pl.runs.files import write_json
from vkdnw_pl.runs.folder import RunFolder
from vkdnw_pl.search.history import Candidate, read_history

FIGURES = tuple(f"figures/{name}.png" for name in ("best_so_far", "*_and_score", "diversity", "choices"))


class SearchFolder(RunFolder):
    """A run folder.

    ``config.yaml`` the options, ``meta.json`` the record of how it was made, ``history.csv`` the candidates in the order
    of the search, ``measured.csv`` what was measured where a budget needs that, ``found.json`` the best, ``figures/``.
    """

    command = "search"
    files = ("history.csv", "measured.csv", "found.json", *FIGURES)
    evidence = ("history.csv",)

    def __init__(self, path: str | Path) -> None:
        super().__init__(path)
        self.history = self.path / "history.csv"
        self.measured = self.path / "measured.csv"
        self.found = self.path / "found.json"

    def read_candidates(self) -> list[Candidate]:
        """The history so far.

        Raises:
            ValueError: if it is damaged.
        """
        return read_history(self.history) if self.history.is_file() else []

    def write_found(self, found: Mapping[str, Any]) -> None:
        """Replace ``found.json``."""
        write_json(self.found, found)
