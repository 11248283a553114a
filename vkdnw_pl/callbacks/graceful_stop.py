"""Ctrl-C and SIGTERM end a training between two optimizer steps, so that the checkpoint is whole."""

from __future__ import annotations

import os
import signal
import sys
import threading
from types import FrameType
from typing import Any

from pytorch_lightning import Callback, LightningModule, Trainer

from vkdnw_pl.callbacks.checkpoints import ends_a_part


class GracefulStop(Callback):
    """On SIGINT or SIGTERM all processes stop together after the next optimizer step that no validation follows.

    Lightning itself stops after the batch: gradients that are being accumulated would be lost, and a signal during
    validation would cost the epoch. A second SIGINT interrupts at once, without a checkpoint of the step in flight.
    """

    def __init__(self) -> None:
        self.signum: int | None = None
        self.began = False
        self._before: dict[int, Any] = {}

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.began = True
        if threading.current_thread() is not threading.main_thread():
            return
        owner = os.getpid()

        def stop(signum: int, frame: FrameType | None) -> None:
            if os.getpid() != owner:
                if signum == signal.SIGTERM:
                    os._exit(128 + signum)
                return  # a loader's worker; the loader ends it
            if self.signum is not None and signum == signal.SIGINT:
                raise KeyboardInterrupt
            first = self.signum is None
            self.signum = signum
            if first and trainer.is_global_zero:
                now = ", Ctrl-C again: at once" if signum == signal.SIGINT else ""
                print(f"\nstopping after this step (a validation is finished first{now})", file=sys.stderr, flush=True)

        self._before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *args: Any, **kwargs: Any) -> None:
        if self.signum is None or trainer.fit_loop._should_accumulate() or ends_a_part(trainer):
            return
        trainer._signal_connector.received_sigterm = True  # Lightning tells the other processes

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._restore()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        self._restore()

    def _restore(self) -> None:
        """Before Lightning puts back the handlers that it found itself."""
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}
