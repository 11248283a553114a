"""The checkpoints of a training run, and how a training goes on from one to the bit as if it had never stopped."""

from __future__ import annotations

import os
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.callbacks import Checkpoint
from pytorch_lightning.utilities import rank_zero_warn
from pytorch_lightning.utilities.exceptions import SIGTERMException
from torch import Tensor

from vkdnw_pl.callbacks.history import HistoryLogger
from vkdnw_pl.callbacks.lightning_private import label_logged_values, restart_loader, values_to_log
from vkdnw_pl.errors import check_choice, check_whole
from vkdnw_pl.runs.files import replaced


class RunCheckpoints(Checkpoint):
    """Writes ``last.ckpt``, ``best.ckpt`` and ``epoch_N.ckpt`` into ``checkpoints/`` of the run folder.

    Lightning's ModelCheckpoint forgets which model was best when the folder is moved, saves on any exception (also
    after a NaN, and on one process of several while the others wait), and broadcasts an object at every step to save by
    time; this one does none of it. Each file is replaced in one step.

    Args:
        monitor: Logged value that decides which state is the best; null for no best.ckpt.
        mode: Whether a larger (max) or a smaller (min) value is better.
        every_n_epochs: Keep a file of its own of every n-th epoch; 0 for none.
        every_n_steps: Write last.ckpt also after every n-th optimizer step, not only at the end of an epoch; 0 for no.
    """

    def __init__(
        self, monitor: str | None = "val/top1", mode: str = "max", every_n_epochs: int = 0, every_n_steps: int = 0
    ) -> None:
        super().__init__()
        check_choice("mode", mode, ("min", "max"))
        check_whole("every_n_epochs", every_n_epochs, 0)
        check_whole("every_n_steps", every_n_steps, 0)
        self.monitor, self.mode = monitor, mode
        self.every_n_epochs, self.every_n_steps = every_n_epochs, every_n_steps
        self.best: float | None = None
        self.best_epoch: int | None = None
        self._saved_at: int | None = None
        self._epoch_ended_at: int | None = None

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *args: Any, **kwargs: Any) -> None:
        step = trainer.global_step
        if not self.every_n_steps or not step or step % self.every_n_steps or self._saved_at == step:
            return
        if ends_a_part(trainer):
            return  # a resume from here would leave out the validation; the end of the epoch saves soon
        self._saved_at = step  # several batches of one accumulated step have one number
        self._log_ahead(trainer)
        self._save(trainer, "last")

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        epoch = trainer.current_epoch
        self._log_ahead(trainer)
        value = None if self.monitor is None else trainer.callback_metrics.get(self.monitor)
        if value is not None and self._better(float(value)):
            self.best, self.best_epoch = float(value), epoch
            self._save(trainer, "best")
        if self.every_n_epochs and (epoch + 1) % self.every_n_epochs == 0:
            self._save(trainer, f"epoch_{epoch + 1}")
        self._save(trainer, "last")  # the last one: a run that is killed before it makes the others again
        self._epoch_ended_at = trainer.global_step

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Save where a stop was asked for: then every process is here, between two steps."""
        saved = trainer.global_step in (0, self._epoch_ended_at)
        if isinstance(exception, SIGTERMException) and trainer.training and not saved:
            self._save(trainer, "last")

    def state_dict(self) -> dict[str, Any]:
        return {"best": self.best, "best_epoch": self.best_epoch}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.best, self.best_epoch = state_dict["best"], state_dict["best_epoch"]

    def _better(self, value: float) -> bool:
        if value != value:
            return False
        return self.best is None or (value > self.best if self.mode == "max" else value < self.best)

    @staticmethod
    def _log_ahead(trainer: Trainer) -> None:
        values = values_to_log(trainer)  # in all processes: they may have to add up
        for logger in trainer.loggers if values else ():
            if isinstance(logger, HistoryLogger):
                logger.log_ahead({**values, "epoch": trainer.current_epoch}, trainer.global_step - 1)

    def _save(self, trainer: Trainer, name: str) -> None:
        if trainer.fast_dev_run or trainer.sanity_checking:  # type: ignore[attr-defined]
            return
        # Lightning's own way goes through the system's temporary folder: a copy where that is another file system.
        path = Path(trainer.default_root_dir) / "checkpoints" / f"{name}.ckpt"
        with replaced(path) if trainer.is_global_zero else nullcontext(path) as draft:
            trainer.save_checkpoint(draft)  # of all processes the first writes
            if trainer.is_global_zero:
                with draft.open("rb") as file:
                    os.fsync(file.fileno())
        trainer.strategy.barrier("RunCheckpoints")


def ends_a_part(trainer: Trainer) -> bool:
    """Whether the batch that was just trained on is the last before a validation or of an epoch."""
    loop: Any = trainer.fit_loop.epoch_loop
    done = loop.batch_progress.current.ready
    checked: Any = trainer.val_check_batch
    return bool(loop.batch_progress.is_last_batch or (checked not in (None, float("inf")) and done % checked == 0))


class ExactResume(Callback):
    """Does what Lightning leaves undone when a `TrainingModule` goes on from a checkpoint.

    An epoch that was done is not ended a second time; one that was cut goes on behind the batches that were trained on,
    with the sums behind its means; the numbers of the optimizer are those that were asked for now. Where nothing is left
    to train, the metrics are those of the checkpoint.
    """

    def __init__(self) -> None:
        self._metrics: dict[str, float] = {}
        self._measures: dict[str, dict[str, Tensor]] = {}
        self._groups: list[dict[str, Any]] = []

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Keep the sums behind the epoch's means, over all processes."""
        checkpoint["train_measures"] = {
            name: {
                state: trainer.strategy.reduce(getattr(measure, state), reduce_op="sum") for state in measure._defaults
            }
            for name, measure in _train_measures(pl_module).items()
        }
        checkpoint["metrics"] = {name: float(value) for name, value in trainer.callback_metrics.items()}

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Mark the epoch of a checkpoint that was saved at its end as done.

        Lightning counts it as open, and where ``max_steps`` is given ends it a second time after a resume.
        """
        self._measures, self._metrics = checkpoint.get("train_measures", {}), checkpoint.get("metrics", {})
        loop = checkpoint.get("loops", {}).get("fit_loop")
        if not loop:
            return
        epoch, batch = loop["epoch_progress"], loop["epoch_loop.batch_progress"]
        if epoch["current"]["processed"] > epoch["current"]["completed"]:
            for name in ("ready", "started", "completed"):
                epoch["current"][name] = epoch["current"]["processed"]
            epoch["total"]["completed"] = epoch["total"]["processed"]
            batch["current"] = dict.fromkeys(batch["current"], 0)
            batch["is_last_batch"] = False

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        # The optimizer as it was made; a checkpoint is loaded into it after this.
        groups = trainer.optimizers[0].param_groups
        self._groups = [{key: value for key, value in group.items() if key != "params"} for group in groups]

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._metrics = {}
        self._apply_options(trainer)
        self._continue_epoch(trainer, pl_module)

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        trainer.callback_metrics.update(
            {name: torch.tensor(value, dtype=torch.float64) for name, value in self._metrics.items()}
        )

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        label_logged_values(trainer)

    def _apply_options(self, trainer: Trainer) -> None:
        """A checkpoint brings the optimizer's numbers along; what was asked for now holds. The same change nothing."""
        (optimizer,), (config,) = trainer.optimizers, trainer.lr_scheduler_configs
        scheduler: Any = config.scheduler
        factor = scheduler.lr_lambdas[0](scheduler.last_epoch)
        scheduler.base_lrs = [group["initial_lr"] for group in self._groups]
        for group, fresh in zip(optimizer.param_groups, self._groups, strict=True):
            group.update(fresh, lr=fresh["initial_lr"] * factor)

    def _continue_epoch(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """After a resume in the middle of an epoch: leave out the batches that were trained on."""
        loop: Any = trainer.fit_loop
        done = loop.epoch_loop.batch_progress.current.processed
        sampler: Any = getattr(trainer.train_dataloader, "sampler", None)
        if not loop.restarted_mid_epoch or not 0 < done < trainer.num_training_batches:
            return
        if not hasattr(sampler, "skip_batches"):
            rank_zero_warn("resuming in the middle of an epoch with a foreign loader: it begins the epoch anew")
            return
        sampler.set_epoch(trainer.current_epoch)
        sampler.skip_batches = done
        restart_loader(trainer)
        if trainer.is_global_zero:  # the sums are those of all processes
            measures = _train_measures(pl_module)
            for name, states in self._measures.items():
                for state, value in states.items():
                    setattr(measures[name], state, value.to(pl_module.device))


def _train_measures(pl_module: LightningModule) -> Any:
    """Metrics of the training images, by name."""
    module: Any = pl_module
    return module.measured["train_images"]
