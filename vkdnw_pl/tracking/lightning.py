"""W&B for ``fit``, ``validate``, ``test`` and ``predict``: Lightning's WandbLogger with the run folder's W&B run."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pytorch_lightning import Trainer
from pytorch_lightning.callbacks import ModelCheckpoint
from pytorch_lightning.loggers import Logger, WandbLogger
from pytorch_lightning.loggers.logger import rank_zero_experiment

from vkdnw_pl.options import WandbOptions
from vkdnw_pl.runs.folder import WANDB_FOLDER
from vkdnw_pl.runs.signals import exit_code
from vkdnw_pl.tracking.run import WandbRun, begin

_FILES = {
    "fit": ("config.yaml", "meta.json", "results.json", "scores.csv", "history.jsonl"),
    "predict": ("predictions.csv",),
}
_PLAIN = (str, int, float, bool, type(None))
_OPEN: list[RunFolderLogger] = []


class RunFolderLogger(WandbLogger):
    """A WandbLogger with the W&B run of a run folder, which may fail without harm to the training.

    Args:
        logger: the user's, not used so far; what it says of project, name, id, folder, ... holds.
        options: fill what the logger leaves open.
        folder: run folder of the command.
        command: its name.

    Raises:
        ValueError: if logger and options contradict each other.
    """

    def __init__(self, logger: WandbLogger, options: WandbOptions, folder: Path, command: str) -> None:
        self.__dict__.update(logger.__dict__)
        self.run, self.command = WandbRun(None, folder), command
        arguments = {name: value for name, value in logger._wandb_init.items() if value is not None}
        for name, default in (("project", "lightning_logs"), ("dir", "."), ("name", "lightning_logs")):
            if arguments.get(name) == default:
                del arguments[name]
        for name in ("project", "entity", "group", "tags"):
            value = getattr(options, f"wandb_{name}") or None
            if value is not None and arguments.setdefault(name, value) != value:
                raise ValueError(
                    f"wandb asks for {name}={value!r} and trainer.logger's WandbLogger for {name}={arguments[name]!r}; "
                    "leave one out"
                )
        self._wandb_init = arguments
        self._save_dir = str(arguments.get("dir", folder / WANDB_FOLDER))
        self._project = arguments.get("project")

    @property
    @rank_zero_experiment
    def experiment(self) -> Any:
        """wandb's run, begun when it is first needed by the process of rank zero; what fails in it does no harm."""
        if self._experiment is None:
            arguments = dict(self._wandb_init)
            if self._offline:
                arguments["mode"] = "offline"
            self.run = begin(self.run.folder, self.command, arguments)
            self._experiment = _Guarded(self.run, self.run.run)  # type: ignore[assignment]
            if self.run.active:
                self._id = self.run.run.id
                _OPEN.append(self)
                self.experiment.define_metric("trainer/global_step")
                self.experiment.define_metric("*", step_metric="trainer/global_step", step_sync=True)
        return self._experiment

    @property
    def version(self) -> str | None:
        """Id of the run, as far as it is known."""
        return self._id

    def _scan_and_log_checkpoints(self, checkpoint_callback: ModelCheckpoint) -> None:
        scan = super()._scan_and_log_checkpoints
        self.run.attempt(lambda: scan(checkpoint_callback))

    def end(self, code: int) -> None:
        """Keep the record of the training with the run, and end it with the command's exit code."""
        folder = self.run.folder
        if self.command == "fit" and (folder / "results.json").is_file():
            self.run.summary(json.loads((folder / "results.json").read_text(encoding="utf-8")))
        self.run.artifact(self.command, [folder / name for name in _FILES.get(self.command, ())])
        self.run.exit_code = code
        self.run.finish()


class _Guarded:
    """wandb's run, its summary or its config for code that is not ours: it can be used as usual, and what fails is said."""

    def __init__(self, run: WandbRun, target: Any) -> None:
        self._run, self._target = run, target

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return self._use(lambda: getattr(self._target, name))

    def __getitem__(self, name: Any) -> Any:
        return self._use(lambda: self._target[name])

    def __setitem__(self, name: Any, value: Any) -> None:
        self._use(lambda: self._target.__setitem__(name, value))

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        return self._use(lambda: self._target(*arguments, **named))

    def _use(self, work: Callable[[], Any]) -> Any:
        result = self._run.attempt(work)
        return result if self._run.active and isinstance(result, _PLAIN) else _Guarded(self._run, result)


def with_wandb(loggers: Sequence[Logger], options: Mapping[str, Any], folder: Path, command: str) -> list[Logger]:
    """The user's loggers with W&B if a command's options or a WandbLogger among them ask for it.

    Raises:
        ValueError: if an option is not allowed, or contradicts the logger.
    """
    count = sum(isinstance(logger, WandbLogger) for logger in loggers)
    if count > 1:
        raise ValueError(f"trainer.logger has {count} WandbLoggers; a run folder has one run of W&B")
    # With a logger of the config, a group or tags have a use without wandb.
    wandb = WandbOptions(
        wandb=options["wandb"] or bool(count), wandb_group=options["wandb_group"], wandb_tags=options["wandb_tags"]
    )
    if wandb.wandb and not count:
        loggers = [*loggers, WandbLogger()]
    return [
        RunFolderLogger(logger, wandb, folder, command) if isinstance(logger, WandbLogger) else logger
        for logger in loggers
    ]


def describe_training(trainer: Trainer, module: Any, meta: Mapping[str, Any]) -> None:
    """Log which network is trained, where, and with what software; ``meta`` has the ``network``'s costs."""
    device = {"kind": trainer.strategy.root_device.type, "processes": trainer.world_size}
    facts = {name: meta[name] for name in ("command", "digest", "environment")}
    facts["environment"] = {**facts["environment"], "device": device}
    for logger in trainer.loggers:
        if isinstance(logger, RunFolderLogger):
            logger.experiment.config.update({"meta": facts}, allow_val_change=True)
            logger.run.summary({"space": module.space, "arch": module.arch, **meta["network"]})


@contextmanager
def training_runs() -> Iterator[None]:
    """End the W&B runs that are begun within, with the exit code of what happens there."""
    code = 0
    try:
        yield
    except BaseException as error:
        code = exit_code(error)
        raise
    finally:
        while _OPEN:
            _OPEN.pop().end(code)
