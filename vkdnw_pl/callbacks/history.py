"""The history of a training as a file: one JSON object per line, whatever happens to the process.

Lightning's ``CSVLogger`` deletes the ``metrics.csv`` of the training that is resumed, and keeps up to 100 rows in memory.
"""

from __future__ import annotations

import json
import math
from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.loggers.logger import Logger
from pytorch_lightning.utilities import rank_zero_only

from vkdnw_pl.callbacks import HISTORY
from vkdnw_pl.runs.files import LineFile, json_lines, write_atomically, write_json

HPARAMS = "hparams.json"


class HistoryLogger(Logger):
    """Appends one line to ``history.jsonl`` for every set of values that is logged.

    A line has ``step`` (optimizer steps before it, as Lightning counts: the first step's values stand at 0), ``epoch``
    where known, and the values. A value that is not finite is null, and its name stands in the list ``nonfinite``.
    A process that is killed loses at most the line in flight; what is left of it is removed by the next process that
    writes. Only the process of rank zero writes.

    Hyper-parameters are gathered in ``hparams.json``, which is replaced in one step.

    Args:
        save_dir: folder of the two files, made if need be. Lightning puts its checkpoints into ``checkpoints`` there.
    """

    def __init__(self, save_dir: str | Path) -> None:
        super().__init__()
        self.path = Path(save_dir).expanduser() / HISTORY
        self._hparams: dict[str, Any] = {}
        self._lines: LineFile | None = None
        self._inherited: int | None = None  # bytes of earlier processes; None before the file was looked at
        self._last: tuple[int, set[str]] = (-1, set())

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_lines": None}  # another process opens the file itself

    @property
    def name(self) -> str:
        """Empty: the folder is that of the run, not one of several."""
        return ""

    @property
    def version(self) -> str:
        """Empty, as ``name``."""
        return ""

    @property
    def save_dir(self) -> str:
        """The folder of the files."""
        return str(self.path.parent)

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, Any], step: int | None = None) -> None:
        """Append one line."""
        values = {name: _number(value) for name, value in metrics.items()}
        epoch = values.pop("epoch", None)
        if step == self._last[0]:
            # It was logged ahead; or a training that is resumed from within the end of an epoch ends it once more.
            values = {name: value for name, value in values.items() if name not in self._last[1]}
        if not values:
            return
        record: dict[str, Any] = {"step": step}
        if epoch is not None:
            record["epoch"] = int(epoch)
        nonfinite = [name for name, value in values.items() if isinstance(value, float) and not math.isfinite(value)]
        record |= values | dict.fromkeys(nonfinite)
        if nonfinite:
            record["nonfinite"] = nonfinite
        self._open().append(json.dumps(record, allow_nan=False, ensure_ascii=False, default=str) + "\n")

    @rank_zero_only
    def log_ahead(self, metrics: Mapping[str, Any], step: int) -> None:
        """Append a line that Lightning gives only after a checkpoint of its step, which would be lost with a kill between."""
        self.log_metrics(metrics, step)
        self._last = (step, {*metrics, *(self._last[1] if self._last[0] == step else ())})

    @rank_zero_only
    def log_hyperparams(self, params: Mapping[str, Any] | Namespace | None = None) -> None:
        """Add to ``hparams.json``; what was logged before stays."""
        self._hparams |= _plain(vars(params) if isinstance(params, Namespace) else dict(params or {}))
        self.path.parent.mkdir(parents=True, exist_ok=True)
        write_json(self.path.with_name(HPARAMS), self._hparams)

    @rank_zero_only
    def resume_at(self, global_step: int) -> None:
        """Drop the lines of earlier processes that do not belong to the first ``global_step`` optimizer steps.

        What this process has logged stays, so that it does not matter what was logged before this call. A training
        that starts anew (0) keeps nothing.
        """
        self._open()
        if not self._inherited:
            return
        content = self.path.read_bytes()
        kept, last, step = [], set[str](), 0
        for line, record in json_lines(content[: self._inherited], self.path):
            # A line without a step was logged after the one before it.
            step = step if record.get("step") is None else record["step"]
            if step < global_step:
                kept.append(line)
                if step == global_step - 1:
                    last.update(record)
        before = b"".join(kept)
        if len(before) < self._inherited:
            self.finalize("")
            write_atomically(self.path, (before + content[self._inherited :]).decode())
            self._lines = LineFile(self.path)
        self._inherited = len(before)
        self._last = (global_step - 1, last)

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """Close the file; what is logged after that opens it again."""
        if self._lines is not None:
            self._lines.close()
        self._lines = None

    def _open(self) -> LineFile:
        if self._lines is None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._lines = LineFile(self.path)
            if self._inherited is None:
                self._inherited = self.path.stat().st_size
        return self._lines


class HistoryResume(Callback):
    """Drops from each ``HistoryLogger`` of the trainer the lines of steps that a resumed training takes again."""

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        for logger in trainer.loggers:
            if isinstance(logger, HistoryLogger):
                logger.resume_at(trainer.global_step)


def _number(value: Any) -> Any:
    """Tensors and NumPy numbers of one element as Python's."""
    return value.item() if hasattr(value, "item") else value


def _plain(value: Any) -> Any:
    """The value in types that JSON has; others as text."""
    value = _number(value) if getattr(value, "ndim", None) == 0 else value
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value if value is None or isinstance(value, str | bool | int | float) else str(value)
