"""The record of a training in its run folder, and what the user is told of it; of the process of rank zero."""

from __future__ import annotations

import json
import shlex
import sys
import time
from collections.abc import Mapping
from typing import Any

from pytorch_lightning import Trainer

from vkdnw_pl.runs.files import write_json
from vkdnw_pl.runs.record import RunRecord
from vkdnw_pl.tracking.lightning import describe_training
from vkdnw_pl.training.folder import TrainingFolder
from vkdnw_pl.training.module import TrainingModule


class TrainingRecord(RunRecord):
    """Record of one attempt of a training.

    Args:
        folder: run folder, locked.
        config: options as they stand in ``config.yaml``.
        settings: what decides the result.
        until: ``max_epochs`` and ``max_steps``.
        trainer: of the training.
        resume: checkpoint that it goes on from.
    """

    def __init__(
        self,
        folder: TrainingFolder,
        config: Mapping[str, Any],
        settings: Mapping[str, Any],
        until: Mapping[str, Any],
        trainer: Trainer,
        resume: str | None,
    ) -> None:
        attempt = {"ckpt_path": resume, "processes": trainer.world_size, "until": until}
        super().__init__(folder, config, dict(settings), attempt=attempt)
        self.folder, self.until, self._config_options = folder, until, config
        self._announced_at = time.monotonic()

    def announce(self, trainer: Trainer, module: TrainingModule) -> None:
        """Tell the user and the loggers what is trained, and what is different from the attempt before."""
        for logger in trainer.loggers:
            logger.log_hyperparams({"config": self._config_options})
        describe_training(trainer, module, self.meta)
        if self.attempt["ckpt_path"] is not None:
            print(f"continuing from {self.attempt['ckpt_path']}")
            self._compare(self.earlier["runs"][-1] if self.earlier else {}, trainer, module)
        params = sum(parameter.numel() for parameter in module.network.parameters())
        where = trainer.strategy.root_device.type + (f", {trainer.world_size} processes" * (trainer.world_size > 1))
        print(
            f"training {module.arch} of {module.space} ({params / 1e6:.3g} M parameters) on {where}, run folder "
            f"{self.folder.path}",
            flush=True,
        )
        self._announced_at = time.monotonic()

    def end(self, status: str, **facts: Any) -> None:
        """Write how the attempt ended, and say so; see `RunRecord.end`."""
        super().end(status, **facts)
        if status == "finished":
            seconds = time.monotonic() - self._announced_at
            print(f"{_accuracies(read_results(self.folder))} ({seconds:.0f} s), results in {self.folder.path}")
            return
        continue_with = f"continue with: python -m vkdnw_pl fit --config {shlex.quote(str(self.folder.config))}"
        if facts.get("stopped_by") is not None:
            print(f"\nstopped by {facts['stopped_by']}; {continue_with}", file=sys.stderr)
        elif status == "stopped":
            print(f"stopped before the end; {continue_with}")

    def _compare(self, earlier: Mapping[str, Any], trainer: Trainer, module: TrainingModule) -> None:
        processes, until = earlier.get("processes"), earlier.get("until")
        if processes not in (None, trainer.world_size):
            print(
                f"note: {processes} process(es) trained here before, now {trainer.world_size}: with the same "
                "data.init_args.batch_size for each, the global batch and the learning rate change",
                file=sys.stderr,
            )
        if until not in (None, self.until) and module.schedule_options.name.startswith("cosine"):
            print(
                f"note: the cosine schedule was one of {_span(until)} and is now one of {_span(self.until)}: the learning "
                "rate goes on where the new curve is at this step, also if the old one has come down to 0",
                file=sys.stderr,
            )


def is_finished(folder: TrainingFolder, until: Mapping[str, Any]) -> bool:
    """Whether the training of the run folder needs nothing more; says so."""
    if not folder.meta.is_file():
        return False
    meta = folder.read_meta()
    if meta["status"] != "finished" or meta["runs"][-1]["until"] != until:
        return False
    print(f"finished already: {_accuracies(read_results(folder))}, run folder {folder.path}")
    return True


def read_results(folder: TrainingFolder) -> dict[str, float]:
    """The latest value of each metric; none before the training has ended."""
    return json.loads(folder.results.read_text(encoding="utf-8")) if folder.results.is_file() else {}


def write_results(folder: TrainingFolder, metrics: Mapping[str, Any]) -> None:
    """Keep the latest value of each metric; those of a test do not take the place of the training's."""
    values = read_results(folder) | {name: float(value) for name, value in metrics.items()}
    write_json(folder.results, dict(sorted(values.items())))


def _span(until: Mapping[str, Any]) -> str:
    limits = {name: value for name, value in until.items() if value not in (None, -1)}
    return " and ".join(f"{name}={value}" for name, value in limits.items()) or "no end"


def _accuracies(metrics: Mapping[str, float]) -> str:
    names = [name for name in ("val/top1", "val/top5", "test/top1", "test/top5") if name in metrics]
    return ", ".join(f"{name} {metrics[name]:.2f} %" for name in names) or "done"
