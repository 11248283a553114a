"""Proxy values of candidates: which ones a ranking needs, and where they come from."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vkdnw_pl.ranking import Term, columns_of
from vkdnw_pl.ranking.needed import with_proxies_of
from vkdnw_pl.runs.table import ScoreRow, join_rows, read_table
from vkdnw_pl.scoring.score_tables import canonical
from vkdnw_pl.search.history import COST_COLUMNS, LABEL
from vkdnw_pl.spaces import Space

if TYPE_CHECKING:
    from vkdnw_pl.proxies.base import Proxy
    from vkdnw_pl.scoring.workers import InProgress
    from vkdnw_pl.search.settings import SearchSettings

Spec = str | Mapping[str, Any]


def columns_to_look_up(terms: Sequence[Term], extra: Sequence[Spec]) -> list[str]:
    """Columns that a score table must have: those of the ranking, and the first one of each further proxy."""
    names = [_first_column(spec) for spec in extra]
    return [name for name in dict.fromkeys([*columns_of(terms), *names]) if name not in (*COST_COLUMNS, LABEL)]


def _first_column(spec: Spec) -> str:
    """That of a proxy, which a dotted name is not; or a column of the table that no proxy has."""
    from vkdnw_pl.proxies import PROXIES

    options = {"name": spec} if isinstance(spec, str) else spec
    if "label" in options:
        return str(options["label"])
    name = str(options.get("name"))
    return PROXIES[name].info.name if "." in name or name in PROXIES else name


def proxies_to_compute(ranking: str, extra: Sequence[Spec]) -> list[Proxy]:
    """The proxies that a ranking needs, with their defaults, and further ones.

    A column of the ranking that one of ``extra`` has, also by a label, is theirs; what the space knows by itself (``macs``,
    ``num_params``, ``layers``) needs no proxy.
    """
    from vkdnw_pl.proxies import make_proxies

    specs = with_proxies_of([ranking], extra, (*COST_COLUMNS, LABEL))
    proxies = make_proxies(specs) if specs else []
    return [proxy for proxy in proxies if not set(proxy.table_columns) <= set(COST_COLUMNS)]


Evaluate = Callable[[Sequence[str]], Iterator[ScoreRow]]
"""Gives one row for each architecture, in their order, each as soon as it and all before it are known."""


class NotInTable(ValueError):
    """A score table lacks an architecture that the search came upon."""


class TableScores:
    """Looks columns up in a score table, in the rows of one seed."""

    def __init__(self, path: str, space: Space, columns: Sequence[str], seed: int) -> None:
        self._path = path
        self._columns = tuple(columns)
        table = canonical(read_table(Path(path).expanduser()), space, path)
        missing = [column for column in columns if column not in table.columns]
        if missing:
            raise ValueError(
                f"scores={path!r} has no column {', '.join(map(repr, missing))} (it has: {', '.join(table.columns)})"
            )
        if seed not in table.seeds:
            seeds = ", ".join(map(str, table.seeds)) or "none"
            raise ValueError(f"proxy_seed={seed} is not allowed: the seeds in {path} are {seeds}")
        rows = join_rows((row for row in table.rows if row.seed == seed), path)
        self._rows = {arch: row for (arch, _), row in rows.items()}

    def __len__(self) -> int:
        return len(self._rows)

    def __call__(self, archs: Sequence[str]) -> Iterator[ScoreRow]:
        for arch in archs:
            row = self._rows.get(arch)
            if row is None:
                raise NotInTable(
                    f"{self._path} has no scores of {arch}, which the search came upon; give a table of all "
                    "architectures of the space, or leave scores out to compute them"
                )
            yield replace(row, values={column: row.values[column] for column in self._columns}, seconds=0.0)


def remembered(evaluate: Evaluate) -> Evaluate:
    """The same, but no architecture is evaluated twice."""
    rows: dict[str, ScoreRow] = {}

    def look_up(archs: Sequence[str]) -> Iterator[ScoreRow]:
        new = [arch for arch in archs if arch not in rows]
        fresh = evaluate(new) if new else iter(())
        for arch in archs:
            if arch not in rows:
                rows[arch] = next(fresh)
            yield rows[arch]
        next(fresh, None)  # what comes after the last row is the end of the work

    return look_up


@contextmanager
def open_scores(
    settings: SearchSettings,
    workers: int = 1,
    nodes: int = 1,
    row_timeout: float | None = None,
    waiting: Callable[[InProgress], None] | None = None,
) -> Iterator[Evaluate]:
    """What gives the values of these settings, with ``workers`` processes on each of the machines.

    More than one node must have been started by SLURM or torchrun; all processes but the first call `workers.help_first`.
    """
    if settings.scores is not None:
        yield TableScores(settings.scores, settings.make_space(), settings.columns, settings.proxy_seed)
        return
    if not settings.proxies:
        yield lambda archs: (ScoreRow(arch, settings.proxy_seed, {}) for arch in archs)
        return
    from vkdnw_pl.scoring.scorer import Scorer
    from vkdnw_pl.scoring.workers import Workers, meet_helpers, own_device

    helpers = meet_helpers(workers, nodes) if nodes > 1 else []
    device, count = (own_device(settings.device, 0), 1) if nodes > 1 else (settings.device, workers)
    with Workers(Scorer(settings), device, count, row_timeout, helpers) as team:

        def compute(archs: Sequence[str]) -> Iterator[ScoreRow]:
            pending = deque(archs)
            rows: dict[str, ScoreRow] = {}
            for row in team.rows([(arch, settings.proxy_seed) for arch in archs], waiting):
                rows[row.arch] = replace(row, values={column: row.values[column] for column in settings.columns})
                while pending and pending[0] in rows:
                    yield rows[pending.popleft()]

        yield compute
