"""The command ``report``."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass

from vkdnw_pl.errors import CommandFailed, user_input


@dataclass(frozen=True, kw_only=True)
class ReportOptions:
    """Options of ``report``."""

    runs: list[str]
    """Run folders of score, merge, evaluate, search or fit; or a folder of such folders, which stands for all of them."""
    out: str | None = None
    """The page. Default: report.html, or none where something else is asked for."""
    markdown: str | None = None
    """Write the comparison as Markdown into this file, for a pull request; - prints it."""
    title: str | None = None
    """Title of the report."""
    wandb_project: str | None = None
    """Make a report on Weights & Biases for this project, in which the runs were logged."""
    wandb_entity: str | None = None
    """The user or team that the project belongs to. Default: that of the user who is logged in."""
    push: bool = False
    """Save the report on Weights & Biases. Without it nothing is sent: the report is written as JSON."""
    wandb_spec: str | None = None
    """File for the JSON of the report on Weights & Biases. Default: wandb_report.json without push."""

    def __post_init__(self) -> None:
        for name in ("wandb_entity", "push", "wandb_spec"):
            if getattr(self, name) and not self.wandb_project:
                raise ValueError(f"{name} has no use without wandb_project: name the project with --wandb_project")


def report(options: ReportOptions) -> int:
    """Compare runs on one HTML page, in Markdown, or in a report on Weights & Biases.

    The page is one file that needs no network: a summary, rankings against known accuracies with the paper's values
    beside them, figures, what searches found and trainings reached, differences between the configurations, where the
    runs were made, and what failed. Runs that are not finished are shown as far as they are.

    Raises:
        UsageError: if a folder is no run folder, a file in it is damaged, or a file to write is there and was not written
            by report.
        OSError: if Weights & Biases cannot be reached or refuses.
    """
    from vkdnw_pl.report.outputs import output_files
    from vkdnw_pl.report.text import counted

    markdown, project, push = options.markdown, options.wandb_project, options.push
    page, text, spec = output_files(
        out=options.out or ("report.html" if markdown is None and project is None else None),
        markdown=None if markdown == "-" else markdown,
        wandb_spec=options.wandb_spec or ("wandb_report.json" if project and not push else None),
    )
    with user_input():
        from vkdnw_pl.report import run_pages
        from vkdnw_pl.report.runs import read_run_folders

        compared, remarks = read_run_folders(options.runs)
        for remark in remarks:
            _say(remark)
        default_title = f"Run {compared[0].name}" if len(compared) == 1 else f"Comparison of {len(compared)} runs"
        heading = options.title or default_title
        count = counted(len(compared), "run")
        if page is not None:
            html = run_pages.runs_html(compared, heading)
            page.write(html)
            _say(f"report of {count} in {page.name} ({len(html.encode()) / 1e6:.2f} MB)")
        if markdown is not None:
            content = run_pages.runs_markdown(compared, heading)
            if text is None:
                print(content, end="")
            else:
                text.write(content)
                _say(f"Markdown of {count} in {text.name}")
        if project:
            from vkdnw_pl.report.wandb_report import build_report, push_report, report_spec

            try:
                described = build_report(compared, project, options.wandb_entity, heading, online=push)
            except ImportError as error:
                raise CommandFailed(str(error)) from error
            if spec is not None:
                spec.write(json.dumps(report_spec(described), indent=2, ensure_ascii=False) + "\n")
                _say(f"report for Weights & Biases in {spec.name}" + ("" if push else "; --push saves it there"))
            if push:
                _say(f"report on Weights & Biases: {push_report(described)}")
    return 0


def _say(text: str) -> None:
    print(text, file=sys.stderr)  # standard output is left to --markdown -
