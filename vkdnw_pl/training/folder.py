"""The run folder of a training, and whether a rerun may continue it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vkdnw_pl.runs.files import write_atomically
from vkdnw_pl.runs.folder import RunFolder
from vkdnw_pl.runs.settings import differences

_LOADING = ("num_workers", "prefetch", "pin_memory", "prepare_per_node", "root", "download", "verify", "extract")
"""Options of data modules that decide how images come, not which."""


_TRAINER = (
    *("precision", "accumulate_grad_batches", "gradient_clip_val", "gradient_clip_algorithm", "sync_batchnorm"),
    *("limit_train_batches", "overfit_batches"),
)
"""Options of the trainer that decide the result; how long, where and what is logged do not stand here."""
_ONLOOKERS = ("RunCheckpoints", "ProxyCallback", "TrainProgress", "TrainBar", "Throughput", "FiniteLoss")
"""Callbacks that change nothing of the training."""


def training_settings(config: Mapping[str, Any]) -> dict[str, Any]:
    """What decides a training's result, by dotted name; where it runs and what it logs are left out."""
    data = dict(config.get("data") or {})
    data["init_args"] = {key: value for key, value in (data.get("init_args") or {}).items() if key not in _LOADING}
    given = config.get("trainer") or {}
    trainer = {name: given[name] for name in _TRAINER if given.get(name) not in (None, False, 0.0)}
    callbacks = given.get("callbacks") or []
    for callback in callbacks if isinstance(callbacks, list) else [callbacks]:
        name = str(callback["class_path"]).rpartition(".")[2]
        if name not in _ONLOOKERS:
            trainer[name] = callback.get("init_args") or "on"
    kept = {
        "seed_everything": config.get("seed_everything"),
        "model": config["model"],
        "data": data,
        "trainer": trainer,
    }
    return _flat(json.loads(json.dumps(kept)))


class TrainingFolder(RunFolder):
    """A run folder with ``checkpoints/`` and ``history.jsonl``."""

    def __init__(self, path: str | Path) -> None:
        super().__init__(path)
        self.checkpoints = self.path / "checkpoints"
        self.results = self.path / "results.json"

    def checkpoint(self, name: str) -> Path:
        """File of the checkpoint ``name``: ``last``, ``best``, ``epoch_10``."""
        return self.checkpoints / f"{name}.ckpt"

    def check_continues(self, settings: Mapping[str, Any]) -> None:
        """Make sure that a training with these settings may go on here.

        Raises:
            ValueError: if the folder holds another command's results or a training with other settings (naming them).
        """
        ways_out = "choose another folder with --out, or give --overwrite true to delete what is there"
        if not self.meta.is_file():
            if self.checkpoints.exists() or self.scores.exists():
                raise ValueError(f"{self.path} holds results but no {self.meta.name} that says whose; {ways_out}")
            return
        meta = self.read_meta()
        if meta.get("command") != "fit":
            raise ValueError(f"{self.path} holds results of the command {meta.get('command')!r}; {ways_out}")
        if not self.checkpoints.exists():
            return  # nothing was trained with the settings that are there
        if different := differences(meta.get("settings", {}), settings):
            raise ValueError(f"{self.path} was trained with other settings: {'; '.join(different)}. So {ways_out}")

    def read_record(self) -> tuple[str, str] | None:
        """Texts of ``config.yaml`` and ``meta.json``, if they are there."""
        if not (self.config.is_file() and self.meta.is_file()):
            return None
        return self.config.read_text(encoding="utf-8"), self.meta.read_text(encoding="utf-8")

    def write_record(self, record: tuple[str, str]) -> None:
        """Put back what ``read_record`` gave."""
        for path, text in zip((self.config, self.meta), record, strict=True):
            write_atomically(path, text)

    def begin(self, config: str, meta: Mapping[str, Any]) -> None:
        """Write the record of a training before its first step."""
        self.path.mkdir(parents=True, exist_ok=True)
        write_atomically(self.config, config)
        self.write_meta(meta)

    def clear(self) -> None:
        """Delete what a training wrote; files of other origin stay."""
        super().clear()
        names = ("history.jsonl", "hparams.json", "proxy_drift.csv", "predictions.csv", "results.json", "traceback.txt")
        for path in (*(self.path / name for name in names), *self.path.glob("nonfinite_batch_rank*.pt")):
            path.unlink(missing_ok=True)
        if self.checkpoints.exists():
            shutil.rmtree(self.checkpoints)


def _flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        name = f"{prefix}{key}"
        flat |= _flat(value, f"{name}.") if isinstance(value, dict) and value else {name: value}
    return flat
