"""What an oracle is: accuracies that are known because somebody trained the networks."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Oracle:
    """Known accuracies of a set of architectures on one or several data sets.

    Raises:
        ValueError: if there is no data set, a data set has no split, or two data sets know different architectures.
    """

    name: str
    """``digits``, ``nb201``, ``nats``, ``timm`` or the path of a CSV file."""
    description: str
    """One line for the user: which table this is, and how to get the other."""
    split: Mapping[str, str]
    """Data set -> the images that the accuracies were measured on, such as ``test``."""
    tables: Mapping[str, Mapping[str, float]]
    """Data set -> canonical architecture string -> accuracy in percent."""
    space: str = "nb201"
    """Name of the space that the architectures are of; no other space's scores may be compared with them."""

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

    def accuracies(self, dataset: str) -> dict[str, float]:
        """Return architecture string -> accuracy in percent (higher is better).

        Raises:
            ValueError: if the oracle does not know the data set.
        """
        if dataset not in self.tables:
            raise ValueError(
                f"dataset={dataset!r} is not known to the oracle {self.name!r}{nearest(dataset, self.datasets)} "
                f"(known: {', '.join(self.datasets)})"
            )
        return dict(self.tables[dataset])


def nearest(name: str, known: Iterable[str]) -> str:
    """Return ``; did you mean '...'?`` or an empty text where nothing comes near."""
    match = difflib.get_close_matches(name, list(known), 1)
    return f"; did you mean {match[0]!r}?" if match else ""
