"""Runs as one HTML page that needs no other file and no network.

Every value is escaped; the page allows itself nothing but its own style and script, which it names by their digests.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib import resources
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from vkdnw_pl._version import __version__
from vkdnw_pl.report.figures.style import RUN_COLORS, css_colors
from vkdnw_pl.report.outputs import PAGE_MARK
from vkdnw_pl.report.paper.comparison import CLOSE, COVERED, DIFFERS, NO_PAPER, NOT_COMPUTED
from vkdnw_pl.report.run_figures import (
    bar_figures,
    proxies_and_accuracy,
    rank_scatters,
    search_curves,
    training_curves,
)
from vkdnw_pl.report.run_paper import paper_parts
from vkdnw_pl.report.run_summary import (
    again,
    best_networks,
    config_tables,
    environment_table,
    failed_runs,
    search_lines,
    summary_lines,
    training_lines,
)
from vkdnw_pl.report.runs import Run
from vkdnw_pl.report.tables import METRICS, metric_table
from vkdnw_pl.report.text import clean, counted, shortened
from vkdnw_pl.runs.files import duration

_CSS = {CLOSE: "close", COVERED: "close", DIFFERS: "differs", NO_PAPER: "", NOT_COMPUTED: ""}


def runs_html(runs: Sequence[Run], title: str, made_at: datetime | None = None) -> str:
    """Render the page; ``made_at`` (default: now) is shown below the title."""
    if not runs:
        raise ValueError("runs is empty: there is nothing to report")
    environment = Environment(
        loader=PackageLoader("vkdnw_pl.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_finalize,
    )
    environment.filters.update(short=shortened, time=duration, counted=counted)
    style, script = css_colors() + _packaged("runs.css"), _packaged("runs.js")
    metrics = metric_table([run.metrics for run in runs])
    searches = search_curves(runs)
    page = environment.get_template("runs.html.j2").render(
        title=title,
        made_at=(made_at or datetime.now(UTC)).strftime("%Y-%m-%d %H:%M UTC"),
        version=__version__,
        mark=Markup(PAGE_MARK),
        policy=_policy(style, script),
        style=Markup(style),
        script=Markup(script),
        runs=runs,
        colors=[i % len(RUN_COLORS) for i in range(len(runs))],
        summary=summary_lines(runs),
        metrics=metrics,
        metric_names=METRICS,
        bars=bar_figures(metrics, runs) if metrics else [],
        paper=paper_parts(runs),
        paper_css=_CSS,
        searches=search_lines(runs),
        search_figures=[figure for figure in searches if not isinstance(figure, str)],
        search_problems=[problem for problem in searches if isinstance(problem, str)],
        trainings=training_lines(runs),
        training_figures=training_curves(runs),
        proxy_figures=proxies_and_accuracy(runs),
        scatters=rank_scatters(runs),
        is_text=lambda value: isinstance(value, str),
        configs=config_tables(runs),
        environment=environment_table(runs),
        failed=failed_runs(runs),
        best=[best_networks(run) for run in runs],
        again=[again(run) for run in runs],
    )
    # One replacement for what cannot be written as UTF-8 would hide that `clean` had missed something.
    page.encode("utf-8")
    return page


def _finalize(value: Any) -> Any:
    """What becomes of each value of the template before it is escaped; our own markup stays."""
    if value is None:
        return ""
    return value if isinstance(value, Markup | int | float) else clean(str(value))


def _packaged(name: str) -> str:
    return (resources.files("vkdnw_pl.report") / "templates" / name).read_text(encoding="utf-8")


def _policy(style: str, script: str) -> str:
    """What the page may do: show its own images, style and script, and nothing else."""
    digests = [base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in (style, script)]
    return (
        f"default-src 'none'; img-src data:; style-src 'sha256-{digests[0]}'; script-src 'sha256-{digests[1]}'; "
        "base-uri 'none'; form-action 'none'"
    )
