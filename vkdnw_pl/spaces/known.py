"""The spaces by name: those of this package, and a user's own by the dotted name of its class."""

from __future__ import annotations

import importlib

from vkdnw_pl.spaces.base import Space


class KnownSpaces(dict[str, Space]):
    """Name -> space. A dotted name such as ``my_package.my_module.MySpace`` is imported when it is first asked for.

    The name it was asked for by becomes the space's ``name``, so that any other process finds the space by what was
    written down.

    Raises:
        ValueError: on looking for a dotted name that cannot be imported, or is not the class of a space; also by ``in``,
            because the reason is worth more than a no.
    """

    def __missing__(self, name: str) -> Space:
        if "." not in name:
            raise KeyError(name)
        space = _load(name)
        vars(space)["name"] = name
        self[name] = space
        return space

    def __contains__(self, name: object) -> bool:
        known = super().__contains__(name)
        return known or (isinstance(name, str) and "." in name and self[name] is not None)


def _load(name: str) -> Space:
    path, _, attribute = name.rpartition(".")
    try:
        found = getattr(importlib.import_module(path), attribute)
    except ModuleNotFoundError as error:
        # What the module itself fails to import is said as it is.
        if error.name is None or not f"{path}.".startswith(f"{error.name}."):
            raise
        raise ValueError(f"space={name!r} is not known: there is no module {error.name!r} on Python's path") from None
    except AttributeError:
        raise ValueError(f"space={name!r} is not known: the module {path!r} has no {attribute!r}") from None
    except ValueError:  # an empty part, as in '.x'
        raise ValueError(f"space={name!r} is not known: write it like my_package.my_module.MySpace") from None
    if not isinstance(found, type) or not issubclass(found, Space):
        raise ValueError(
            f"space={name!r} is not allowed: it must be a subclass of vkdnw_pl.spaces.Space, not {found!r}"
        )
    try:
        return found()
    except TypeError as error:  # wants arguments, or lacks methods
        raise ValueError(f"space={name!r} cannot be made: {error}") from None
