"""LightningCLI's messages about wrong options, in one line that names what is allowed."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from pydoc import locate
from typing import Any

import yaml
from jsonargparse import ArgumentParser
from pytorch_lightning import Callback, LightningDataModule
from pytorch_lightning.loggers import Logger

from vkdnw_pl.errors import UsageError, unknown, user_input
from vkdnw_pl.option_parser import check_plain

_CLASSES = {"data": LightningDataModule, "trainer.callbacks": Callback, "trainer.logger": Logger}
_WORDS = {"int": "a whole number", "float": "a number", "str": "a text", "bool": "true or false", "NoneType": "null"}


_LINKED = {
    "model.num_classes": "the data module",
    "model.input_size": "the data module (model.student_size resizes the images for the network)",
    "model.seed": "seed_everything",
    "data.seed": "seed_everything",
    "data.init_args.seed": "seed_everything",
}


def check_given(arguments: Sequence[str], parser: ArgumentParser) -> None:
    """Refuse on the command line, and in the files that it names, what LightningCLI would leave out or replace silently."""
    with user_input():
        check_plain(arguments)
    groups = sorted({name.partition(".")[0] for name in _options(parser)} - {"config", "print_config"})
    for argument, follower in zip(arguments, [*arguments[1:], ""], strict=True):
        flag, _, value = argument.partition("=")
        if flag in ("-c", "--config"):
            names = _names_in(value or follower)
            for name in names:
                if name.partition(".")[0] not in groups:
                    raise UsageError(unknown("option", name, groups))
        elif argument.startswith("--"):
            names = [flag[2:]]
            if flag in ("--model", "--data"):  # a mapping, or a file that holds one
                names += [f"{flag[2:]}.{name}" for name in _names_in(value or follower)]
        else:
            continue
        for name in names:
            if name in _LINKED:
                raise UsageError(f"{name} comes from {_LINKED[name]}; leave it out")


def readable(message: str, parser: ArgumentParser, others: Sequence[str] = ()) -> str:
    """The message of the parser's ``ArgumentError`` in one line; ``others`` are flags that the parser does not know of."""
    text = " ".join(message.split())
    if match := re.search(r"unrecognized arguments: (--\S+)", text):
        name = match[1].partition("=")[0]
        return unknown("option", name, [*(f"--{key}" for key in _options(parser)), *others])
    if match := re.search(r"does not accept option '([\w.]+)'", text):
        return unknown("option", match[1], _options(parser))
    if match := re.search(r"given class_path '([\w.]+)': Option '([\w.]+)' is not accepted", text):
        return unknown(f"option of {match[1].rpartition('.')[2]}", match[2], class_arguments(match[1]))
    key = re.search(r'Parser key "([\w.]+)"', text)
    if key and (missing := _missing(text)):
        cls, argument = missing
        return f"{key[1]}.{argument} is missing: {cls} needs it"
    name = re.search(r"Expected a dot import path string: (\S+)", text)
    if key and name and key[1] in _CLASSES:
        path = " (no folder is called so either)" if key[1] == "data" else ""
        return f"{key[1]}: " + unknown("class", name[1], _names(_CLASSES[key[1]])) + path
    if key and (
        failed := re.search(r"given class_path '([\w.]+)': (module \S+ has no attribute \S+|No module named \S+)", text)
    ):
        return f"{key[1]}={failed[1]} cannot be imported: {failed[2]}"
    value = re.search(r"(?:Got value|Given value): (.*)$", text)
    if key and value and (other := re.search(r"Import path does not correspond to a subclass of (\w+)", text)):
        return f"{key[1]}={value[1]} is not allowed: it is no {other[1]}"
    if key and value and (allowed := _allowed(text)):
        return f"{key[1]}={value[1]} is not allowed: it takes {allowed}"
    return text


def _names_in(path: str) -> list[str]:
    """Dotted names of all in a config file or a mapping written out; none where it cannot be read, as the parser will say."""
    try:
        text = path if path.lstrip().startswith("{") else Path(path).expanduser().read_text(encoding="utf-8")
        content = yaml.safe_load(text)
    except (OSError, ValueError, yaml.YAMLError):
        return []

    def walk(tree: Any, prefix: str) -> Iterator[str]:
        for key, value in tree.items():
            yield f"{prefix}{key}"
            if isinstance(value, dict):
                yield from walk(value, f"{prefix}{key}.")

    return list(walk(content, "")) if isinstance(content, dict) else []


def _missing(text: str) -> tuple[str, str] | None:
    """Class and name of an argument that has no default and was not given."""
    for path, init_args in re.findall(r"class_path='([\w.]+)', init_args=Namespace\((.*?)\)", text):
        cls: Any = locate(path)
        for item in inspect.signature(cls).parameters.values():
            named = item.kind in (item.POSITIONAL_OR_KEYWORD, item.KEYWORD_ONLY)
            if named and item.default is item.empty and re.search(rf"\b{item.name}=None", init_args):
                return cls.__name__, item.name
    return None


def _options(parser: ArgumentParser) -> list[str]:
    return [action.dest for action in parser._actions if action.option_strings and action.dest != "help"]


def class_arguments(class_path: str) -> list[str]:
    """Constructor arguments of a class, also those that it passes on to its parents."""
    parser = ArgumentParser()
    cls: Any = locate(class_path)
    parser.add_class_arguments(cls, "it")
    return [key.removeprefix("it.") for key in _options(parser) if key.startswith("it.")]


def _names(base: type) -> list[str]:
    """Short names that may stand for a class: those of all imported subclasses."""
    names: set[str] = set()
    left: list[type[Any]] = [base]
    while left:
        for cls in type.__subclasses__(left.pop()):
            left.append(cls)
            if not cls.__name__.startswith("_"):
                names.add(cls.__name__)
    return sorted(names)


def _allowed(text: str) -> str:
    choices: list[str] = []
    for literal in re.findall(r"Literal\[([^\]]*)\]", text):
        choices += [choice.strip().strip("'") for choice in literal.split(",")]
    if not choices:
        choices = [_WORDS[kind] for kind in re.findall(r"Expected a <class '(\w+)'>", text) if kind in _WORDS]
    return " or ".join(dict.fromkeys(choices))
