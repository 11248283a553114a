"""What is used of Lightning although it is private; the only place that does, with the reason for each.

Checked with pytorch-lightning 2.6. (`EMA` besides overrides what its base class ``WeightAveraging`` has.)
"""

from __future__ import annotations

from typing import Any

from pytorch_lightning import LightningModule, Trainer


def leave_signals_to_us(trainer: Trainer) -> None:
    """``_signal_connector.register_signal_handlers``: would talk to other processes from within whatever a signal came into."""
    connector: Any = trainer._signal_connector

    def register_nothing() -> None:
        connector.received_sigterm = False

    connector.register_signal_handlers = register_nothing


def stop_after_this_batch(trainer: Trainer) -> None:
    """``_signal_connector.received_sigterm``: the one way to end ``fit`` between two batches in the middle of an epoch."""
    trainer._signal_connector.received_sigterm = True


def is_accumulating(trainer: Trainer) -> bool:
    """``_should_accumulate``: whether the batch that was just trained on ended without an optimizer step."""
    loop: Any = trainer.fit_loop
    return bool(loop._should_accumulate())


def logs_this_step(trainer: Trainer) -> bool:
    """``_logger_connector.should_update_logs``: what is dear to compute is computed only where it is logged."""
    connector: Any = trainer._logger_connector
    return bool(connector.should_update_logs)


def values_to_log(trainer: Trainer) -> dict[str, Any]:
    """``_logger_connector.metrics``: what Lightning gives to the loggers once the hooks of this step or epoch are done."""
    connector: Any = trainer._logger_connector
    ends_an_epoch = connector._first_loop_iter is None
    if not ends_an_epoch and (is_accumulating(trainer) or not connector.should_update_logs):
        return {}
    return {name: float(value) for name, value in connector.metrics["log"].items()}


def label_logged_values(trainer: Trainer) -> None:
    """``_batches_that_stepped``: label of logged values, which some resumes shift; make it the optimizer's steps."""
    loop: Any = trainer.fit_loop.epoch_loop
    loop._batches_that_stepped = trainer.global_step


def restart_loader(trainer: Trainer) -> None:
    """``_data_fetcher``: begin the loader anew; Lightning made its iterator before it knew of the checkpoint."""
    loop: Any = trainer.fit_loop
    iter(loop._data_fetcher)


def initial_hparams(module: LightningModule) -> dict[str, Any]:
    """``_log_hyperparams``: the hyper-parameters that Lightning logs, to log them again with more beside them."""
    hparams = dict(module.hparams_initial) if module._log_hyperparams else {}
    hparams.pop("_class_path", None)  # LightningCLI's, which Lightning does not log either
    return hparams


def training_loader(trainer: Trainer) -> Any:
    """``fit_loop._data_source``: the loader of the training's images before Lightning asks for it; None where there is none."""
    source: Any = trainer.fit_loop._data_source
    return source.dataloader() if source.is_defined() else None


def loads_itself(trainer: Trainer, module: LightningModule) -> bool:
    """``fit_loop._data_source``: whether the training's images are those of the module's own ``train_dataloader``."""
    fit_loop: Any = getattr(trainer, "fit_loop", None)
    return fit_loop is not None and fit_loop._data_source.instance is module
