"""Ctrl-C, SIGTERM and SIGUSR1 end a training between two optimizer steps, so that the checkpoint is whole."""

from __future__ import annotations

from contextlib import ExitStack

import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.trainer.states import TrainerFn

from vkdnw_pl.callbacks.checkpoints import ends_a_part
from vkdnw_pl.callbacks.lightning_private import is_accumulating, leave_signals_to_us, stop_after_this_batch
from vkdnw_pl.runs.signals import BY_STRENGTH, SIGUSR1, TRAINING_SIGNALS, Stopped


class GracefulStop(Callback):
    """On SIGINT, SIGTERM or SIGUSR1 all processes stop together after the optimizer step, or the validation, under way.

    It is enough that one process gets the signal. (Lightning stops after the batch, each process for itself: accumulated
    gradients would be lost, a validation cut, and processes left waiting for each other.) A second SIGINT interrupts at
    once, without a checkpoint of the step in flight.

    SIGUSR1, which announces the end of a job's time, waits for the first step, so that every job leaves more than it
    found, and ends a test only if there were steps before it. SIGINT and SIGTERM end preparations and a test at once.
    """

    def __init__(self) -> None:
        self.began = False
        """Whether the training, and not only its preparation, has begun."""
        self.agreed = False
        """Whether all processes stop."""
        self.steps = 0
        """Optimizer steps of this process."""
        self._first = 0
        self._taken = ExitStack()

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if trainer.state.fn == TrainerFn.FITTING:
            self._taken.enter_context(TRAINING_SIGNALS.taken())
            self.began = self.agreed = False
            self._first = self.steps = 0
        if TRAINING_SIGNALS.active:
            leave_signals_to_us(trainer)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.began = True
        self._first = trainer.global_step
        note = "the training stops after this step (a validation is finished first; Ctrl-C again ends it at once)"
        TRAINING_SIGNALS.wait_for(*BY_STRENGTH[1:], note=note)

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *args: object, **kwargs: object) -> None:
        self.steps = trainer.global_step - self._first
        if is_accumulating(trainer) or ends_a_part(trainer):
            return  # the other gradients, a validation, or the end of the epoch with its checkpoint comes first
        self._stop_if_asked(trainer)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not _is_last_epoch(trainer):  # which ends by itself
            self._stop_if_asked(trainer)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._await_no_step()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        self._await_no_step()
        self._taken.close()

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        self._taken.close()

    def check(self, trainer: Trainer) -> None:
        """After the training: raise ``Stopped`` in all processes if one of them was sent a signal."""
        signum = self._ask(trainer)
        if signum and (signum != SIGUSR1 or self.steps):
            TRAINING_SIGNALS.stop(signum)
            self.agreed = True
            raise Stopped(signum)
        self._await_no_step()  # also where there was nothing to train any more

    def _stop_if_asked(self, trainer: Trainer) -> None:
        if signum := self._ask(trainer):
            TRAINING_SIGNALS.stop(signum)
            self.agreed = True
            stop_after_this_batch(trainer)  # by a SIGTERMException

    @staticmethod
    def _ask(trainer: Trainer) -> int:
        """The strongest signal that any process was sent; 0 for none."""
        if not TRAINING_SIGNALS.active:
            return 0
        strength = BY_STRENGTH.index(TRAINING_SIGNALS.signum)
        if trainer.world_size > 1:
            of_all = torch.tensor(strength, device=trainer.strategy.root_device)
            strength = int(trainer.strategy.reduce(of_all, reduce_op="max"))
        return BY_STRENGTH[strength]

    def _await_no_step(self) -> None:
        if self.steps:
            TRAINING_SIGNALS.wait_for()
            return
        note = "there was no step in this job's time; the test goes on as long as it can"
        TRAINING_SIGNALS.wait_for(SIGUSR1, note=note)


def _is_last_epoch(trainer: Trainer) -> bool:
    epochs, steps = trainer.max_epochs, trainer.max_steps
    done = (epochs not in (None, -1) and trainer.current_epoch + 1 >= epochs) or 0 <= steps <= trainer.global_step
    return bool(done or trainer.should_stop)
