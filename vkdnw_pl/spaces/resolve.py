"""From what a user calls an architecture to the architecture: a string of a space, a found network's file, or a timm name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from vkdnw_pl.networks.arch_file import is_arch_file, read_arch_file
from vkdnw_pl.spaces import SPACES

AUTO = "auto"


@dataclass(frozen=True)
class ResolvedArch:
    """One architecture of one space."""

    space: str
    arch: str
    """Canonical string."""
    network: Mapping[str, Any] = field(default_factory=dict)
    """Options that a found network's file carries, without those of the images."""
    task: Mapping[str, int] = field(default_factory=dict)
    """``num_classes``, ``image_size`` and ``in_channels``, as far as the file knows them."""


def resolve_arch(arch: str, space: str = AUTO) -> ResolvedArch:
    """Find out which architecture is meant.

    Args:
        arch: string of a space, name of a timm model, or path of a JSON file with ``arch`` and ``space``, perhaps with
            the rank of one of its networks (``found.json#2``, see `vkdnw_pl.networks.arch_file`).
        space: name of the space, or ``auto``: the one that knows the string.

    Raises:
        ValueError: if the space is not known, the file is no such file, or the space (with ``auto`` each of them)
            refuses the string; the text says why.
    """
    if space != AUTO and space not in SPACES:
        raise ValueError(f"space={space!r} is not known; allowed: {AUTO}, {', '.join(SPACES)}")
    if is_arch_file(arch):
        return _from_file(arch.strip(), space)
    if space != AUTO:
        return ResolvedArch(space, SPACES[space].validate(arch))
    refusals = []
    for name, candidate in SPACES.items():
        try:
            return ResolvedArch(name, candidate.validate(arch))
        except ValueError as error:
            refusals.append(f"  {name}: {error}")
    raise ValueError(f"arch={arch!r} is not an architecture of any space:\n" + "\n".join(refusals))


def _from_file(path: str, space: str) -> ResolvedArch:
    file = read_arch_file(path)
    there = space if file.space is None else file.space
    if space != AUTO and there != space:
        raise ValueError(f"arch={str(file.path)!r} is an architecture of the space {there!r}, but space={space!r}")
    if is_arch_file(file.arch):
        raise ValueError(f"arch={str(file.path)!r} names another file, {file.arch!r}, and no architecture")
    found = resolve_arch(file.arch, there)
    return ResolvedArch(found.space, found.arch, file.network, file.task)
