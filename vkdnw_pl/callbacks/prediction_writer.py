"""Writes what a network says about each image of a data set."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import BasePredictionWriter
from torch import Tensor

from vkdnw_pl.errors import check_whole
from vkdnw_pl.runs.files import write_csv

TOP_K = 5
"""As many of the likeliest classes are written."""
_SHOWN = 5
_ALWAYS = ("index", "predicted", "probability")


class Prediction(NamedTuple):
    """What a network says about one image."""

    label: int | None
    """Class number; None where it is not known."""
    classes: list[int]
    """The likeliest ones, from the best on; at least one."""
    probabilities: list[float]
    """Their softmax values."""

    @property
    def correct(self) -> int | None:
        """1 or 0; None without a label."""
        return None if self.label is None else int(self.label == self.classes[0])


class PredictionWriter(BasePredictionWriter):
    """Writes ``predictions.csv`` into the run folder, one line per image in the order of the data set.

    See `write_predictions` for the columns. Names of the classes are the module's ``class_names``, else the data
    module's; names of the files come from its ``file_names("test")``. One file, whatever the number of processes; an
    image that was given to two of them, to even out their shares, stands once.

    ``predict_step`` returns ``{"logits": (B, K), "labels": (B,)}``; the labels may be left out.

    Args:
        filename: Of the table, in the run folder.
        top_k: Number of the likeliest classes that get columns of their own; all where there are fewer, 0 for none.
    """

    def __init__(self, filename: str = "predictions.csv", top_k: int = TOP_K) -> None:
        super().__init__(write_interval="batch")
        check_whole("top_k", top_k, 0)
        self.filename, self.top_k = filename, top_k
        self.rows: dict[int, Prediction] = {}
        self._count = 0

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.rows, self._count = {}, 0

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
        predictions = read_logits(prediction["logits"], prediction.get("labels"), self.top_k)
        if not batch_indices:
            if trainer.world_size > 1:
                raise ValueError("the loader does not tell which each has of the images: predict with one process")
            batch_indices = range(self._count, self._count + len(predictions))
        self._count += len(predictions)
        self.rows.update(zip(batch_indices, predictions, strict=True))

    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.world_size > 1:
            parts: list[Any] = [None] * trainer.world_size
            torch.distributed.all_gather_object(parts, self.rows)
            self.rows = {index: row for part in parts for index, row in part.items()}
        if trainer.is_global_zero:
            data = getattr(trainer, "datamodule", None)
            names = getattr(pl_module, "class_names", None) or getattr(data, "class_names", None)
            read_files = getattr(data, "file_names", None)
            files = None if read_files is None else read_files("test")
            path = Path(trainer.default_root_dir) / self.filename
            write_predictions(path, self.rows, names, files, self.top_k)
        trainer.strategy.barrier("predictions")  # no process reports success before the file is there


def read_logits(logits: Tensor, labels: Tensor | None = None, top_k: int = TOP_K) -> list[Prediction]:
    """Predictions of logits (B, K) and labels (B,), in which a negative number is an unknown class."""
    # Stable, so that of equal ones the first class is predicted.
    probabilities, classes = logits.float().softmax(dim=-1).sort(dim=-1, descending=True, stable=True)
    kept = max(top_k, 1)
    known = [None] * len(logits) if labels is None else [label if label >= 0 else None for label in labels.tolist()]
    rows = zip(known, classes[:, :kept].tolist(), probabilities[:, :kept].tolist(), strict=True)
    return [Prediction(*row) for row in rows]


def write_predictions(
    path: Path,
    predictions: Mapping[int, Prediction],
    class_names: Sequence[str] | None = None,
    files: Sequence[str] | None = None,
    top_k: int = TOP_K,
) -> None:
    """Replace a table of predictions, one line per image in the order of their numbers.

    Columns: ``index`` (of the image in its data set), ``file``, ``label`` and ``label_name``, ``predicted`` (class of
    the largest logit) and ``predicted_name``, ``probability`` (its softmax value), ``correct`` (1 or 0), and for the
    ``top_k`` likeliest classes from the best on ``top1``, ``top1_probability``, ``top2``, ... (the name, or the number
    where there are no names). A column that would be empty in every line, such as ``file`` of images that are no files,
    is left out.

    Args:
        path: of the CSV file.
        predictions: by the image's number.
        class_names: in the order of the classes' numbers; None where there are none.
        files: names by the image's number; None where images are no files.
        top_k: at most so many likeliest classes.

    Raises:
        ValueError: if there are less names than classes, or files than images.
    """
    numbers = sorted(predictions)
    rows = [predictions[number] for number in numbers]
    highest = max((max(*row.classes, row.label or 0) for row in rows), default=0)
    for what, names, last in (("class_names", class_names, highest), ("file_names", files, max(numbers, default=0))):
        if names is not None and rows and last >= len(names):
            raise ValueError(f"{what} are {len(names)}, but there is a number {last}, counted from 0")

    def name(number: int | None) -> str | None:
        return None if number is None or class_names is None else class_names[number]

    columns: dict[str, list[Any]] = {
        "index": numbers,
        "file": [None if files is None else files[number] for number in numbers],
        "label": [row.label for row in rows],
        "label_name": [name(row.label) for row in rows],
        "predicted": [row.classes[0] for row in rows],
        "predicted_name": [name(row.classes[0]) for row in rows],
        "probability": [f"{row.probabilities[0]:.9g}" for row in rows],
        "correct": [row.correct for row in rows],
    }
    for place in range(min(top_k, min((len(row.classes) for row in rows), default=0))):
        best = [row.classes[place] for row in rows]
        columns[f"top{place + 1}"] = best if class_names is None else [name(number) for number in best]
        columns[f"top{place + 1}_probability"] = [f"{row.probabilities[place]:.9g}" for row in rows]
    kept = {key: cells for key, cells in columns.items() if key in _ALWAYS or any(cell is not None for cell in cells)}
    write_csv(path, list(kept), list(zip(*kept.values(), strict=True)))


def describe_accuracy(predictions: Mapping[int, Prediction], class_names: Sequence[str] | None = None) -> str:
    """How many of the labelled images are right, and of which classes fewest, for the screen; empty without labels."""
    by_class: dict[int, list[int]] = {}
    for row in predictions.values():
        if row.label is not None and row.correct is not None:
            by_class.setdefault(row.label, []).append(row.correct)
    if not by_class:
        return ""
    every = [correct for values in by_class.values() for correct in values]
    worst = sorted(by_class, key=lambda label: (sum(by_class[label]) / len(by_class[label]), label))[:_SHOWN]
    parts = [
        f"{label if class_names is None else class_names[label]!r} {_percent(by_class[label])} of {len(by_class[label])}"
        for label in worst
    ]
    return f"right: {_percent(every)} of {len(every)} images; fewest of {'; '.join(parts)}"


def _percent(values: Sequence[int]) -> str:
    return f"{100 * sum(values) / len(values):.2f} %"
