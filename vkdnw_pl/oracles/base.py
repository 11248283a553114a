"""What an oracle is: accuracies that are known because somebody trained the networks; and where public tables lie."""

from __future__ import annotations

import os
import shlex
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from vkdnw_pl.errors import nearest, program


@dataclass(frozen=True)
class Oracle:
    """Known accuracies of a set of architectures on one or several data sets."""

    name: str
    """``digits``, ``nb201``, ``nats``, ``timm`` or the path of a CSV file."""
    description: str
    """One line for the user: which table this is, and how to get the other."""
    split: Mapping[str, str]
    """Data set -> the images that the accuracies were measured on, such as ``test``."""
    tables: Mapping[str, Mapping[str, float]]
    """Data set -> canonical architecture string -> accuracy in percent."""
    space: str = "nb201"
    """Key of the space that the architectures are of; no other space's scores may be compared with them."""
    networks: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Data set -> options of the space's networks that were trained on it, where they are not the space's defaults; empty
    where nothing is known of them."""

    def __post_init__(self) -> None:
        if not self.tables or self.split.keys() != self.tables.keys():
            raise ValueError(
                f"oracle {self.name!r} must have at least one data set and one split for each; it has the data sets "
                f"{list(self.tables)} and splits for {list(self.split)}"
            )
        first, *others = self.tables
        for other in others:
            if self.tables[other].keys() != self.tables[first].keys():
                raise ValueError(f"oracle {self.name!r} knows different architectures on {first!r} and on {other!r}")

    @property
    def datasets(self) -> tuple[str, ...]:
        """Names of the data sets."""
        return tuple(self.tables)

    @property
    def archs(self) -> list[str]:
        """Canonical architecture strings in the order of the table, the same for every data set."""
        return list(self.tables[self.datasets[0]])

    def network(self, dataset: str) -> dict[str, Any]:
        """Options of the space's networks that were trained on a data set; empty: its defaults."""
        if dataset not in self.networks:
            known = ", ".join(["auto", *self.networks])
            raise ValueError(
                f"network={dataset!r} is not allowed: with the oracle {self.name!r} give {known}, or options such as "
                "'{num_classes: 10, image_size: 32}'"
            )
        return dict(self.networks[dataset])

    def coverage(self, archs: Sequence[str]) -> list[str]:
        """A text where accuracies of some of ``archs`` are not known."""
        known = sum(arch in self.tables[self.datasets[0]] for arch in archs)
        if known == len(archs):
            return []
        return [f"accuracies are known for {known} of the {len(archs)} architectures; metrics are of these alone"]

    def doubts(self) -> list[str]:
        """A text for each data set whose accuracies look like fractions."""
        medians = {dataset: statistics.median(table.values()) for dataset, table in self.tables.items()}
        return [
            f"the accuracies on {dataset} look like fractions (their median is {median:g}); they are read as percent"
            for dataset, median in medians.items()
            if median < 1
        ]

    def accuracies(self, dataset: str) -> dict[str, float]:
        """Return architecture string -> accuracy in percent (higher is better)."""
        if dataset not in self.tables:
            raise ValueError(
                f"dataset={dataset!r} is not known to the oracle {self.name!r}{nearest(dataset, self.datasets)} "
                f"(known: {', '.join(self.datasets)})"
            )
        return dict(self.tables[dataset])


def num_archs(tables: Mapping[str, Mapping[str, float]]) -> int:
    """Number of architectures of an oracle's tables."""
    return len(next(iter(tables.values())))


class TableFile(NamedTuple):
    """One file of a public table."""

    name: str
    sha256: str


def cache_dir() -> Path:
    """Return the folder of downloaded and derived tables, which need not exist yet.

    ``$VKDNW_CACHE``, else ``$XDG_CACHE_HOME/vkdnw_pl``, else ``~/.cache/vkdnw_pl``.
    """
    if folder := os.environ.get("VKDNW_CACHE"):
        return Path(folder).expanduser().absolute()
    xdg_cache = Path(os.environ.get("XDG_CACHE_HOME", ""))
    # The XDG specification says that a relative path is invalid and to be ignored.
    return (xdg_cache if xdg_cache.is_absolute() else Path.home() / ".cache") / "vkdnw_pl"


def download_command(what: str, folder: Path | None = None) -> str:
    """Return the command that brings the files of a public table to ``folder``, by default the cache folder."""
    out = "" if folder in (None, cache_dir() / what) else f" --out {shlex.quote(str(folder))}"
    return f"{program()} download {what}{out}"
