"""Shows how far a scoring or a search is: a bar on a terminal and in a notebook, a line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from typing import Any, TextIO

from tqdm.auto import tqdm

from vkdnw_pl.runs.files import duration
from vkdnw_pl.runs.table import Key

_LINES = 10
_QUIET_S = 60.0
_NAMED = 3
_NOTE_EVERY_S = 0.5


class Progress:
    """Counts rows as they come, of which ``done`` were there before. Use as a context manager.

    ``verb`` says what goes on, ``unit`` what is counted, in the singular; ``file`` is standard error if not given.
    """

    def __init__(
        self,
        total: int,
        done: int = 0,
        verb: str = "scoring",
        unit: str = "row",
        shown: bool = True,
        file: TextIO | None = None,
    ) -> None:
        self.total, self.done, self.failed = total, done, 0
        self._before, self._verb, self._unit, self._shown = done, verb, unit, shown
        self._file = file or sys.stderr
        self._bar: Any = None
        self.note: Callable[[], str] = str
        """What to say beside the numbers; asked now and then."""
        self._noted_at = 0.0
        self._started_at = self._row_at = time.monotonic()
        self._next_line = self._every = (total - done) / _LINES
        self._patience_s = _QUIET_S

    def __enter__(self) -> Progress:
        self._started_at = self._row_at = time.monotonic()
        if self._shown and (self._file.isatty() or _in_notebook()):
            self._bar = tqdm(
                total=self.total,
                initial=self.done,
                desc=self._verb,
                unit=self._unit,
                file=self._file,
                dynamic_ncols=True,
            )
        return self

    def __exit__(self, *exception: Any) -> None:
        if self._bar is not None:
            self._bar.close()

    def add(self, failed: bool) -> None:
        """A row was made, or failed."""
        self.done += 1
        self.failed += failed
        self._row_at, self._patience_s = time.monotonic(), _QUIET_S
        if self._bar is not None:
            if self._row_at - self._noted_at > _NOTE_EVERY_S:
                self._noted_at = self._row_at
                self._bar.set_postfix_str(self._state(), refresh=False)
            self._bar.update(1)
        elif self._shown and self.done - self._before >= self._next_line:
            while self._next_line <= self.done - self._before:
                self._next_line += self._every
            self._print(f"{self._numbers()}{self._left()}")

    def say(self, text: str) -> None:
        """Print a text above the bar."""
        if self._bar is not None:
            self._bar.write(text, file=self._file)
        elif self._shown:
            self._print(text)

    def waiting(self, in_progress: Sequence[tuple[Key, float]]) -> None:
        """Name what is being made, if no row has come for a minute (then for two, four, ...)."""
        quiet_s = time.monotonic() - self._row_at
        if not self._shown or quiet_s < self._patience_s or not in_progress:
            return
        longest = sorted(in_progress, key=lambda item: -item[1])
        names = [f"{arch} (seed {seed}) for {duration(seconds)}" for (arch, seed), seconds in longest[:_NAMED]]
        more = f" and {len(longest) - _NAMED} more" if len(longest) > _NAMED else ""
        text = f"no {self._unit} for {duration(quiet_s)}; in progress: {', '.join(names)}{more}"
        if self._bar is not None:
            self._bar.set_postfix_str(text)
            self._patience_s = quiet_s + 1
        else:
            self._print(f"{self._numbers()}; {text}")
            self._patience_s *= 2

    def _numbers(self) -> str:
        elapsed_s = time.monotonic() - self._started_at
        rate = (self.done - self._before) / max(elapsed_s, 1e-9)
        state = self._state()
        return (
            f"{self.done} of {self.total} {self._unit}s{f', {state}' if state else ''} in {duration(elapsed_s)} "
            f"({rate:.3g}/s)"
        )

    def _state(self) -> str:
        return ", ".join(filter(None, [f"{self.failed} failed" if self.failed else "", self.note()]))

    def _left(self) -> str:
        if self.done >= self.total:
            return ""
        per_row_s = (time.monotonic() - self._started_at) / max(self.done - self._before, 1)
        return f", about {duration(per_row_s * (self.total - self.done))} left"

    def _print(self, text: str) -> None:
        print(text, file=self._file, flush=True)


def _in_notebook() -> bool:
    return "ipykernel" in sys.modules
