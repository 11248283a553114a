"""Ctrl-C ends a training between two steps, so that the checkpoint is whole."""

from __future__ import annotations

import os
import signal
import sys
import threading
from types import FrameType
from typing import Any

from pytorch_lightning import Callback, LightningModule, Trainer


class GracefulStop(Callback):
    """The first SIGINT is treated as Lightning treats SIGTERM: all processes stop together after the step.

    A second one interrupts at once, without a checkpoint of the step in flight.
    """

    def __init__(self) -> None:
        self.signum: int | None = None
        self._before: Any = None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if threading.current_thread() is not threading.main_thread():
            return
        owner = os.getpid()

        def stop(signum: int, frame: FrameType | None) -> None:
            if os.getpid() != owner:
                return  # a loader's worker; the loader ends it
            if self.signum is not None:
                raise KeyboardInterrupt
            self.signum = signum
            if trainer.is_global_zero:
                print("\nstopping after this step (Ctrl-C again: at once)", file=sys.stderr, flush=True)
            trainer._signal_connector.received_sigterm = True

        self._before = signal.signal(signal.SIGINT, stop)

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if self._before is not None:
            signal.signal(signal.SIGINT, self._before)
            self._before = None
