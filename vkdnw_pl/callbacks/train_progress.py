"""Shows how a training goes: Lightning's bar on a terminal, a line per epoch elsewhere."""

from __future__ import annotations

import math
import sys
import time
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import redirect_stdout
from functools import partial
from typing import Any, TextIO

from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.callbacks import TQDMProgressBar
from pytorch_lightning.callbacks.progress.tqdm_progress import Tqdm
from torch import Tensor

from vkdnw_pl.callbacks.throughput import Throughput
from vkdnw_pl.runs.files import duration

_EPOCHS = 10


def progress_callbacks(file: TextIO | None = None, enable_progress_bar: bool = True) -> list[Callback]:
    """A bar where ``file`` (default: standard error) is a terminal and the trainer allows one, otherwise lines."""
    if enable_progress_bar and (file or sys.stderr).isatty():
        return [TrainBar(file)]
    return [TrainProgress(file)]


class Pace:
    """The time per optimizer step over the last epochs of this process, validation and everything else included."""

    def __init__(self) -> None:
        self._marks: deque[tuple[float, int]] = deque(maxlen=_EPOCHS)

    def start(self, trainer: Trainer) -> None:
        """Begin anew: what an earlier process did tells nothing of this one's speed."""
        self._marks.clear()
        self.mark(trainer)

    def mark(self, trainer: Trainer) -> None:
        """Note that an epoch has ended."""
        self._marks.append((time.monotonic(), trainer.global_step))

    def left_s(self, trainer: Trainer) -> float | None:
        """Seconds until the last step; None where there is no telling."""
        total = trainer.estimated_stepping_batches
        if not self._marks or not math.isfinite(total):
            return None
        began_at, steps = self._marks[0]
        if trainer.global_step <= steps:
            return None
        per_step = (time.monotonic() - began_at) / (trainer.global_step - steps)
        return per_step * max(0, total - trainer.global_step)


class TrainProgress(Callback):
    """Writes a line per epoch where there is no terminal; Lightning's bar, which would fill a file, is off there.

    ``epoch 3/480: loss 2.314, val top-1 45.20 %, top-5 70.11 %, lr 0.1873, 1,230 images/s, 12 s, about 1.2 h left``:
    mean training loss of the epoch, accuracies where it was validated, learning rate of its last step, speed where there
    is a ``Throughput``. A long epoch or evaluation tells now and then how far it is. Only rank zero writes.

    Args:
        file: where to write (default: standard error).
        every_s: seconds between lines within an epoch.
    """

    def __init__(self, file: TextIO | None = None, every_s: float = 60.0) -> None:
        self.every_s = every_s
        self._file = file
        self._pace = Pace()
        self._throughput: Throughput | None = None
        self._active = self._validated = False
        self._began_at = self._said_at = 0.0
        self._batches = self._losses = 0
        self._loss: Tensor | float = 0.0
        self._lr: Any = None
        self._ended: tuple[int, float] | None = None

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        self._active = trainer.is_global_zero and not self._out().isatty()
        self._throughput = next((item for item in trainer.callbacks if isinstance(item, Throughput)), None)  # type: ignore[attr-defined]
        bar = trainer.progress_bar_callback
        if bar is not None and not self._out().isatty():
            bar.disable()

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._pace.start(trainer)
        self._begin()

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._report_epoch(trainer)
        self._begin()

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        # That of the step to come: at the end of the epoch the schedule has gone on already.
        self._lr = trainer.optimizers[0].param_groups[0]["lr"] if trainer.optimizers else None

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self._batches += 1
        if not self._active:
            return
        loss = outputs.get("loss") if isinstance(outputs, dict) else outputs
        if isinstance(loss, Tensor):  # summed where it is, so that no step waits for the GPU
            self._loss = self._loss + loss.detach() * trainer.accumulate_grad_batches
            self._losses += 1
        if self._due():
            head = f"{_epoch(trainer, trainer.current_epoch)}: {_of(batch_idx + 1, trainer.num_training_batches)}, "
            loss = float(self._loss) / self._losses if self._losses else None
            rate = None if self._throughput is None else self._throughput.rate(trainer)
            self._say_numbers(trainer, head, {"loss {:.4g}": loss}, rate, time.monotonic() - self._began_at)
            self._loss, self._losses = 0.0, 0

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._validated = not trainer.sanity_checking

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        # The line waits until all have logged what belongs to this epoch.
        self._ended = (trainer.current_epoch, time.monotonic() - self._began_at) if self._batches else None

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._report_epoch(trainer)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not trainer.training:  # within an epoch it counts on
            self._said_at = time.monotonic()

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._said_at = time.monotonic()

    on_predict_start = on_test_start

    def on_validation_batch_end(self, trainer: Trainer, pl_module: LightningModule, *args: Any, **kwargs: Any) -> None:
        if not trainer.sanity_checking:
            self._evaluated("validation", args[2] + 1, trainer.num_val_batches)

    def on_test_batch_end(self, trainer: Trainer, pl_module: LightningModule, *args: Any, **kwargs: Any) -> None:
        self._evaluated("test", args[2] + 1, trainer.num_test_batches)

    def on_predict_batch_end(self, trainer: Trainer, pl_module: LightningModule, *args: Any, **kwargs: Any) -> None:
        self._evaluated("prediction", args[2] + 1, trainer.num_predict_batches)

    def _begin(self) -> None:
        self._began_at = self._said_at = time.monotonic()
        self._batches = self._losses = 0
        self._loss, self._lr, self._ended = 0.0, None, None
        self._validated = False

    def _due(self) -> bool:
        return self._active and time.monotonic() - self._said_at >= self.every_s

    def _evaluated(self, what: str, done: int, totals: int | float | list[int | float]) -> None:
        if self._due():
            self._say(f"{what}: {_of(done, totals[0] if isinstance(totals, list) else totals)}")

    def _report_epoch(self, trainer: Trainer) -> None:
        if self._ended is None:
            return
        (epoch, took_s), self._ended = self._ended, None
        self._pace.mark(trainer)
        if not self._active:
            return
        metrics = trainer.callback_metrics
        values = {"loss {:.4g}": metrics.get("train/loss_epoch", metrics.get("train/loss"))}
        if self._validated:
            values |= {"val top-1 {:.2f} %": metrics.get("val/top1"), "top-5 {:.2f} %": metrics.get("val/top5")}
        self._say_numbers(trainer, f"{_epoch(trainer, epoch)}: ", values, metrics.get("images_per_s"), took_s)

    def _say_numbers(
        self, trainer: Trainer, head: str, values: Mapping[str, Any], rate: Tensor | float | None, took_s: float
    ) -> None:
        """Write the values (format -> value, None for one that is not known), speed, and times."""
        rate_format = "{:,.0f} images/s" if rate is not None and rate >= 10 else "{:.2g} images/s"
        numbers = {**values, "lr {:.4g}": self._lr, rate_format: rate}
        texts = [text.format(float(value)) for text, value in numbers.items() if value is not None]
        left_s = self._pace.left_s(trainer)
        self._say(head + ", ".join([*texts, duration(took_s), *([f"about {duration(left_s)} left"] if left_s else [])]))

    def _say(self, text: str) -> None:
        print(text, file=self._out(), flush=True)
        self._said_at = time.monotonic()

    def _out(self) -> TextIO:
        return self._file or sys.stderr


class TrainBar(TQDMProgressBar):
    """Lightning's bar with the loss, the validation accuracy and the learning rate only.

    Args:
        file: where it is drawn (default: standard error; standard output is for results here).
        refresh_rate: batches between two drawings; each reads the loss, and so waits for the GPU.
    """

    _SHOWN = (("loss", "train/loss_step"), ("loss", "train/loss"), ("val top-1", "val/top1"), ("lr", "lr"))

    def __init__(self, file: TextIO | None = None, refresh_rate: int = 10) -> None:
        super().__init__(refresh_rate=refresh_rate)
        self._file = file
        for stage in ("sanity", "train", "predict", "validation", "test"):
            name = f"init_{stage}_tqdm"
            setattr(self, name, partial(self._drawn_on_file, getattr(self, name)))

    def get_metrics(self, trainer: Trainer, pl_module: LightningModule) -> dict[str, Any]:
        metrics = trainer.callback_metrics
        shown: dict[str, Any] = {}
        for label, name in self._SHOWN:
            if name in metrics:
                shown.setdefault(label, f"{float(metrics[name]):.4g}")
        return shown

    def _drawn_on_file(self, make: Callable[[], Tqdm]) -> Tqdm:
        with redirect_stdout(self._file or sys.stderr):
            return make()


def _epoch(trainer: Trainer, epoch: int) -> str:
    total = trainer.max_epochs
    return f"epoch {epoch + 1}" + ("" if total is None or total < 0 else f"/{total}")


def _of(done: int, total: int | float) -> str:
    return f"{done:,} of {total:,} batches" if math.isfinite(total) else f"{done:,} batches"
