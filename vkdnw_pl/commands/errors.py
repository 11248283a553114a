"""Mistakes of the user, apart from our own."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager


class UsageError(ValueError):
    """What the user asked for cannot be done; the text says why and what is allowed. Exit code 2, no traceback."""

    exit_code = 2


class CommandFailed(Exception):
    """The command cannot go on for a reason outside the program; the text says which. Exit code 1, no traceback."""


@contextmanager
def user_input() -> Iterator[None]:
    """Around code that reads and checks what the user gave: its ``ValueError`` is the user's mistake."""
    try:
        yield
    except ValueError as error:
        raise UsageError(str(error)) from error


def unknown(what: str, name: str, known: Sequence[str]) -> str:
    """Text for a name that does not exist: the nearest that does, or all of them where none comes near."""
    begun = [one for one in known if one.startswith(name) and name.strip("-")]
    near = (begun or difflib.get_close_matches(name, known, 1))[:1]
    hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(known)}"
    return f"{what} {name!r} is not known; {hint}"
