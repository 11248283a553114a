"""Runs as one HTML page that needs no other file and no network, and as GitHub Markdown for a pull request.

On the page every value is escaped, and it allows itself nothing but its own style and script, which it names by their
digests. In Markdown, text of unknown origin is code, or has no character that means something.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from markupsafe import Markup

from vkdnw_pl._version import __version__
from vkdnw_pl.report import run_contents, run_spaces
from vkdnw_pl.report.outputs import MARKDOWN_MARK, PAGE_MARK
from vkdnw_pl.report.run_labels import label_figures, label_sections
from vkdnw_pl.report.run_paper import paper_parts
from vkdnw_pl.report.run_rankings import rank_correlations
from vkdnw_pl.report.run_tables import search_columns, summary_columns, training_columns
from vkdnw_pl.report.runs import Run
from vkdnw_pl.report.tables import METRICS, metric_table
from vkdnw_pl.report.text import clean, counted, shortened
from vkdnw_pl.runs.files import duration

_SPECIAL = re.compile(r"[\\`*_\[\]<>|~$&^]|:(?=\S)")
_LINKED = re.compile(r"(?<![\w&])[@#](?=\w)")
"""What would link a user or an issue, also where it is written as an entity."""


def runs_html(runs: Sequence[Run], title: str, made_at: datetime | None = None) -> str:
    """Render the page; ``made_at`` (default: now) stands below its title.

    Raises:
        ValueError: if there are no runs, or a file of a run is damaged.
    """
    from vkdnw_pl.report import run_figures as figures
    from vkdnw_pl.report.figures.style import RUN_COLORS, css_colors

    values = _contents(runs, title)
    templates = _templates()
    style, script = (templates.loader.get_source(templates, name)[0] for name in ("runs.css", "runs.js"))  # type: ignore[union-attr]
    style = css_colors() + style
    search_figures = figures.search_curves(runs)
    searches = run_contents.search_lines(runs)
    page = templates.get_template("runs.html.j2").render(
        **values,
        made_at=(made_at or datetime.now(UTC)).strftime("%Y-%m-%d %H:%M UTC"),
        version=__version__,
        mark=Markup(PAGE_MARK),
        policy=_policy(style, script),
        style=Markup(style),
        script=Markup(script),
        colors=[i % len(RUN_COLORS) for i in range(len(runs))],
        bars=figures.bar_figures(values["metrics"], runs) if values["metrics"] else [],
        searches=searches,
        cost_figures=figures.cost_figures(runs),
        correlations=[rank_correlations(run) for run in runs],
        search_columns=search_columns(searches),
        search_figures=[figure for figure in search_figures if not isinstance(figure, str)],
        search_problems=[problem for problem in search_figures if isinstance(problem, str)],
        label_figures=label_figures(runs),
        training_figures=[*figures.training_curves(runs), *figures.accuracy_and_macs(runs)],
        proxy_figures=figures.proxies_and_accuracy(runs),
        scatters=figures.rank_scatters(runs),
        spaces_figures=run_spaces.spaces_figures(runs),
        environment=run_contents.environment_table(runs),
        best=[run_contents.best_networks(run) for run in runs],
        again=[run_contents.again(run) for run in runs],
    )
    # One replacement for what cannot be written as UTF-8 would hide that `clean` had missed something.
    page.encode("utf-8")
    return page


def runs_markdown(runs: Sequence[Run], title: str) -> str:
    """Summary, rankings, the paper's values, options that differ, and failures; errors as of `runs_html`."""
    return f"{_markdown('runs.md.j2', runs, title)}\n\n{MARKDOWN_MARK}\n"


def spaces_markdown(run: Run) -> str:
    """The tables of a run on several spaces, and how far its rankings agree."""
    section = run_spaces.spaces_sections([run])[0]
    text = _templates().get_template("spaces.md.j2").render(section=section, level=3)
    return re.sub(r"\n{3,}", "\n\n", text.strip()) + "\n"


def summary_markdown(runs: Sequence[Run]) -> str:
    """A table with a line for each run, and what is unusual about them."""
    return _markdown("summary.md.j2", runs)


def rankings_markdown(runs: Sequence[Run]) -> str:
    """Table and caption of the rank metrics; empty where no run has any."""
    return _markdown("rankings.md.j2", runs)


def code(text: str, table: bool = True) -> str:
    """Text as code, whatever it holds; nothing for an empty text. In a ``table`` a bar would begin the next cell."""
    text = clean(text)
    if not text.strip():
        return ""
    if "|" in text and "\\" in text and table:  # a backslash before a bar would take the bar's own away
        return f"<code>{plain(text)}</code>"
    runs = re.findall(r"`+", text)
    fence = "`" * (max(map(len, runs), default=0) + 1)
    # One space inside is taken away where both ends have one.
    pad = " " if text[0] in "` " or text[-1] in "` " else ""
    return f"{fence}{pad}{text.replace('|', chr(92) + '|') if table else text}{pad}{fence}"


def plain(text: str) -> str:
    """Text in which no character means anything to Markdown, GitHub or HTML."""
    text = _SPECIAL.sub(lambda match: f"&#{ord(match[0])};", clean(text))
    return _LINKED.sub("\\g<0>&#8203;", text)


def _contents(runs: Sequence[Run], title: str) -> dict[str, Any]:
    """What page and Markdown both show."""
    if not runs:
        raise ValueError("runs is empty: there is nothing to report")
    summary = run_contents.summary_lines(runs)
    return {
        "title": title,
        "runs": runs,
        "summary": summary,
        "summary_columns": summary_columns(summary),
        "training_columns": training_columns(run_contents.training_lines(runs)),
        "metrics": metric_table([run.metrics for run in runs]),
        "metric_names": METRICS,
        "paper": paper_parts(runs),
        "spaces": run_spaces.spaces_sections(runs),
        "labels": label_sections(runs),
        "configs": run_contents.config_tables(runs),
        "failed": run_contents.failed_runs(runs),
    }


def _markdown(template: str, runs: Sequence[Run], title: str = "") -> str:
    text = _templates().get_template(template).render(_contents(runs, title))
    return re.sub(r"\n{3,}", "\n\n", text.strip())


def _templates() -> Environment:
    environment = Environment(
        loader=PackageLoader("vkdnw_pl.report"),
        autoescape=select_autoescape(["html.j2"]),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_finalize,
    )
    environment.filters.update(short=shortened, time=duration, counted=counted, code=code, plain=plain)
    return environment


def _finalize(value: Any) -> Any:
    """What becomes of each value of the template before it is escaped; our own markup stays."""
    if value is None:
        return ""
    return value if isinstance(value, Markup | int | float) else clean(str(value))


def _policy(style: str, script: str) -> str:
    """What the page may do: show its own images, style and script, and nothing else."""
    digests = [base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in (style, script)]
    return (
        f"default-src 'none'; img-src data:; style-src 'sha256-{digests[0]}'; script-src 'sha256-{digests[1]}'; "
        "base-uri 'none'; form-action 'none'"
    )
