"""Trains one network after another in a process: (architecture, seed) -> row, as ``fit`` with the recipe and the seed."""

from __future__ import annotations

import gc
import hashlib
import logging
import shutil
import time
import warnings
from pathlib import Path

import torch
from lightning_fabric.plugins.environments import LightningEnvironment
from pytorch_lightning import Trainer, seed_everything

from vkdnw_pl.callbacks.lightning_private import leave_signals_to_us
from vkdnw_pl.errors import why
from vkdnw_pl.labels.module import LabelModule, RowCheckpoint
from vkdnw_pl.labels.recipe import make_data, trainer_options
from vkdnw_pl.labels.settings import COLUMNS, LabelSettings
from vkdnw_pl.runs.table import FAILED, OK, Key, ScoreRow
from vkdnw_pl.scoring.scorer import compute_exactly
from vkdnw_pl.training.folder import TrainingFolder

log = logging.getLogger(__name__)

_FROM_ELSEWHERE = ("arch", "space", "network", "num_classes", "input_size", "seed")
"""Options of the module that are the row's, or follow from the images."""
_QUIET = {
    "logger": False,
    "enable_checkpointing": False,
    "enable_progress_bar": False,
    "enable_model_summary": False,
    "num_sanity_val_steps": 0,
}


class RowTrainer:
    """Makes rows of an accuracy table; a row is a pure function of (architecture, seed) and the settings.

    Args:
        settings: of the table.
        unfinished: folder for the checkpoints of trainings that take minutes.
    """

    def __init__(self, settings: LabelSettings, unfinished: Path) -> None:
        self.settings, self.unfinished = settings, unfinished
        self.device = torch.device("cpu")

    def use(self, device: str) -> None:
        """Compute on a device from now on; see `compute_exactly`."""
        self.device = compute_exactly(device)
        for name in ("pytorch_lightning", "lightning_fabric", "pytorch_lightning.utilities.rank_zero"):
            logging.getLogger(name).setLevel(logging.ERROR)
        warnings.simplefilter("ignore")  # Lightning's advice to somebody who looks at one training

    def row(self, arch: str, seed: int) -> ScoreRow:
        """Train and evaluate; an exception becomes a failed row with its reason."""
        began_at = time.perf_counter()
        folder = self.unfinished / hashlib.sha256(f"{seed} {arch}".encode()).hexdigest()[:16]
        try:
            values = self._train(arch, seed, folder)
        except Exception as error:
            # Whatever is wrong with one network, the others go on; the row says what it was.
            log.debug("training of %s failed", arch, exc_info=True)
            if self.device.type == "cuda":
                torch.cuda.empty_cache()
            return self.failed((arch, seed), why(error), time.perf_counter() - began_at)
        finally:
            gc.collect()  # trainer, module and loaders refer to each other
        if folder.is_dir():
            shutil.rmtree(folder, ignore_errors=True)
        return ScoreRow(arch, seed, values, OK, "", time.perf_counter() - began_at)

    def failed(self, key: Key, reason: str, seconds: float) -> ScoreRow:
        """A row without values."""
        return ScoreRow(*key, dict.fromkeys(COLUMNS), FAILED, reason, seconds)

    def _train(self, arch: str, seed: int, folder: Path) -> dict[str, float | None]:
        settings, recipe = self.settings, self.settings.recipe
        space, name, network = settings.network_of(arch)
        cost = space.cost(name, **network, **settings.task)
        seed_everything(seed, workers=True, verbose=False)
        options = {key: value for key, value in recipe["model"].items() if key not in _FROM_ELSEWHERE}
        module = LabelModule(
            arch=name,
            space=space.key,
            network=network,
            num_classes=settings.num_classes,
            input_size=settings.image_size,
            seed=seed,
            **options,
        )
        data = make_data(recipe, seed, self.device.type)
        trainer = self._make_trainer(folder)
        trainer.fit(module, data, ckpt_path=TrainingFolder(folder).resume_path(None, module, trainer))
        if settings.accuracy == "test":
            if getattr(data, "validates_on_test", False):
                module.accuracy["test"] = module.accuracy.pop("val")
            else:
                trainer.test(module, data, verbose=False)
        values = {kind: module.accuracy.get(kind) for kind in ("val", "test")}
        return {"macs": cost.macs, "params": cost.num_params, **values, "epochs": trainer.current_epoch}

    def _make_trainer(self, folder: Path) -> Trainer:
        index = self.device.index
        where = {"accelerator": "cpu", "devices": 1} if index is None else {"accelerator": "gpu", "devices": [index]}
        options = trainer_options(self.settings.recipe)
        if not options["callbacks"]:  # nobody looks at a validation before the last
            options["check_val_every_n_epoch"] = options["max_epochs"]
        options["callbacks"] = [*options["callbacks"], RowCheckpoint()]
        plugins = LightningEnvironment()  # else it would look for the other processes of a job
        trainer = Trainer(**{**options, **_QUIET, **where, "default_root_dir": str(folder), "plugins": plugins})
        leave_signals_to_us(trainer)
        return trainer
