"""Shows how far scoring is: a bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from typing import Any, TextIO

from pytorch_lightning import Callback, LightningModule, Trainer
from tqdm import tqdm

from vkdnw_pl.callbacks.pace import duration
from vkdnw_pl.scoring.shared import SharedState


class ScoreProgress(Callback):
    """Reports on all processes of a run from its first.

    Args:
        state: counts the rows that are done.
        file: where to write (default: standard error).
        lines: how many lines to write on something that is no terminal.
    """

    def __init__(self, state: SharedState, file: TextIO | None = None, lines: int = 10) -> None:
        self.state = state
        self.lines = lines
        self._file = file
        self._bar: Any = None
        self._started_at = 0.0
        self._next = 0.0

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not trainer.is_global_zero:
            return
        self._started_at = time.monotonic()
        file = self._out()
        if file.isatty():
            self._bar = tqdm(total=self.state.total, desc="scoring", unit="row", file=file, dynamic_ncols=True)
        else:
            self._next = self.state.total / self.lines

    def on_predict_batch_end(self, trainer: Trainer, pl_module: LightningModule, *args: Any, **kwargs: Any) -> None:
        if trainer.is_global_zero:
            self._show()

    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not trainer.is_global_zero:
            return
        # Other processes may have rows left. If one dies, the parent ends this one too.
        while self.state.done < self.state.total:
            time.sleep(0.1)
            self._show()
        self._show()
        if self._bar is not None:
            self._bar.close()

    def _show(self) -> None:
        done, total = self.state.done, self.state.total
        if self._bar is not None:
            self._bar.update(done - self._bar.n)
            if self.state.failed:
                self._bar.set_postfix(failed=self.state.failed, refresh=False)
        elif done >= self._next:
            while self._next <= done:
                self._next += total / self.lines
            elapsed_s = time.monotonic() - self._started_at
            failed = f", {self.state.failed} failed" if self.state.failed else ""
            left = "" if done == total else f", about {duration(elapsed_s / done * (total - done))} left"
            print(f"{done} of {total} rows{failed} in {duration(elapsed_s)}{left}", file=self._out(), flush=True)

    def _out(self) -> TextIO:
        return self._file or sys.stderr
