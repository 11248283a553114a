"""From what a user calls an architecture (a string, a found network's file, a timm name) to the architecture."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from vkdnw_pl.errors import nearest
from vkdnw_pl.networks.arch_file import is_arch_file, read_arch_file
from vkdnw_pl.spaces.base import SPACES, Space, check_imported, make_space

AUTO = "auto"


@dataclass(frozen=True)
class ResolvedArch:
    """One architecture of one space."""

    space: str
    """The space's `key`."""
    arch: str
    """Canonical string."""
    network: Mapping[str, Any] = field(default_factory=dict)
    """Options that a found network's file carries, without those of the images."""
    task: Mapping[str, int] = field(default_factory=dict)
    """``num_classes``, ``image_size`` and ``in_channels``, as far as the file knows them."""


def resolve_arch(arch: str, space: str | Space = AUTO) -> ResolvedArch:
    """Find out which architecture is meant.

    Args:
        arch: string of a space, name of a timm model, or path of a JSON file with ``arch`` and ``space``, perhaps with
            the rank of one of its networks (``found.json#2``, see `vkdnw_pl.networks.arch_file`).
        space: the space or its name, or ``auto``: the first that knows the string.

    Raises:
        ValueError: if the space is not known, the file is no such file, or the space refuses the string.
    """
    if isinstance(space, str) and "." not in space and space not in (names := [AUTO, *SPACES]):
        raise ValueError(f"space={space!r} is not known{nearest(space, names)} (allowed: {', '.join(names)})")
    if is_arch_file(arch):
        return _from_file(arch.strip(), space)
    if space != AUTO:
        known_space = make_space(space)
        return ResolvedArch(known_space.key, known_space.validate(arch))
    refusals = []
    for name in SPACES:
        try:
            return ResolvedArch(name, SPACES[name].validate(arch))
        except ValueError as error:
            refusals.append(f"  {name}: {error}")
    raise ValueError(f"arch={arch!r} is not an architecture of any space:\n" + "\n".join(refusals))


def _from_file(path: str, space: str | Space) -> ResolvedArch:
    file = read_arch_file(path)
    key = None if space == AUTO else make_space(space).key
    if file.space is not None:
        check_imported(file.space, f"arch={str(file.path)!r}")
    if file.space is not None and key not in (None, make_space(file.space).key):
        raise ValueError(f"arch={str(file.path)!r} is an architecture of the space {file.space!r}, but space={key!r}")
    if is_arch_file(file.arch):
        raise ValueError(f"arch={str(file.path)!r} names another file, {file.arch!r}, and no architecture")
    resolved = resolve_arch(file.arch, file.space or space)
    return ResolvedArch(resolved.space, resolved.arch, file.network, file.task)
