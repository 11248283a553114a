"""LightningCLI for trainings, with a run folder that a rerun continues."""

from __future__ import annotations

import re
from argparse import ArgumentError
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import yaml
from pytorch_lightning import Callback, LightningDataModule, LightningModule, Trainer
from pytorch_lightning.callbacks import BatchSizeFinder, LearningRateFinder
from pytorch_lightning.cli import LightningArgumentParser, LightningCLI
from pytorch_lightning.utilities.exceptions import MisconfigurationException
from pytorch_lightning.utilities.rank_zero import rank_zero_only

import vkdnw_pl.callbacks
import vkdnw_pl.data
from vkdnw_pl.callbacks.checkpoints import RunCheckpoints
from vkdnw_pl.callbacks.finite_loss import FiniteLoss
from vkdnw_pl.callbacks.graceful_stop import GracefulStop
from vkdnw_pl.callbacks.history import HistoryLogger, HistoryResume
from vkdnw_pl.callbacks.prediction_writer import PredictionWriter, describe_accuracy
from vkdnw_pl.callbacks.throughput import Throughput
from vkdnw_pl.callbacks.train_progress import progress_callbacks
from vkdnw_pl.data.image_folder import ImageFolder
from vkdnw_pl.data.protocol import OfOtherLightning, as_data_module, classes_of, size_of
from vkdnw_pl.errors import CommandFailed, UsageError, first_line, user_input
from vkdnw_pl.option_parser import NarrowTypesFirst, describe_options
from vkdnw_pl.options import WandbOptions
from vkdnw_pl.runs.folder import FolderBusy, digest
from vkdnw_pl.spaces.resolve import resolve_arch
from vkdnw_pl.tracking.lightning import with_wandb
from vkdnw_pl.training.fit import OF_USER, ExitCode, Fit, accuracies, is_finished, of_checkpoint
from vkdnw_pl.training.folder import TrainingFolder, training_settings
from vkdnw_pl.training.given_options import NOT_OF_USER
from vkdnw_pl.training.module import TrainingModule
from vkdnw_pl.training.option_errors import readable
from vkdnw_pl.training.own_images import with_data_module
from vkdnw_pl.training.processes import (
    FitPlan,
    Processes,
    check_world,
    launched_options,
    shared_plan,
    started_processes,
    with_gpu_hint,
)

for _package, _names in (
    (vkdnw_pl.data, vkdnw_pl.data.DATA_MODULES),
    (vkdnw_pl.callbacks, vkdnw_pl.callbacks.CALLBACKS),
):
    for _name in _names:  # short names in YAML are those of classes that are imported
        getattr(_package, _name)


class TrainingParser(NarrowTypesFirst, LightningArgumentParser):
    """LightningCLI's parser, to which ``1`` is a whole number wherever one is allowed, and a path of images a data module."""

    def add_subclass_arguments(self, baseclass: Any, nested_key: str, *args: Any, **kwargs: Any) -> Any:
        """As jsonargparse's; data modules are those of either Lightning."""
        bases = (LightningDataModule, OfOtherLightning) if baseclass is LightningDataModule else baseclass
        return super().add_subclass_arguments(bases, nested_key, *args, **kwargs)

    def _load_config_parser_mode(self, content: str, *args: Any, **kwargs: Any) -> Any:
        return super()._load_config_parser_mode(with_data_module(content), *args, **kwargs)


class TrainingCLI(LightningCLI):
    """Parses the options of ``fit``, ``validate``, ``test`` or ``predict`` in ``sys.argv``, and runs the command."""

    def __init__(self, command: str, prog: str) -> None:
        self.folder: TrainingFolder
        self.settings: dict[str, Any] = {}
        self._processes: Processes | None = None
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
            parser_class=TrainingParser,
            parser_kwargs={"prog": prog.rpartition(" ")[0], **parser, command: dict(parser)},
        )

    def subcommands(self) -> dict[str, set[str]]:  # type: ignore[override]
        """The command -> parameters that are no options. To make the parsers of all commands takes half a second."""
        return {self._command: NOT_OF_USER}

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        parser.add_argument("--out", type=str | None, default=None, help="Run folder. Default: a name below runs/.")
        switch: dict[str, Any] = {"nargs": "?", "const": True}  # also without a value behind it
        parser.add_argument(
            "--overwrite", type=bool, default=False, help="Delete what a training left in the run folder.", **switch
        )
        parser.add_argument("--test_after", type=bool, default=True, help="Test the final weights after fit.")
        for option in describe_options(WandbOptions):
            more = switch if option.name == "wandb" else {}
            parser.add_argument(f"--{option.name}", type=option.type, default=option.default, help=option.help, **more)
        parser.link_arguments("data", "model.num_classes", compute_fn=classes_of, apply_on="instantiate")
        parser.link_arguments("data", "model.input_size", compute_fn=size_of, apply_on="instantiate")
        parser.link_arguments("seed_everything", "model.seed", compute_fn=_seed)
        parser.link_arguments("seed_everything", "data.init_args.seed", compute_fn=_seed)

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
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
            resolved = resolve_arch(options.model.arch, options.model.space)
        # The run folder keeps the network, not the name of a file that may change.
        options.model.arch, options.model.space = resolved.arch, resolved.space
        options.model.network = {**resolved.network, **(options.model.network or {})}
        self.settings = training_settings(self._plain())
        self.folder = TrainingFolder(options.out or self._folder_of_config() or f"runs/fit-{digest(self.settings)}")
        options.out = str(self.folder.path)
        if options.trainer.default_root_dir not in (None, options.out):
            raise UsageError("trainer.default_root_dir is the run folder here: give --out instead")
        options.trainer.default_root_dir = options.out
        strategy = str(options.trainer.strategy)
        if self._command == "fit" and strategy.startswith(("ddp_fork", "ddp_spawn", "ddp_notebook")):
            raise UsageError(f"trainer.strategy={strategy} is not allowed for fit, which it cannot stop: use ddp")

    def _set_seed(self) -> None:
        with user_input():
            super()._set_seed()

    def instantiate_classes(self) -> None:
        try:
            with user_input():
                super().instantiate_classes()
                self.datamodule = as_data_module(self.datamodule)
            if isinstance(self.datamodule, ImageFolder):  # a continued training must not see held out images
                self.settings["data.images"] = self.datamodule.digest
        except UsageError as error:  # of a class that jsonargparse tried: its own words
            reason = re.search(r"^Errors:\n  - (.*)$", str(error), re.MULTILINE)
            of_link = re.search(r"^Call to compute_fn of link .*\) failed: (.*)", str(error), re.DOTALL)
            if reason is None and of_link is None:
                raise
            raise UsageError((of_link or reason)[1]) from error  # type: ignore[index]
        except MisconfigurationException as error:
            raise UsageError(with_gpu_hint(self._processes, str(error))) from error

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """The user's trainer, with what every run of ours has."""
        options = self._get(self.config_init, "trainer")
        options["callbacks"] = self._with_our_callbacks(_as_list(options.get("callbacks")), options)
        loggers = with_wandb(
            _as_list(options.get("logger")), self.config[self._command], self.folder.path, self._command
        )
        if self._command == "fit":
            loggers = [*loggers, HistoryLogger(self.folder.path)]
        launched = launched_options(self._processes, options)
        trainer = super().instantiate_trainer(logger=loggers, **launched, **kwargs)
        check_world(trainer, self._processes)
        return trainer

    @staticmethod
    def _with_our_callbacks(callbacks: list[Callback], options: Any) -> list[Callback]:
        """The user's callbacks, and ours of the kinds that are not among them."""
        for callback in callbacks:
            name, keys = type(callback).__name__, [other.state_key for other in callbacks]
            if keys.count(callback.state_key) > 1:
                raise UsageError(
                    f"trainer.callbacks has more than one {name}; one that a config file has is changed there, or replaced "
                    "by --trainer.callbacks without +"
                )
            if isinstance(callback, LearningRateFinder | BatchSizeFinder):
                option = "model.optimizer.lr" if isinstance(callback, LearningRateFinder) else "data.batch_size"
                raise UsageError(
                    f"{name} is not for fit: what it finds would not stand in config.yaml, and a rerun "
                    f"could not continue; give --{option}, chosen by short trainings (--trainer.max_epochs 1, each with an "
                    "--out of its own)"
                )
        ours: list[Callback] = [GracefulStop(), Throughput(), HistoryResume(), FiniteLoss(), PredictionWriter()]
        ours += progress_callbacks(enable_progress_bar=options.get("enable_progress_bar") is not False)
        if options.get("enable_checkpointing") is not False:
            ours.append(RunCheckpoints())
        kinds = {type(callback) for callback in callbacks}
        if any(isinstance(callback, RunCheckpoints) for callback in callbacks):
            kinds.add(RunCheckpoints)
        return [*callbacks, *(callback for callback in ours if type(callback) not in kinds)]

    def fit(self, model: TrainingModule, datamodule: LightningDataModule, ckpt_path: str | None = None) -> None:
        """Train, from the beginning or from where the run folder's last checkpoint is."""
        is_first = rank_zero_only.rank == 0  # type: ignore[attr-defined]
        with ExitStack() as stack:
            error = plan = None
            if is_first:
                try:
                    stack.enter_context(self.folder.lock())
                    plan = self._make_plan(ckpt_path)
                except (UsageError, FolderBusy) as refusal:
                    error, plan = refusal, FitPlan(exit_code=2 if isinstance(refusal, UsageError) else 1)
            plan = stack.enter_context(shared_plan(self.trainer, plan))
            if error is not None:
                raise error
            if plan.exit_code is not None:
                raise ExitCode(plan.exit_code)
            test_after = self._get(self.config, "test_after")
            fit = Fit(self.trainer, model, datamodule, self.folder, self._until, test_after)
            if is_first:
                fit.as_first(self._plain(), self.settings, plan.resume)
            else:
                fit.as_other(plan.resume)

    def _make_plan(self, ckpt_path: str | None) -> FitPlan:
        with user_input():
            if self._get(self.config, "overwrite"):
                self.folder.clear()
            self.folder.check_continues(self.settings)
        resume = self.folder.resume_path(ckpt_path, self.model, self.trainer)
        with user_input():
            finished = resume == str(self.folder.checkpoint("last")) and is_finished(self.folder, self._until)
        return FitPlan(resume, 0 if finished else None)

    def validate(self, model: LightningModule, datamodule: LightningDataModule, ckpt_path: str | None = None) -> None:
        """Evaluate a checkpoint on the validation images."""
        with self._evaluated(ckpt_path) as path:
            self.trainer.validate(model, datamodule, ckpt_path=path, verbose=False)
        rank_zero_only(print)(accuracies(self.trainer.callback_metrics))

    def test(self, model: LightningModule, datamodule: LightningDataModule, ckpt_path: str | None = None) -> None:
        """Evaluate a checkpoint on the test images."""
        with self._evaluated(ckpt_path) as path:
            self.trainer.test(model, datamodule, ckpt_path=path, verbose=False)
        rank_zero_only(print)(accuracies(self.trainer.callback_metrics))

    def predict(self, model: LightningModule, datamodule: LightningDataModule, ckpt_path: str | None = None) -> None:
        """Write a checkpoint's predictions for the test images."""
        with self._evaluated(ckpt_path) as path:
            self.trainer.predict(model, datamodule, return_predictions=False, ckpt_path=path)
        writer = next(item for item in self.trainer.callbacks if isinstance(item, PredictionWriter))  # type: ignore[attr-defined]
        if accuracy := describe_accuracy(writer.rows, self.model.class_names):
            rank_zero_only(print)(accuracy)
        rank_zero_only(print)(f"predictions in {self.folder.path / writer.filename}")

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
    def _until(self) -> dict[str, Any]:
        """How long to train."""
        trainer = self._get(self.config, "trainer")
        return {name: trainer[name] for name in ("max_epochs", "max_steps")}

    @contextmanager
    def _evaluated(self, ckpt_path: str | None) -> Iterator[str | None]:
        """The file that is evaluated within; what Lightning cannot make of its content is said in one line."""
        path = self.folder.evaluated_path(ckpt_path, self.model, self.trainer)
        if path is not None:
            rank_zero_only(print)(f"evaluating {path}")
        try:
            yield path
        except UsageError:
            raise
        except Exception as error:
            if path is not None and of_checkpoint(error):
                raise UsageError(f"ckpt_path={path!r} cannot be evaluated: {first_line(error)}") from error
            if isinstance(error, OF_USER):
                raise CommandFailed(str(error)) from error
            raise


def _as_list(values: Any) -> list[Any]:
    """Callbacks or loggers, of which the user may give one, several or none."""
    if values in (None, False, True):
        return []
    return list(values) if isinstance(values, Sequence) else [values]


def _seed(seed_everything: bool | int) -> int:
    return int(seed_everything) if not isinstance(seed_everything, bool) else 0
