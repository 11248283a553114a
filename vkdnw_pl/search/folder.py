"""The run folder of a search."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vkdnw_pl.runs.files import write_atomically
from vkdnw_pl.runs.folder import RunFolder, remove_wandb
from vkdnw_pl.runs.settings import Record, differences
from vkdnw_pl.search.history import Candidate, read_history


class SearchFolder(RunFolder):
    """A run folder.

    ``config.yaml`` the options, ``meta.json`` the record of how it was made, ``history.csv`` the candidates in the order
    of the search, ``measured.csv`` what was measured where a budget needs that, ``found.json`` the best, ``figures/``.
    """

    def __init__(self, path: str | Path) -> None:
        super().__init__(path)
        self.history = self.path / "history.csv"
        self.measured = self.path / "measured.csv"
        self.found = self.path / "found.json"

    def check_continues(self, settings: Record) -> None:
        """Make sure that a search with these settings may go on here.

        Raises:
            ValueError: if the folder holds a search with other settings (naming them), another command's results, or a
                history of unknown origin.
        """
        ways_out = "choose another folder with --out, or give --overwrite to delete the search that is there"
        if self.meta.is_file():
            meta = self.read_meta()
            if meta.get("command") != "search":
                raise ValueError(
                    f"{self.path} is the run folder of {meta.get('command')!r}, not of a search; choose another with --out"
                )
            if different := differences(meta.get("settings", {}), settings):
                raise ValueError(f"{self.path} was made with other settings: {'; '.join(different)}. So {ways_out}")
        elif self.history.exists():
            raise ValueError(
                f"{self.path} holds a history but no {self.meta.name} that says how it was made; {ways_out}"
            )

    def begin(self, config: str, meta: Mapping[str, Any]) -> None:
        """Write the record of a run before its history; the last file makes the folder a run folder."""
        write_atomically(self.config, config)
        self.write_meta(meta)

    def clear(self) -> None:
        """Delete the search; files of other origin stay."""
        if self.meta.is_file() and self.read_meta().get("command") != "search":
            raise ValueError(f"{self.path} is the run folder of another command; choose another with --out")
        for path in (self.meta, self.config, self.history, self.measured, self.found):
            path.unlink(missing_ok=True)
        remove_wandb(self.path)

    def read_candidates(self) -> list[Candidate]:
        """The history so far.

        Raises:
            ValueError: if it is damaged.
        """
        return read_history(self.history) if self.history.is_file() else []

    def write_found(self, found: Mapping[str, Any]) -> None:
        """Replace ``found.json``."""
        write_atomically(self.found, json.dumps(found, indent=2, ensure_ascii=False) + "\n")
