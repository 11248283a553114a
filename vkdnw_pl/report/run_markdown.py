"""Runs as GitHub Markdown, for a pull request: text of unknown origin is code, or has no character that means something."""

from __future__ import annotations

import re
from collections.abc import Sequence

from vkdnw_pl.report.outputs import MARKDOWN_MARK
from vkdnw_pl.report.run_paper import paper_parts
from vkdnw_pl.report.run_summary import config_tables, failed_runs, summary_lines
from vkdnw_pl.report.runs import Run
from vkdnw_pl.report.tables import METRICS, markdown_table, metric_table
from vkdnw_pl.report.text import clean, counted, shortened
from vkdnw_pl.runs.files import duration

_SPECIAL = re.compile(r"[\\`*_\[\]<>|~$&^]|:(?=\S)|(?<!\w)[@#](?=\w)")
_REASONS = 10


def runs_markdown(runs: Sequence[Run], title: str) -> str:
    """Summary, rankings, the paper's values, options that differ, and failures."""
    if not runs:
        raise ValueError("runs is empty: there is nothing to report")
    parts = [f"## {plain(title)}", summary_markdown(runs)]
    parts += [*metrics_markdown(runs), *_paper(runs), *_options(runs), *_failed(runs), MARKDOWN_MARK]
    return "\n\n".join(parts) + "\n"


def code(text: str, table: bool = True) -> str:
    """Text as code, whatever it holds; nothing for an empty text. In a table a bar would begin the next cell."""
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
    return _SPECIAL.sub(lambda match: _harmless(match[0]), clean(text))


def _harmless(character: str) -> str:
    """What shows as the character; a user or an issue would be linked also where it is written as an entity."""
    return f"{character}&#8203;" if character in "@#" else f"&#{ord(character)};"


def summary_markdown(runs: Sequence[Run]) -> str:
    """A table with a line for each run, and what is unusual about them."""
    lines = [
        [
            code(shortened(runs[line.run].name, 60)),
            plain(line.command),
            plain(line.space),
            line.networks,
            code(shortened(line.best, 40)),
            "" if line.tau is None else f"{line.tau:.3f}",
            plain(line.result),
            plain(line.status),
            duration(line.seconds),
        ]
        for line in summary_lines(runs)
    ]
    head = ["run", "command", "space", "networks", "best", "KT", "result", "status", "time"]
    text = markdown_table(head, lines, right={3, 5, 8})
    notes = [f"- {code(run.name, table=False)}: {plain(note)}" for run in runs for note in run.notes]
    return "\n\n".join([text, "\n".join(notes)] if notes else [text])


def metrics_markdown(runs: Sequence[Run]) -> list[str]:
    """Heading, table and caption of the rank metrics; nothing where no run has any."""
    table = metric_table([run.metrics for run in runs])
    if table is None:
        return []
    several = len(runs) > 1
    head = [*(["run"] if several else []), "ranking", *(["networks"] if table.sizes_differ else [])]
    first = len(head)
    head += [f"{plain(table.titles[i // len(METRICS)])} {text}" for i, text in enumerate(table.heads)]
    lines = []
    for row in table.rows:
        cells = ["" if cell is None else f"**{cell}**" if cell.best else str(cell) for cell in row.cells]
        name = [code(shortened(runs[row.run].name, 60))] if several else []
        lines.append([*name, code(row.ranking), *([row.n] if table.sizes_differ else []), *cells])
    spread = ", mean ± standard deviation over seeds" if table.has_std else ""
    caption = f"KT Kendall's tau-b, SPR Spearman's rho{spread}; higher is better, the best of each column is bold."
    if table.sizes_differ:
        caption += " Values on different networks cannot be compared as they are."
    else:
        caption += f" {table.rows[0].n} networks with known accuracies."
    right = range(first - table.sizes_differ, len(head))
    return ["### Rankings", markdown_table(head, lines, right), caption]


def _paper(runs: Sequence[Run]) -> list[str]:
    texts = []
    for part in paper_parts(runs):
        head = ["method", "run"]
        for label, metrics in part.columns:
            head += [plain(f"{label} {METRICS[metric]}") for _, metric in metrics]
        lines = []
        for line in part.lines:
            cells = [line.cells[place] for _, metrics in part.columns for place, _ in metrics]
            shown = [
                "" if cell.ours is None else f"{cell.ours_text} / {cell.paper_text} / {cell.difference_text or '–'}"
                for cell in cells
            ]
            lines.append([plain(line.label), code(shortened(runs[line.run].name, 60)), *shown])
        texts += [f"#### {plain(part.table.title)}", markdown_table(head, lines, range(2, len(head)))]
        if part.remarks:
            notes = "\n".join(f"- {plain(text)}" for text in part.remarks)
            texts.append(f"<details><summary>Why values may differ</summary>\n\n{notes}\n\n</details>")
    return ["### The paper's values", "Ours / the paper's / ours minus the paper's.", *texts] if texts else []


def _options(runs: Sequence[Run]) -> list[str]:
    texts = []
    for table in config_tables(runs):
        if not table.different:
            continue
        head = [plain(f"option of {table.command}"), *(code(shortened(runs[i].name, 60)) for i in table.runs)]
        lines = []
        for line in table.different:
            shown = [
                f"**{code(shortened(value, 200))}**" if value and unusual else code(shortened(value, 200))
                for value, unusual in zip(line.values, line.unusual)
            ]
            lines.append([code(line.name), *shown])
        texts.append(markdown_table(head, lines))
    return ["### Options that differ", *texts] if texts else []


def _failed(runs: Sequence[Run]) -> list[str]:
    texts = []
    for run in failed_runs(runs):
        count = counted(run.failed, run.noun.removesuffix("s"))
        lines = [f"{code(runs[run.run].name, table=False)}: {count} of {run.of:,} failed, and rank last", ""]
        for group in run.groups[:_REASONS]:
            first = ", ".join(code(shortened(row, 160), table=False) for row in group.rows)
            lines.append(f"- {group.count:,} × {code(shortened(group.reason, 400), table=False)}: {first}")
        if len(run.groups) > _REASONS:
            lines.append(f"- and {len(run.groups) - _REASONS} other reasons")
        texts.append("\n".join(lines))
    return ["### Failed", *texts] if texts else []
