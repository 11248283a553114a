"""Which options a training has, read from the sources without importing torch, and the refusal of others in a second.

`option_errors` words what only the parser itself can find; a test holds these names against the parser's.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import yaml

import vkdnw_pl
from vkdnw_pl.data import DATA_MODULES
from vkdnw_pl.errors import UsageError, unknown, user_input
from vkdnw_pl.option_parser import check_plain, describe_options
from vkdnw_pl.options import WandbOptions

NOT_OF_USER = {
    *("model", "datamodule", "dataloaders", "train_dataloaders", "val_dataloaders", "weights_only", "verbose"),
    "return_predictions",
}
"""Parameters of the trainer's methods that are no options."""
_LINKED = {
    "model.num_classes": "the data module",
    "model.input_size": "the data module (model.student_size resizes the images for the network)",
    "model.seed": "seed_everything",
    "data.seed": "seed_everything",
    "data.init_args.seed": "seed_everything",
}
_PACKAGE = Path(vkdnw_pl.__file__).parent
_GROUPS = ("trainer", "model", "model.optimizer", "model.schedule")
"""Options whose parts are all known here."""
_DATA = "vkdnw_pl.data."


def check_given(command: str, arguments: Sequence[str]) -> None:
    """Refuse on the command line, and in the files that it names, what is no option, and what LightningCLI would leave out
    or replace silently."""
    with user_input():
        check_plain(arguments)
    known = known_options(command)
    groups = sorted({name.partition(".")[0] for name in known} - {"config", "print_config"})
    if command == "predict":
        known.append("images")  # with which the command has another parser
    data_class = ""
    for argument, follower in zip(arguments, [*arguments[1:], ""], strict=True):
        flag, _, value = argument.partition("=")
        value = value or follower
        dashes = ""
        if flag in ("-c", "--config"):
            names = list(_names_in(value))
            for name in names:
                if name.partition(".")[0] not in groups:
                    raise UsageError(unknown("option", name, groups))
        elif argument.startswith("--"):
            dashes, names = "--", [flag[2:].removesuffix("+")]
            if flag in ("--model", "--data"):  # a mapping, or a file that holds one
                names += [f"{flag[2:]}.{name}" for name in _names_in(value)]
        else:
            continue
        data_class = _data_class(flag, value, data_class)
        for name in names:
            if name in _LINKED:
                raise UsageError(f"{name} comes from {_LINKED[name]}; leave it out")
            _check_known(name, known, data_class, dashes)


def known_options(command: str) -> list[str]:
    """Dotted names of all options of ``fit``, ``validate``, ``test`` or ``predict``; those of classes that a user names, as
    of data modules and callbacks, stand as one."""
    trainer = Path(find_spec("pytorch_lightning").origin or "").with_name("trainer") / "trainer.py"  # type: ignore[union-attr]
    names = ["config", "print_config", "seed_everything", "data", "trainer", "model"]
    names += [f"trainer.{name}" for name in _parameters(trainer, "Trainer")]
    for name, kind in _parameters(_PACKAGE / "training" / "module.py", "TrainingModule").items():
        names.append(f"model.{name}")
        if f"model.{name}" in _GROUPS:
            names += [f"model.{name}.{part}" for part in _parameters(_PACKAGE / "training" / "optimizer.py", kind)]
    names += [option.name for option in describe_options(WandbOptions)]
    names += [name for name in _parameters(trainer, "Trainer", command) if name not in NOT_OF_USER]
    for node in ast.walk(_class(_PACKAGE / "training" / "cli.py", "TrainingCLI")):
        if isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "add_argument" and node.args:
            flag = getattr(node.args[0], "value", "")
            names += [flag[2:]] if isinstance(flag, str) and flag.startswith("--") else []
    return names


def data_arguments(name: str, path: Path | None = None) -> list[str]:
    """Constructor arguments of a data module of this package, also those that it passes on to its parents.

    ``path`` is the source that the class stands in, where that is not the one that `DATA_MODULES` names.
    """
    path = path or _PACKAGE / "data" / f"{DATA_MODULES.get(name, 'base')}.py"
    cls = _class(path, name)
    init = next((node for node in cls.body if isinstance(node, ast.FunctionDef) and node.name == "__init__"), None)
    names = list(_parameters(path, name)) if init else []
    if init is None or init.args.kwarg:
        for base in cls.bases:
            parent = base.id if isinstance(base, ast.Name) else ""
            if any(isinstance(node, ast.ClassDef) and node.name == parent for node in _tree(path).body):
                names += data_arguments(parent, path)
            elif parent in (*DATA_MODULES, "ImageDataModule"):
                names += data_arguments(parent)
    return list(dict.fromkeys(names))


def _check_known(name: str, known: Sequence[str], data_class: str, dashes: str) -> None:
    """Refuse a dotted name that is none of the options, nor of what one of them may hold."""
    parent, _, last = name.rpartition(".")
    if parent == "data" or name.startswith("data.init_args."):
        argument = name.removeprefix("data.").removeprefix("init_args.").partition(".")[0]
        allowed = data_arguments(data_class) if data_class else []
        if data_class and argument not in (*allowed, "class_path", "init_args", "help"):
            raise UsageError(unknown(f"option of {data_class}", argument, allowed))
        return
    if name in known or last == "help" or (name == "help" and dashes):
        return
    if any(name.startswith(f"{option}.") and option not in _GROUPS for option in known):
        return  # a part of an option whose value the parser knows
    raise UsageError(unknown("option", f"{dashes}{name}", [f"{dashes}{option}" for option in known]))


def _data_class(flag: str, value: str, before: str) -> str:
    """The data module of this package that an argument chooses; the one before where it chooses none, empty for others."""
    if flag in ("-c", "--config"):
        content = _content(value)
        data = content.get("data") if isinstance(content, dict) else None
    elif flag in ("--data", "--data.class_path"):
        data = _content(value) if value.lstrip().startswith("{") else value
    else:
        return before
    path = data.get("class_path") if isinstance(data, dict) else data
    if path is None:
        return before
    name = str(path).removeprefix(_DATA).rpartition(".")[2] if str(path).startswith(_DATA) else str(path)
    return name if name in DATA_MODULES else ""


def _names_in(path: str) -> Iterator[str]:
    """Dotted names of all in a config file or a mapping written out; none where it cannot be read, as the parser will say."""

    def walk(tree: Any, prefix: str) -> Iterator[str]:
        for key, value in tree.items():
            yield f"{prefix}{key}"
            if isinstance(value, dict):
                yield from walk(value, f"{prefix}{key}.")

    content = _content(path)
    return walk(content, "") if isinstance(content, dict) else iter(())


def _content(path: str) -> Any:
    """Of a YAML file, or of a mapping written out; None where it cannot be read."""
    try:
        text = path if path.lstrip().startswith("{") else Path(path).expanduser().read_text(encoding="utf-8")
        return yaml.safe_load(text)
    except (OSError, ValueError, yaml.YAMLError):
        return None


@cache
def _tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def _class(path: Path, name: str) -> ast.ClassDef:
    return next(node for node in _tree(path).body if isinstance(node, ast.ClassDef) and node.name == name)


def _parameters(path: Path, name: str, method: str = "__init__") -> dict[str, str]:
    """Parameters of a class's method, or the fields of a dataclass, with their types as written."""
    body = _class(path, name).body
    for node in body:
        if isinstance(node, ast.FunctionDef) and node.name == method:
            arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs][1:]
            return {item.arg: ast.unparse(item.annotation) if item.annotation else "" for item in arguments}
    return {
        node.target.id: ast.unparse(node.annotation)
        for node in body
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)
    }
