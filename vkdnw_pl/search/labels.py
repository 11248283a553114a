"""Labels: known accuracies that guide a search, each network that is evaluated costing one."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from vkdnw_pl.oracles import Oracle
from vkdnw_pl.oracles.base import of_networks
from vkdnw_pl.runs.folder import text_digest
from vkdnw_pl.runs.table import ScoreRow
from vkdnw_pl.search.constraints import Costs
from vkdnw_pl.search.history import LABEL
from vkdnw_pl.search.scores import Evaluate
from vkdnw_pl.spaces import Space

Check = Callable[[str], Costs | str]

NO_LABEL = "labels (none is known)"
"""What a network breaks of which no label is known, as if it were a bound."""


@dataclass(frozen=True)
class Labels:
    """Accuracies that a search may ask for."""

    oracle: str
    dataset: str
    split: str
    values: Mapping[str, float]
    """Architecture as the space's `canonicalise` gives it -> accuracy, higher is better."""

    @classmethod
    def of(cls, oracle: Oracle, dataset: str | None, space: Space) -> Labels:
        """Those of an oracle on a data set; None where it has only one."""
        if dataset is None and len(oracle.datasets) > 1:
            raise ValueError(f"it has several data sets; choose one with dataset ({', '.join(oracle.datasets)})")
        dataset = oracle.datasets[0] if dataset is None else dataset
        known = oracle.accuracies(dataset)
        if not oracle.measure(dataset).higher_is_better:
            raise ValueError(
                f"of {dataset} lower values are the better ones, and a search looks for the greatest label"
            )
        return cls(oracle.name, dataset, oracle.split[dataset], of_networks(known, space.canonicalise))

    def __len__(self) -> int:
        return len(self.values)

    @property
    def text(self) -> str:
        """Which accuracies these are."""
        return f"{self.dataset} ({self.split}) of {self.oracle}"

    def record(self) -> dict[str, Any]:
        """JSON-able form: the values stand as their digest."""
        sha256 = text_digest(json.dumps(sorted(self.values.items())))
        return {"oracle": self.oracle, "dataset": self.dataset, "count": len(self), "sha256": sha256}

    def only_known(self, check: Check) -> Check:
        """A check that refuses networks without a label too."""
        return lambda arch: check(arch) if arch in self.values else NO_LABEL

    def added_to(self, evaluate: Evaluate) -> Evaluate:
        """Rows that have the label beside their values."""

        def labelled(archs: Sequence[str]) -> Iterator[ScoreRow]:
            for row in evaluate(archs):
                yield replace(row, values={**row.values, LABEL: self.values[row.arch]})

        return labelled
