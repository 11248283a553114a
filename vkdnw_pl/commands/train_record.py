"""The record of a training in its run folder, and what the user is told of it; of the process of rank zero."""

from __future__ import annotations

import json
import shlex
import sys
import time
from collections.abc import Mapping
from typing import Any

from pytorch_lightning import Trainer

from vkdnw_pl.runs.files import write_atomically
from vkdnw_pl.runs.record import RunRecord
from vkdnw_pl.tracking.training import describe_training
from vkdnw_pl.training.folder import TrainingFolder
from vkdnw_pl.training.module import TrainingModule


class TrainRecord:
    """Keeps ``config.yaml``, ``meta.json`` and ``results.json`` of a training.

    Args:
        folder: run folder.
        settings: what decides the result.
        until: ``max_epochs`` and ``max_steps``.
    """

    def __init__(self, folder: TrainingFolder, settings: Mapping[str, Any], until: Mapping[str, Any]) -> None:
        self.folder, self.settings, self.until = folder, settings, dict(until)
        self._record: RunRecord | None = None
        self._began_at = time.monotonic()

    @property
    def continue_with(self) -> str:
        """Command that continues the training."""
        return f"python -m vkdnw_pl fit --config {shlex.quote(str(self.folder.config))}"

    def is_finished(self) -> bool:
        """Say so where the training of the run folder needs nothing more."""
        if not self.folder.meta.is_file():
            return False
        meta = self.folder.read_meta()
        if meta["status"] != "finished" or meta["runs"][-1]["until"] != self.until:
            return False
        shown = _shown(json.loads(self.folder.results.read_text(encoding="utf-8")))
        print(f"finished already: {shown}, run folder {self.folder.path}")
        return True

    def begin(self, config: Mapping[str, Any], trainer: Trainer, module: TrainingModule, resume: str | None) -> None:
        """Write the record before the first step.

        Args:
            config: options as they stand in ``config.yaml``.
            trainer: of the training.
            module: that it trains.
            resume: checkpoint that it goes on from.
        """
        attempt = {"ckpt_path": resume, "processes": trainer.world_size, "until": self.until}
        self._record = RunRecord(self.folder, config, dict(self.settings), attempt=attempt)
        self._record.__enter__()
        earlier = self._record.earlier
        for logger in trainer.loggers:
            logger.log_hyperparams({"config": config})
        describe_training(trainer, module, self._record.meta)
        if resume is not None:
            print(f"continuing from {resume}")
            self._compare(earlier["runs"][-1] if earlier else {}, trainer, module)
        params = sum(parameter.numel() for parameter in module.network.parameters())
        where = trainer.strategy.root_device.type + (f", {trainer.world_size} processes" * (trainer.world_size > 1))
        print(
            f"training {module.arch} of {module.space} ({params / 1e6:.3g} M parameters) on {where}, run folder "
            f"{self.folder.path}",
            flush=True,
        )
        self._began_at = time.monotonic()

    def write_results(self, metrics: Mapping[str, Any]) -> None:
        """Keep the latest value of each metric; those of a test do not take the place of the training's."""
        file = self.folder.results
        known = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
        known |= {name: float(value) for name, value in metrics.items()}
        write_atomically(file, json.dumps(dict(sorted(known.items())), indent=2) + "\n")

    def end(self, status: str, step: int, stopped_by: str | None = None) -> None:
        """Write how the training ended.

        Args:
            status: ``finished``, ``stopped`` or ``failed``.
            step: optimizer steps of the whole training so far.
            stopped_by: name of the signal, if it was one.
        """
        if self._record is None:
            return
        elapsed_s = time.monotonic() - self._began_at
        self._record.end(status, stopped_by=stopped_by, steps=step)
        if status == "finished":
            shown = _shown(json.loads(self.folder.results.read_text(encoding="utf-8")))
            print(f"{shown} ({elapsed_s:.0f} s), results in {self.folder.path}")
        elif stopped_by is not None:
            print(f"\nstopped by {stopped_by}; continue with: {self.continue_with}", file=sys.stderr)
        elif status == "stopped":
            print(f"stopped before the end; continue with: {self.continue_with}")

    def put_back(self) -> bool:
        """Leave the record as it was before ``begin``, of a training that this one could not go on with."""
        return self._record is not None and self._record.put_back()

    def _compare(self, earlier: Mapping[str, Any], trainer: Trainer, module: TrainingModule) -> None:
        """Tell what is another than in the run before."""
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


def _span(until: Mapping[str, Any]) -> str:
    known = {name: value for name, value in until.items() if value not in (None, -1)}
    return " and ".join(f"{name}={value}" for name, value in known.items()) or "no end"


def _shown(metrics: Mapping[str, float]) -> str:
    names = [name for name in ("val/top1", "val/top5", "test/top1", "test/top5") if name in metrics]
    return ", ".join(f"{name} {metrics[name]:.2f} %" for name in names) or "done"
