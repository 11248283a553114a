"""Shows how far a search is, and writes its best so far."""

from __future__ import annotations

import time

from vkdnw_pl.scoring.progress import Progress
from vkdnw_pl.search.folder import SearchFolder
from vkdnw_pl.search.found import describe_found
from vkdnw_pl.search.history import Candidate
from vkdnw_pl.search.proposals import DrawCounts
from vkdnw_pl.search.ranked_history import RankedHistory
from vkdnw_pl.search.settings import SearchSettings

_FOUND_EVERY_S = 60.0


class SearchProgress:
    """A `loop.SearchObserver` that counts candidates on a display, and writes ``found.json`` every minute.

    Args:
        settings: of the search.
        folder: its run folder.
        top_k: how many of the best ``found.json`` describes.
        display: counts the candidates.
    """

    def __init__(self, settings: SearchSettings, folder: SearchFolder, top_k: int, display: Progress) -> None:
        self._settings, self._folder, self._top_k, self._display = settings, folder, top_k, display
        self._counts = DrawCounts()
        self._history: RankedHistory | None = None
        self._wrote_at = time.monotonic()
        display.note = self._state

    def candidate(self, candidate: Candidate, counts: DrawCounts) -> None:
        """Count one."""
        self._counts = counts
        self._display.add(candidate.failed)

    def batch(self, history: RankedHistory) -> None:
        """Write the best now and then."""
        self._history = history
        if time.monotonic() - self._wrote_at > _FOUND_EVERY_S:
            self._wrote_at = time.monotonic()
            found = describe_found(self._settings, self._settings.make_space(), history, self._top_k)
            if found is not None:
                self._folder.write_found(found)

    def _state(self) -> str:
        accepted = f"{100 * self._counts.acceptance:.0f} % of draws accepted"
        best = self._history.best(1).tolist() if self._history is not None else []
        if not best or self._history is None:
            return accepted
        return f"best score {self._history.scores()[best[0]]:.3f} (network {best[0]}), {accepted}"
