"""The command line: a command is a function of one dataclass, its options; its docstring is the help."""

from __future__ import annotations

import importlib
import sys
import warnings
from collections.abc import Callable, Sequence
from typing import Any

from vkdnw_pl._version import __version__
from vkdnw_pl.errors import CommandFailed, UsageError, program, unknown
from vkdnw_pl.runs.shipped import with_configs_first, with_shipped_configs

COMMANDS = {
    "score": "Score architectures without training them, rank them, and compare with known accuracies.",
    "evaluate": "Rank architectures by scores that exist, and compare with known accuracies.",
    "search": "Search a space for the network that ranks best under a budget, without training any.",
    "label": "Train several networks with one recipe, and make an accuracy table of them.",
    "fit": "Train a network: of a search space, found by a search, or of timm.",
    "validate": "Evaluate a trained network on the validation images.",
    "test": "Evaluate a trained network on the test images.",
    "predict": "Write a trained network's predictions, for the test images or for pictures of your own.",
    "merge": "Join the shards of a scoring run into one score table, and evaluate it; or those of an accuracy table.",
    "status": "Show what became of the jobs of a launch, follow them, and submit again what failed.",
    "report": "Compare runs on one HTML page, in Markdown, or in a report on Weights & Biases.",
    "export": "Write a trained network as a state dict with its architecture, as safetensors, or as ONNX.",
    "download": "Fetch and verify public accuracy tables.",
}
"""Name -> first line of the function's docstring, so that --help imports nothing."""


_MOST = 2400
OK, FAILED, USAGE, INTERRUPTED = 0, 1, 2, 130


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code: 0 done, 1 failed, 2 wrong usage, 130 after Ctrl-C."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if not sys.warnoptions:  # of the libraries' plans the user need not hear; `python -W default` shows them
        warnings.simplefilter("ignore", FutureWarning)
        warnings.simplefilter("ignore", DeprecationWarning)
    name = arguments[0] if arguments else "--help"
    prog = f"{program()} {name}" if name in COMMANDS else program()
    try:
        if name in COMMANDS:
            return _launch_or_run(name, with_configs_first(with_shipped_configs(arguments[1:])), prog)
        if name in ("-h", "--help"):
            print(_help())
            return OK if arguments else USAGE
        if name == "--version":
            print(f"vkdnw_pl {__version__}")
            return OK
        is_option = name.startswith("-")
        names = ["--help", "--version"] if is_option else list(COMMANDS)
        raise UsageError(unknown("option" if is_option else "command", name, names))
    except UsageError as error:
        print(f"{prog}: error: {_short(error)}\nsee {prog} --help", file=sys.stderr)
        return USAGE
    except SystemExit as end:  # --help and --print_config
        return int(end.code or OK)
    except KeyboardInterrupt:
        print("\ninterrupted; the same command continues", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:  # the reader of our output has gone, as in `... | head`
        sys.stderr.close()
        return FAILED
    except RuntimeError as error:
        if "home directory" not in str(error):  # of ~nobody, wherever a path is expanded
            raise
        print(f"{prog}: error: {_short(error)}", file=sys.stderr)
        return USAGE
    except (CommandFailed, OSError) as error:
        print(f"{prog}: {_short(error)}", file=sys.stderr)
        return FAILED


def load_command(name: str) -> Callable[..., int]:
    """Import the function of a command."""
    return getattr(importlib.import_module(f"vkdnw_pl.commands.{name}"), name)


def _launch_or_run(name: str, arguments: list[str], prog: str) -> int:
    from vkdnw_pl.cluster.options import TRAINING, is_launch

    if is_launch(name, arguments):
        from vkdnw_pl.cluster.launch import launch

        return launch(name, arguments, prog, lambda rest: _parse(name, rest, prog))
    if name in TRAINING:
        from vkdnw_pl.commands.train import training_command

        return training_command(name, arguments, prog)
    return load_command(name)(_parse(name, arguments, prog))


def _parse(name: str, arguments: list[str], prog: str) -> Any:
    """All options of a command."""
    from vkdnw_pl.cluster.options import LAUNCHED, TRAINING
    from vkdnw_pl.option_parser import CommandParser

    if name in TRAINING:
        from vkdnw_pl.commands.train import training_config

        return training_config(name, arguments, prog)
    note = f"As jobs of a cluster: {prog} ... --launch slurm\nIts options: {prog} --launch --help"
    if name == "label":
        from vkdnw_pl.commands.label import label_options

        return label_options(arguments, prog, note)
    return CommandParser(load_command(name), prog, note if name in LAUNCHED else "").parse(arguments)


def _short(error: Exception) -> str:
    """What it says, without the middle of a text that fills the screen, such as an option of 100,000 characters."""
    text = str(error)
    return text if len(text) <= _MOST else f"{text[: _MOST // 2]} ... {text[-_MOST // 2 :]}"


def _help() -> str:
    width = max(map(len, COMMANDS))
    commands = "\n".join(f"  {name.ljust(width)}  {summary}" for name, summary in COMMANDS.items())
    prog = program()
    return f"""usage: {prog} COMMAND [OPTIONS]

Training-free neural architecture search with VKDNW and its companion proxies.

commands:
{commands}

options of a command:  {prog} COMMAND --help
version:               {prog} --version
to begin:              {prog} score --config configs/nb201.yaml"""
