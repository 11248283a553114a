"""Measured budgets: latency and peak memory of networks, each measured once."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vkdnw_pl.runs.files import LineFile, csv_line, whole_lines
from vkdnw_pl.search.constraints import Budget
from vkdnw_pl.search.proposals import Measured
from vkdnw_pl.spaces import Space

_HEADER = "arch,latency_ms,peak_mb\n"


@dataclass(frozen=True, kw_only=True)
class HowToMeasure:
    """How latency and peak memory are measured.

    Raises:
        ValueError: if a value is not allowed.
    """

    batch_size: int = 32
    warmup: int = 3
    """Forward passes before the first that is timed."""
    repeats: int = 10
    """Forward passes that are timed; their median counts."""
    device: str = "cpu"

    def __post_init__(self) -> None:
        for name, least in (("batch_size", 1), ("warmup", 0), ("repeats", 1)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise ValueError(f"measure_{name}={value!r} is not allowed: give a whole number of at least {least}")


class Measurements:
    """Measures networks, and keeps what was measured in a file.

    A clock never gives the same time twice. A search that is continued reads here what it found before, so that it takes
    the same decisions.

    Args:
        path: of the file; None keeps nothing.
        space: makes the networks.
        network: their options.
        budget: only what it bounds is measured.
        how: see `HowToMeasure`.
    """

    def __init__(
        self, path: Path | None, space: Space, network: Mapping[str, Any], budget: Budget, how: HowToMeasure
    ) -> None:
        self._space, self._network, self._budget, self._how = space, dict(network), budget, how
        self._known = _read(path) if path is not None and path.is_file() else {}
        self._file = None if path is None else LineFile(path, _HEADER)

    def __call__(self, arch: str) -> Measured:
        """Latency in ms and peak memory in MB of a forward pass of one batch; None where there is no bound on it."""
        if arch not in self._known:
            self._known[arch] = self._measure(arch)
            self._keep(arch)
        return self._known[arch]

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
        dear = self._budget.refused_measured(None, peak_mb) is not None  # its latency does not matter
        if self._budget.max_latency_ms is not None and not dear:
            latency_ms = float(measure_latency(network, size, how.batch_size, how.device, how.warmup, how.repeats, 1))
        return latency_ms, peak_mb

    def _keep(self, arch: str) -> None:
        if self._file is not None:
            self._file.append(csv_line([arch, *self._known[arch]]))


def _read(path: Path) -> dict[str, Measured]:
    """What a file holds, without a last line that a kill has torn."""
    rows = list(csv.reader(io.StringIO(whole_lines(path.read_bytes()).decode() or _HEADER)))
    if rows[0] != _HEADER.strip().split(","):
        raise ValueError(f"{path} does not hold measurements: its first line must be {_HEADER.strip()}")
    known: dict[str, Measured] = {}
    for number, cells in enumerate(rows[1:], start=2):
        try:
            arch, latency_ms, peak_mb = cells
            known[arch] = (float(latency_ms) if latency_ms else None, float(peak_mb) if peak_mb else None)
        except ValueError as error:
            raise ValueError(f"{path}, line {number}: {error}") from None
    return known
