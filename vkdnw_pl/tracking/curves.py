"""Live curves: of a search through a file that its first process writes, of a scoring from its journals.

With several workers the process that searches is not the one that the W&B run belongs to.
"""

from __future__ import annotations

import json
import math
import time
from collections import Counter, deque
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from vkdnw_pl.search.engine import Watch
from vkdnw_pl.search.history import Candidate
from vkdnw_pl.search.proposals import Tally
from vkdnw_pl.search.record import Record
from vkdnw_pl.tracking.contents import is_main

CURVE = "wandb/search_curve.jsonl"
EVERY_S = 2.0
_PARENTS = 256
"""So many of the latest candidates are asked for their parents."""


class SearchCurve:
    """A `search.engine.Watch` that writes now and then how far the search is.

    Args:
        path: file with one point a line.
        every_s: least time between two points.
    """

    def __init__(self, path: Path, every_s: float = EVERY_S) -> None:
        self._path, self._every_s = path, every_s
        self._tally = Tally()
        self._done = self._begun = self._failed = 0
        self._started_at = self._wrote_at = 0.0
        self._parents: deque[int] = deque(maxlen=_PARENTS)
        self._record: Record | None = None

    def start(self, done: int, total: int) -> None:
        self._done = self._begun = done
        self._started_at = time.monotonic()

    def candidate(self, candidate: Candidate, tally: Tally) -> None:
        self._done += 1
        self._failed += candidate.failed
        self._tally = tally
        if candidate.parent is not None:
            self._parents.append(candidate.parent)

    def batch(self, record: Record) -> None:
        self._record = record
        if not self._wrote_at or time.monotonic() - self._wrote_at >= self._every_s:
            self._write()

    def end(self) -> None:
        if self._record is not None:
            self._write()

    def _write(self) -> None:
        assert self._record is not None
        self._wrote_at = time.monotonic()
        point = {
            "search/evaluated": len(self._record),
            "search/evaluations_per_s": (self._done - self._begun) / max(self._wrote_at - self._started_at, 1e-9),
            "search/acceptance": self._tally.acceptance,
            "search/failed": self._failed,
            **_best(self._record),
        }
        if self._parents:
            point["search/effective_parents"] = effective_number(Counter(self._parents))
        try:
            with self._path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(point) + "\n")
        except OSError:
            return  # the search does not hang on its curves


class Watches:
    """A `search.engine.Watch` that tells several."""

    def __init__(self, watches: Sequence[Watch]) -> None:
        self._watches = list(watches)

    def start(self, done: int, total: int) -> None:
        for watch in self._watches:
            watch.start(done, total)

    def candidate(self, candidate: Candidate, tally: Tally) -> None:
        for watch in self._watches:
            watch.candidate(candidate, tally)

    def batch(self, record: Record) -> None:
        for watch in self._watches:
            watch.batch(record)

    def end(self) -> None:
        for watch in self._watches:
            watch.end()


class CurveReader:
    """The points of a `SearchCurve` since it was last asked; a line that is still being written waits.

    Args:
        path: the curve's file; what an earlier search left there is removed.
    """

    def __init__(self, path: Path) -> None:
        self._path, self._read = path, 0
        path.unlink(missing_ok=True)

    def __call__(self) -> Iterator[Mapping[str, float]]:
        if not self._path.is_file():
            return
        with self._path.open("rb") as file:
            file.seek(self._read)
            text = file.read()
        whole = text[: text.rfind(b"\n") + 1]
        self._read += len(whole)
        for line in whole.splitlines():
            yield json.loads(line)


class RowCounter:
    """How many rows of a scoring there are, from the journals that its processes write.

    Args:
        journals: their folder.
        before: rows that were there already.
    """

    def __init__(self, journals: Path, before: int) -> None:
        self._journals, self._before = journals, before
        self._there = self._last = self._count()
        self._started_at = time.monotonic()

    def __call__(self) -> Iterator[Mapping[str, float]]:
        count = self._count()
        if count <= self._last:
            return
        self._last = count
        made = count - self._there
        seconds = time.monotonic() - self._started_at
        yield {"score/rows": self._before + made, "score/rows_per_s": made / max(seconds, 1e-9)}

    def _count(self) -> int:
        """Lines of all journals without their first ones."""
        return sum(max(path.read_bytes().count(b"\n") - 1, 0) for path in self._journals.glob("*.csv"))


def effective_number(counts: Mapping[Any, int]) -> float:
    """Exponential of the entropy of shares: 1 where all are one, n where n are equally frequent."""
    total = sum(counts.values())
    return math.exp(-sum(count / total * math.log(count / total) for count in counts.values()))


def _best(record: Record) -> dict[str, float]:
    """Score, cost and proxies of the best candidate so far."""
    places = record.best(1).tolist()
    if not places:
        return {}
    best = record[places[0]]
    known = {"score": float(record.scores()[places[0]]), "macs": best.macs, "num_params": best.num_params}
    known |= {name: value for name, value in best.values.items() if value is not None and is_main(name)}
    return {f"search/best/{name}": value for name, value in known.items()}
