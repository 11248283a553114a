"""Curves of a command that is at work: a thread asks for their points now and then."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping

Point = Mapping[str, float | None]


class Sampler:
    """A thread that hands on the points that there are, until it is closed.

    Args:
        points: those since it was last asked.
        log: takes a point; must not raise.
        every_s: pause between two questions.
    """

    def __init__(self, points: Callable[[], Iterable[Point]], log: Callable[[Point], None], every_s: float) -> None:
        self._points, self._log, self._every_s = points, log, every_s
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._work, name="wandb-sampler", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Hand on the last points, and end."""
        self._closed.set()
        self._thread.join()

    def _work(self) -> None:
        while not self._closed.wait(self._every_s):
            self._hand_on()
        self._hand_on()

    def _hand_on(self) -> None:
        try:
            for point in self._points():
                self._log(point)
        except (OSError, ValueError):
            return  # a file that is just being written or moved; the next time will do
