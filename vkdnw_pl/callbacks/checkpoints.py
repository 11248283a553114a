"""The checkpoints of a training run: the last state, the best one, and, if asked for, every n-th epoch."""

from __future__ import annotations

import os
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import Checkpoint
from pytorch_lightning.utilities.exceptions import SIGTERMException

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

    @staticmethod
    def path(trainer: Trainer, name: str) -> Path:
        """File of the checkpoint ``name`` in the trainer's run folder."""
        return Path(trainer.default_root_dir) / "checkpoints" / f"{name}.ckpt"

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *args: Any, **kwargs: Any) -> None:
        step = trainer.global_step
        if not self.every_n_steps or not step or step % self.every_n_steps or self._saved_at == step:
            return
        if ends_a_part(trainer):
            return  # a resume from here would leave out the validation; the end of the epoch saves soon
        self._saved_at = step  # several batches of one accumulated step have one number
        self._save(trainer, "last")

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        epoch = trainer.current_epoch
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

    def _save(self, trainer: Trainer, name: str) -> None:
        if trainer.fast_dev_run or trainer.sanity_checking:  # type: ignore[attr-defined]
            return
        # Lightning's own way goes through the system's temporary folder: a copy where that is another file system.
        path = self.path(trainer, name)
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
