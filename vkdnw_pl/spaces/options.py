"""Checks of the options of a space's networks, as users give them."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import fields
from typing import Any, TypeVar

T = TypeVar("T")


def read_options(kind: type[T], network: Mapping[str, Any]) -> T:
    """Make the dataclass ``kind`` of user-given options.

    Raises:
        ValueError: naming an unknown option, the nearest and all known ones.
    """
    known = [f.name for f in fields(kind)]  # type: ignore[arg-type]
    for name in network:
        if name not in known:
            near = difflib.get_close_matches(name, known, 1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise ValueError(f"network option {name!r} is not known{hint} (known: {', '.join(known)})")
    return kind(**network)


def check_whole_number(name: str, value: Any, least: int) -> None:
    """Raise ValueError unless the option ``name`` is a whole number of at least ``least``."""
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ValueError(f"network.{name}={value!r} is not allowed: give a whole number of at least {least}")


def check_bool(name: str, value: Any) -> None:
    """Raise ValueError unless the option ``name`` is true or false."""
    if not isinstance(value, bool):
        raise ValueError(f"network.{name}={value!r} is not allowed: give true or false")
