"""The commands ``fit``, ``validate``, ``test`` and ``predict``."""

from __future__ import annotations

import io
import logging
import os
import sys
import warnings
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import yaml

from vkdnw_pl.commands.predict_images import predict_images
from vkdnw_pl.errors import CommandFailed, UsageError, user_input
from vkdnw_pl.option_parser import CommandParser
from vkdnw_pl.runs.documents import read_yaml
from vkdnw_pl.runs.folder import FolderBusy
from vkdnw_pl.runs.signals import TRAINING_SIGNALS, Stopped
from vkdnw_pl.training.folder import TrainingFolder
from vkdnw_pl.training.given_options import check_given
from vkdnw_pl.training.own_images import with_image_folder

_TAKEN_CARE_OF = (
    "You're resuming from a checkpoint that ended before the epoch ended",  # `ExactResume` leaves out what is done
    "The number of training batches .* is smaller than the logging interval",  # epochs are logged anyway
    ".*does not have many workers",  # the data module decided
    r"It is recommended to use `self.log\('(train|val|test)/",  # the metrics gather over processes themselves
    "The `srun` command is available on your system but is not used",  # `started_processes` knows when that matters
)
"""Lightning's warnings that need not be heard."""
_OUR_PACKAGES = ("vkdnw_pl", "pytorch_lightning", "lightning", "torch", "torchmetrics")


def training_command(command: str, arguments: Sequence[str], prog: str) -> int:
    """Run ``fit``, ``validate``, ``test`` or ``predict`` as from a shell and return its exit code.

    ``fit`` answers signals from before the libraries are imported, which may take a minute.
    """
    if command == "predict" and _values(arguments, "--images"):
        return _label_pictures(list(arguments), prog)
    if not arguments or {"-h", "--help"} & set(arguments):
        from vkdnw_pl.training.help import train_help

        print(train_help(command, prog))
        return 0 if arguments else 2
    # Before torch is there: threads that wait spinning made a small network three times slower beside other programs.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    arguments = ["--help" if argument == "--help=all" else argument for argument in arguments]  # LightningCLI's own
    if command != "fit":
        return _train(command, arguments, prog)
    try:
        with TRAINING_SIGNALS.taken():
            return _train(command, arguments, prog)
    except Stopped as stop:
        print(f"\nstopped by {stop.name}; the same command continues", file=sys.stderr)
        return stop.exit_code


def _label_pictures(arguments: list[str], prog: str) -> int:
    """``predict RUN --images DIR``."""
    if {"-h", "--help"} & set(arguments):
        arguments = ["--help"]  # --images needs a value otherwise
    elif not _places(arguments):
        raise UsageError(
            "the network is missing: predict RUN --images DIR, where RUN is a run folder of fit, a checkpoint or what export "
            "wrote (--out is the folder for the predictions)"
        )
    return predict_images(CommandParser(predict_images, f"{prog} --images DIR").parse(arguments))


def _train(command: str, arguments: Sequence[str], prog: str) -> int:
    arguments = with_image_folder(_with_config(command, list(arguments)))
    check_given(command, arguments)  # before what takes seconds to import

    from vkdnw_pl.callbacks.finite_loss import NonFiniteLoss
    from vkdnw_pl.tracking.lightning import training_runs
    from vkdnw_pl.training.cli import TrainingCLI
    from vkdnw_pl.training.fit import ExitCode

    for name in ("pytorch_lightning", "lightning_fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)  # what a user should know of it, we say in one line
    for text in _TAKEN_CARE_OF:
        warnings.filterwarnings("ignore", text)
    before, sys.argv = sys.argv, [prog.rpartition(" ")[0], command, *arguments]
    try:
        with training_runs():
            TrainingCLI(command, prog)
    except (FolderBusy, NonFiniteLoss) as error:
        raise CommandFailed(str(error)) from error
    except ExitCode as ended:
        return ended.exit_code
    finally:
        sys.argv = before
    return 0


def training_config(command: str, arguments: Sequence[str], prog: str) -> dict[str, Any]:
    """All options of a training, as its own parser reads them."""
    if command == "predict" and _values(arguments, "--images"):
        raise UsageError("--images is not for --launch: put this command into a script of your own")
    print("checking the options ...", flush=True)
    if "--print_config" in arguments:
        _train(command, arguments, prog)
    text = io.StringIO()
    try:
        with redirect_stdout(text):
            _train(command, [*arguments, "--print_config"], prog)
    except SystemExit as end:
        if end.code not in (None, 0):
            raise
    return yaml.safe_load(text.getvalue())


def _with_config(command: str, arguments: list[str]) -> list[str]:
    """``test RUN``, like ``test --out RUN``, means the network and the data of that run."""
    if command == "fit":
        return arguments
    out, configs = _values(arguments, "--out"), _values(arguments, "-c", "--config")
    if places := _places(arguments):
        run = arguments[places[0]]
        if len(places) > 1:
            raise UsageError(f"{command} takes one run folder, not {run!r} and {arguments[places[1]]!r}")
        folder = _trained_folder(command, run)
        if any(Path(value).expanduser().resolve() != folder.path.resolve() for value in out):
            raise UsageError(f"out={out[0]!r} is not allowed beside {run!r}, which is the run folder; leave out one")
        arguments = ["--out", str(folder.path), *arguments[: places[0]], *arguments[places[0] + 1 :]]
    elif out and not configs:
        folder = TrainingFolder(out[-1])
    else:
        return arguments
    config = folder.config
    if not config.is_file() or any(Path(value).expanduser().resolve() == config.resolve() for value in configs):
        return arguments
    with user_input():
        options = read_yaml(config)
    if foreign := _foreign_code(options):
        raise UsageError(
            f"{config} names {foreign}, whose code is not run because a run folder names it: if you trust it, give the "
            f"file yourself: --config {config}"
        )
    return ["--config", str(config), *arguments]


def _trained_folder(command: str, run: str) -> TrainingFolder:
    """The run folder of ``fit`` that a user names; a ``UsageError`` says what it is instead."""
    folder = TrainingFolder(run)
    what = f"{command} {run}:"
    if not folder.path.is_dir():
        state = "is a file" if folder.path.exists() else "does not exist"
        raise UsageError(f"{what} it {state}; give the run folder of fit (of a checkpoint in it: --ckpt_path FILE)")
    with user_input():
        if folder.earlier_meta() is None or not folder.config.is_file():
            more = "; with --images DIR also a checkpoint, or what export wrote, is allowed" * (command == "predict")
            raise ValueError(f"{what} it is no run folder of fit, which has meta.json and config.yaml{more}")
    return folder


def _places(arguments: Sequence[str]) -> list[int]:
    """Where arguments stand that are neither options nor values of them."""
    before = ["", *arguments]
    return [
        i
        for i, argument in enumerate(arguments)
        if not argument.startswith("-") and (not before[i].startswith("-") or "=" in before[i])
    ]


def _values(arguments: Sequence[str], *flags: str) -> list[str]:
    """Values of an option, which stand behind it or behind its ``=``."""
    values = []
    for argument, after in zip(arguments, [*arguments[1:], ""], strict=True):
        flag, equals, value = argument.partition("=")
        if flag in flags:
            values.append(value if equals else after)
    return values


def _foreign_code(options: Any, key: str = "") -> str:
    """A class of another package that options name, if there is one."""
    parts: list[tuple[Any, str]] = []
    if isinstance(options, Mapping):
        parts = [(part, key if (key, name) == ("proxies", "name") else str(name)) for name, part in options.items()]
    elif isinstance(options, list):
        parts = [(part, key) for part in options]
    elif isinstance(options, str) and key in ("class_path", "space", "proxies") and "." in options:
        return "" if options.partition(".")[0] in _OUR_PACKAGES else options
    return next(filter(None, (_foreign_code(*part) for part in parts)), "")
