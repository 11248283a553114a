"""Times in words, and how long what is left of a training will take."""

from __future__ import annotations

import math
import time
from collections import deque

from pytorch_lightning import Trainer

_EPOCHS = 10


def duration(seconds: float) -> str:
    """``12 s``, ``34 min`` or ``5.6 h``."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


class Pace:
    """The time per optimizer step over the last epochs of this process, validation and everything else included."""

    def __init__(self) -> None:
        self._marks: deque[tuple[float, int]] = deque(maxlen=_EPOCHS)

    def start(self, trainer: Trainer) -> None:
        """Begin anew; what an earlier process did before a resume tells nothing of this one's speed."""
        self._marks.clear()
        self.mark(trainer)

    def mark(self, trainer: Trainer) -> None:
        """Note that an epoch has ended."""
        self._marks.append((time.monotonic(), trainer.global_step))

    def left_s(self, trainer: Trainer) -> float | None:
        """Seconds until the last step; None where there is no telling."""
        total = trainer.estimated_stepping_batches
        if not self._marks or not math.isfinite(total):
            return None
        began_at, steps = self._marks[0]
        if trainer.global_step <= steps:
            return None
        per_step = (time.monotonic() - began_at) / (trainer.global_step - steps)
        return per_step * max(0, total - trainer.global_step)
