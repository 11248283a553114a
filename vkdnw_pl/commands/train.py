"""The commands ``fit``, ``validate``, ``test`` and ``predict``: LightningCLI with a run folder."""

from __future__ import annotations

import logging
import sys
import warnings
from argparse import ArgumentError
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import yaml
from pytorch_lightning import LightningDataModule, LightningModule, Trainer
from pytorch_lightning.cli import LightningArgumentParser, LightningCLI
from pytorch_lightning.utilities.exceptions import MisconfigurationException
from pytorch_lightning.utilities.rank_zero import rank_zero_only

import vkdnw_pl.callbacks.ema
import vkdnw_pl.callbacks.proxy_callback
import vkdnw_pl.data
from vkdnw_pl.callbacks.checkpoints import RunCheckpoints
from vkdnw_pl.callbacks.finite_loss import FiniteLoss, NonFiniteLoss
from vkdnw_pl.callbacks.graceful_stop import GracefulStop
from vkdnw_pl.callbacks.history import HistoryLogger, HistoryResume
from vkdnw_pl.callbacks.prediction_writer import PredictionWriter
from vkdnw_pl.callbacks.throughput import Throughput
from vkdnw_pl.callbacks.train_progress import progress_callbacks
from vkdnw_pl.commands.train_checkpoints import evaluated_path, resume_path
from vkdnw_pl.commands.train_errors import check_given, readable
from vkdnw_pl.commands.train_fit import Ended, Fit
from vkdnw_pl.commands.train_plan import Plan, shared_plan
from vkdnw_pl.commands.train_processes import check_world, hint, launched_options
from vkdnw_pl.commands.train_record import TrainRecord
from vkdnw_pl.errors import CommandFailed, UsageError, user_input
from vkdnw_pl.runs.folder import FolderBusy
from vkdnw_pl.runs.settings import digest
from vkdnw_pl.spaces.resolve import resolve_arch
from vkdnw_pl.tracking.options import with_bare_switch
from vkdnw_pl.tracking.training import add_wandb_options, training_runs, with_wandb
from vkdnw_pl.training.folder import TrainingFolder, training_settings
from vkdnw_pl.training.module import TrainingModule
from vkdnw_pl.training.processes import Processes, started_processes

for _name in vkdnw_pl.data.DATA_MODULES:  # short names in YAML are those of classes that are there
    getattr(vkdnw_pl.data, _name)

COMMANDS = tuple(LightningCLI.subcommands())

_HANDLED = (
    "You're resuming from a checkpoint that ended before the epoch ended",  # the module leaves out what is done
    "The number of training batches .* is smaller than the logging interval",  # epochs are logged anyway
    ".*does not have many workers",  # the data module decided
    r"It is recommended to use `self.log\('(train|val|test)/",  # the metrics gather over processes themselves
    "The `srun` command is available on your system but is not used",  # `started_processes` knows when that matters
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
    for text in _HANDLED:
        warnings.filterwarnings("ignore", text)
    arguments = _with_config(command, with_bare_switch(arguments))
    before, sys.argv = sys.argv, [prog.rpartition(" ")[0], command, *arguments]
    try:
        with training_runs():
            TrainingCLI(command, prog)
    except (FolderBusy, NonFiniteLoss) as error:
        raise CommandFailed(str(error)) from error
    except Ended as ended:
        return ended.exit_code
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


class TrainingCLI(LightningCLI):
    """LightningCLI for ``TrainingModule`` and any data module, with a run folder that a rerun continues."""

    def __init__(self, command: str, prog: str) -> None:
        self.folder: TrainingFolder
        self.settings: dict[str, Any] = {}
        self._processes: Processes | None = None
        self._kept: TrainRecord | None = None
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
        add_wandb_options(parser)
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
            self._processes = started_processes()
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

    def instantiate_classes(self) -> None:
        try:
            with user_input():
                super().instantiate_classes()
        except MisconfigurationException as error:
            raise UsageError(hint(self._processes, str(error))) from error

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
        loggers = with_wandb(loggers, self.config[self._command], self.folder.path, self._command)
        if self._command == "fit":
            loggers = [*loggers, HistoryLogger(self.folder.path)]
        given["callbacks"] = [*callbacks, *extra]
        launched = launched_options(self._processes, given)
        trainer = super().instantiate_trainer(logger=loggers, **launched, **kwargs)
        check_world(trainer, self._processes)
        return trainer

    def fit(self, model: TrainingModule, datamodule: LightningDataModule, ckpt_path: str | None = None) -> None:
        """Train, from the beginning or from where the run folder's last checkpoint is."""
        with ExitStack() as held:
            error = plan = None
            if _first_process():
                try:
                    held.enter_context(self.folder.lock())
                    plan = self._make_plan(ckpt_path)
                except (UsageError, FolderBusy) as refusal:
                    error, plan = refusal, Plan(code=2 if isinstance(refusal, UsageError) else 1)
            plan = held.enter_context(shared_plan(self.trainer, plan))
            if error is not None:
                raise error
            if plan.code is not None:
                raise Ended(plan.code)
            fit = Fit(self.trainer, model, datamodule, self._record, self._get(self.config, "test_after"))
            if _first_process():
                fit.as_first(self._plain(), plan.resume)
            else:
                fit.as_other(plan.resume)

    def _make_plan(self, ckpt_path: str | None) -> Plan:
        with user_input():
            if self._get(self.config, "overwrite"):
                self.folder.clear()
            self.folder.check_continues(self.settings)
        resume = resume_path(self.folder, ckpt_path, self.model.hparams)
        goes_on = resume == str(self.folder.checkpoint("last").expanduser())
        return Plan(resume, 0 if goes_on and self._record.is_finished() else None)

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
    def _record(self) -> TrainRecord:
        if self._kept is None:
            self._kept = TrainRecord(self.folder, self.settings, self._until())
        return self._kept

    def _until(self) -> dict[str, Any]:
        trainer = self._get(self.config, "trainer")
        return {name: trainer[name] for name in ("max_epochs", "max_steps")}

    def _evaluated_path(self, ckpt_path: str | None) -> str | None:
        path = evaluated_path(self.folder, ckpt_path, self.model.hparams)
        if path is not None:
            rank_zero_only(print)(f"evaluating {path}")
        return path


def _num_classes(data: LightningDataModule) -> int:
    return data.num_classes  # type: ignore[attr-defined]


def _input_size(data: LightningDataModule) -> list[int]:
    return list(data.input_size)  # type: ignore[attr-defined]


def _first_process() -> bool:
    return rank_zero_only.rank == 0  # type: ignore[attr-defined]


def _seed(seed_everything: bool | int) -> int:
    return int(seed_everything) if not isinstance(seed_everything, bool) else 0
