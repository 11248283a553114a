"""The run folder of a training, and whether a rerun may continue it."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vkdnw_pl.scoring.files import write_atomically
from vkdnw_pl.scoring.folder import RunFolder
from vkdnw_pl.scoring.settings import differences

_LOADING = (
    "num_workers",
    "pin_memory",
    "prefetch_factor",
    "persistent_workers",
    "root",
    "download",
    "verify",
    "extract",
)
"""Options of data modules that decide how images come, not which."""


def training_settings(config: Mapping[str, Any]) -> dict[str, Any]:
    """What decides a training's result, by dotted name; where it runs and what it logs are left out."""
    data = dict(config.get("data") or {})
    data["init_args"] = {key: value for key, value in (data.get("init_args") or {}).items() if key not in _LOADING}
    kept = {"seed_everything": config.get("seed_everything"), "model": config["model"], "data": data}
    return _flat(json.loads(json.dumps(kept)))


def digest(settings: Mapping[str, Any]) -> str:
    """Eight hexadecimal digits that name these settings."""
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:8]


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
        if different := differences(meta.get("settings", {}), settings):
            raise ValueError(f"{self.path} was trained with other settings: {'; '.join(different)}. So {ways_out}")

    def begin(self, config: str, meta: Mapping[str, Any]) -> None:
        """Write the record of a training before its first step."""
        self.path.mkdir(parents=True, exist_ok=True)
        write_atomically(self.config, config)
        self.write_meta(meta)

    def clear(self) -> None:
        """Delete what a training wrote; files of other origin stay."""
        super().clear()
        names = ("history.jsonl", "hparams.json", "proxy_drift.csv", "predictions.csv", "results.json")
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
