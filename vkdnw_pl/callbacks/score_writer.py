"""Puts every score row on the disk as soon as it is made."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pytorch_lightning import Callback, LightningModule, Trainer

from vkdnw_pl.runs.journal import Journal
from vkdnw_pl.runs.signals import follow_parent
from vkdnw_pl.scoring.shared import SharedState


class ScoreWriter(Callback):
    """Appends the rows of a process to a journal of its own.

    Args:
        folder: of the journals.
        columns: value columns of the rows.
        state: tells the parent and the other processes what was done and what each works on.
    """

    def __init__(self, folder: Path, columns: Sequence[str], state: SharedState) -> None:
        self.folder = folder
        self.columns = tuple(columns)
        self.state = state
        self._parent = os.getpid()
        self._journal: Journal | None = None

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if os.getpid() != self._parent:
            follow_parent()
        self._journal = Journal(self.folder, trainer.global_rank, self.columns)

    def on_predict_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        if os.getpid() != self._parent and os.getppid() != self._parent:
            os._exit(1)  # the parent was killed; where the system does not pass that on, this does
        self.state.begin(trainer.global_rank, batch)

    def on_predict_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        assert self._journal is not None
        self._journal.append(outputs)
        self.state.end(trainer.global_rank, failed=outputs.failed)

    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        assert self._journal is not None
        self._journal.close()
