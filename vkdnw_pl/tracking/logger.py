"""Lightning's WandbLogger with the run folder's W&B run, which may fail without harm to the training."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pytorch_lightning.callbacks import ModelCheckpoint
from pytorch_lightning.loggers import WandbLogger
from pytorch_lightning.loggers.logger import rank_zero_experiment

from vkdnw_pl.runs.folder import WANDB_FOLDER
from vkdnw_pl.tracking.guarded import Guarded
from vkdnw_pl.tracking.options import WandbOptions
from vkdnw_pl.tracking.session import Session, begin

_FILES = ("config.yaml", "meta.json", "results.json", "scores.csv", "history.jsonl", "predictions.csv")
_OPEN: list[TrackedLogger] = []
_LIGHTNINGS_PROJECT = "lightning_logs"


class TrackedLogger(WandbLogger):
    """Made by `tracked_logger` from the user's."""

    folder: Path
    command: str
    session: Session | None = None

    @property
    @rank_zero_experiment
    def experiment(self) -> Any:
        """wandb's run, guarded; begun when it is first needed, by the process of rank zero."""
        if self._experiment is None:
            wanted: dict[str, Any] = dict(self._wandb_init)
            settings = wanted.pop("settings", None) or {}
            if self._offline:
                wanted["mode"] = "offline"
            self.session = begin(self.folder, self.command, wanted, settings)
            self._experiment = Guarded(self.session, self.session and self.session.run)  # type: ignore[assignment]
            if self.session is not None:
                self._id = self.session.run.id
                _OPEN.append(self)
                self.experiment.define_metric("trainer/global_step")
                self.experiment.define_metric("*", step_metric="trainer/global_step", step_sync=True)
        return self._experiment

    @property
    def version(self) -> str | None:
        """Id of the run, as far as it is known."""
        return self._id

    def _scan_and_log_checkpoints(self, checkpoint_callback: ModelCheckpoint) -> None:
        if self.session is not None and self.session.alive:
            with self.session.safely():
                super()._scan_and_log_checkpoints(checkpoint_callback)

    def describe(self, values: Mapping[str, Any], config: Mapping[str, Any]) -> None:
        """Add to the summary and to the config."""
        self.experiment.summary.update(dict(values))
        self.experiment.config.update(dict(config), allow_val_change=True)

    def end(self, code: int) -> None:
        """Keep the record of the training with the run, and end it."""
        session = self.session
        if session is None:
            return
        if session.alive:
            with session.safely():
                self._keep_files(session.run)
        session.finish(code)

    def _keep_files(self, run: Any) -> None:
        import wandb

        names = _FILES if self.command == "fit" else [f"{self.command}ions.csv"]
        there = [self.folder / name for name in names if (self.folder / name).is_file()]
        if self.command == "fit" and (self.folder / "results.json").is_file():
            run.summary.update(json.loads((self.folder / "results.json").read_text(encoding="utf-8")))
        if there:
            artifact = wandb.Artifact(f"{self.command}-{run.id}", type=self.command)
            for path in there:
                artifact.add_file(str(path))
            run.log_artifact(artifact)


def tracked_logger(logger: WandbLogger, asked: WandbOptions | None, folder: Path, command: str) -> TrackedLogger:
    """The user's logger as one of the run folder; what the user says of project, name, id, folder, ... holds.

    Args:
        logger: not used so far.
        asked: the options of the command, which fill what the logger leaves open.
        folder: run folder.
        command: its name.

    Raises:
        ValueError: if the two contradict each other.
    """
    mine = TrackedLogger.__new__(TrackedLogger)
    mine.__dict__.update(logger.__dict__)
    mine.folder, mine.command = folder, command
    own = {name: value for name, value in logger._wandb_init.items() if value is not None}
    if own.get("project") == _LIGHTNINGS_PROJECT:
        del own["project"]
    for name in ("dir", "name"):
        if own.get(name) in (".", _LIGHTNINGS_PROJECT):
            del own[name]
    for name, value in _asked(asked).items():
        if own.setdefault(name, value) != value:
            raise ValueError(
                f"wandb asks for {name}={value!r} and trainer.logger's WandbLogger for {name}={own[name]!r}; leave one out"
            )
    mine._wandb_init = own
    mine._save_dir = str(own.get("dir", folder / WANDB_FOLDER))
    mine._project = own.get("project")
    return mine


def end_runs(code: int) -> None:
    """End the runs that this process has begun through loggers, with the command's exit code."""
    while _OPEN:
        _OPEN.pop().end(code)


def _asked(asked: WandbOptions | None) -> dict[str, Any]:
    if asked is None:
        return {}
    tags = list(asked.tags) or None
    known = {"project": asked.project, "entity": asked.entity, "group": asked.group, "tags": tags}
    return {name: value for name, value in known.items() if value is not None}
