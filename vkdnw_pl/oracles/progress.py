"""A progress line without dependencies."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from types import TracebackType


class Progress:
    """Shows ``label: done/total`` on stderr.

    On a terminal the line is redrawn in place; in a log file a new line is written every ten seconds, and in both
    cases the last state is shown when the ``with`` block ends.
    """

    def __init__(self, label: str, total: int | None = None, show: Callable[[int], str] = "{:,}".format) -> None:
        self.label, self.total, self.show = label, total, show
        self._stream = sys.stderr
        self._in_place = self._stream.isatty()
        self._interval_s = 0.1 if self._in_place else 10.0
        self._drawn_at = time.monotonic()
        self._done = 0

    def update(self, done: int) -> None:
        """Say how much is done by now."""
        self._done = done
        if time.monotonic() - self._drawn_at >= self._interval_s:
            self._draw("" if self._in_place else "\n")
            self._drawn_at = time.monotonic()

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._draw("\n")

    def _draw(self, end: str) -> None:
        of = "" if self.total is None else f"/{self.show(self.total)}"
        percent = f" ({100 * self._done // self.total} %)" if self.total else ""
        start = "\r\033[K" if self._in_place else ""
        self._stream.write(f"{start}{self.label}: {self.show(self._done)}{of}{percent}{end}")
        self._stream.flush()


def megabytes(num_bytes: int) -> str:
    """Return a size as text, such as ``2.6 MB``."""
    return f"{num_bytes / 1e6:.1f} MB"
