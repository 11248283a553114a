"""How fast a training is, and what it waits for."""

from __future__ import annotations

import time
from typing import Any

import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.utilities.data import extract_batch_size

from vkdnw_pl.errors import check_whole


class Throughput(Callback):
    """Logs at the end of every epoch how fast it was.

    ``images_per_s``: training images of all processes per second of training, validation excluded. ``epoch_s``: wall
    time of the epoch, validation included. ``loader_wait``: share of the training time from the end of a batch to the
    start of the next, in which the process waits for the loader (and moves the images to the device).
    ``gpu_peak_gib``: on CUDA, the most memory that tensors took since the epoch began, of the process that took most.

    The GPU is waited for when the training pauses (before a validation and at the end of the epoch), not in between.

    Args:
        warmup_steps: so many batches of the first epoch of this process do not count in ``images_per_s`` and
            ``loader_wait`` if the epoch has more: compilation, the choice of algorithms, a cold cache.
    """

    def __init__(self, warmup_steps: int = 10) -> None:
        check_whole("warmup_steps", warmup_steps, 0)
        self.warmup_steps = warmup_steps
        self._warming = warmup_steps
        self._began_at = self._busy_since = self._train_s = self._wait_s = 0.0
        self._idle_since: float | None = None
        self._batches = self._images = 0

    def rate(self, trainer: Trainer) -> float | None:
        """Images per second of all processes in this epoch so far; None before there is one."""
        return self._images * trainer.world_size / self._train_s if self._images and self._train_s > 0 else None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._warming = self.warmup_steps
        self._begin()  # a training that is resumed within an epoch has no start of one

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._begin()
        if pl_module.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(pl_module.device)

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        now = time.perf_counter()
        if self._idle_since is not None:
            self._wait_s += now - self._idle_since
            self._train_s += now - self._idle_since
        self._busy_since = now

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        now = time.perf_counter()
        self._train_s += now - self._busy_since
        self._images += extract_batch_size(batch)
        self._batches += 1
        self._idle_since = now
        if self._warming:
            self._warming -= 1
            if self._warming == 0 and trainer.num_training_batches > self._batches:
                _synchronise(pl_module)
                self._reset_counts()

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not trainer.sanity_checking:
            self._pause(pl_module)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not self._batches:
            return  # a training that is resumed from within the end of an epoch ends that epoch once more
        self._pause(pl_module)
        self._warming = 0
        values = {"epoch_s": time.perf_counter() - self._began_at}
        rate = self.rate(trainer)
        if rate is not None:
            # The mean over processes of each one's rate times their number is the sum of the rates.
            values.update(images_per_s=rate, loader_wait=self._wait_s / self._train_s)
        pl_module.log_dict(values, on_step=False, on_epoch=True, sync_dist=True)
        if pl_module.device.type == "cuda":
            peak = torch.cuda.max_memory_allocated(pl_module.device) / 2**30
            pl_module.log("gpu_peak_gib", peak, on_step=False, on_epoch=True, sync_dist=True, reduce_fx="max")
        self._batches = 0

    def _begin(self) -> None:
        self._began_at = time.perf_counter()
        self._batches = 0
        self._reset_counts()

    def _reset_counts(self) -> None:
        self._images = 0
        self._train_s = self._wait_s = 0.0
        self._idle_since = time.perf_counter()

    def _pause(self, pl_module: LightningModule) -> None:
        """Count the work that the GPU still has; the time until the next batch is no training."""
        if self._idle_since is not None:
            _synchronise(pl_module)
            if pl_module.device.type == "cuda":
                self._train_s += time.perf_counter() - self._idle_since
            self._idle_since = None


def _synchronise(pl_module: LightningModule) -> None:
    if pl_module.device.type == "cuda":
        torch.cuda.synchronize(pl_module.device)
