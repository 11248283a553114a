"""Run folders and score tables as tables of pandas."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from vkdnw_pl.report.runs import Run
from vkdnw_pl.report.runs import read_run as read_record
from vkdnw_pl.runs.table import read_table, score_frame


class RunTables:
    """What a run folder holds. A result is read from its file when it is first asked for; None where the run has none.

    Attributes:
        path: the folder.
        kind: the command that made it: ``score``, ``evaluate``, ``search``, ``label`` or ``fit``.
        status: ``finished``, ``stopped``, ``running`` (or killed), ``failed``, ``exhausted`` or ``not merged``.
        notes: what is not finished or unusual.
        config: content of ``config.yaml``.
        meta: content of ``meta.json``: versions, device, times.
    """

    def __init__(self, run: Run) -> None:
        self._run = run
        self.path, self.kind, self.status, self.notes = run.path, run.command, run.status, run.notes
        self.config, self.meta = run.config, run.meta

    def __repr__(self) -> str:
        return f"<{self.kind} run {str(self.path)!r}: {'; '.join([self.status, *self.notes])}>"

    @property
    def scores(self) -> pd.DataFrame | None:
        """``scores.csv``, one row per (arch, seed): ``arch``, ``seed``, the values, ``status``, ``reason``, ``seconds``."""
        return self._run.scores

    @property
    def ranking(self) -> pd.DataFrame | None:
        """``ranking.csv`` by ``arch``: its rank in each ranking, 1 = predicted to be best."""
        return self._run.ranking

    @cached_property
    def metrics(self) -> pd.DataFrame | None:
        """``metrics.csv``: how each ranking agrees with known accuracies."""
        if not self._run.metrics:
            return None
        table = pd.DataFrame(self._run.metrics)
        numbers = [name for name in table.columns if name not in ("ranking", "dataset", "split")]
        return table.assign(**{name: pd.to_numeric(table[name], errors="coerce") for name in numbers})

    @cached_property
    def history(self) -> pd.DataFrame | None:
        """Of a search ``history.csv``, one row per network that was evaluated; of a training ``history.jsonl``, the values
        that were logged, by ``step`` and ``epoch``."""
        if candidates := self._run.candidates:
            rows = [asdict(candidate) for candidate in candidates]
            values = [row.pop("values") for row in rows]
            places = list(rows[0]).index("status")
            table = pd.DataFrame(rows)
            return pd.concat([table.iloc[:, :places], pd.DataFrame(values), table.iloc[:, places:]], axis=1)
        return pd.DataFrame(self._run.history) if self._run.history else None

    @cached_property
    def labels(self) -> pd.DataFrame | None:
        """``labels.csv`` of ``label``, one row per training: ``arch``, ``group``, ``macs``, ``params``, ``seed``,
        ``accuracy`` in percent, and ``reason`` where it failed."""
        rows = [
            (network.arch, network.group, network.macs, network.params, seed, network.accuracies.get(seed), reason)
            for network in self._run.trained
            for seed, reason in sorted({**dict.fromkeys(network.accuracies, ""), **network.failures}.items())
        ]
        names = ["arch", "group", "macs", "params", "seed", "accuracy", "reason"]
        return pd.DataFrame(rows, columns=names) if rows else None

    @property
    def found(self) -> Mapping[str, Any] | None:
        """``found.json`` of a search: the best network, and ``top``."""
        return self._run.found

    @property
    def results(self) -> Mapping[str, float] | None:
        """``results.json`` of a training: the last value of each metric."""
        return self._run.results or None

    @property
    def proxy_drift(self) -> pd.DataFrame | None:
        """``proxy_drift.csv`` of a training: proxies on the weights as they were, by ``epoch`` and ``step``."""
        return self._run.proxy_drift


def read_run(folder: str | Path) -> RunTables:
    """Read a run folder, finished or not, of any of these commands; nothing in it is executed.

    Raises:
        ValueError: if it is no run folder, or a file in it is damaged; the latter also when that file is first asked for.
    """
    return RunTables(read_record(folder))


def read_scores(path: str | Path) -> pd.DataFrame:
    """Read a score table: a ``scores.csv`` (or ``.csv.gz``), also of another program, or the run folder that holds one.

    Returns:
        One row per (arch, seed): ``arch``, ``seed``, the values (NaN where there is none), ``status``, ``reason``,
        ``seconds``.

    Raises:
        ValueError: naming the file, the line and the fault.
    """
    path = Path(path).expanduser()
    if not path.is_dir():
        return score_frame(read_table(path).rows)
    table = read_run(path).scores
    if table is None:
        raise ValueError(f"{path} is a run folder without scores.csv")
    return table
