"""Shows how far a search is, and writes its best so far."""

from __future__ import annotations

import sys
import time
from typing import Any

from tqdm import tqdm

from vkdnw_pl.search.folder import SearchFolder
from vkdnw_pl.search.found import describe_found
from vkdnw_pl.search.history import Candidate
from vkdnw_pl.search.proposals import Tally
from vkdnw_pl.search.record import Record
from vkdnw_pl.search.settings import SearchSettings

_FOUND_EVERY_S = 60.0
_LINES = 10
_REFRESH_S = 0.5


class SearchProgress:
    """A bar on a terminal, a line now and then elsewhere; ``found.json`` every minute.

    Args:
        settings: of the search.
        folder: its run folder.
        top_k: how many of the best ``found.json`` describes.
        shown: false writes ``found.json`` only.
    """

    def __init__(self, settings: SearchSettings, folder: SearchFolder, top_k: int, shown: bool) -> None:
        self._settings, self._folder, self._top_k, self._shown = settings, folder, top_k, shown
        self._bar: Any = None
        self._began = self._done = self._total = self._failed = 0
        self._tally = Tally()
        self._best: str = ""
        self._started_at = self._wrote_at = self._looked_at = 0.0
        self._next = 0.0

    def start(self, done: int, total: int) -> None:
        self._began = self._done = done
        self._total = total
        self._started_at = self._wrote_at = time.monotonic()
        self._next = done + max((total - done) / _LINES, 1)
        if self._shown and sys.stderr.isatty():
            self._bar = tqdm(total=total, initial=done, desc="searching", unit="net", dynamic_ncols=True)

    def candidate(self, candidate: Candidate, tally: Tally) -> None:
        self._done += 1
        self._failed += candidate.failed
        self._tally = tally
        if self._bar is not None:
            self._bar.update(1)

    def batch(self, record: Record) -> None:
        now = time.monotonic()
        if now - self._wrote_at > _FOUND_EVERY_S:
            self._wrote_at = now
            found = describe_found(self._settings, self._settings.make_space(), record, self._top_k)
            if found is not None:
                self._folder.write_found(found)
        if not self._shown or now - self._looked_at < _REFRESH_S:
            return
        if self._bar is not None:
            self._looked_at = now
            self._bar.set_postfix_str(self._state(record))
        elif self._done >= self._next or self._done == self._total:
            self._next = max(self._next, self._done) + max((self._total - self._began) / _LINES, 1)
            elapsed_s = now - self._started_at
            made = self._done - self._began
            left = (
                ""
                if self._done >= self._total
                else f", {tqdm.format_interval(elapsed_s / made * (self._total - self._done))} left"
            )
            print(
                f"{self._done} of {self._total} networks in {tqdm.format_interval(elapsed_s)} "
                f"({made / max(elapsed_s, 1e-9):.3g}/s), {self._state(record)}{left}",
                file=sys.stderr,
                flush=True,
            )

    def end(self) -> None:
        if self._bar is not None:
            self._bar.close()

    def _state(self, record: Record) -> str:
        best = record.best(1).tolist()
        score = f"best score {record.scores()[best[0]]:.3f} (network {best[0]}), " if best else ""
        failed = f", {self._failed} failed" if self._failed else ""
        return f"{score}{100 * self._tally.acceptance:.0f} % of draws accepted{failed}"
