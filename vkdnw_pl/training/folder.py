"""The run folder of a training, and whether a rerun may continue it."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vkdnw_pl.errors import UsageError, user_input
from vkdnw_pl.runs.folder import RunFolder

if TYPE_CHECKING:
    from pytorch_lightning import LightningModule, Trainer

NAMED_CHECKPOINT = re.compile(r"last|best|epoch_\d+")
"""Names of a run folder's checkpoints."""
_LOADING = ("num_workers", "prefetch", "pin_memory", "prepare_per_node", "root", "download", "verify", "extract")
"""Options of data modules that decide how images come, not which."""

_TRAINER = (
    *("precision", "accumulate_grad_batches", "gradient_clip_val", "gradient_clip_algorithm", "sync_batchnorm"),
    *("limit_train_batches", "overfit_batches"),
)
"""Options of the trainer that decide the result; how long, where and what is logged do not stand here."""
ONLOOKERS = ("RunCheckpoints", "ProxyCallback", "TrainProgress", "TrainBar", "Throughput", "FiniteLoss")
"""Callbacks that change nothing of the training."""


def training_settings(config: Mapping[str, Any]) -> dict[str, Any]:
    """What decides a training's result, by dotted name; where it runs and what it logs are left out."""
    data = dict(config.get("data") or {})
    data["init_args"] = {key: value for key, value in (data.get("init_args") or {}).items() if key not in _LOADING}
    options = config.get("trainer") or {}
    trainer = {name: options[name] for name in _TRAINER if options.get(name) not in (None, False, 0.0)}
    callbacks = options.get("callbacks") or []
    for callback in callbacks if isinstance(callbacks, list) else [callbacks]:
        name = str(callback["class_path"]).rpartition(".")[2]
        if name not in ONLOOKERS:
            trainer[name] = callback.get("init_args") or "on"
    seed, model = config.get("seed_everything"), config["model"]
    return _flat(json.loads(json.dumps({"seed_everything": seed, "model": model, "data": data, "trainer": trainer})))


class TrainingFolder(RunFolder):
    """A run folder with ``checkpoints/`` and ``history.jsonl``."""

    command = "fit"
    files = (
        *("checkpoints", "history.jsonl", "hparams.json", "scores.csv", "proxy_drift.csv", "predictions.csv"),
        *("results.json", "traceback.txt", "nonfinite_batch_rank*.pt", "figures/curves.png", "figures/proxy_drift.png"),
    )
    evidence = ("checkpoints", "scores.csv")
    draft_folders = (".", "checkpoints")

    def __init__(self, path: str | Path) -> None:
        super().__init__(path)
        self.checkpoints = self.path / "checkpoints"
        self.results = self.path / "results.json"
        self.curves = self.path / "figures" / "curves.png"

    def checkpoint(self, name: str) -> Path:
        """File of the checkpoint ``name``: ``last``, ``best``, ``epoch_10``."""
        return self.checkpoints / f"{name}.ckpt"

    def check_continues(self, settings: Mapping[str, Any], overwrite: bool = False, partial: bool = False) -> None:
        """As `RunFolder.check_continues`; settings with which nothing was trained may be replaced."""
        if self.checkpoints.exists() or not self.meta.is_file():
            super().check_continues(dict(settings), overwrite, partial)
        else:
            self.earlier_meta()

    def resume_path(self, ckpt_path: str | None, model: LightningModule, trainer: Trainer) -> str | None:
        """Checkpoint to train on from: the one that is named, else the last one; None where there is none."""
        if ckpt_path in (None, "last") and not self.checkpoint("last").is_file():
            return None
        return self._checked(ckpt_path or "last", model, trainer)

    def evaluated_path(self, ckpt_path: str | None, model: LightningModule, trainer: Trainer) -> str | None:
        """Checkpoint to evaluate: the one that is named, else the best one; ``none`` is the bare network."""
        if ckpt_path == "none":
            return None
        names = [name for name in ("best", "last") if self.checkpoint(name).is_file()]
        if ckpt_path is None and not names:
            best = self.checkpoint("best")
            raise UsageError(f"there is no {best}: give --ckpt_path FILE, or --ckpt_path none for the bare network")
        return self._checked(ckpt_path or names[0], model, trainer)

    def _checked(self, ckpt_path: str, model: LightningModule, trainer: Trainer) -> str:
        from vkdnw_pl.training.exported import check_checkpoint  # imports torch

        path = self.checkpoint(ckpt_path) if NAMED_CHECKPOINT.fullmatch(ckpt_path) else Path(ckpt_path)
        path = path.expanduser()
        if not path.is_file():
            raise UsageError(f"ckpt_path={ckpt_path!r}: there is no file {path}")
        with user_input():
            check_checkpoint(path, model, model.hparams, {"fit_loop": trainer.fit_loop.state_dict()})
        return str(path)


def _flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        name = f"{prefix}{key}"
        flat |= _flat(value, f"{name}.") if isinstance(value, dict) and value else {name: value}
    return flat
