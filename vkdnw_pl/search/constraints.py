"""Budgets: what an architecture may cost, checked before any proxy looks at it; by counting, or measured."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal, get_args

from vkdnw_pl.errors import check_choice, check_number, check_whole
from vkdnw_pl.runs.csv_table import read_grown
from vkdnw_pl.runs.files import LineFile, csv_line
from vkdnw_pl.spaces import Cost, Space

Counting = Literal["true", "reference"]

Measured = tuple[float | None, float | None]
"""Latency in ms and peak memory in MB; None where it was not measured."""


@dataclass(frozen=True, kw_only=True)
class Budget:
    """Bounds, each of them inclusive; None is no bound."""

    max_macs: int | None = None
    min_macs: int | None = None
    max_params: int | None = None
    min_params: int | None = None
    max_layers: int | None = None
    min_layers: int | None = None
    max_latency_ms: float | None = None
    """Of one forward pass of a batch, measured, or from a table."""
    max_peak_mb: float | None = None
    """Of one forward pass of a batch, measured."""
    counting: Counting = "true"
    """How MACs and parameters are counted: as they are, or as the published search code counts them."""

    def __post_init__(self) -> None:
        check_choice("counting", self.counting, get_args(Counting))
        for field in fields(self):
            bound = getattr(self, field.name)
            if field.name == "counting" or bound is None:
                continue
            if field.name in ("max_latency_ms", "max_peak_mb"):
                check_number(field.name, bound, 0, open_low=True)
            else:
                check_whole(field.name, bound, 1)
        for what in ("macs", "params", "layers"):
            least, most = getattr(self, f"min_{what}"), getattr(self, f"max_{what}")
            if least is not None and most is not None and least > most:
                raise ValueError(f"min_{what}={least} is not allowed: it is above max_{what}={most}")

    def check_space(self, space: Space) -> None:
        """Raise ValueError if the space cannot say what a bound is about."""
        bounds = [name for name in ("max_layers", "min_layers") if getattr(self, name) is not None]
        if not bounds and self.counting != "reference":
            return
        arch = space.sample(random.Random(0))
        if bounds and space.layers(arch) is None:
            name = bounds[0]
            raise ValueError(f"{name}={getattr(self, name)} has no meaning for {space.name}: it counts no layers")
        if self.counting == "reference" and space.reference_cost(arch) is None:
            raise ValueError(
                f"counting='reference' is not allowed for {space.name}: its MACs are counted in one way only (true)"
            )

    @property
    def bounds(self) -> dict[str, Any]:
        """The bounds that there are, by name."""
        return {name: bound for name, bound in self.record().items() if name != "counting"}

    @property
    def measured(self) -> bool:
        """Whether networks have to be built and run to know what they cost."""
        return self.max_latency_ms is not None or self.max_peak_mb is not None

    def refused_measured(self, latency_ms: float | None, peak_mb: float | None) -> str | None:
        """Name of the bound on a measurement that is broken, if one is."""
        if self.max_latency_ms is not None and latency_ms is not None and latency_ms > self.max_latency_ms:
            return "max_latency_ms"
        if self.max_peak_mb is not None and peak_mb is not None and peak_mb > self.max_peak_mb:
            return "max_peak_mb"
        return None

    def record(self) -> dict[str, Any]:
        """The bounds that there are and how they are counted, by name."""
        bounds = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: bound for name, bound in bounds.items() if bound is not None}


@dataclass(frozen=True)
class Costs:
    """What a space says of an architecture."""

    cost: Cost
    """True counting."""
    layers: int | None


class CostCheck:
    """Checks architectures of one space against the bounds that need no measurement, the quick ones first.

    ``network`` holds the options of the space's networks.
    """

    def __init__(self, budget: Budget, space: Space, network: Mapping[str, Any]) -> None:
        budget.check_space(space)
        self._budget, self._space, self._network = budget, space, dict(network)

    def __call__(self, arch: str) -> Costs | str:
        """What the architecture costs, or the name of the first bound that it breaks."""
        layers, budget = self._space.layers(arch), self._budget
        if layers is not None and (refused := _refused("layers", layers, budget.min_layers, budget.max_layers)):
            return refused
        cost = self._space.cost(arch, **self._network)
        counted = cost
        if budget.counting == "reference":
            counted = self._space.reference_cost(arch, **self._network) or cost
        return (
            _refused("macs", counted.macs, budget.min_macs, budget.max_macs)
            or _refused("params", counted.num_params, budget.min_params, budget.max_params)
            or Costs(cost, layers)
        )


def _refused(what: str, value: float, least: float | None, most: float | None) -> str | None:
    if most is not None and value > most:
        return f"max_{what}"
    if least is not None and value < least:
        return f"min_{what}"
    return None


_HEADER = "arch,latency_ms,peak_mb\n"


@dataclass(frozen=True, kw_only=True)
class HowToMeasure:
    """How latency and peak memory are measured."""

    batch_size: int = 32
    warmup: int = 3
    """Forward passes before the first that is timed."""
    repeats: int = 10
    """Forward passes that are timed; their median counts."""
    device: str = "cpu"

    def __post_init__(self) -> None:
        for name, least in (("batch_size", 1), ("warmup", 0), ("repeats", 1)):
            check_whole(f"measure_{name}", getattr(self, name), least)


NOT_IN_TABLE = "max_latency_ms (not in latency_table)"


class Measurements:
    """Measures what the budget bounds, and keeps it in a file (``path`` None: nowhere).

    A clock never gives the same time twice. A search that is continued reads what it measured before, so that it takes
    the same decisions. Of architectures whose latency is known from a table (``latencies``) it is not measured, and others
    are refused then: nothing says that they are within the budget.
    """

    def __init__(
        self,
        path: Path | None,
        space: Space,
        network: Mapping[str, Any],
        budget: Budget,
        how: HowToMeasure,
        latencies: Mapping[str, float] | None = None,
    ) -> None:
        self._space, self._network, self._how, self._latencies = space, dict(network), how, latencies
        self._most_ms = budget.max_latency_ms
        self._budget = budget if latencies is None else replace(budget, max_latency_ms=None)
        self._measurements = _read_measurements(path) if path is not None and path.is_file() else {}
        self._file = None if path is None or not self._budget.measured else LineFile(path, _HEADER)

    def __call__(self, arch: str) -> Measured | str:
        """Latency in ms and peak memory in MB of a forward pass of one batch; None where there is no bound on it.

        Or why the architecture is over the budget, where its latency is not known.
        """
        if self._latencies is None:
            return self._measured(arch)
        if arch not in self._latencies:
            return NOT_IN_TABLE
        latency_ms = self._latencies[arch]
        too_slow = self._most_ms is not None and latency_ms > self._most_ms  # its memory does not matter
        return latency_ms, self._measured(arch)[1] if self._budget.measured and not too_slow else None

    def _measured(self, arch: str) -> Measured:
        if arch not in self._measurements:
            self._measurements[arch] = self._measure(arch)
            if self._file is not None:
                self._file.append(csv_line([arch, *self._measurements[arch]]))
        return self._measurements[arch]

    def _measure(self, arch: str) -> Measured:
        import torch

        from vkdnw_pl.networks.cost import measure_latency, measure_peak_memory

        how = self._how
        size = self._space.input_size(**self._network)
        latency_ms = peak_mb = None
        # On CPU memory is counted by shapes, which needs no weights.
        shapes_only = self._budget.max_latency_ms is None and how.device == "cpu"
        with torch.device("meta" if shapes_only else "cpu"):
            network = self._space.build(arch, **self._network)
        if self._budget.max_peak_mb is not None:
            peak_mb = float(measure_peak_memory(network, size, how.batch_size, how.device))
        too_large = self._budget.refused_measured(None, peak_mb) is not None  # its latency does not matter
        if self._budget.max_latency_ms is not None and not too_large:
            latency_ms = float(measure_latency(network, size, how.batch_size, how.device, how.warmup, how.repeats, 1))
        return latency_ms, peak_mb


def _read_measurements(path: Path) -> dict[str, Measured]:
    """What a file holds, without a last line that a kill has torn."""
    table = read_grown(path, _HEADER)
    return dict(zip(table.texts("arch"), zip(table.numbers("latency_ms"), table.numbers("peak_mb"))))
