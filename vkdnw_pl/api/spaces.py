"""Scores of a search space's architectures."""

from __future__ import annotations

import dataclasses
import multiprocessing
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import pandas as pd

from vkdnw_pl.commands.score import score
from vkdnw_pl.errors import CommandFailed, UsageError, WorkerDied, nearest
from vkdnw_pl.proxies.base import ProxySpec
from vkdnw_pl.ranking import parse_ranking
from vkdnw_pl.ranking.needed import named_rankings
from vkdnw_pl.runs.table import ScoreTable, read_table, score_frame
from vkdnw_pl.scoring.evaluation import evaluate_table
from vkdnw_pl.scoring.plan import DEFAULT_PROXIES, ScoreOptions, plan_scoring
from vkdnw_pl.scoring.progress import Progress
from vkdnw_pl.scoring.scorer import Scorer
from vkdnw_pl.scoring.workers import Workers, start_method

_GUARD = (
    "where workers are not forked (CUDA, macOS), each begins by importing the script that it is called from: put the call "
    "of score_space below if __name__ == '__main__': in a file (a notebook needs no such thing)"
)


def score_space(
    space: Any = "nb201",
    archs: str | Sequence[str] = "auto",
    proxies: Sequence[ProxySpec] = DEFAULT_PROXIES,
    seeds: int | str | Sequence[int] = 1,
    workers: int | Literal["auto"] = "auto",
    out: str | Path | None = None,
    progress: bool = True,
    **options: Any,
) -> pd.DataFrame:
    """Score architectures of a search space, in worker processes, with a progress bar.

    Args:
        space: name of the space, or the space itself, or its class.
        archs: which architectures: ``sample:20``, ``all``, a file, a list, ...: as ``--archs`` of the command ``score``.
        proxies: names, ``{"name": ..., parameter: value}``, classes or made proxies. The name of a ranking, such as
            ``vkdnw_agg``, stands for the proxies that it needs, and makes a column of ranks.
        seeds: of initialisation and input: 1, [1, 2, 3] or "1..5".
        workers: processes; ``auto`` is one for each CPU core that may be used, or each GPU.
        out: run folder, which the command ``score`` of the same options continues and ``report`` shows; it prints as the
            command does. None: nothing is written, and an interruption loses all.
        progress: show how far it is.
        options: any other option of the command ``score``, such as ``batch_size``, ``network``, ``data``, ``device``: see
            ``help(vkdnw_pl.scoring.plan.ScoreOptions)``.

    Returns:
        One row per (arch, seed), in the order of the architectures: ``arch``, ``seed``, the values (NaN where there is
        none), ``status`` (``ok`` or ``failed``), ``reason``, ``seconds``. Where ``proxies`` name rankings, the mean ranks
        over the seeds, 1 = predicted to be best, stand behind ``seed``, and the first sorts the rows.

    Raises:
        ValueError: for options that are not allowed.
        RuntimeError: if no worker could begin.
    """
    if getattr(multiprocessing.current_process(), "_inheriting", False):
        raise RuntimeError(_GUARD)
    names = [item.name for item in dataclasses.fields(ScoreOptions)]
    for name in options:
        if name not in names:
            raise ValueError(f"{name} is no option of score{nearest(name, names)}")
    specs: Any = proxies if isinstance(proxies, str) else list(proxies)
    chosen: dict[str, Any] = {
        **{"space": space, "archs": archs if isinstance(archs, str) else list(archs), "proxies": specs},
        **{"seeds": seeds if isinstance(seeds, int | str) else list(seeds), "workers": workers, **options},
    }
    try:
        if out is None:
            table = _made(ScoreOptions(progress=False, **chosen), progress)
        else:
            code = score(ScoreOptions(progress=progress, out=str(out), **chosen))
            if code > 1:
                raise KeyboardInterrupt
            table = read_table(Path(out).expanduser() / "scores.csv")
    except UsageError as error:
        raise ValueError(str(error)) from None
    except CommandFailed as error:
        hint = f" ({_GUARD})" if isinstance(error.__cause__, WorkerDied) else ""
        raise RuntimeError(f"{error}{hint}") from error
    return _frame(table, named_rankings(specs))


def _made(options: ScoreOptions, progress: bool) -> ScoreTable:
    """The whole table, in memory."""
    plan = plan_scoring(options)
    device, display = plan.settings.device, Progress(len(plan.keys), shown=progress)
    rows = {}
    try:
        with display, Workers(Scorer(plan.settings), device, plan.workers, options.row_timeout) as workers:
            for row in workers.rows(plan.keys, display.waiting):
                rows[row.key] = row
                display.add(row.failed)
    except WorkerDied as death:
        hint = f"; {_GUARD}" if start_method(device) == "spawn" else ""
        raise RuntimeError(f"a worker process ended before it could begin: {death}{hint}") from death
    return ScoreTable(plan.columns, [rows[key] for key in plan.keys])


def _frame(table: ScoreTable, rankings: Sequence[str]) -> pd.DataFrame:
    frame = score_frame(table.rows)
    if not rankings:
        return frame
    evaluation = evaluate_table(table, None, {name: parse_ranking(name) for name in rankings})
    for place, name in enumerate(rankings, 2):
        ranks = dict(zip(evaluation.archs, evaluation.ranks[name]))
        frame.insert(place, name, frame["arch"].map(ranks))
    return frame.sort_values(rankings[0], kind="stable", ignore_index=True)
