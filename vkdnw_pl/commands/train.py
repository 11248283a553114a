"""The commands ``fit``, ``validate``, ``test`` and ``predict``: LightningCLI with a run folder."""

from __future__ import annotations

import json
import logging
import re
import shlex
import signal
import sys
import time
import traceback
import warnings
from argparse import ArgumentError
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml
from pytorch_lightning import LightningDataModule, LightningModule, Trainer
from pytorch_lightning.callbacks import EarlyStopping
from pytorch_lightning.cli import LightningArgumentParser, LightningCLI
from pytorch_lightning.utilities.exceptions import MisconfigurationException, SIGTERMException
from pytorch_lightning.utilities.rank_zero import rank_zero_only

import vkdnw_pl.callbacks.ema
import vkdnw_pl.callbacks.proxy_callback
import vkdnw_pl.data
from vkdnw_pl.callbacks.checkpoints import RunCheckpoints
from vkdnw_pl.callbacks.environment import environment_record
from vkdnw_pl.callbacks.finite_loss import FiniteLoss, NonFiniteLoss
from vkdnw_pl.callbacks.graceful_stop import GracefulStop
from vkdnw_pl.callbacks.history import HistoryLogger, HistoryResume
from vkdnw_pl.callbacks.prediction_writer import PredictionWriter
from vkdnw_pl.callbacks.throughput import Throughput
from vkdnw_pl.callbacks.train_progress import progress_callbacks
from vkdnw_pl.commands.errors import CommandFailed, UsageError, user_input
from vkdnw_pl.commands.train_errors import check_given, readable
from vkdnw_pl.scoring.files import write_atomically
from vkdnw_pl.scoring.folder import FolderBusy
from vkdnw_pl.scoring.settings import digest
from vkdnw_pl.spaces.resolve import resolve_arch
from vkdnw_pl.training.folder import TrainingFolder, training_settings
from vkdnw_pl.training.module import TrainingModule
from vkdnw_pl.training.tracking import prepare_wandb
from vkdnw_pl.training.weights import check_checkpoint

for _name in vkdnw_pl.data.DATA_MODULES:  # short names in YAML are those of classes that are there
    getattr(vkdnw_pl.data, _name)

COMMANDS = tuple(LightningCLI.subcommands())
_NAMED_CHECKPOINT = re.compile(r"last|best|epoch_\d+")

_HANDLED = (
    "You're resuming from a checkpoint that ended before the epoch ended",  # the module leaves out what is done
    "The number of training batches .* is smaller than the logging interval",  # epochs are logged anyway
    ".*does not have many workers",  # the data module decided
    r"It is recommended to use `self.log\('(train|val|test)/",  # the metrics gather over processes themselves
)
"""Lightning's warnings about what is taken care of here."""


def train(command: str, arguments: Sequence[str], prog: str) -> int:
    """Run ``fit``, ``validate``, ``test`` or ``predict`` and return its exit code.

    Raises:
        UsageError: if an option is not allowed, or the run folder holds results of other settings.
        CommandFailed: if the training cannot go on.
    """
    for name in ("pytorch_lightning", "lightning_fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)  # what a user should know of it, we say in one line
    logging.getLogger("pytorch_lightning.trainer.connectors.signal_connector").setLevel(logging.INFO)  # SLURM requeues
    for text in _HANDLED:
        warnings.filterwarnings("ignore", text)
    arguments = _with_config(command, list(arguments))
    before, sys.argv = sys.argv, [prog.rpartition(" ")[0], command, *arguments]
    try:
        TrainingCLI(command, prog)
    except (FolderBusy, NonFiniteLoss) as error:
        raise CommandFailed(str(error)) from error
    except _Ended as ended:
        return ended.code
    finally:
        sys.argv = before
    return 0


def _with_config(command: str, arguments: list[str]) -> list[str]:
    """``test --out RUN`` means the network and the data of that run."""
    given = {argument.partition("=")[0]: (argument, after) for argument, after in zip(arguments, [*arguments[1:], ""])}
    if command == "fit" or "--out" not in given or {"-c", "--config"} & set(given):
        return arguments
    argument, after = given["--out"]
    config = Path(argument.partition("=")[2] or after).expanduser() / "config.yaml"
    return ["--config", str(config), *arguments] if config.is_file() else arguments


class _Ended(Exception):
    """A training was stopped on request."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


class TrainingCLI(LightningCLI):
    """LightningCLI for ``TrainingModule`` and any data module, with a run folder that a rerun continues."""

    def __init__(self, command: str, prog: str) -> None:
        self.folder: TrainingFolder
        self.settings: dict[str, Any] = {}
        self._command = command
        parser = {"allow_abbrev": False, "exit_on_error": False}
        super().__init__(
            TrainingModule,
            LightningDataModule,
            subclass_mode_data=True,
            save_config_callback=None,
            seed_everything_default=0,
            auto_configure_optimizers=False,
            load_from_checkpoint_support=False,
            trainer_defaults={"logger": False, "enable_model_summary": False, "callbacks": []},
            parser_kwargs={"prog": prog.rpartition(" ")[0], **parser, **{name: dict(parser) for name in COMMANDS}},
        )

    @staticmethod
    def subcommands() -> dict[str, set[str]]:
        """Only what the user can give."""
        never = {
            "model",
            "datamodule",
            "dataloaders",
            "train_dataloaders",
            "val_dataloaders",
            "weights_only",
            "verbose",
        }
        return {name: never | ({"return_predictions"} if name == "predict" else set()) for name in COMMANDS}

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        parser.add_argument("--out", type=str | None, default=None, help="Run folder. Default: a name below runs/.")
        parser.add_argument(
            "--overwrite", type=bool, default=False, help="Delete what a training left in the run folder."
        )
        parser.add_argument("--test_after", type=bool, default=True, help="Test the final weights after fit.")
        parser.link_arguments("data", "model.num_classes", compute_fn=_num_classes, apply_on="instantiate")
        parser.link_arguments("data", "model.input_size", compute_fn=_input_size, apply_on="instantiate")
        parser.link_arguments("seed_everything", "model.seed", compute_fn=_seed)
        parser.link_arguments("seed_everything", "data.init_args.seed", compute_fn=_seed)

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        """Read the command line."""
        check_given(sys.argv[2:], self._parser(self._command))
        try:
            super().parse_arguments(parser, args)
        except ArgumentError as error:
            raise UsageError(readable(str(error), self._parser(self._command))) from error

    def _parse_ckpt_path(self) -> None:
        """Nothing: Lightning would put the checkpoint's hyper-parameters over what the user typed."""

    def before_instantiate_classes(self) -> None:
        options = self.config[self._command]
        with user_input():
            found = resolve_arch(options.model.arch, options.model.space)
        # The run folder keeps the network, not the name of a file that may change.
        options.model.arch, options.model.space = found.arch, found.space
        options.model.network = {**found.network, **(options.model.network or {})}
        self.settings = training_settings(self._plain())
        self.folder = TrainingFolder(options.out or self._folder_of_config() or f"runs/fit-{digest(self.settings)}")
        options.out = str(self.folder.path)
        if options.trainer.default_root_dir not in (None, options.out):
            raise UsageError("trainer.default_root_dir is the run folder here: give --out instead")
        options.trainer.default_root_dir = options.out
        if self._command == "fit" and str(options.trainer.strategy).startswith(
            ("ddp_fork", "ddp_spawn", "ddp_notebook")
        ):
            raise UsageError(
                f"trainer.strategy={options.trainer.strategy} is not allowed for fit: it cannot be stopped in good order; "
                "use ddp"
            )
        if self._command == "fit" and _first_process():
            prepare_wandb(options.trainer.logger, self.folder.path)

    def instantiate_classes(self) -> None:
        try:
            with user_input():
                super().instantiate_classes()
        except MisconfigurationException as error:
            raise UsageError(str(error)) from error

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """The user's trainer, with what every run of ours has."""
        given = self._get(self.config_init, "trainer")
        callbacks = given.get("callbacks") or []
        extra: list[Any] = [GracefulStop(), Throughput(), HistoryResume(), FiniteLoss(), PredictionWriter()]
        extra += progress_callbacks(enable_progress_bar=given.get("enable_progress_bar") is not False)
        if (
            not any(isinstance(one, RunCheckpoints) for one in callbacks)
            and given.get("enable_checkpointing") is not False
        ):
            extra.append(RunCheckpoints())
        mine = {type(one) for one in callbacks}
        extra = [one for one in extra if type(one) not in mine]
        loggers = given.get("logger")
        loggers = [] if loggers in (None, False, True) else loggers if isinstance(loggers, list) else [loggers]
        if self._command == "fit":
            loggers = [*loggers, HistoryLogger(self.folder.path)]
        given["callbacks"] = [*callbacks, *extra]
        return super().instantiate_trainer(logger=loggers, **kwargs)

    def fit(self, model: LightningModule, datamodule: LightningDataModule, ckpt_path: str | None = None) -> None:
        """Train, from the beginning or from where the run folder's last checkpoint is."""
        if not _first_process():
            self.trainer.fit(model, datamodule, ckpt_path=self._resume_path(ckpt_path))
            if self._reached_the_end():  # as the first process decides, which would else wait alone
                self._test(model, datamodule)
            return
        overwrite = bool(self._get(self.config, "overwrite"))
        with self.folder.lock():
            if overwrite:
                self.folder.clear()
            with user_input():
                self.folder.check_continues(self.settings)
            resume = self._resume_path(ckpt_path)
            if resume == str(self.folder.checkpoint("last").expanduser()) and self._is_finished():
                return
            before = self.folder.read_record()
            meta = self._begin(resume)
            status = "failed"
            try:
                self.trainer.fit(model, datamodule, ckpt_path=resume)
                self._write_results()
                if self._reached_the_end():
                    self._test(model, datamodule)
                    self._write_results()
                    status = "finished"
                else:
                    status = "stopped"
            except (SIGTERMException, KeyboardInterrupt, SystemExit) as stop:
                status = "stopped"
                raise self._stopped(stop) from stop
            except (ValueError, OSError, MisconfigurationException) as error:
                # Mostly what the user gave: data that are not there, options that do not go together.
                (self.folder.path / "traceback.txt").write_text(traceback.format_exc(), encoding="utf-8")
                raise CommandFailed(f"{error} (more in {self.folder.path / 'traceback.txt'})") from error
            finally:
                if status == "failed" and before is not None and not self._stop.began:
                    self.folder.write_record(before)  # of a training that this one could not go on with
                else:
                    self._end(meta, status)

    def validate(self, model: LightningModule, datamodule: LightningDataModule, ckpt_path: str | None = None) -> None:
        """Evaluate a checkpoint on the validation images."""
        self.trainer.validate(model, datamodule, ckpt_path=self._evaluated_path(ckpt_path))

    def test(self, model: LightningModule, datamodule: LightningDataModule, ckpt_path: str | None = None) -> None:
        """Evaluate a checkpoint on the test images."""
        self.trainer.test(model, datamodule, ckpt_path=self._evaluated_path(ckpt_path))

    def predict(self, model: LightningModule, datamodule: LightningDataModule, ckpt_path: str | None = None) -> None:
        """Write a checkpoint's predictions for the test images."""
        self.trainer.predict(model, datamodule, return_predictions=False, ckpt_path=self._evaluated_path(ckpt_path))
        rank_zero_only(print)(f"predictions in {self.folder.path / 'predictions.csv'}")

    @property
    def _trainer(self) -> Any:
        return self.trainer  # its attributes are set in a way that type checkers do not see

    def _plain(self) -> dict[str, Any]:
        """The options as they stand in ``config.yaml``."""
        parser = self._parser(self._command)
        options = self.config[self._command].clone()
        options.pop("config", None)
        options.trainer.pop("default_root_dir", None)  # it is ``out``
        plain = yaml.safe_load(parser.dump(options, skip_validation=True, skip_unset=False))
        # The folder of a config.yaml is where it lies, also after it was moved.
        return {**plain, "out": None, "overwrite": False, "ckpt_path": None}

    def _folder_of_config(self) -> str | None:
        """Run folder that a config file belongs to."""
        for file in self.config[self._command].get("config") or []:
            path = Path(getattr(file, "absolute", None) or str(file))
            if path.name == "config.yaml" and path.with_name("meta.json").is_file():
                return str(path.parent)
        return None

    @property
    def _stop(self) -> GracefulStop:
        return next(one for one in self._trainer.callbacks if isinstance(one, GracefulStop))

    def _begin(self, resume: str | None) -> dict[str, Any]:
        earlier = self.folder.read_meta() if self.folder.meta.is_file() else None
        environment = environment_record()
        run = {"started_at": _now(), "ckpt_path": resume, "processes": self.trainer.world_size, "until": self._until()}
        meta = {
            "format": 1,
            "command": "fit",
            "settings": self.settings,
            "digest": digest(self.settings),
            "status": "running",
            "environment": environment,
            "runs": [*(earlier["runs"] if earlier else []), run],
        }
        plain = self._plain()
        self.folder.begin(yaml.safe_dump(plain, sort_keys=False, allow_unicode=True), meta)
        for logger in self.trainer.loggers:
            logger.log_hyperparams({"config": plain})
        if resume is not None:
            print(f"continuing from {resume}")
        if earlier and (there := earlier["runs"][-1].get("processes")) not in (None, self.trainer.world_size):
            print(
                f"note: {there} processes trained here before, now {self.trainer.world_size}: with the same "
                "data.init_args.batch_size for each, the global batch and the learning rate change",
                file=sys.stderr,
            )
        params = sum(parameter.numel() for parameter in self.model.network.parameters())
        print(
            f"training {self.model.arch} of {self.model.space} ({params / 1e6:.3g} M parameters), run folder "
            f"{self.folder.path}",
            flush=True,
        )
        self._began_at = time.monotonic()
        return meta

    def _is_finished(self) -> bool:
        """Say so where the training of the run folder needs nothing more."""
        if not self.folder.meta.is_file():
            return False
        meta = self.folder.read_meta()
        if meta["status"] != "finished" or meta["runs"][-1]["until"] != self._until():
            return False
        print(
            f"finished already: {self._shown(json.loads(self.folder.results.read_text()))}, run folder {self.folder.path}"
        )
        return True

    def _until(self) -> dict[str, Any]:
        trainer = self._get(self.config, "trainer")
        return {name: trainer[name] for name in ("max_epochs", "max_steps")}

    @staticmethod
    def _shown(metrics: Mapping[str, float]) -> str:
        names = [name for name in ("val/top1", "val/top5", "test/top1", "test/top5") if name in metrics]
        return ", ".join(f"{name} {metrics[name]:.2f} %" for name in names) or "done"

    def _end(self, meta: dict[str, Any], status: str) -> None:
        meta["status"] = status
        meta["runs"][-1] |= {"finished_at": _now(), "elapsed_s": round(time.monotonic() - self._began_at, 3)}
        self.folder.write_meta(meta)
        if status == "stopped" and not self._reached_the_end() and self._stop.signum is None:
            print(f"stopped before the end; continue with: {self._continue_with()}")
        if status != "finished":
            return
        metrics = json.loads(self.folder.results.read_text(encoding="utf-8"))
        elapsed_s = time.monotonic() - self._began_at
        print(f"{self._shown(metrics)} ({elapsed_s:.0f} s), results in {self.folder.path}")

    def _write_results(self) -> None:
        """Keep the latest value of each metric; those of a test do not take the place of the training's."""
        known = json.loads(self.folder.results.read_text(encoding="utf-8")) if self.folder.results.is_file() else {}
        known |= {name: float(value) for name, value in self.trainer.callback_metrics.items()}
        write_atomically(self.folder.results, json.dumps(dict(sorted(known.items())), indent=2) + "\n")

    def _reached_the_end(self) -> bool:
        """Whether the training went as far as was asked, or a callback found that enough."""
        trainer, until = self._trainer, self._until()
        epochs, steps = until["max_epochs"], until["max_steps"]
        if any(isinstance(one, EarlyStopping) and one.stopped_epoch for one in trainer.callbacks):
            return True
        if steps not in (None, -1) and trainer.global_step >= steps:
            return True
        return (epochs not in (None, -1) and trainer.current_epoch >= epochs) or bool(trainer.fast_dev_run)

    def _stopped(self, stop: BaseException) -> _Ended:
        by_sigterm = self._stop.signum == signal.SIGTERM or (
            self._stop.signum is None and isinstance(stop, SIGTERMException)
        )
        name = "SIGTERM" if by_sigterm else "SIGINT"
        print(f"\nstopped by {name}; continue with: {self._continue_with()}", file=sys.stderr)
        return _Ended(143 if by_sigterm else 130)

    def _continue_with(self) -> str:
        return f"python -m vkdnw_pl fit --config {shlex.quote(str(self.folder.config))}"

    def _test(self, model: LightningModule, datamodule: LightningDataModule) -> None:
        """Test the final weights, where there are test images that validation has not seen."""
        if not self._get(self.config, "test_after") or self._trainer.fast_dev_run:
            return
        if getattr(datamodule, "validates_on_test", False):
            rank_zero_only(print)("validation images are the test images here: the last validation is the test")
            return
        self.trainer.test(model, datamodule, verbose=False)

    def _resume_path(self, ckpt_path: str | None) -> str | None:
        """Checkpoint to train on from: the one that is named, else the run folder's last one."""
        if ckpt_path is None or ckpt_path == "last":
            if not self.folder.checkpoint("last").is_file():
                return None
            ckpt_path = "last"
        return str(self._existing(ckpt_path))

    def _evaluated_path(self, ckpt_path: str | None) -> str | None:
        """Checkpoint to evaluate: the one that is named, else the run folder's best one; ``none`` is the bare network."""
        if ckpt_path == "none":
            return None
        there = [name for name in ("best", "last") if self.folder.checkpoint(name).is_file()]
        if ckpt_path is None and not there:
            raise UsageError(
                f"there is no {self.folder.checkpoint('best')} to evaluate: give --ckpt_path FILE (or last, best), or "
                "--ckpt_path none for the network as it is built"
            )
        path = self._existing(ckpt_path or there[0])
        rank_zero_only(print)(f"evaluating {path}")
        return str(path)

    def _existing(self, ckpt_path: str) -> Path:
        path = self.folder.checkpoint(ckpt_path) if _NAMED_CHECKPOINT.fullmatch(ckpt_path) else Path(ckpt_path)
        if not path.expanduser().is_file():
            raise UsageError(f"ckpt_path={ckpt_path!r}: there is no file {path}")
        with user_input():
            check_checkpoint(path.expanduser(), self.model.hparams)
        return path.expanduser()


def _num_classes(data: LightningDataModule) -> int:
    return data.num_classes  # type: ignore[attr-defined]


def _input_size(data: LightningDataModule) -> list[int]:
    return list(data.input_size)  # type: ignore[attr-defined]


def _first_process() -> bool:
    return rank_zero_only.rank == 0  # type: ignore[attr-defined]


def _seed(seed_everything: bool | int) -> int:
    return int(seed_everything) if not isinstance(seed_everything, bool) else 0


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
