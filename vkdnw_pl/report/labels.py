"""What an accuracy table says: found networks against random ones and timm's, and whether the search wins."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from vkdnw_pl.report.run_tables import Column, with_content
from vkdnw_pl.report.text import counted
from vkdnw_pl.runs.csv_table import read_csv

_LEVEL = 0.95
_NEEDED = ("arch", "seed", "group", "macs", "params", "val", "test", "status", "reason")


@dataclass
class TrainedNetwork:
    """A network of the table, with the seeds that it was trained with."""

    arch: str
    group: str
    """``found``, ``random``, ``timm`` or ``given``."""
    name: str
    """Short, for figures and tables: ``found``, ``random 2``, or timm's name."""
    macs: float | None = None
    """Multiply-adds of one image."""
    params: float | None = None
    accuracies: dict[int, float] = field(default_factory=dict)
    """Seed -> accuracy in percent."""
    failures: dict[int, str] = field(default_factory=dict)
    """Seed -> reason, of the trainings that failed."""

    @property
    def mean(self) -> float | None:
        """Mean over seeds; None where every training failed."""
        return statistics.fmean(self.accuracies.values()) if self.accuracies else None


@dataclass(frozen=True)
class Estimate:
    """A mean in percent and its t-interval at 95 %."""

    mean: float
    error: float | None
    """Standard error; None for a single value."""
    degrees: int
    over: str
    """What it is a mean over: ``5 networks`` or ``3 seeds``."""

    @property
    def half_width(self) -> float | None:
        """Half of the interval's width."""
        return None if self.error is None else _quantile(self.degrees) * self.error

    def __str__(self) -> str:
        half = self.half_width
        return f"{self.mean:.1f} %" if half is None else f"{self.mean:.1f} ± {half:.1f} %"


@dataclass(frozen=True)
class GroupResult:
    """The networks of one group together; a model of timm, whose cost is its own, stands alone."""

    group: str
    name: str
    """Of the group, or the model of timm."""
    networks: list[TrainedNetwork]
    """Those with accuracies."""
    accuracy: Estimate


def read_labels(path: Path, torn: bool = False) -> list[TrainedNetwork]:
    """The networks of ``labels.csv``, in the order of the table; ``torn`` as of `read_csv`."""
    table = read_csv(path, _NEEDED, torn)
    columns = {name: table.numbers(name) for name in ("macs", "params", "val", "test")}
    accuracies = columns["test"] if any(value is not None for value in columns["test"]) else columns["val"]
    networks: dict[str, TrainedNetwork] = {}
    counts: dict[str, int] = {}
    rows = zip(
        table.texts("arch"), table.wholes("seed"), table.texts("group"), table.texts("status"), table.texts("reason")
    )
    for row, (arch, seed, group, status, reason) in enumerate(rows):
        if arch not in networks:
            counts[group] = counts.get(group, 0) + 1
            networks[arch] = TrainedNetwork(arch, group, _short_name(arch, group, counts[group]))
        network, accuracy = networks[arch], accuracies[row]
        network.macs, network.params = (columns[name][row] or getattr(network, name) for name in ("macs", "params"))
        if status == "ok" and accuracy is not None:
            network.accuracies[seed or 0] = accuracy
        else:
            network.failures[seed or 0] = reason
    return list(networks.values())


def group_results(networks: Sequence[TrainedNetwork]) -> list[GroupResult]:
    """The groups in the order of the table. Of several networks the interval is over their means, of one over its seeds."""
    groups: dict[tuple[str, str], list[TrainedNetwork]] = {}
    for network in networks:
        if network.accuracies:
            name = network.name if network.group == "timm" else network.group
            groups.setdefault((network.group, name), []).append(network)
    return [GroupResult(group, name, members, _estimate(members)) for (group, name), members in groups.items()]


def verdict(networks: Sequence[TrainedNetwork]) -> str:
    """Whether the found networks are better than random ones, in a sentence; empty where there are none to compare."""
    results = {result.name: result for result in group_results(networks)}
    found = results.pop("found", None)
    if found is None or not results:
        return ""
    names = {"random": "random under the same budget", "given": "given ones"}
    others = ", ".join(f"{names.get(name, name)} {result.accuracy}" for name, result in results.items())
    text = f"found {found.accuracy}, {others}"
    if "random" not in results:
        return f"{text}; without random networks (random:5) it is not known what the search is worth"
    return f"{text}: {_compared(found, results['random'])}"


def result_lines(networks: Sequence[TrainedNetwork]) -> list[tuple[str, ...]]:
    """A line for each group: group, networks, accuracy with its interval, what that is over, MACs and parameters in M."""
    return [
        (
            result.name,
            str(len(result.networks)),
            str(result.accuracy),
            result.accuracy.over,
            _millions([network.macs for network in result.networks]),
            _millions([network.params for network in result.networks]),
        )
        for result in group_results(networks)
    ]


RESULT_HEADS = ("group", "networks", "accuracy", "95 % interval over", "MACs (M)", "parameters (M)")
"""Titles of `result_lines`."""


def network_columns(networks: Sequence[TrainedNetwork]) -> list[Column]:
    """What is known of each network, the best first."""
    networks = best_first(networks)
    deviations = [statistics.stdev(n.accuracies.values()) if len(n.accuracies) > 1 else None for n in networks]
    return with_content(
        [
            Column("network", [network.name for network in networks]),
            Column("accuracy (%)", [network.mean for network in networks], "number", "{:.2f}"),
            Column("std over seeds", deviations, "number", "{:.2f}"),
            Column("MACs (M)", [network.macs for network in networks], "number", "{:,.2f}", 1e6),
            Column("params (M)", [network.params for network in networks], "number", "{:,.3f}", 1e6),
            Column("failed", [len(network.failures) or None for network in networks], "number"),
        ]
    )


def best_first(networks: Sequence[TrainedNetwork]) -> list[TrainedNetwork]:
    """The networks by their mean accuracy; those that failed come last."""
    return sorted(networks, key=lambda network: -math.inf if network.mean is None else network.mean, reverse=True)


def _compared(found: GroupResult, other: GroupResult) -> str:
    ours, theirs = found.accuracy, other.accuracy
    difference = ours.mean - theirs.mean
    better = sum((network.mean or 0.0) < ours.mean for network in other.networks)
    place = f"better than {better} of {counted(len(other.networks), 'random network')}"
    if ours.error is None or theirs.error is None:
        return f"{'ahead' if difference > 0 else 'the search does not win here'}, {place}; more seeds and networks tell more"
    low, high = _welch(difference, ours, theirs)
    interval = f"difference {difference:+.1f}, 95 % interval {low:+.1f} to {high:+.1f}; {place}"
    if low > 0:
        return f"the search wins here ({interval})"
    if difference > 0:
        return f"the search is ahead, but it may be chance ({interval})"
    return f"the search does not win here ({interval})"


def _welch(difference: float, first: Estimate, second: Estimate) -> tuple[float, float]:
    """Welch's t-interval of a difference of means, at 95 %."""
    assert first.error is not None
    assert second.error is not None
    variances = [first.error**2, second.error**2]
    total = sum(variances)
    if total == 0:
        return difference, difference
    parts = sum(variance**2 / of.degrees for variance, of in zip(variances, (first, second)))
    half = _quantile(total**2 / parts) * math.sqrt(total)
    return difference - half, difference + half


def _estimate(members: Sequence[TrainedNetwork]) -> Estimate:
    if len(members) > 1:
        values, noun = [network.mean or 0.0 for network in members], "network"
    else:
        values, noun = list(members[0].accuracies.values()), "seed"
    error = statistics.stdev(values) / math.sqrt(len(values)) if len(values) > 1 else None
    return Estimate(statistics.fmean(values), error, len(values) - 1, counted(len(values), noun))


def _quantile(degrees: float) -> float:
    from scipy.stats import t as student_t  # half a second

    return float(student_t.ppf(0.5 + _LEVEL / 2, degrees))


def _millions(values: Sequence[float | None]) -> str:
    """One number, or the least and the largest."""
    known = [value / 1e6 for value in values if value is not None]
    if not known:
        return ""
    low, high = (f"{value:.4g}" for value in (min(known), max(known)))
    return low if low == high else f"{low} to {high}"


def _short_name(arch: str, group: str, number: int) -> str:
    if group == "timm":
        return arch.removeprefix("timm:")
    return f"{group} {number}" if number > 1 or group != "found" else group
