"""What the rankings of a run cost, and how far they agree with each other."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from vkdnw_pl.ranking import columns_of, parse_ranking
from vkdnw_pl.report.runs import Run, is_number, mapping_or_empty
from vkdnw_pl.report.tables import Line, metric_value

MAX_COMPARED = 24
"""Rankings that a table of correlations has; those with the best Kendall's tau."""
_SHADES = 5


def proxy_seconds(run: Run) -> dict[str, float]:
    """Proxy -> mean wall time of a network, over all attempts that recorded it; empty for older runs."""
    sums: dict[str, tuple[float, int]] = {}
    for attempt in run.attempts:
        rows = attempt.get("rows_made")
        if not isinstance(rows, int) or rows < 1:
            continue
        for name, seconds in mapping_or_empty(attempt.get("proxy_seconds")).items():
            if is_number(seconds) and math.isfinite(seconds) and seconds >= 0:
                total, count = sums.get(name, (0.0, 0))
                sums[name] = total + rows * seconds, count + rows
    return {name: total / count for name, (total, count) in sums.items()}


def ranking_seconds(run: Run) -> dict[str, float]:
    """Ranking with metrics -> mean wall time of its proxies together; without those whose proxies were not timed."""
    of_proxies = proxy_seconds(run)
    seconds = {}
    for ranking in dict.fromkeys(row["ranking"] for row in run.metrics) if of_proxies else ():
        try:
            proxies = {_proxy_of(column, of_proxies) for column in columns_of(parse_ranking(ranking))}
        except ValueError:
            continue  # a learned one, or a name that a user gave
        if None not in proxies:
            seconds[ranking] = sum(of_proxies[proxy] for proxy in proxies if proxy is not None)
    return seconds


def rank_correlations(run: Run) -> Line | None:
    """Spearman's rho of each two rankings of ``ranking.csv``; None where there are fewer than three.

    Rankings that agree stand together. Fields: ``names``, ``lines`` (for each name its cells in the same order: ``text``,
    ``title`` and ``shade``, a class of the style sheet), ``networks`` (how many) and ``of`` (how many rankings there are).
    """
    if run.ranking is None or len(run.ranking) < 3:
        return None
    taus = {row["ranking"]: metric_value(row, "kendall").mean or 0.0 for row in reversed(run.metrics)}
    names = sorted(run.ranking.columns, key=lambda name: -taus.get(name, 0.0))[:MAX_COMPARED]
    if len(names) < 3:
        return None
    rho = run.ranking[names].corr().to_numpy()  # of ranks
    of_run = correlation_map(names, rho)
    of_run.networks, of_run.of = len(run.ranking), len(run.ranking.columns)
    return of_run


def correlation_map(names: Sequence[str], rho: np.ndarray) -> Line:
    """Correlations (n, n) of named rankings as a table, those that agree together: ``names`` and ``lines``."""
    order = _together(rho)
    names = [names[i] for i in order]
    lines = [
        [_cell(value, name, other, name == other) for other, value in zip(names, values)]
        for name, values in zip(names, rho[np.ix_(order, order)].tolist())
    ]
    return Line(names=names, lines=lines)


def _proxy_of(column: str, proxies: Mapping[str, float]) -> str | None:
    """The proxy that gives a column, such as ``vkdnw_decile_1``."""
    owners = [proxy for proxy in proxies if column == proxy or column.startswith(f"{proxy}_")]
    return max(owners, key=len, default=None)


def _together(rho: np.ndarray) -> list[int]:
    """An order in which rankings that agree are neighbours, of correlations (n, n): by the angle of their places on the two
    leading principal axes (Friendly, Corrgrams, 2002)."""
    axes = np.linalg.eigh(np.nan_to_num(rho))[1][:, [-1, -2]]
    axes *= np.where(axes[np.abs(axes).argmax(axis=0), [0, 1]] < 0, -1, 1)  # eigenvectors have no sign of their own
    return np.argsort(np.arctan2(axes[:, 1], axes[:, 0]), kind="stable").tolist()


def _cell(rho: float, name: str, other: str, same: bool) -> Line:
    if same or math.isnan(rho):
        return Line(text="" if same else "–", title=f"{name}, {other}", shade="same" if same else "")
    level = min(_SHADES, int(abs(rho) * _SHADES + 0.5))
    shade = f"{'plus' if rho > 0 else 'minus'}{level}" if level else ""
    return Line(text=f"{rho:.2f}".replace("-", "−"), title=f"{name}, {other}", shade=shade)
