"""Mistakes of the user, apart from our own."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager


class UsageError(Exception):
    """What the user asked for cannot be done; the text says why and what is allowed. Exit code 2, no traceback."""


class CommandFailed(Exception):
    """The command cannot go on for a reason outside the program; the text says which. Exit code 1, no traceback."""


@contextmanager
def user_input() -> Iterator[None]:
    """Around code that reads and checks what the user gave: its ``ValueError`` is the user's mistake."""
    try:
        yield
    except ValueError as error:
        raise UsageError(str(error)) from error


def nearest(name: str, known: Iterable[str]) -> str:
    """Return ``; did you mean '...'?``, or an empty text where nothing comes near."""
    match = difflib.get_close_matches(name, list(known), 1)
    return f"; did you mean {match[0]!r}?" if match else ""
