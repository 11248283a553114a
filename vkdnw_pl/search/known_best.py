"""The true optimum: what is best of all architectures with known accuracy that are within the budget of a search."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from vkdnw_pl.oracles import Oracle
from vkdnw_pl.oracles.base import of_networks
from vkdnw_pl.oracles.latency_table import read_latencies
from vkdnw_pl.search.constraints import CostCheck
from vkdnw_pl.search.settings import SearchSettings
from vkdnw_pl.spaces import Space


@dataclass(frozen=True)
class KnownBest:
    """Of one data set."""

    arch: str
    value: float
    """In the data set's unit."""
    values: Mapping[str, float]
    """Network within the budget, of several strings the canonical one -> its value."""
    within_budget: bool
    """Whether that was checked; else ``values`` are all that are known."""


def known_best(settings: SearchSettings, space: Space, oracle: Oracle) -> dict[str, KnownBest]:
    """Data set -> the best known; data sets of which nothing is known within the budget are left out.

    The budget is not checked where that would need measurements on this machine, or networks to be built.
    """
    network_of = {arch: space.canonicalise(arch) for arch in oracle.archs}
    networks = list(dict.fromkeys(network_of.values()))
    latencies = None if settings.latency_table is None else read_latencies(settings.latency_table, space)
    checked = not settings.measures and space.aleph(networks[0], **settings.network) is not None
    if checked:
        check = CostCheck(settings.budget, space, settings.network)
        if latencies is not None:
            most = settings.budget.max_latency_ms or 0.0
            networks = [arch for arch in networks if arch in latencies and latencies[arch] <= most]
        networks = [arch for arch in networks if not isinstance(check(arch), str)]
    best = {}
    for dataset, table in oracle.tables.items():
        known = of_networks(table, network_of.__getitem__)
        values = {arch: known[arch] for arch in networks if arch in known}
        if values:
            sign = oracle.measure(dataset).sign
            arch = max(values, key=lambda arch: sign * values[arch])
            best[dataset] = KnownBest(arch, values[arch], values, checked)
    return best
