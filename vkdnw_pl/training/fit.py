"""``fit`` after everything is made: trains, tests, keeps the record, and says with which exit code it was stopped."""

from __future__ import annotations

import shlex
import signal
import sys
import time
import traceback
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pytorch_lightning import LightningDataModule, Trainer
from pytorch_lightning.callbacks import EarlyStopping
from pytorch_lightning.utilities.exceptions import MisconfigurationException, SIGTERMException
from pytorch_lightning.utilities.model_helpers import is_overridden
from pytorch_lightning.utilities.rank_zero import rank_zero_only

from vkdnw_pl.callbacks.graceful_stop import GracefulStop
from vkdnw_pl.data.base import ImageDataModule
from vkdnw_pl.errors import CommandFailed, UsageError, first_line, program
from vkdnw_pl.runs.documents import read_json
from vkdnw_pl.runs.files import write_json
from vkdnw_pl.runs.record import RunRecord
from vkdnw_pl.runs.signals import TRAINING_SIGNALS, Stopped
from vkdnw_pl.spaces import SPACES
from vkdnw_pl.tracking.lightning import describe_training
from vkdnw_pl.training.folder import TrainingFolder
from vkdnw_pl.training.module import TrainingModule

_LOST_CONNECTION = ("Connection closed by peer", "Connection reset by peer", "remote process exited", "Broken pipe")
"""In the messages of gloo and NCCL."""
_LOST_LOADER = "DataLoader worker (pid"
_STOP_REQUESTS = (SIGTERMException, Stopped, KeyboardInterrupt, SystemExit)
OF_USER = (ValueError, OSError, MisconfigurationException)
"""Mostly what the user gave: data that are not there, options that do not go together."""


class ExitCode(Exception):
    """The command ends here with this exit code, and all is said."""

    def __init__(self, exit_code: int) -> None:
        super().__init__(exit_code)
        self.exit_code = exit_code


class TrainingRecord(RunRecord):
    """Record of one attempt of a training, up to ``until`` (``max_epochs`` and ``max_steps``)."""

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
        self.meta["network"] = _network_facts(module)
        write_json(self.folder.meta, self.meta)
        describe_training(trainer, module, self.meta)
        if self.attempt["ckpt_path"] is not None:
            print(f"continuing from {self.attempt['ckpt_path']}")
            self._compare(self.earlier["runs"][-1] if self.earlier else {}, trainer, module)
        params = self.meta["network"]["num_params"]
        where = trainer.strategy.root_device.type + (f", {trainer.world_size} processes" * (trainer.world_size > 1))
        what = f"{module.arch} of {module.space} ({params / 1e6:.3g} M parameters)"
        print(f"training {what} on {where}, run folder {self.folder.path}", flush=True)
        self._announced_at = time.monotonic()

    def end(self, status: str, **facts: Any) -> None:
        """Write how the attempt ended, and say so."""
        super().end(status, **facts)
        if status == "finished":
            seconds = time.monotonic() - self._announced_at
            print(f"{accuracies(_read_results(self.folder))} ({seconds:.0f} s), results in {self.folder.path}")
            return
        continue_with = f"continue with: {program()} fit --config {shlex.quote(str(self.folder.config))}"
        if facts.get("stopped_by") is not None:
            print(f"\nstopped by {facts['stopped_by']}; {continue_with}", file=sys.stderr)
        elif status == "stopped":
            print(f"stopped before the end; {continue_with}")

    def _compare(self, earlier: Mapping[str, Any], trainer: Trainer, module: TrainingModule) -> None:
        processes, until = earlier.get("processes"), earlier.get("until")
        if processes not in (None, trainer.world_size):
            _note(
                f"{processes} process(es) trained here before, now {trainer.world_size}: with the same "
                "data.init_args.batch_size for each, the global batch and the learning rate change"
            )
        if until not in (None, self.until) and module.schedule_options.name.startswith("cosine"):
            _note(
                f"the cosine schedule was one of {_span(until)} and is now one of {_span(self.until)}: the learning rate "
                "goes on where the new curve is at this step, also if the old one has come down to 0"
            )


@dataclass
class Fit:
    """One call of ``fit`` in one process; the trainer has a `GracefulStop`."""

    trainer: Any  # its attributes are set in a way that type checkers do not see
    module: TrainingModule
    data: LightningDataModule
    folder: TrainingFolder
    until: Mapping[str, Any]
    test_after: bool = True

    def __post_init__(self) -> None:
        self._stop: GracefulStop = next(item for item in self.trainer.callbacks if isinstance(item, GracefulStop))

    def as_first(self, config: Mapping[str, Any], settings: Mapping[str, Any], resume: str | None) -> None:
        """Train as the process that keeps the record and talks to the user.

        Raises:
            ExitCode: if it was stopped.
            CommandFailed: if it cannot go on with what the user gave.
        """
        with TrainingRecord(self.folder, config, settings, self.until, self.trainer, resume) as record:
            try:
                if isinstance(self.data, ImageDataModule):
                    for note in self.data.notes:
                        print(note)
                record.announce(self.trainer, self.module)
                finished = self._train_and_test(resume)
            except _STOP_REQUESTS as request:
                signum = self._signum(request)
                launcher = self.trainer.strategy.launcher
                if launcher is not None and not self._stop.agreed:
                    launcher.kill(signal.SIGTERM)  # else processes that Lightning started wait for this one
                record.end("stopped", stopped_by=signal.Signals(signum).name, steps=self.trainer.global_step)
                raise self._exit(128 + signum) from request
            except Exception as error:
                if self._stop.began or not record.put_back():
                    record.end("failed", stopped_by=None, steps=self.trainer.global_step)
                if isinstance(error, UsageError):
                    raise
                if of_checkpoint(error) and not self._was_left_alone(error):
                    raise self._failed(f"ckpt_path={resume!r} cannot be continued: {first_line(error)}") from error
                if isinstance(error, OF_USER):
                    raise self._failed(str(error)) from error
                if isinstance(error, RuntimeError) and str(error).startswith(_LOST_LOADER):
                    text = f"a process that loads images ended; the same command continues ({first_line(error)})"
                    raise self._failed(text) from error
                if self._was_left_alone(error):
                    raise self._failed(f"another process of the training ended ({first_line(error)})") from error
                raise
            record.end("finished" if finished else "stopped", stopped_by=None, steps=self.trainer.global_step)
        _draw(self.folder)

    def as_other(self, resume: str | None) -> None:
        """Train as another process than the first; raises as ``as_first``."""
        try:
            self._train_and_test(resume)
        except _STOP_REQUESTS as request:
            # Where all stop together the first process says why: a launcher may end it when this one ends with an error.
            raise self._exit(0 if self._stop.agreed else 128 + self._signum(request)) from request
        except UsageError:
            raise
        except OF_USER as error:
            raise CommandFailed(f"process {self.trainer.global_rank}: {error}") from error
        except RuntimeError as error:
            if not self._was_left_alone(error):
                raise
            raise ExitCode(1) from error

    def _train_and_test(self, resume: str | None) -> bool:
        """Whether the training reached its end."""
        self.trainer.fit(self.module, self.data, ckpt_path=resume)
        self._write_results()
        if not self._reached_the_end():
            return False
        if self.test_after and not self.trainer.fast_dev_run:
            if getattr(self.data, "validates_on_test", False):
                rank_zero_only(print)("validation images are the test images here: the last validation is the test")
            elif not is_overridden("test_dataloader", self.data):
                rank_zero_only(print)("the data module has no test images: nothing is tested")
            else:
                self._stop.check(self.trainer)
                self.trainer.test(self.module, self.data, verbose=False)
                self._write_results()
        return True

    def _write_results(self) -> None:
        """Keep the latest value of each metric; those of a test do not take the place of the training's."""
        if self.trainer.is_global_zero:
            metrics = {name: float(value) for name, value in self.trainer.callback_metrics.items()}
            write_json(self.folder.results, dict(sorted((_read_results(self.folder) | metrics).items())))

    def _reached_the_end(self) -> bool:
        """Whether the training went as far as was asked, or a callback found that enough."""
        trainer, epochs, steps = self.trainer, self.until["max_epochs"], self.until["max_steps"]
        return bool(
            any(isinstance(item, EarlyStopping) and item.stopped_epoch for item in trainer.callbacks)
            or (steps not in (None, -1) and trainer.global_step >= steps)
            or (epochs not in (None, -1) and trainer.current_epoch >= epochs)
            or trainer.fast_dev_run
        )

    def _failed(self, text: str) -> CommandFailed:
        file = self.folder.path / "traceback.txt"
        file.write_text(traceback.format_exc(), encoding="utf-8", errors="backslashreplace")
        return CommandFailed(f"{text} (more in {file})")

    def _was_left_alone(self, error: Exception) -> bool:
        """Whether it is because another process ended that this one cannot go on."""
        if self.trainer.world_size == 1 or not isinstance(error, RuntimeError):
            return False
        return TRAINING_SIGNALS.signum != 0 or any(sign in str(error) for sign in _LOST_CONNECTION)

    @staticmethod
    def _signum(request: BaseException) -> int:
        default = signal.SIGTERM if isinstance(request, SIGTERMException) else signal.SIGINT
        return TRAINING_SIGNALS.signum or default

    def _exit(self, code: int) -> ExitCode:
        if self.trainer.world_size > 1:
            TRAINING_SIGNALS.ignore_until_exit()
        return ExitCode(code)


def _network_facts(module: TrainingModule) -> dict[str, int]:
    """``num_params``, and ``macs`` of one image where the space can count them."""
    facts = {"num_params": sum(parameter.numel() for parameter in module.network.parameters())}
    channels, _, size = module.input_size
    task = {"num_classes": module.num_classes, "image_size": size, "in_channels": channels}
    with suppress(ValueError, TypeError, RuntimeError):
        facts["macs"] = SPACES[module.space].cost(module.arch, **module.network_options, **task).macs
    return facts


def of_checkpoint(error: BaseException) -> bool:
    """Whether it was while Lightning put a checkpoint's content in its places that this was raised."""
    frames = traceback.extract_tb(error.__traceback__)
    return any(Path(frame.filename).stem == "checkpoint_connector" for frame in frames)


def is_finished(folder: TrainingFolder, until: Mapping[str, Any]) -> bool:
    """Whether the training of the run folder needs nothing more; says so."""
    if not folder.meta.is_file():
        return False
    meta = folder.read_meta()
    if meta["status"] != "finished" or meta["runs"][-1]["until"] != until:
        return False
    print(f"finished already: {accuracies(_read_results(folder))}, run folder {folder.path}")
    if not folder.curves.is_file():  # it was killed before they were drawn
        _draw(folder)
    return True


def _draw(folder: TrainingFolder) -> None:
    """The curves so far, into the run folder's figures."""
    from vkdnw_pl.report.run_curves import write_curves  # matplotlib and pandas, which take a second to import

    try:
        write_curves(folder.path)
    except (ValueError, OSError) as error:
        _note(f"no figures of the curves: {first_line(error)}")


def _read_results(folder: TrainingFolder) -> dict[str, float]:
    return read_json(folder.results) if folder.results.is_file() else {}


def _note(text: str) -> None:
    print(f"note: {text}", file=sys.stderr)


def _span(until: Mapping[str, Any]) -> str:
    limits = {name: value for name, value in until.items() if value not in (None, -1)}
    return " and ".join(f"{name}={value}" for name, value in limits.items()) or "no end"


def accuracies(metrics: Mapping[str, Any]) -> str:
    """The accuracies among logged values, for the screen."""
    names = [name for name in ("val/top1", "val/top5", "test/top1", "test/top5") if name in metrics]
    return ", ".join(f"{name} {metrics[name]:.2f} %" for name in names) or "done"
