"""Exponential moving average of the weights: validated, saved and left behind in place of the last weights."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any, Literal, get_args

import torch
from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import WeightAveraging
from pytorch_lightning.strategies import DeepSpeedStrategy, FSDPStrategy, ModelParallelStrategy
from pytorch_lightning.trainer.states import TrainerFn
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from vkdnw_pl.errors import check_choice, check_number, check_whole

Buffers = Literal["average", "copy"]


class EMA(WeightAveraging):
    """Exponential moving average of the weights, θ̄ ← d θ̄ + (1 - d) θ after an optimizer step.

    Validation, ``state_dict`` of the checkpoints, and the module after training have the average; the weights that train
    are under ``current_model_state``, and a resumed run goes on as if it had never stopped. The first update copies, so
    that the initial weights have no part in the average; before it the average is the model itself.

    Buffers with a fraction (running statistics of batch norm) are averaged like weights, since those of the last batches
    belong to other weights than the averaged ones; whole numbers (``num_batches_tracked``) are copied. In distributed
    training every process averages the same weights, and DDP gives all of them the buffers of the first, which are those
    of the checkpoint, before they validate.

    d of the latest update is logged as ``ema_decay``.

    Args:
        decay: d, the share of the old average that stays at an update; 0.9999 is an average over about 10,000 updates.
        warmup: d is min(decay, (1 + t) / (10 + t)) at update t, so that short runs are not averages of their beginning.
        every_n_steps: Optimizer steps from one update to the next; the first step is always one.
        buffers: What becomes of running statistics, average or copy (those of the model as they are).
        device: Where the average is kept; null is where the model is. cpu saves GPU memory and costs a copy per update.

    Raises:
        ValueError: if an argument is out of its range, or (when fitting begins) the strategy shards the model or the
            weights are in half precision, in which an average stands still.
    """

    _average_model: _Average | None

    def __init__(
        self,
        decay: float = 0.9999,
        warmup: bool = True,
        every_n_steps: int = 1,
        buffers: Buffers = "average",
        device: str | None = None,
    ) -> None:
        check_number("ema.decay", decay, 0, 1, open_high=True)
        check_whole("ema.every_n_steps", every_n_steps, 1)
        check_choice("ema.buffers", buffers, get_args(Buffers))
        super().__init__(device=device, use_buffers=True)
        self.decay, self.warmup, self.every_n_steps, self.buffers = decay, warmup, every_n_steps, buffers
        self._swapped = False

    def should_update(self, step_idx: int | None = None, epoch_idx: int | None = None) -> bool:
        if step_idx is None or self._average_model is None:
            return False
        return not self._average_model.started or (step_idx + 1) % self.every_n_steps == 0

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        # The average is made when the module is complete (its own `setup` comes after this): when a checkpoint is
        # loaded, or when fitting starts. None is left from an earlier run: Lightning's callback would load the weights
        # that train for a `test` that follows.
        self._average_model = None
        self._swapped = False
        self._latest_update_step = trainer.global_step
        sharded = (FSDPStrategy, ModelParallelStrategy, DeepSpeedStrategy)
        if stage == "fit" and isinstance(trainer.strategy, sharded):
            strategy = type(trainer.strategy).__name__
            raise ValueError(f"EMA does not work with {strategy}, which shards the model; use ddp")

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        for checkpoint in trainer.checkpoint_callbacks:
            if getattr(checkpoint, "save_weights_only", False):
                raise ValueError(
                    "save_weights_only=True is not allowed with EMA: such a checkpoint would hold the last weights, not "
                    "their average"
                )
        self._make(pl_module)

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        if trainer.state.fn != TrainerFn.FITTING:
            return  # state_dict, which is loaded by now, is the average
        self._make(pl_module)
        super().on_load_checkpoint(trainer, pl_module, checkpoint)

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *args: Any, **kwargs: Any) -> None:
        super().on_train_batch_end(trainer, pl_module, *args, **kwargs)
        if self._average_model is not None and self._average_model.started:
            pl_module.log("ema_decay", self._average_model.last_decay)

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._show_average(pl_module)

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._show_model(pl_module)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        self._show_model(pl_module)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        # Swapped and not overwritten: a checkpoint that is saved from here on still has the weights that train.
        self._show_average(pl_module)

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        if self._average_model is None:
            return  # no fitting: the module holds what was loaded
        self._average_model.follow(pl_module)
        super().on_save_checkpoint(trainer, pl_module, checkpoint)
        if self._swapped:
            average, current = checkpoint["current_model_state"], checkpoint["state_dict"]
            checkpoint["state_dict"], checkpoint["current_model_state"] = average, current

    def _make(self, pl_module: LightningModule) -> None:
        """The average as a copy of the module, unless there is one."""
        if self._average_model is not None:
            return
        half = [name for name, p in pl_module.named_parameters() if p.dtype in (torch.float16, torch.bfloat16)]
        if half:
            dtype = pl_module.get_parameter(half[0]).dtype
            raise ValueError(f"EMA needs float32 or float64, and {half[0]} is {dtype}: take bf16-mixed or 16-mixed")
        device = self._device if self._device is not None else pl_module.device
        self._average_model = _Average(pl_module, torch.device(device), self.decay, self.warmup, self.buffers)

    def _show_average(self, pl_module: LightningModule) -> None:
        """Put the average into the module, and the module's weights where the average was."""
        if self._average_model is not None and not self._swapped:
            self._average_model.follow(pl_module)
            self._swap_models(pl_module)
            self._swapped = True

    def _show_model(self, pl_module: LightningModule) -> None:
        if self._average_model is not None and self._swapped:
            self._swap_models(pl_module)
        self._swapped = False


class _Average(AveragedModel):
    """torch's averaged model, but with one update for all tensors at once, which never waits for the GPU."""

    def __init__(self, model: nn.Module, device: torch.device, decay: float, warmup: bool, buffers: Buffers) -> None:
        super().__init__(model, device=device, use_buffers=True)
        self.n_averaged = torch.tensor(0)  # stays on the CPU
        self.decay, self.warmup, self.buffers_too = decay, warmup, buffers == "average"
        self.last_decay = 0.0
        self.module.requires_grad_(False)

    @property
    def started(self) -> bool:
        """Whether there was an update."""
        return bool(self.n_averaged > 0)

    @torch.no_grad()
    def update_parameters(self, model: nn.Module) -> None:
        """One step of the average towards ``model``."""
        t = int(self.n_averaged)
        decay = 0.0 if t == 0 else min(self.decay, (1 + t) / (10 + t)) if self.warmup else self.decay
        self.last_decay = decay
        averaged: list[Tensor] = []
        current: list[Tensor] = []
        for average, weight in self._pairs(model):
            is_averaged = self.buffers_too or isinstance(average, nn.Parameter)
            if decay and is_averaged and average.is_floating_point():
                averaged.append(average)
                current.append(weight if weight.device == average.device else weight.to(average.device))
            else:
                average.copy_(weight)
        if averaged:
            torch._foreach_lerp_(averaged, current, 1.0 - decay)
        self.n_averaged += 1

    @torch.no_grad()
    def follow(self, model: nn.Module) -> None:
        """Be ``model`` itself, as long as there was no update."""
        if not self.started:
            for average, weight in self._pairs(model):
                average.copy_(weight)

    def _pairs(self, model: nn.Module) -> Iterator[tuple[Tensor, Tensor]]:
        """Parameters, then buffers: the average's and the model's."""
        averages = itertools.chain(self.module.parameters(), self.module.buffers())
        return zip(averages, itertools.chain(model.parameters(), model.buffers()), strict=True)
