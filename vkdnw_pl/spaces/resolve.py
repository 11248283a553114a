"""From what a user calls an architecture to the architecture: a string of a space, a found network's file, or a timm name."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vkdnw_pl.spaces import SPACES

AUTO = "auto"


@dataclass(frozen=True)
class ResolvedArch:
    """One architecture of one space."""

    space: str
    arch: str
    """Canonical string."""
    network: Mapping[str, Any] = field(default_factory=dict)
    """Options that a found network's file carries."""


def resolve_arch(arch: str, space: str = AUTO) -> ResolvedArch:
    """Find out which architecture is meant.

    Args:
        arch: string of a space, name of a timm model, or path of a JSON file with ``arch`` and ``space``.
        space: name of the space, or ``auto``: the one that knows the string.

    Raises:
        ValueError: if the space is not known, the file is no such file, or the space (with ``auto`` each of them)
            refuses the string; the text says why.
    """
    if space != AUTO and space not in SPACES:
        raise ValueError(f"space={space!r} is not known; allowed: {AUTO}, {', '.join(SPACES)}")
    if arch.endswith(".json"):
        return _from_file(Path(arch).expanduser(), space)
    if space != AUTO:
        return ResolvedArch(space, SPACES[space].validate(arch))
    refusals = []
    for name, candidate in SPACES.items():
        try:
            return ResolvedArch(name, candidate.validate(arch))
        except ValueError as error:
            refusals.append(f"  {name}: {error}")
    raise ValueError(f"arch={arch!r} is not an architecture of any space:\n" + "\n".join(refusals))


def _from_file(path: Path, space: str) -> ResolvedArch:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ValueError(f"arch={str(path)!r} cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise ValueError(f"arch={str(path)!r} is not JSON: {error}") from None
    if not isinstance(content, dict) or not isinstance(content.get("arch"), str):
        raise ValueError(f"arch={str(path)!r} is not a found network: it needs the key 'arch' (and 'space')")
    there = content.get("space", space)
    if space != AUTO and there != space:
        raise ValueError(f"arch={str(path)!r} is an architecture of the space {there!r}, but space={space!r}")
    found = resolve_arch(content["arch"], there)
    return ResolvedArch(found.space, found.arch, dict(content.get("network") or {}))
