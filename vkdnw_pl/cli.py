"""The command line: finds the command that was asked for, and builds the parser of that one only.

A command is a plain typed function; its signature gives the options, its docstring the help.
"""

from __future__ import annotations

import importlib
import io
import os
import sys
import warnings
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from typing import Any

from vkdnw_pl._version import __version__

PROG = "python -m vkdnw_pl"

COMMANDS = {
    "score": "Score architectures without training them, rank them, and compare with known accuracies.",
    "evaluate": "Rank architectures by scores that exist, and compare with known accuracies.",
    "search": "Search a space for the network that ranks best under a budget, without training any.",
    "fit": "Train a network: of a search space, found by a search, or of timm.",
    "validate": "Evaluate a trained network on the validation images.",
    "test": "Evaluate a trained network on the test images.",
    "predict": "Write a trained network's predictions.",
    "merge": "Join the shards of a scoring run into one score table, and evaluate it.",
    "status": "Show what became of the jobs of a launch, follow them, and submit again what failed.",
    "report": "Compare runs on one HTML page, in Markdown, or in a report on Weights & Biases.",
    "export": "Write a trained network as a state dict with its architecture, as safetensors, or as ONNX.",
    "download": "Fetch and verify public accuracy tables.",
}
"""Name -> first line of the function's docstring, so that --help imports nothing."""

TRAINING = ("fit", "validate", "test", "predict")
"""Commands that are LightningCLI's."""
_LAUNCH_OPTIONS_OF = {"search": ("nodes",)}
"""Options of a command that are named like one of --launch."""

OK, FAILED, USAGE, INTERRUPTED = 0, 1, 2, 130


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code: 0 done, 1 failed, 2 wrong usage, 130 after Ctrl-C."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if not sys.warnoptions:  # of the libraries' plans the user need not hear; `python -W default` shows them
        warnings.simplefilter("ignore", FutureWarning)
        warnings.simplefilter("ignore", DeprecationWarning)
    try:
        return _main(arguments)
    except KeyboardInterrupt:
        print("\ninterrupted; the same command continues", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:  # the reader of our output has gone, as in `... | head`
        sys.stderr.close()
        return FAILED


def load_command(name: str) -> Callable[..., int]:
    """Import the function of a command."""
    return getattr(importlib.import_module(f"vkdnw_pl.commands.{name}"), name)


def _main(arguments: list[str]) -> int:
    if not arguments or arguments[0] in ("-h", "--help"):
        print(_help())
        return OK if arguments else USAGE
    name, *rest = arguments
    if name == "--version":
        print(f"vkdnw_pl {__version__}")
        return OK
    if name not in COMMANDS:
        kind = "option" if name.startswith("-") else "command"
        from vkdnw_pl.errors import unknown

        known = ["--help", "--version"] if kind == "option" else list(COMMANDS)
        return _refuse(PROG, unknown(kind, name, known))
    if (code := _launch(name, rest)) is not None:
        return code
    return _train(name, rest) if name in TRAINING else _run(name, rest)


def _launch(name: str, arguments: list[str]) -> int | None:
    """Submit the command to a cluster, if it is asked for."""
    from vkdnw_pl.cluster.launch import is_launch, launch
    from vkdnw_pl.cluster.options import LaunchOptions
    from vkdnw_pl.cluster.plan import LaunchPlan, check_for_command
    from vkdnw_pl.errors import UsageError

    prog = f"{PROG} {name}"
    try:
        if not is_launch(name, arguments, _LAUNCH_OPTIONS_OF.get(name, ())):
            return None
    except UsageError as error:
        return _refuse(prog, str(error))

    def plan(command_arguments: list[str], launch_options: LaunchOptions) -> LaunchPlan:
        check_for_command(launch_options, name)
        if name in TRAINING:
            from vkdnw_pl.cluster.plan_training import plan_training

            return plan_training(
                name, _training_config(name, command_arguments, prog), command_arguments, launch_options
            )
        from vkdnw_pl.commands.launch_plan import plan_command

        return plan_command(name, command_arguments, launch_options, prog)

    return _guarded(prog, lambda: launch(name, arguments, prog, plan))


def _training_config(command: str, arguments: list[str], prog: str) -> dict[str, Any]:
    """All options of a training, as its own parser reads them.

    Raises:
        UsageError: for what is not allowed.
        SystemExit: after --print_config.
    """
    import yaml

    print("checking the options ...", flush=True)
    from vkdnw_pl.commands.train import train

    if "--print_config" in arguments:
        train(command, arguments, prog)
    text = io.StringIO()
    try:
        with redirect_stdout(text):
            train(command, [*arguments, "--print_config"], prog)
    except SystemExit as end:
        if end.code not in (None, 0):
            raise
    return yaml.safe_load(text.getvalue())


def _train(name: str, arguments: list[str]) -> int:
    prog = f"{PROG} {name}"
    if not arguments or any(argument in ("-h", "--help") for argument in arguments):
        from vkdnw_pl.commands.train_help import train_help

        print(train_help(name, prog))
        return OK if arguments else USAGE
    # Before torch is there: threads that wait spinning made a small network three times slower beside other programs.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    everything = ["--help" if argument == "--help=all" else argument for argument in arguments]
    if name == "fit":
        return _fit(everything, prog)
    from vkdnw_pl.commands.train import train

    return _guarded(prog, lambda: train(name, everything, prog))


def _fit(arguments: list[str], prog: str) -> int:
    """``fit``, with its answer to signals from before the libraries are imported, which may take a minute."""
    from vkdnw_pl.runs.signals import Stopped
    from vkdnw_pl.training.signals import SIGNALS

    try:
        with SIGNALS.taken():
            from vkdnw_pl.commands.train import train

            return _guarded(prog, lambda: train("fit", arguments, prog))
    except Stopped as stop:
        print(f"\nstopped by {stop.name}; the same command continues", file=sys.stderr)
        return 128 + stop.signum


def _run(name: str, arguments: list[str]) -> int:
    from vkdnw_pl.errors import UsageError
    from vkdnw_pl.option_parser import make_parser

    prog = f"{PROG} {name}"
    command = load_command(name)
    from vkdnw_pl.cluster.plan import LAUNCHED

    note = (
        f"As jobs of a cluster: {prog} ... --launch slurm; its options: {prog} --launch --help"
        if name in LAUNCHED
        else ""
    )
    parser = make_parser(command, prog, note)
    try:
        options = parser.parse(arguments)
    except UsageError as error:
        return _refuse(prog, str(error))
    except SystemExit as done:  # --help and --print_config
        return int(done.code or OK)
    return _guarded(prog, lambda: command(**options) if isinstance(options, dict) else command(options))


def _guarded(prog: str, work: Callable[[], int]) -> int:
    """Exit code of ``work``; what goes wrong for a known reason is said without a traceback."""
    from vkdnw_pl.errors import CommandFailed, UsageError

    try:
        return work()
    except UsageError as error:
        return _refuse(prog, str(error))
    except SystemExit as done:  # --help and --print_config
        return int(done.code or OK)
    except BrokenPipeError:
        raise
    except (CommandFailed, OSError) as error:
        print(f"{prog}: {error}", file=sys.stderr)
        return FAILED


def _refuse(prog: str, text: str) -> int:
    print(f"{prog}: error: {text}\nsee {prog} --help", file=sys.stderr)
    return USAGE


def _help() -> str:
    width = max(map(len, COMMANDS))
    lines = [
        f"usage: {PROG} COMMAND [OPTIONS]",
        "",
        "Training-free neural architecture search with VKDNW and its companion proxies.",
        "",
        "commands:",
        *(f"  {name.ljust(width)}  {summary}" for name, summary in COMMANDS.items()),
        "",
        f"options of a command:  {PROG} COMMAND --help",
        f"version:               {PROG} --version",
        f"to begin:              {PROG} score --config configs/nb201.yaml",
    ]
    return "\n".join(lines)
