"""The history of a search: its candidates and how they rank, kept as CSV text that reads back to the same bits.

Columns: ``index,arch,parent,origin,macs,num_params,layers,latency_ms,peak_mb``, one per proxy value, ``predicted`` and
``label`` where known accuracies guide the search, ``status`` (``ok`` or ``failed``), ``reason``, ``seconds``. A cell that was not measured, or has no finite value, is empty.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from vkdnw_pl.ranking import (
    ByAgreement,
    GrowingRanks,
    RankSum,
    Term,
    columns_of,
    combine,
    has_value,
    named_weights,
    term_ranks,
)
from vkdnw_pl.runs.csv_table import read_grown
from vkdnw_pl.runs.files import LineFile, csv_line
from vkdnw_pl.runs.table import FAILED, OK, reason_cell

Array = np.ndarray[Any, np.dtype[np.float64]]
Indices = np.ndarray[Any, np.dtype[np.int64]]

BEFORE = ("index", "arch", "parent", "origin", "macs", "num_params", "layers", "latency_ms", "peak_mb")
AFTER = ("status", "reason", "seconds")
ORIGINS = ("initial", "random", "mutation")


@dataclass(frozen=True, slots=True)
class Candidate:
    """One evaluated architecture."""

    index: int
    """Place in the history, from 0."""
    arch: str
    parent: int | None
    """Index of the candidate that it was mutated from; None for others."""
    origin: str
    """``initial`` (mutated from the start, or drawn before there were parents), ``random`` or ``mutation``."""
    macs: int
    """True multiply-adds of one image (`Space.cost`)."""
    num_params: int
    layers: int | None = None
    """None where the space does not count layers."""
    latency_ms: float | None = None
    """None where it was not measured."""
    peak_mb: float | None = None
    """None where it was not measured."""
    values: Mapping[str, float | None] = field(default_factory=dict)
    """Column -> finite value, higher is better; None where there is none."""
    status: str = OK
    reason: str = ""
    """Why it failed, or why a value is missing."""
    seconds: float = 0.0
    """Wall time of the evaluation; the only part that differs from run to run."""

    @property
    def failed(self) -> bool:
        """Whether a proxy raised, ran out of memory or gave NaN: ranks last and is never a parent."""
        return self.status == FAILED

    def value(self, column: str) -> float | None:
        """The value of a column to rank by: of a proxy, or ``macs``, ``num_params`` or ``layers``; else ``KeyError``."""
        if column in self.values:
            return self.values[column]
        if column in COST_COLUMNS:
            return getattr(self, column)
        raise KeyError(column)


COST_COLUMNS = ("macs", "num_params", "layers")
"""Columns that a ranking may use and that no proxy has to compute."""
LABEL = "label"
"""The column of the known accuracy, where such guide the search."""
PREDICTED = "predicted"
"""The column of what a predictor expected of the label before it was known."""


def read_history(path: str | Path) -> list[Candidate]:
    """Read a history, but for a last line that a kill has torn; a ``ValueError`` names file, line and fault."""
    table = read_grown(Path(path), csv_line([*BEFORE, *AFTER]))
    columns = [name for name in table.names if name not in (*BEFORE, *AFTER)]
    whole = {name: table.wholes(name) for name in ("index", "parent", "macs", "num_params", "layers")}
    number = {name: table.numbers(name) for name in ("latency_ms", "peak_mb", "seconds", *columns)}
    for name in ("index", "macs", "num_params"):
        table.required(name, whole[name])
    for i, index in enumerate(whole["index"]):
        if index != i:
            raise ValueError(f"{table.place(i, 'index')}: index is {index}, it must be {i}")
        if (parent := whole["parent"][i]) is not None and parent >= i:
            raise ValueError(f"{table.place(i, 'parent')} is {parent}, which must stand before")
    rows = zip(*(number[name] for name in columns)) if columns else [()] * len(table)
    return [
        Candidate(*fields)
        for fields in zip(
            *(whole["index"], table.texts("arch"), whole["parent"], table.choices("origin", ORIGINS)),
            *(whole["macs"], whole["num_params"], whole["layers"], number["latency_ms"], number["peak_mb"]),
            (dict(zip(columns, values)) for values in rows),
            *(
                table.choices("status", (OK, FAILED)),
                table.texts("reason"),
                table.required("seconds", number["seconds"]),
            ),
        )
    ]


class HistoryFile:
    """The history on the disk, to append to; a line that a kill has torn is cut off first, other columns are refused."""

    def __init__(self, path: Path, columns: Sequence[str]) -> None:
        self._columns = tuple(columns)
        self._file = LineFile(path, csv_line([*BEFORE, *self._columns, *AFTER]))

    def append(self, candidate: Candidate) -> None:
        """Add one line; when this returns, a kill of the process does not lose it."""
        before = [getattr(candidate, name) for name in BEFORE]
        values = [candidate.values[column] for column in self._columns]
        after = [candidate.status, reason_cell(candidate.reason), f"{candidate.seconds:.3f}"]
        self._file.append(csv_line([*before, *values, *after]))

    def close(self) -> None:
        """Close the file."""
        self._file.close()


class RankedHistory:
    """Candidates in the order of the search, ranked by ``terms`` (see `ranking.aggregate`)."""

    def __init__(self, terms: Sequence[Term]) -> None:
        self._candidates: list[Candidate] = []
        self._archs: set[str] = set()
        self._failed: list[int] = []
        self._terms = terms
        summed = [term for term in terms if isinstance(term, RankSum)]  # whose ranks are made anew
        self._columns: dict[str, Array] = dict.fromkeys(columns_of(summed), np.empty(0))
        self._ranks = [None if isinstance(term, RankSum) else GrowingRanks(len(columns_of([term]))) for term in terms]
        self._known = np.empty(0, dtype=bool)
        self._scores: Array | None = None

    def __len__(self) -> int:
        return len(self._candidates)

    def __getitem__(self, index: int) -> Candidate:
        return self._candidates[index]

    def __iter__(self) -> Iterator[Candidate]:
        return iter(self._candidates)

    def __contains__(self, arch: str) -> bool:
        return arch in self._archs

    def add(self, candidates: Iterable[Candidate]) -> None:
        """Add candidates behind those that are there."""
        new = list(candidates)
        if not new:
            return
        self._candidates.extend(new)
        self._archs.update(candidate.arch for candidate in new)
        self._failed.extend(candidate.index for candidate in new if candidate.failed)
        values = {
            name: np.array([None if row.failed else row.value(name) for row in new], dtype=np.float64)
            for name in columns_of(self._terms)
        }
        self._columns = {name: np.append(column, values[name]) for name, column in self._columns.items()}
        tables = [np.stack([values[name] for name in columns_of([term])]) for term in self._terms]
        self._known = np.append(self._known, np.any([has_value(table) for table in tables], axis=0))
        for ranks, table in zip(self._ranks, tables):
            if ranks is not None:
                ranks.add(table)
        self._scores = None

    def scores(self) -> Array:
        """Aggregated score of each candidate, higher is better; minus infinity for those that failed."""
        if self._scores is None:
            scores = combine(self._terms, self._all_ranks(), self._known)
            scores[self._failed] = -np.inf
            self._scores = scores
        return self._scores

    def weights(self) -> dict[str, float]:
        """Term -> its weight now, see `ranking.named_weights`; empty where the ranking weighs all terms alike."""
        return (
            named_weights(self._terms, self._all_ranks(), self._known) if isinstance(self._terms, ByAgreement) else {}
        )

    def _all_ranks(self) -> list[Array]:
        return [
            term_ranks(term, np.stack([self._columns[name] for name in columns_of([term])]))
            if grown is None
            else grown.ranks()
            for term, grown in zip(self._terms, self._ranks)
        ]

    def best(self, count: int) -> Indices:
        """Indices of the best candidates that did not fail, best first; of equal ones the earlier is the better."""
        chosen = self.top(count)
        return chosen[np.argsort(-self.scores()[chosen], kind="stable")]

    def top(self, count: int) -> Indices:
        """The same candidates as `best`, in the order of the history."""
        scores = self.scores()
        if count >= len(scores):
            return self.usable()
        worst = np.partition(scores, len(scores) - count)[len(scores) - count]
        above = np.flatnonzero(scores > worst)
        if worst == -np.inf:
            return above
        equal = np.flatnonzero(scores == worst)[: count - len(above)]
        return np.sort(np.concatenate([above, equal]))

    def usable(self) -> Indices:
        """Indices of the candidates that did not fail."""
        usable = np.ones(len(self), dtype=bool)
        usable[self._failed] = False
        return np.flatnonzero(usable)
