"""What is said to a user: mistakes of the user apart from faults of the program, and checks of one value."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from math import inf
from typing import Any


class UsageError(ValueError):
    """What the user asked for cannot be done; the text says why and what is allowed. Exit code 2, no traceback."""

    exit_code = 2


class CommandFailed(Exception):
    """The command cannot go on for a reason outside the program; the text says which. Exit code 1, no traceback."""


class WorkerDied(RuntimeError):
    """A worker process ended before it could begin to work; the text says how."""


@contextmanager
def user_input() -> Iterator[None]:
    """Around code that reads and checks what the user gave: its ``ValueError`` is the user's mistake."""
    try:
        yield
    except ValueError as error:
        raise UsageError(str(error)) from error


def first_line(error: BaseException) -> str:
    """First line of what an error says, or its kind where it says nothing."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def nearest(name: object, known: Iterable[str], count: int = 1, cutoff: float = 0.6) -> str:
    """``; did you mean 'x'?`` with the known names that come nearest to ``name``, or an empty text."""
    near = difflib.get_close_matches(str(name), list(known), count, cutoff)
    return f"; did you mean {' or '.join(map(repr, near))}?" if near else ""


def unknown(what: str, name: str, known: Sequence[str]) -> str:
    """Text for a name that does not exist: the nearest that does, or all of them where none comes near."""
    begun = [option for option in known if option.startswith(name) and name.strip("-")]
    hint = f"; did you mean {begun[0]!r}?" if begun else nearest(name, known)
    return f"{what} {name!r} is not known{hint or '; known: ' + ', '.join(known)}"


def is_whole(value: object, least: int) -> bool:
    """Whether a value is a whole number of at least ``least``; true and false are none."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def check_whole(name: str, value: object, least: int, or_else: str = "") -> None:
    """Refuse what is no whole number of at least ``least``.

    Args:
        name: of the option, as the user writes it.
        value: what the user gave.
        least: the smallest number that is allowed.
        or_else: what else is allowed, such as ``or 0 for none``; for the text alone.

    Raises:
        ValueError: naming the option, the value and what is allowed.
    """
    if not is_whole(value, least):
        also = f", {or_else}" if or_else else ""
        raise ValueError(f"{name}={value!r} is not allowed: give a whole number of at least {least}{also}")


def check_number(
    name: str, value: Any, low: float, high: float = inf, open_low: bool = False, open_high: bool = False
) -> None:
    """Refuse what is no number from ``low`` (with ``open_low``: above it) to ``high`` (``open_high``: below it); NaN is none.

    Raises:
        ValueError: naming the option, the value and what is allowed.
    """
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if is_number and (low < value if open_low else low <= value) and (value < high if open_high else value <= high):
        return
    lower = f"above {low:g}" if open_low else f"of at least {low:g}"
    upper = f" and {'below' if open_high else 'at most'} {high:g}" if high < inf else ""
    raise ValueError(f"{name}={value!r} is not allowed: give a number {lower}{upper}")


def check_choice(name: str, value: object, allowed: Iterable[str]) -> None:
    """Refuse what is none of ``allowed``.

    Raises:
        ValueError: naming the option, the value, the nearest that is allowed, and all of them.
    """
    choices = list(allowed)
    if value not in choices:
        raise ValueError(f"{name}={value!r} is not known{nearest(value, choices)} (allowed: {', '.join(choices)})")


def check_bool(name: str, value: object) -> None:
    """Refuse what is neither true nor false.

    Raises:
        ValueError: naming the option and the value.
    """
    if not isinstance(value, bool):
        raise ValueError(f"{name}={value!r} is not allowed: give true or false")
