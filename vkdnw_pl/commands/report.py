"""The command ``report``."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from vkdnw_pl.commands.report_files import OutputFile, check_apart, output_file
from vkdnw_pl.errors import CommandFailed, UsageError, user_input

if TYPE_CHECKING:
    from vkdnw_pl.report.runs import Run


def report(
    runs: list[str],
    out: str | None = None,
    markdown: str | None = None,
    title: str | None = None,
    wandb_project: str | None = None,
    wandb_entity: str | None = None,
    push: bool = False,
    wandb_spec: str | None = None,
) -> int:
    """Compare runs on one HTML page, in Markdown, or in a report on Weights & Biases.

    The page is one file that needs no network: a summary, rankings against known accuracies with the paper's values
    beside them, figures, what searches found and trainings reached, differences between the configurations, where the
    runs were made, and what failed. Runs that are not finished are shown as far as they are.

    Args:
        runs: Run folders of score, merge, evaluate, search or fit; or a folder of such folders, which stands for all of
            them.
        out: The page. Default: report.html, or none where something else is asked for.
        markdown: Write the comparison as Markdown into this file, for a pull request; - prints it.
        title: Title of the report.
        wandb_project: Make a report on Weights & Biases for this project, in which the runs were logged.
        wandb_entity: The user or team that the project belongs to. Default: that of the user who is logged in.
        push: Save the report on Weights & Biases. Without it nothing is sent: the report is written as JSON.
        wandb_spec: File for the JSON of the report on Weights & Biases. Default: wandb_report.json without push.

    Returns:
        0.

    Raises:
        UsageError: if a folder is no run folder, a file in it is damaged, a file to write is there and was not written by
            report, or options do not go together.
        CommandFailed: if the package that makes reports on Weights & Biases is not installed.
        OSError: if Weights & Biases cannot be reached or refuses.
    """
    for name, value in (("wandb_entity", wandb_entity), ("push", push), ("wandb_spec", wandb_spec)):
        if value and not wandb_project:
            raise UsageError(f"{name} has no use without wandb_project: name the project with --wandb_project")
    page = output_file(out or ("report.html" if markdown is None and wandb_project is None else None), "out")
    text = None if markdown == "-" else output_file(markdown, "markdown")
    spec = output_file(wandb_spec or ("wandb_report.json" if wandb_project and not push else None), "wandb_spec")
    check_apart((page, text, spec))
    with user_input():
        found = _read(runs)
        heading = title or (f"Run {found[0].name}" if len(found) == 1 else f"Comparison of {len(found)} runs")
        if page is not None:
            from vkdnw_pl.report.run_html import runs_html

            html = runs_html(found, heading)
            page.write(html)
            _say(f"report of {_count(found)} in {page.given} ({len(html.encode()) / 1e6:.2f} MB)")
        if markdown is not None:
            from vkdnw_pl.report.run_markdown import runs_markdown

            written = runs_markdown(found, heading)
            if text is None:
                print(written, end="")
            else:
                text.write(written)
                _say(f"Markdown of {_count(found)} in {text.given}")
        if wandb_project:
            _on_wandb(found, wandb_project, wandb_entity, heading, push, spec)
    return 0


def _on_wandb(
    runs: Sequence[Run], project: str, entity: str | None, title: str, push: bool, spec: OutputFile | None
) -> None:
    """Build the report, write it into ``spec`` where that is given, and save it on Weights & Biases where asked to."""
    from vkdnw_pl.report.wandb_report import build_report, push_report, report_spec

    try:
        made = build_report(runs, project, entity, title, online=push)
    except ImportError as error:
        raise CommandFailed(str(error)) from error
    if spec is not None:
        content = json.dumps(report_spec(made), indent=2, ensure_ascii=False)
        spec.write(content + "\n")
        _say(f"report for Weights & Biases in {spec.given}" + ("" if push else "; --push saves it there"))
    if push:
        _say(f"report on Weights & Biases: {push_report(made)}")


def _read(paths: Sequence[str]) -> list[Run]:
    from vkdnw_pl.report.runs import read_runs, run_folders

    folders = []
    for path in paths:
        some = run_folders(path)
        if some != [Path(path).expanduser()]:
            _say(f"{len(some)} run folder{'s' * (len(some) > 1)} in {path}")
        folders += some
    found = read_runs(folders)
    if len(found) < len(folders):
        more = len(folders) - len(found)
        _say(f"{more} folder{'s' * (more > 1)} named more than once, shown once")
    return found


def _count(runs: Sequence[Run]) -> str:
    return f"{len(runs)} run{'s' * (len(runs) > 1)}"


def _say(text: str) -> None:
    """For the user; standard output is left to --markdown -."""
    print(text, file=sys.stderr)
