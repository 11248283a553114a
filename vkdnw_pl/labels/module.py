"""The training of one row: as ``fit`` trains, without what only somebody who looks at one training needs."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from torch import Tensor

from vkdnw_pl.runs.files import replaced
from vkdnw_pl.training.module import TrainingModule

_FIRST_CHECKPOINT_S = 120.0


class LabelModule(TrainingModule):
    """A `TrainingModule` that logs nothing of single steps, and counts the images that it is right about.

    Attributes:
        accuracy: ``val`` or ``test`` -> top-1 accuracy in percent, of the latest evaluation.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.accuracy: dict[str, float] = {}
        self._right: list[Tensor] = []
        self._images = 0
        self._losses: list[Tensor] = []

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        pass

    def _log_step(self, loss: Tensor, *rest: Any) -> None:
        self._losses.append(loss)

    def on_train_epoch_end(self) -> None:
        losses, self._losses = self._losses, []
        finite = torch.isfinite(torch.stack(losses)) if losses else torch.ones(1)
        if not bool(finite.all()):
            step = int((~finite).nonzero()[0])
            raise FloatingPointError(
                f"the training loss is {float(losses[step])} at epoch {self.current_epoch}, batch {step}"
            )

    def _evaluate(self, stage: str, batch: tuple[Tensor, Tensor]) -> None:
        images, labels = batch
        if self.channels_last:
            images = images.contiguous(memory_format=torch.channels_last)
        self._right.append((self(images).argmax(1) == labels).sum())
        self._images += len(labels)

    def _log_epoch(self, stage: str) -> None:
        if self._images:
            self.accuracy[stage] = 100 * sum(map(int, self._right)) / self._images
            self.log(f"{stage}/top1", self.accuracy[stage])
        self._right, self._images = [], 0


class RowCheckpoint(Callback):
    """Writes ``checkpoints/last.ckpt`` below the row's folder at the end of an epoch, every two minutes."""

    def __init__(self) -> None:
        super().__init__()
        self._saved_at = time.monotonic()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if time.monotonic() - self._saved_at < _FIRST_CHECKPOINT_S or trainer.current_epoch + 1 == trainer.max_epochs:
            return
        path = Path(trainer.default_root_dir) / "checkpoints" / "last.ckpt"
        path.parent.mkdir(parents=True, exist_ok=True)
        with replaced(path) as draft:
            trainer.save_checkpoint(draft)
        self._saved_at = time.monotonic()
