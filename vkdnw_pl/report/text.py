"""Text of unknown origin made fit to be shown: nothing that hides, turns round or breaks what stands beside it."""

from __future__ import annotations

import unicodedata

_SPACES = {0x09: " ", 0x0A: " ", 0x0D: " "}
_CONTROLS = {code: chr(0x2400 + code) for code in range(0x20)} | {0x7F: "\u2421"}
_BIDI = dict.fromkeys((*range(0x202A, 0x202F), *range(0x2066, 0x206A), 0x200E, 0x200F, 0x061C), "\ufffd")
_TABLE = _CONTROLS | _SPACES | _BIDI


def clean(text: str) -> str:
    """The text in one line that can be written as UTF-8: control characters as their pictures, and a replacement
    character for lone surrogates and for marks that change the direction of writing."""
    if text.isascii() and text.isprintable():
        return text
    shown = text.translate(_TABLE)
    return "".join("\ufffd" if unicodedata.category(character) in ("Cs", "Cc") else character for character in shown)


def shortened(text: str, most: int) -> str:
    """The text, cut off after ``most`` characters."""
    return text if len(text) <= most else text[: most - 1] + "…"


def counted(number: int, noun: str, plural: str | None = None) -> str:
    """``1 row``, ``2,500 rows``."""
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


def between(text: str, begin: str, end: str, content: str) -> str:
    """``text`` with what stands between two of its lines replaced by ``content``; without them a ``ValueError``."""
    before, first, rest = text.partition(begin)
    _, last, after = rest.partition(end)
    if not first or not last:
        raise ValueError(f"the text has no lines {begin!r} and {end!r}")
    return f"{before}{begin}\n{content}\n{end}{after}"
