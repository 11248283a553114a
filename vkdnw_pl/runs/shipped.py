"""Files that come with the toolkit beside its code: configurations, batch scripts, the paper's score tables."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import metadata
from pathlib import Path, PurePosixPath

import vkdnw_pl
from vkdnw_pl.errors import UsageError, nearest

_AROUND = Path(vkdnw_pl.__file__).resolve().parents[1]
"""The folder that the package lies in: a checkout, or site-packages."""
_INSTALLED = ("share", "vkdnw_pl")
_CONFIG = ("-c", "--config")


def shipped_file(name: str) -> Path | None:
    """Where a file such as ``slurm/common.sh`` lies: in the checkout of an editable installation, else where pip put it."""
    parts = PurePosixPath(name).parts
    if name.startswith("/") or ".." in parts:
        return None
    if (_AROUND / "pyproject.toml").is_file():
        file = _AROUND / name
        return file if file.is_file() else None
    return next((file for place, file in _installed_files() if place == parts and file.is_file()), None)


def shipped_configs() -> list[str]:
    """Names of the configurations, such as ``nb201`` and ``paper/table1``."""
    if (_AROUND / "pyproject.toml").is_file():
        files = [file.relative_to(_AROUND / "configs") for file in (_AROUND / "configs").rglob("*.yaml")]
    else:
        files = [Path(*place[1:]) for place, _ in _installed_files() if place[0] == "configs"]
    return sorted(file.with_suffix("").as_posix() for file in files if file.suffix == ".yaml")


def local_or_shipped(path: str) -> str:
    """The path itself where it leads to something, or where nothing of its name is shipped; else the shipped file."""
    return path if Path(path).expanduser().exists() else str(shipped_file(path) or path)


def with_shipped_configs(arguments: Sequence[str]) -> list[str]:
    """Arguments of a command, in which ``--config nb201`` and ``--config configs/nb201.yaml`` name the shipped file.

    A file of that name in the working folder wins.

    Raises:
        UsageError: if there is neither, with the nearest name.
    """
    found = list(arguments)
    for i, argument in enumerate(arguments):
        flag, equals, value = argument.partition("=")
        if flag not in _CONFIG:
            continue
        if equals:
            found[i] = f"{flag}={_config(value)}"
        elif i + 1 < len(found) and not found[i + 1].startswith("-"):
            found[i + 1] = _config(found[i + 1])
    return found


def with_configs_first(arguments: Sequence[str]) -> list[str]:
    """Arguments of a command with every ``--config FILE`` before the other options, whose values win wherever they stand."""
    start = next((i for i, argument in enumerate(arguments) if argument.startswith("-")), len(arguments))
    configs: list[str] = []
    others: list[str] = []
    rest = iter(arguments[start:])
    for argument in rest:
        into = configs if argument.partition("=")[0] in _CONFIG else others
        into.append(argument)
        if argument in _CONFIG:
            into += [value for value in [next(rest, None)] if value is not None]
    return [*arguments[:start], *configs, *others]


def _config(name: str) -> str:
    if not name or any(sign in name for sign in "{}:\n") or Path(name).expanduser().exists():
        return name
    short = name.removeprefix("configs/").removesuffix(".yaml")
    names = shipped_configs()
    if short in names and (file := shipped_file(f"configs/{short}.yaml")):
        return str(file)
    hint = nearest(short, names) or f"; shipped are {', '.join(names)}"
    raise UsageError(f"config file {name!r} does not exist{hint}")


def _installed_files() -> list[tuple[tuple[str, ...], Path]]:
    """(parts of the name below ``share/vkdnw_pl``, place on disk) of what the wheel put beside the code."""
    try:
        files = metadata.files("vkdnw_pl") or []
    except metadata.PackageNotFoundError:
        return []
    found = []
    for file in files:
        for i in range(len(file.parts) - 2):
            if file.parts[i : i + 2] == _INSTALLED:
                place = Path(str(file.locate())).resolve()
                # After `pip install --target` the record of files is wrong: they lie beside the package.
                found.append((file.parts[i + 2 :], place if place.is_file() else _AROUND.joinpath(*file.parts[i:])))
    return found
