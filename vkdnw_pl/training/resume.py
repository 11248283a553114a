"""A training that is resumed goes on to the bit as if it had never stopped, also in the middle of an epoch."""

from __future__ import annotations

from typing import Any

from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.utilities import rank_zero_warn
from torch import Tensor

from vkdnw_pl.callbacks.lightning_private import label_logged_values, restart_loader


class ExactResume(Callback):
    """Does what Lightning leaves undone when a `TrainingModule` goes on from a checkpoint.

    An epoch that was done is not ended a second time; one that was cut goes on behind the batches that were trained on,
    with the sums behind its means; the numbers of the optimizer are those that were asked for now.
    """

    def __init__(self) -> None:
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

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Mark the epoch of a checkpoint that was saved at its end as done.

        Lightning counts it as open, and where ``max_steps`` is given ends it a second time after a resume.
        """
        self._measures = checkpoint.get("train_measures", {})
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
        self._apply_options(trainer)
        self._continue_epoch(trainer, pl_module)

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
