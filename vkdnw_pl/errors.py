"""What is said to a user: mistakes of the user apart from faults of the program, and checks of one value."""

from __future__ import annotations

import difflib
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from math import inf
from pathlib import Path
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


def program() -> str:
    """How the user calls the program, for texts that say what to type: ``vkdnw`` or ``python -m vkdnw_pl``."""
    return "vkdnw" if Path(sys.argv[0]).stem == "vkdnw" else "python -m vkdnw_pl"


_NOT_TEXT = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
_MOST, _MOST_SHOWN = 1000, 80


def one_line(text: str, most: int = _MOST) -> str:
    """A text as every file and screen takes it: one line of at most ``most`` characters, without control characters."""
    line = _NOT_TEXT.sub("\ufffd", " ".join(text[: 4 * most].split()))
    return line if len(line) <= most and len(text) <= 4 * most else f"{line[: most - 4]} ..."


def what_it_says(error: BaseException) -> str:
    """The text of an exception of foreign code, which may be of any length and content, in one line; empty for none."""
    try:
        return one_line(str(error))
    except Exception:  # its __str__ is foreign code too
        return "(it cannot be put into words)"


def why(error: BaseException) -> str:
    """Kind and text of an exception, as the reason of a failure."""
    return f"{type(error).__name__}: {what_it_says(error)}"


def first_line(error: BaseException) -> str:
    """First line of what an error says, or its kind where it says nothing."""
    try:
        said = str(error).strip().splitlines()
    except Exception:
        said = []
    return one_line(said[0]) if said else type(error).__name__


def shown(value: object) -> str:
    """A value as errors show it, cut where it is long."""
    text = repr(value[:_MOST_SHOWN] if isinstance(value, str) else value)
    cut = len(text) > _MOST_SHOWN + 2 or (isinstance(value, str) and len(value) > _MOST_SHOWN)
    return f"{text[:_MOST_SHOWN]}..." if cut else text


def nearest(name: object, known: Iterable[str], count: int = 1, cutoff: float = 0.6) -> str:
    """``; did you mean 'x'?`` with the known names that come nearest to ``name``, or an empty text."""
    near = difflib.get_close_matches(str(name)[:_MOST_SHOWN], list(known), count, cutoff)
    return f"; did you mean {' or '.join(map(repr, near))}?" if near else ""


def unknown(what: str, name: str, known: Sequence[str]) -> str:
    """Text for a name that does not exist: the nearest that does, or all of them where none comes near."""
    begun = [option for option in known if option.startswith(name) and name.strip("-")]
    hint = f"; did you mean {begun[0]!r}?" if begun else nearest(name, known)
    return f"{what} {name!r} is not known{hint or '; known: ' + ', '.join(known)}"


def is_whole(value: object, least: int, most: float = inf) -> bool:
    """Whether a value is a whole number from ``least`` to ``most``; true and false are none."""
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= most


def check_whole(name: str, value: object, least: int, or_else: str = "", most: float = inf) -> None:
    """Refuse what is no whole number from ``least`` to ``most``.

    Args:
        name: of the option, as the user writes it.
        value: what the user gave.
        least: the smallest number that is allowed.
        or_else: what else is allowed, such as ``or 0 for none``; for the text alone.
        most: the largest number that is allowed.

    Raises:
        ValueError: naming the option, the value and what is allowed.
    """
    if not is_whole(value, least, most):
        upper = f" and at most {most:,}" if most < inf else ""
        also = f", {or_else}" if or_else else ""
        raise ValueError(f"{name}={shown(value)} is not allowed: give a whole number of at least {least}{upper}{also}")


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
    raise ValueError(f"{name}={shown(value)} is not allowed: give a number {lower}{upper}")


def check_choice(name: str, value: object, allowed: Iterable[str]) -> None:
    """Refuse what is none of ``allowed``.

    Raises:
        ValueError: naming the option, the value, the nearest that is allowed, and all of them.
    """
    choices = list(allowed)
    if value not in choices:
        raise ValueError(f"{name}={shown(value)} is not known{nearest(value, choices)} (allowed: {', '.join(choices)})")


def check_bool(name: str, value: object) -> None:
    """Refuse what is neither true nor false.

    Raises:
        ValueError: naming the option and the value.
    """
    if not isinstance(value, bool):
        raise ValueError(f"{name}={shown(value)} is not allowed: give true or false")
