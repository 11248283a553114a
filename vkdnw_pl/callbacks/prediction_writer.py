"""Writes what a network says about each image of a data set."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import BasePredictionWriter

from vkdnw_pl.runs.files import write_csv

_COLUMNS = ("index", "label", "predicted", "probability", "correct")


class PredictionWriter(BasePredictionWriter):
    """Writes ``predictions.csv`` into the run folder, one line per image in the order of the data set.

    Columns: ``index`` (of the image in the data set), ``label`` (empty where there is none), ``predicted`` (class of
    the largest logit), ``probability`` (its softmax value), ``correct`` (1 or 0, empty without a label). One file,
    whatever the number of processes; an image that was given to two of them, to even out their shares, stands once.

    ``predict_step`` returns ``{"logits": (B, K), "labels": (B,)}``; the labels may be left out.
    """

    def __init__(self, filename: str = "predictions.csv") -> None:
        super().__init__(write_interval="batch")
        self.filename = filename
        self._rows: dict[int, list[Any]] = {}
        self._count = 0

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._rows, self._count = {}, 0

    def write_on_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        prediction: Any,
        batch_indices: Sequence[int] | None,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int,
    ) -> None:
        if not isinstance(prediction, Mapping) or "logits" not in prediction:
            kind = type(prediction).__name__
            raise ValueError(f"predict_step returned {kind}; needed: a mapping with 'logits' (B, K)")
        if dataloader_idx > 0:
            raise ValueError("predictions of one data set are written; predict_dataloader gives several loaders")
        logits, labels = prediction["logits"], prediction.get("labels")
        probability, predicted = logits.float().softmax(dim=-1).max(dim=-1)
        count = len(predicted)
        if not batch_indices:
            if trainer.world_size > 1:
                raise ValueError("the loader does not tell which each has of the images: predict with one process")
            batch_indices = range(self._count, self._count + count)
        self._count += count
        classes = [None] * count if labels is None else labels.tolist()
        for index, label, best, share in zip(
            batch_indices, classes, predicted.tolist(), probability.tolist(), strict=True
        ):
            label = None if label is None or label < 0 else label  # data sets write -1 for an image without a label
            correct = None if label is None else int(best == label)
            self._rows[index] = [index, label, best, f"{share:.9g}", correct]

    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        rows = self._rows
        if trainer.world_size > 1:
            parts: list[Any] = [None] * trainer.world_size
            torch.distributed.all_gather_object(parts, rows)
            rows = {index: row for part in parts for index, row in part.items()}
        if trainer.is_global_zero:
            write_csv(Path(trainer.default_root_dir) / self.filename, _COLUMNS, [rows[i] for i in sorted(rows)])
        self._rows = {}
        trainer.strategy.barrier("predictions")  # no process reports success before the file is there
