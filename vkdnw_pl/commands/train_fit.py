"""``fit`` after everything is made: trains, tests, keeps the record, and says with which exit code it was stopped."""

from __future__ import annotations

import signal
import traceback
from collections.abc import Mapping
from typing import Any

from pytorch_lightning import LightningDataModule
from pytorch_lightning.callbacks import EarlyStopping
from pytorch_lightning.utilities.exceptions import MisconfigurationException, SIGTERMException
from pytorch_lightning.utilities.rank_zero import rank_zero_only

from vkdnw_pl.callbacks.graceful_stop import GracefulStop
from vkdnw_pl.commands.train_record import TrainRecord
from vkdnw_pl.errors import CommandFailed
from vkdnw_pl.runs.signals import Stopped
from vkdnw_pl.training.module import TrainingModule
from vkdnw_pl.training.signals import SIGNALS

_GONE = ("Connection closed by peer", "Connection reset by peer", "remote process exited", "Broken pipe")
"""In the messages of gloo and NCCL."""
_STOPS = (SIGTERMException, Stopped, KeyboardInterrupt, SystemExit)


class Ended(Exception):
    """The command ends here with this exit code, and all is said."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.exit_code = code


class Fit:
    """One call of ``fit`` in one process.

    Args:
        trainer: with a `GracefulStop`.
        module: to train.
        data: to train on.
        record: of the run folder; only the process of rank zero writes it.
        test_after: test the final weights.
    """

    def __init__(
        self,
        trainer: Any,
        module: TrainingModule,
        data: LightningDataModule,
        record: TrainRecord,
        test_after: bool = True,
    ) -> None:
        self._trainer = trainer  # its attributes are set in a way that type checkers do not see
        self._module, self._data, self._record, self._test_after = module, data, record, test_after
        self._stop: GracefulStop = next(one for one in trainer.callbacks if isinstance(one, GracefulStop))

    def as_first(self, config: Mapping[str, Any], resume: str | None) -> None:
        """Train as the process that keeps the record and talks to the user.

        Args:
            config: options as they stand in ``config.yaml``.
            resume: checkpoint to go on from.

        Raises:
            Ended: if it was stopped.
            CommandFailed: if it cannot go on with what the user gave.
        """
        status, stopped_by = "failed", None
        try:
            self._record.begin(config, self._trainer, self._module, resume)
            status = "finished" if self._train_and_test(resume) else "stopped"
        except _STOPS as stop:
            signum = self._signum(stop)
            status, stopped_by = "stopped", signal.Signals(signum).name
            launcher = self._trainer.strategy.launcher
            if launcher is not None and not self._stop.agreed:
                launcher.kill(signal.SIGTERM)  # else processes that Lightning started wait for this one
            raise self._stopped(128 + signum) from stop
        except (ValueError, OSError, MisconfigurationException) as error:
            # Mostly what the user gave: data that are not there, options that do not go together.
            raise self._failed(str(error)) from error
        except RuntimeError as error:
            if not self._left_alone(error):
                raise
            raise self._failed(f"another process of the training ended ({_first_line(error)})") from error
        finally:
            if status != "failed" or self._stop.began or not self._record.put_back():
                self._record.end(status, self._trainer.global_step, stopped_by)

    def as_other(self, resume: str | None) -> None:
        """Train as another process than the first.

        Raises:
            Ended: if it was stopped.
            CommandFailed: as ``as_first``.
        """
        try:
            self._train_and_test(resume)
        except _STOPS as stop:
            # Where all stop together the first process says why: a launcher may end it when this one ends with an error.
            raise self._stopped(0 if self._stop.agreed else 128 + self._signum(stop)) from stop
        except (ValueError, OSError, MisconfigurationException) as error:
            raise CommandFailed(f"process {self._trainer.global_rank}: {error}") from error
        except RuntimeError as error:
            if not self._left_alone(error):
                raise
            raise Ended(1) from error

    def _train_and_test(self, resume: str | None) -> bool:
        """Whether the training reached its end."""
        self._trainer.fit(self._module, self._data, ckpt_path=resume)
        self._write_results()
        if not self._reached_the_end():
            return False
        if self._test_after and not self._trainer.fast_dev_run:
            if getattr(self._data, "validates_on_test", False):
                rank_zero_only(print)("validation images are the test images here: the last validation is the test")
            else:
                self._stop.check(self._trainer)
                self._trainer.test(self._module, self._data, verbose=False)
                self._write_results()
        return True

    def _write_results(self) -> None:
        if self._trainer.is_global_zero:
            self._record.write_results(self._trainer.callback_metrics)

    def _reached_the_end(self) -> bool:
        """Whether the training went as far as was asked, or a callback found that enough."""
        trainer, until = self._trainer, self._record.until
        epochs, steps = until["max_epochs"], until["max_steps"]
        if any(isinstance(one, EarlyStopping) and one.stopped_epoch for one in trainer.callbacks):
            return True
        if steps not in (None, -1) and trainer.global_step >= steps:
            return True
        return (epochs not in (None, -1) and trainer.current_epoch >= epochs) or bool(trainer.fast_dev_run)

    def _failed(self, text: str) -> CommandFailed:
        file = self._record.folder.path / "traceback.txt"
        file.write_text(traceback.format_exc(), encoding="utf-8")
        return CommandFailed(f"{text} (more in {file})")

    def _left_alone(self, error: RuntimeError) -> bool:
        """Whether it is because another process ended that this one cannot go on."""
        gone = any(sign in str(error) for sign in _GONE)
        return self._trainer.world_size > 1 and (gone or SIGNALS.signum != 0)

    @staticmethod
    def _signum(stop: BaseException) -> int:
        return SIGNALS.signum or (signal.SIGTERM if isinstance(stop, SIGTERMException) else signal.SIGINT)

    def _stopped(self, code: int) -> Ended:
        if self._trainer.world_size > 1:
            SIGNALS.stay_deaf()
        return Ended(code)


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
