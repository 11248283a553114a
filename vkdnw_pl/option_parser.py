"""Makes a command's parser: from the dataclass of its options, whose field texts are the help."""

from __future__ import annotations

import re
import shutil
import types
from argparse import SUPPRESS, Action, ArgumentError
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, Field, dataclass, fields, is_dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import docstring_parser
import yaml
from jsonargparse import ActionConfigFile, ArgumentParser, DefaultHelpFormatter
from jsonargparse._loaders_dumpers import get_yaml_default_loader

from vkdnw_pl.errors import UsageError, one_line, unknown, user_input
from vkdnw_pl.runs.documents import check_yaml, parse_yaml, read_base_60_as_text
from vkdnw_pl.runs.files import read_text

read_base_60_as_text(get_yaml_default_loader())  # for every parser of a command: architectures are written so

_MOST = 3000
_OWN_FLAGS = ("-h", "--help", "-c", "--config", "--print_config")


@dataclass(frozen=True)
class Option:
    """One option of a command."""

    name: str
    type: Any
    default: Any
    """``MISSING`` for one that is given by its place."""
    help: str
    group: str
    """Title of the options that it stands among in the help."""
    by_place: bool = False
    """Whether it can be given by its place though it has a default."""


def describe_options(kind: type) -> list[Option]:
    """The options that a dataclass declares: its own first, then those of each group that it inherits from.

    The help is the text under a field, or ``help`` in its metadata where it can only be said when the package runs.

    A field that a subclass declares again, for another default or text, stays in its group.
    """
    types = get_type_hints(kind)
    declared = {item.name: item for item in fields(kind)}
    texts: dict[str, str] = {}
    groups: dict[str, type] = {}
    classes = [base for base in kind.__mro__ if is_dataclass(base)]
    for base in classes:
        own = {item.name: item for item in fields(base) if item.name in base.__annotations__}
        helps = {name: item.metadata["help"] for name, item in own.items() if "help" in item.metadata}
        texts = {**_field_texts(base), **helps, **texts}
        groups |= dict.fromkeys(base.__annotations__, base)
    options = []
    for base in classes:
        title = "" if base is kind else (base.__doc__ or "").partition(".")[0]
        for name in base.__annotations__:
            if name in declared and groups[name] is base:
                by_place = bool(declared[name].metadata.get("by_place"))
                options.append(
                    Option(name, types[name], _default(declared[name]), texts.get(name, ""), title, by_place)
                )
    return options


@cache  # 10 ms for each class, as its whole file is read
def _field_texts(kind: type) -> dict[str, str]:
    """Field -> the text under it, of one class without its parents."""
    described = [item for item in docstring_parser.parse_from_object(kind).params if item.description]
    return {item.arg_name: " ".join((item.description or "").split()) for item in described}


class NarrowTypesFirst:
    """For parsers: where several types are allowed, ``1`` is a whole number, ``1.0`` a number, and the rest text.

    jsonargparse takes the first type that a value fits, in the order in which the union was written somewhere first:
    ``typing`` keeps one union for all orders. Its groups of arguments take `add_argument` over from their parser.
    """

    def add_argument(self, *args: Any, **kwargs: Any) -> Any:
        """As that of the parser."""
        action = super().add_argument(*args, **kwargs)  # type: ignore[misc]
        if hasattr(action, "_typehint"):  # of jsonargparse; the type of a class's argument comes in no other way
            action._typehint = narrow_types_first(action._typehint)
        return action


def narrow_types_first(kind: Any) -> Any:
    """A union with int before float before all else; other types as they are."""
    if get_origin(kind) not in (Union, types.UnionType):
        return kind
    return Union[tuple(sorted(get_args(kind), key=lambda part: {int: 0, float: 1}.get(part, 2)))]  # noqa: UP007


def check_plain(arguments: Sequence[str]) -> None:
    """Refuse options in which a name comes twice, or that are nested or repeated too often, before anything is made of them.

    Of files that are named as values, those that end in ``.yaml`` or ``.yml``, which the parser would read.
    """
    flag = ""
    for argument in arguments:
        before, equals, value = argument.partition("=")
        if before.startswith("-"):
            flag, value = before.strip("-"), value if equals else ""
        else:
            value = argument
        if any(sign in value for sign in "[{&"):
            check_yaml(value, flag)
        if "!!" in value:  # a tag, of which PyYAML makes what it can
            parse_yaml(value, flag)
        elif (flag in ("c", "config") or value.endswith((".yaml", ".yml"))) and Path(value).expanduser().is_file():
            check_yaml(read_text(Path(value).expanduser()), value)


class _Parser(NarrowTypesFirst, ArgumentParser):
    pass


class CommandParser:
    """Parser of one command. Unknown options, on the command line and in files, are errors that name the nearest.

    Args:
        command: function of ``options``, a dataclass, or that dataclass; fields without default are given by their place,
            a list of them takes several; so can be one whose metadata say ``by_place``. Its docstring is the text before the options.
        prog: how the user calls it.
        note: last line of the help.
        config_file: whether options can stand in a file, ``--config``.

    Attributes:
        options: what the command takes.
    """

    def __init__(self, command: Callable[..., Any], prog: str, note: str = "", config_file: bool = True) -> None:
        self._kind: Any = command if isinstance(command, type) else get_type_hints(command)["options"]
        self.options = describe_options(self._kind)
        self._types: dict[str, Any] = {option.name: option.type for option in self.options}
        self._positional = [option.name for option in self.options if option.default is MISSING or option.by_place]
        places = [
            _place(option, self._types[option.name]) for option in self.options if option.name in self._positional
        ]
        self._parser = _Parser(
            prog=prog,
            usage=" ".join([prog, *places, *["[--config FILE]"] * config_file, "[OPTIONS]"]),
            description=_summary(command),
            allow_abbrev=False,
            exit_on_error=False,
            formatter_class=_Help,
            epilog=note or None,
        )
        if config_file:
            self._parser.add_argument(
                "-c",
                "--config",
                action=ActionConfigFile,
                help="YAML file with options; those of the command line replace its values.",
            )
        titles = dict.fromkeys(option.group for option in self.options if option.group)
        groups = {title: self._parser.add_argument_group(title) for title in titles}
        for option in self.options:
            parent = groups.get(option.group, self._parser)
            if option.by_place:
                # Its default would win over a config file, as of every argument that has a place.
                parent.add_argument(option.name, type=option.type, nargs="?", default=SUPPRESS, help=option.help)
            elif option.default is not MISSING:
                parent.add_argument(f"--{option.name}", type=option.type, default=option.default, help=option.help)
            elif get_origin(option.type) is list:
                parent.add_argument(option.name, type=get_args(option.type)[0], nargs="+", help=option.help)
            else:
                parent.add_argument(option.name, type=option.type, help=option.help)

    def parse(self, arguments: Sequence[str]) -> Any:
        """Turn arguments into the command's options; SystemExit after --help and --print_config."""
        arguments = self._with_values([self._with_underscores(argument) for argument in arguments])
        self._check_known(arguments)
        with user_input():
            check_plain(arguments)
        try:
            options = self._parser.parse_args(arguments)
        except ArgumentError as error:
            raise UsageError(self._readable(str(error))) from error
        with user_input():
            return self._kind(**{name: options[name] for name in self._types if name in options})

    def _with_underscores(self, argument: str) -> str:
        """``--batch-size=8`` is ``--batch_size=8``."""
        flag, equals, value = argument.partition("=")
        name = flag[2:].replace("-", "_")
        return f"--{name}{equals}{value}" if flag.startswith("--") and name in self._types else argument

    def _with_values(self, arguments: Sequence[str]) -> list[str]:
        """Write ``--switch`` as ``--switch=true``."""
        written = []
        for argument, after in zip(arguments, [*arguments, "--"][1:], strict=True):
            kind = self._types.get(argument[2:]) if argument.startswith("--") else None
            # evaluate --wandb runs/x: what follows is a run folder, not the name of a project.
            is_folder = bool(self._positional) and str in get_args(kind) and Path(after, "meta.json").is_file()
            bare = bool in (kind, *get_args(kind)) and (after.startswith("-") or is_folder)
            written.append(f"{argument}=true" if bare else argument)
        return written

    def _check_known(self, arguments: Sequence[str]) -> None:
        options = [name for name in self._types if name not in self._positional]
        flags = [*_OWN_FLAGS, *(f"--{name}" for name in options)]
        for i, argument in enumerate(arguments):
            flag = argument.partition("=")[0].removesuffix("+")
            if flag in ("-c", "--config"):
                path = argument.partition("=")[2] or (arguments[i + 1] if i + 1 < len(arguments) else "")
                self._check_file(path, options)
            elif re.match(r"-{1,2}[A-Za-z]", flag) and flag.partition(".")[0] not in flags:
                raise UsageError(unknown("option", flag, flags))

    def _check_file(self, path: str, options: Sequence[str]) -> None:
        if not path:
            return  # a missing argument, which the parser refuses
        file = Path(path).expanduser()
        if not file.is_file():
            raise UsageError(f"config file {path!r} does not exist")
        with user_input():
            content = parse_yaml(read_text(file), f"config file {path}")
        if not isinstance(content, Mapping):
            raise UsageError(f"config file {path!r} must hold 'option: value' lines (options: {', '.join(options)})")
        for key in content:
            if key not in self._types:
                raise UsageError(f"config file {path!r}: {unknown('option', str(key), options)}")

    def _readable(self, message: str) -> str:
        """The parser's message in one line; for a wrong value, what the option takes."""
        named = re.search(r'Parser key "(\w+)', message)
        value = re.findall(r"(?:Got value|Given value): (.*)", message)
        if named and value and named[1] in self._types:
            return f"{named[1]}={one_line(value[-1])} is not allowed: it takes {_in_words(self._types[named[1]])}"
        return one_line(message, _MOST)


class _Help(DefaultHelpFormatter):
    """Help that shows values as they are written in YAML, and leaves out Python's types."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=20, width=min(shutil.get_terminal_size().columns - 2, 118))

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        return "\n".join(super(_Help, self)._fill_text(line, width, indent) for line in text.splitlines())

    def _get_help_string(self, action: Action) -> str:
        if action.option_strings and action.default not in (None, SUPPRESS):
            return f"{action.help} [default: {_in_yaml(action.default)}]"
        return action.help or ""

    def _format_action_invocation(self, action: Action) -> str:
        kind = getattr(action, "_typehint", None)
        if not action.option_strings or kind is None:
            return super()._format_action_invocation(action)
        if kind is bool:
            return f"--{action.dest} {{true,false}}" if action.default else f"--{action.dest}"
        if get_origin(kind) is Literal:
            return f"--{action.dest} {{{','.join(get_args(kind))}}}"
        return f"--{action.dest} {action.dest.upper()}"


def _summary(command: Callable[..., Any]) -> str:
    """Text before the options."""
    parsed = docstring_parser.parse(command.__doc__ or "", docstring_parser.DocstringStyle.GOOGLE)
    parts = [parsed.short_description, parsed.long_description]
    return "\n\n".join(" ".join(part.split()) for part in parts if part)


def _default(item: Field[Any]) -> Any:
    return item.default if item.default_factory is MISSING else item.default_factory()


def _place(option: Option, kind: Any) -> str:
    """How the usage shows an option that is given by its place."""
    name = option.name.upper() + "..." * (get_origin(kind) is list)
    return f"[{name}]" if option.by_place else name


def _in_yaml(value: Any) -> str:
    """A value as the user would write it on the command line, without quotes."""
    text = yaml.safe_dump(value, default_flow_style=True, width=10_000, sort_keys=False)
    return text.removesuffix("...\n").strip()


def _in_words(kind: Any) -> str:
    """A type as the user knows it."""
    words = {int: "a whole number", float: "a number", str: "a text", bool: "true or false", type(None): "null"}
    origin, inner = get_origin(kind), get_args(kind)
    if kind in words:
        return words[kind]
    if origin is Literal:
        return " or ".join(inner)
    if origin is list:
        return f"a list such as '[a, b]' (each item {_in_words(inner[0])})"
    if origin is dict:
        return "options such as '{name: value}'"
    if origin in (Union, types.UnionType):
        return " or ".join(_in_words(member) for member in inner if member is not type(None))
    return str(getattr(kind, "__name__", kind))
