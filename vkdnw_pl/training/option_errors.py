"""LightningCLI's messages about wrong options, in one line that names what is allowed."""

from __future__ import annotations

import inspect
import re
from pydoc import locate
from typing import Any

from jsonargparse import ArgumentParser
from pytorch_lightning import Callback, LightningDataModule
from pytorch_lightning.loggers import Logger

from vkdnw_pl.errors import unknown

_CLASSES = {"data": LightningDataModule, "trainer.callbacks": Callback, "trainer.logger": Logger}
_NEXT_TRY = "(?:Import path|Expected a|Does not validate|Problem with)"
_WORDS = {"int": "a whole number", "float": "a number", "str": "a text", "bool": "true or false", "NoneType": "null"}


def readable(message: str, parser: ArgumentParser) -> str:
    """The message of the parser's ``ArgumentError`` in one line."""
    text = " ".join(message.split())
    if match := re.search(r"unrecognized arguments: (--\S+)", text):
        name = match[1].partition("=")[0]
        return unknown("option", name, [f"--{key}" for key in _options(parser)])
    if match := re.search(r"does not accept option '([\w.]+)'", text):
        return unknown("option", match[1], _options(parser))
    if match := re.search(r"given class_path '([\w.]+)': Option '([\w.]+)' is not accepted", text):
        if match[1] == "pytorch_lightning.LightningDataModule":
            return (
                f"data has {match[2]!r} and no class_path: give a folder of images, a CSV file, or the name of a data module; a "
                "file with all options is given with --config"
            )
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
    if key and (option := re.search(r"given class_path '[\w.]+': Parser key \"([\w.]+)\": (.*)", text)):
        # What was tried for the class's place stands behind the message about its option.
        value = re.search(rf"(?:Got value|Given value): (.*?)(?= - {_NEXT_TRY}|$)", option[2])
        if value and (allowed := _allowed(option[2][: value.start()])):
            return f"{key[1]}.{option[1]}={value[1]} is not allowed: it takes {allowed}"
    value = re.search(r"(?:Got value|Given value): (.*)$", text)
    if key and value and (other := re.search(r"Import path does not correspond to a subclass of (\w+)", text)):
        return f"{key[1]}={value[1]} is not allowed: it is no {other[1]}"
    if key and value and (allowed := _allowed(text)):
        return f"{key[1]}={value[1]} is not allowed: it takes {allowed}"
    return text


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
