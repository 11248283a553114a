"""Which networks are trained, and in which group each is compared: found, random, timm or given ones."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from vkdnw_pl.networks.arch_file import is_arch_file, read_arch_file
from vkdnw_pl.oracles import TABLES, load_oracle
from vkdnw_pl.scoring.archs import resolve_archs, split_archs
from vkdnw_pl.search.constraints import Budget, CostCheck
from vkdnw_pl.search.folder import SearchFolder
from vkdnw_pl.search.history import RankedHistory
from vkdnw_pl.search.proposals import Proposer
from vkdnw_pl.search.strategies import RandomSearch
from vkdnw_pl.spaces import SPACES, Space, TimmZoo, make_space
from vkdnw_pl.spaces.base import check_imported

FOUND, RANDOM, TIMM, GIVEN = "found", "random", "timm", "given"
TIMM_PREFIX = "timm:"
"""Stands before a model of timm among networks of another space."""
_RANDOM_PREFIX = "random:"
_MOST_RANDOM = 100_000


@dataclass(frozen=True)
class ArchChoice:
    """The networks of a table."""

    space: str
    """Key of the space; models of timm may stand beside its architectures."""
    network: Mapping[str, Any]
    """Options of the space's networks, without those that follow from the images."""
    groups: Mapping[str, str]
    """Architecture -> its group, in order; of other spaces with ``timm:`` before the name."""
    notes: Sequence[str] = ()
    """What the user should know of the choice."""


@dataclass(frozen=True, kw_only=True)
class ArchOptions:
    """How networks are chosen."""

    archs: str | Sequence[str]
    archs_seed: int = 0
    macs_tolerance: float = 0.1
    max_macs: int | None = None
    min_macs: int | None = None
    space: Space | None = None
    """That of the recipe; None where it names none."""
    network: Mapping[str, Any] = field(default_factory=dict)
    """Options of the recipe for networks of its space."""


def choose_archs(options: ArchOptions) -> ArchChoice:
    """Resolve what the user wrote; ``ValueError`` if an architecture, file or budget is not allowed."""
    parts = _parts(options.archs)
    found = [read_arch_file(part) for part in parts if is_arch_file(part)]
    space, notes = _space(options, parts, found), []
    network = dict(options.network)
    if options.space is not None and options.space.key != space.key:
        if network:
            notes.append(
                f"model.network={network} of the recipe is for {options.space.name} and not used for {space.name} (give "
                f"--model.space {space.key} beside it if it is meant)"
            )
        network = {}
    networks = [dict(file.network) for file in found]
    if any(other != networks[0] for other in networks[1:]):
        raise ValueError(f"archs={options.archs!r} is not allowed: its files name networks with other options each")
    network = {**(networks[0] if networks else {}), **network}
    groups: dict[str, str] = {}
    for part in parts:
        if part.startswith(_RANDOM_PREFIX):
            archs, group = _random(part, options, space, network, parts, notes), RANDOM
        elif part.startswith(TIMM_PREFIX):
            archs, group = _timm(part, space), TIMM
        elif is_arch_file(part):
            archs, group = [space.architecture(read_arch_file(part).arch)], FOUND
        else:
            archs, group = resolve_archs(part, space, _oracle_archs(space), options.archs_seed, None).archs, GIVEN
        for arch in archs:
            groups.setdefault(arch, group)
    return ArchChoice(space.key, network, groups, notes)


def _parts(archs: str | Sequence[str]) -> list[str]:
    if not isinstance(archs, str):
        parts = [part.strip() for part in archs]
    elif os.path.isfile(os.path.expanduser(archs)):
        parts = [archs]
    else:
        parts = [part.strip() for part in split_archs(archs)]
    parts = [part for part in parts if part]
    if not parts:
        raise ValueError(
            "archs is missing: say which networks to train, such as --archs runs/search/found.json,random:5,"
            "timm:mobilenetv2_050"
        )
    return parts


def _space(options: ArchOptions, parts: Sequence[str], found: Sequence[Any]) -> Space:
    for file in found:
        if file.space is not None and (options.space is None or options.space.key != file.space):
            check_imported(file.space, f"archs={str(file.path)!r}")
    spaces = {make_space(file.space).key: str(file.path) for file in found if file.space is not None}
    if len(spaces) > 1:
        raise ValueError(f"archs={options.archs!r} is not allowed: its files are of {' and '.join(spaces)}")
    if spaces:
        return SPACES[next(iter(spaces))]
    if all(part.startswith(TIMM_PREFIX) for part in parts):
        return SPACES[TimmZoo.name]
    if options.space is None:
        raise ValueError(
            f"archs={options.archs!r}: of which space? Give --model.space {', '.join(SPACES)}, or your own by its dotted name"
        )
    return options.space


def _timm(part: str, space: Space) -> list[str]:
    name = part.removeprefix(TIMM_PREFIX)
    archs = resolve_archs(name, SPACES[TimmZoo.name], _oracle_archs(SPACES[TimmZoo.name])).archs
    return archs if isinstance(space, TimmZoo) else [f"{TIMM_PREFIX}{arch}" for arch in archs]


def _oracle_archs(space: Space) -> Any:
    def archs_of(which: str) -> list[str]:
        if which == "oracle":
            raise ValueError("archs='oracle' has no use here: give the table's architectures as a file")
        if TABLES[which] != space.key:
            raise ValueError(f"archs={which!r} are architectures of {TABLES[which]}, not of {space.name}")
        return load_oracle(which).archs

    return archs_of


def _random(
    part: str, options: ArchOptions, space: Space, network: Mapping[str, Any], parts: Sequence[str], notes: list[str]
) -> list[str]:
    """Different networks, drawn uniformly from those of the space that cost about what the found ones cost."""
    text = part.removeprefix(_RANDOM_PREFIX)
    count = int(text) if text.isdecimal() and len(text) < 7 else 0
    if not 1 <= count <= _MOST_RANDOM:
        raise ValueError(f"archs={part!r} is not allowed: give {_RANDOM_PREFIX}N with N from 1 to {_MOST_RANDOM}")
    files = [part for part in parts if is_arch_file(part)]
    found = [space.architecture(read_arch_file(file).arch) for file in files]
    budget, counted_at = Budget(), dict(network)
    if files:
        budget, counted_at, remark = _budget_of(files[0], {**network, **read_arch_file(files[0]).task})
        notes.extend(remark)
    macs = [_macs(space, arch, budget, counted_at) for arch in found]
    bounds: dict[str, Any] = {"min_macs": options.min_macs, "max_macs": options.max_macs}
    if macs:
        least, most = round(min(macs) * (1 - options.macs_tolerance)), round(max(macs) * (1 + options.macs_tolerance))
        bounds["min_macs"] = bounds["min_macs"] or max(least, budget.min_macs or 1)
        bounds["max_macs"] = bounds["max_macs"] or min(most, budget.max_macs or most)
    budget = replace(budget, **bounds)
    proposer = Proposer(RandomSearch(space), CostCheck(budget, space, counted_at), budget, None, options.archs_seed)
    drawn = [candidate.arch for candidate in proposer.propose(RankedHistory([]), count + len(found))]
    others = [arch for arch in drawn if arch not in {space.canonicalise(arch) for arch in found}][:count]
    if len(others) < count:
        raise ValueError(
            f"archs={part!r}: only {len(others)} networks were found in {proposer.last.tries:,} draws "
            f"({proposer.last.reasons()}); give a smaller N, or a larger macs_tolerance"
        )
    if bounds["max_macs"] or bounds["min_macs"]:
        low, high = ((f"{bound / 1e6:.4g}" if bound else "") for bound in (budget.min_macs, budget.max_macs))
        rest = {name: bound for name, bound in budget.record().items() if not name.endswith(("_macs", "counting"))}
        also = f", {', '.join(f'{name} {bound:,}' for name, bound in rest.items())}" if rest else ""
        notes.append(f"{part}: of the networks with {low} to {high} M MACs{also}")
    else:
        notes.append(
            f"{part}: of the whole space, for no budget is known (found.json of a search, or --max_macs, names one)"
        )
    return others


def _budget_of(file: str, network: Mapping[str, Any]) -> tuple[Budget, dict[str, Any], list[str]]:
    """Budget of the search that found a network, the options of networks at which it counts, and what to say of it."""
    folder = SearchFolder(Path(file.rpartition("#")[0] or file).expanduser().parent)
    meta = folder.read_meta() if folder.meta.is_file() else {}
    settings = meta.get("settings", {})
    if meta.get("command") != SearchFolder.command or not isinstance(settings.get("budget"), dict):
        return Budget(), dict(network), [f"beside {file} is no record of its search: its budget is not known"]
    try:
        budget = Budget(**settings["budget"])
    except TypeError:
        raise ValueError(f"{folder.meta} is damaged: its budget is {settings['budget']!r}") from None
    remarks = []
    if budget.measured:
        remarks.append("the search's bounds on latency and memory are not measured for random networks")
        budget = replace(budget, max_latency_ms=None, max_peak_mb=None)
    return budget, dict(settings.get("network") or network), remarks


def _macs(space: Space, arch: str, budget: Budget, network: Mapping[str, Any]) -> int:
    if budget.counting == "reference" and (cost := space.reference_cost(arch, **network)) is not None:
        return cost.macs
    return space.cost(arch, **network).macs
