"""Ends a training whose loss is not a number, keeps what caused it, and keeps the last good checkpoint."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from torch import Tensor

from vkdnw_pl.errors import check_whole
from vkdnw_pl.runs.files import replaced


class NonFiniteLoss(RuntimeError):
    """The training loss, or a weight, is NaN or infinite; ``file`` holds the batch if it could be written."""

    def __init__(self, message: str, file: Path | None = None, epoch: int = 0, step: int = 0) -> None:
        super().__init__(message)
        self.file, self.epoch, self.step = file, epoch, step


@dataclass
class _Step:
    """A step of the training, and whether its loss was finite."""

    batch: Any
    batch_idx: int
    epoch: int
    step: int
    loss: Tensor | None = None
    finite: Tensor | None = None
    """On the CPU; not to be read before ``copied``."""
    copied: torch.cuda.Event | None = None
    outputs: dict[str, Any] = field(default_factory=dict)


class FiniteLoss(Callback):
    """Aborts when the training loss is NaN or infinite, and before a checkpoint of broken weights is written.

    On the CPU a step ends before its backward pass. On a GPU the answer for a step is read when the next one starts, so
    that nobody waits for the GPU. By then the weights may be broken: a checkpoint is refused while the last loss or any
    weight is not finite, and ``ModelCheckpoint(save_on_exception=True)`` does not save after ``NonFiniteLoss``.

    The batch is kept as ``nonfinite_batch_rank<r>.pt`` in the run folder (``trainer.default_root_dir``), which
    ``torch.load(..., weights_only=True)`` reads: ``images`` and ``labels`` as the loader gave them, ``epoch``,
    ``step`` (optimizer steps before), ``batch_idx``, ``rank``, and ``losses``: the loss and those of its parts that
    ``training_step`` returned, or else logged as ``train/...``.

    Args:
        every_n_steps: look at every n-th batch of an epoch only.
    """

    def __init__(self, every_n_steps: int = 1) -> None:
        check_whole("every_n_steps", every_n_steps, 1)
        self.every_n_steps = every_n_steps
        self._now: _Step | None = None
        self._pending: _Step | None = None
        self._broken: NonFiniteLoss | None = None
        self._unguarded = False
        self._switched_off: list[Any] = []

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        self._now = self._pending = self._broken = None
        for callback in self._switched_off:
            callback.save_on_exception = True
        self._switched_off = []
        # Lightning does not ask callbacks before it writes a checkpoint of weights only.
        self._unguarded = any(getattr(item, "save_weights_only", False) for item in trainer.checkpoint_callbacks)

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        self._verify(trainer)
        self._now = _Step(batch, batch_idx, trainer.current_epoch, trainer.global_step)

    def on_before_backward(self, trainer: Trainer, pl_module: LightningModule, loss: Tensor) -> None:
        step = self._now
        if step is None or step.batch_idx % self.every_n_steps:
            return
        self._pending = step
        step.loss = loss.detach()
        step.finite = finite = torch.isfinite(step.loss).all()
        if not self._deferred(loss):
            self._verify(trainer)
        elif loss.is_cuda:
            step.finite = torch.empty_like(finite, device="cpu", pin_memory=True).copy_(finite, non_blocking=True)
            step.copied = torch.cuda.Event()
            step.copied.record()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if self._pending is not None and isinstance(outputs, Mapping):
            self._pending.outputs = dict(outputs)
        if self._unguarded:
            self._verify(trainer)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._verify(trainer)
        if self._unguarded and not trainer.sanity_checking:
            self._verify_weights(trainer, pl_module)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._verify(trainer)
        if self._unguarded:
            self._verify_weights(trainer, pl_module)

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Raise ``NonFiniteLoss`` before a checkpoint of broken weights is written."""
        if self._broken is not None:
            raise self._broken
        self._verify(trainer)
        self._verify_weights(trainer, pl_module)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        if isinstance(exception, NonFiniteLoss):  # callbacks that save come last, so this is in time
            for callback in trainer.checkpoint_callbacks:
                if getattr(callback, "save_on_exception", False):
                    callback.save_on_exception = False  # type: ignore[attr-defined]
                    self._switched_off.append(callback)

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        self._now = self._pending = None  # a batch is large

    @staticmethod
    def _deferred(loss: Tensor) -> bool:
        """Whether reading the loss would wait for the device."""
        return loss.device.type != "cpu"

    def _verify(self, trainer: Trainer) -> None:
        step, self._pending = self._pending, None
        if step is None:
            return
        assert step.loss is not None
        if step.copied is not None:
            step.copied.synchronize()
        if not step.finite:
            self._abort(trainer, step, f"the training loss is {float(step.loss)}")

    def _verify_weights(self, trainer: Trainer, pl_module: LightningModule) -> None:
        weights = [weight.detach() for weight in pl_module.parameters() if weight.is_floating_point()]
        if self._now is None or not weights:
            return  # nothing was trained here
        if not torch.stack([torch.isfinite(weight).all() for weight in weights]).all():
            self._abort(trainer, self._now, "a weight is not finite after the backward pass of a finite loss,")

    def _abort(self, trainer: Trainer, step: _Step, what: str) -> None:
        rank = trainer.global_rank
        file = Path(trainer.default_root_dir) / f"nonfinite_batch_rank{rank}.pt"
        kept = f"The batch is in {file}."
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            with replaced(file) as draft:
                torch.save({**_content(step), "rank": rank, "losses": _losses(trainer, step)}, draft)
        except (OSError, RuntimeError) as error:
            kept = f"The batch could not be written to {file} ({error})."
        self._broken = NonFiniteLoss(
            f"{what} at epoch {step.epoch}, step {step.step} (batch {step.batch_idx} of the epoch, process {rank}). {kept} "
            "No checkpoint was written since; continue from the last one, or start again, with a lower learning rate, a "
            "longer warm-up, trainer.gradient_clip_val, or a wider trainer.precision (bf16-mixed instead of 16-mixed, "
            f"32-true instead of either; now {trainer.precision}), unless images or labels in the file are at fault.",
            file if file.exists() else None,
            step.epoch,
            step.step,
        )
        raise self._broken


def _content(step: _Step) -> dict[str, Any]:
    content: dict[str, Any] = {"epoch": step.epoch, "step": step.step, "batch_idx": step.batch_idx}
    if isinstance(step.batch, Sequence) and len(step.batch) >= 2:
        return {**content, "images": _cpu(step.batch[0]), "labels": _cpu(step.batch[1])}
    return {**content, "batch": _cpu(step.batch)}


def _cpu(value: Any) -> Any:
    """Tensors as copies on the CPU; anything else that ``weights_only`` would not read as text."""
    if isinstance(value, Tensor):
        return value.detach().cpu().clone()
    if isinstance(value, Mapping):
        return {str(key): _cpu(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_cpu(item) for item in value]
    return value if value is None or isinstance(value, str | bool | int | float) else str(value)


def _losses(trainer: Trainer, step: _Step) -> dict[str, float]:
    """Name -> value of the loss and its parts."""
    parts = {name: value for name, value in step.outputs.items() if isinstance(value, Tensor) and value.numel() == 1}
    if len(parts) <= 1:
        parts |= {name: value for name, value in trainer.callback_metrics.items() if name.startswith("train/")}
    loss = {} if step.loss is None else {"loss": step.loss}
    return {name: float(value) for name, value in (loss | parts).items()}
