"""A report on Weights & Biases that compares runs: their tables as text, and panels that W&B draws from what they logged.

The keys of the panels are those that the commands log with ``--wandb`` (see docs/wandb.md).
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from vkdnw_pl.oracles import Measure
from vkdnw_pl.report.run_pages import rankings_markdown, summary_markdown
from vkdnw_pl.report.runs import Run
from vkdnw_pl.report.tables import METRICS, measure_of

if TYPE_CHECKING:
    import wandb_workspaces.reports.v2 as wr

_WHOLE, _HALF = 24, 12
"""Widths of panels; a row of a report has 24 columns."""
_HEIGHT = 8
_SCATTERS = 6
TRAINING_CURVES = {
    "accuracy": ("val/top1", "train/top1"),
    "loss": ("train/loss", "val/loss"),
    "parts of the loss": ("train/loss_ce", "train/loss_logits", "train/loss_features"),
    "learning rate": ("lr",),
    "gradient norm": ("grad_norm",),
    "images per second": ("images_per_s",),
}
SEARCH_CURVES = {
    "best score so far": ("search/best/score",),
    "MACs of the best": ("search/best/macs",),
    "evaluations per second": ("search/evaluations_per_s",),
    "share of proposals within the budget": ("search/acceptance",),
    "parents in use (effective number)": ("search/effective_parents",),
}
RESULT = "test/top1"


def build_report(runs: Sequence[Run], project: str, entity: str | None, title: str, online: bool = False) -> wr.Report:
    """Describe the report; nothing is saved. Runs that were not logged on W&B are in the tables and have no panels.

    Args:
        runs: what `read_runs` gives.
        project: project of the runs, where the report will be.
        entity: its user or team; None is the environment's ``WANDB_ENTITY``, or that of the user who is logged in.
        title: heading of the report.
        online: ask W&B's server for what the report refers to, which `push_report` needs.

    Raises:
        ImportError: if wandb-workspaces is not installed.
        OSError: if W&B is asked and cannot be reached or refuses; with its message.
    """
    try:
        import wandb
        import wandb_workspaces.reports.v2 as wr
    except ImportError as error:
        text = "the W&B report needs the package wandb-workspaces: pip install 'vkdnw_pl[wandb-report]'"
        raise ImportError(text) from error
    from wandb_workspaces.expr import And, Metric

    entity = entity or os.environ.get("WANDB_ENTITY") or ""
    if online and not entity:
        with _server():
            entity = str(wandb.Api().default_entity or "")
        if not entity:
            raise OSError("W&B does not say who you are: give --wandb_entity")
    # A run set without a place means the report's own project, and needs no server.
    place: dict[str, Any] = {"entity": entity, "project": project} if online else {}
    blocks: list[Any] = [wr.TableOfContents(), wr.H1(text="Runs"), wr.MarkdownBlock(text=summary_markdown(runs))]
    if missing := [run.name for run in runs if run.wandb_id is None]:
        blocks.append(wr.CalloutBlock(text=f"Not logged on W&B, so without panels here: {', '.join(missing)}."))
    if rankings := rankings_markdown(runs):
        blocks += [wr.H1(text="Rankings against known accuracies"), wr.MarkdownBlock(text=rankings)]
    for heading, members, panels in (
        ("Proxies side by side", [run for run in runs if run.metrics], _metric_panels),
        ("Searches", [run for run in runs if run.command == "search"], _search_panels),
        ("Trainings", [run for run in runs if run.command == "fit"], _training_panels),
        ("Differences between the runs", runs, _differences),
    ):
        if logged := [run for run in members if run.wandb_id is not None]:
            ids = And(Metric("ID").isin([run.wandb_id for run in logged]))  # however many others the project has
            chosen = wr.Runset(name="compared runs", filters=ids, **place)
            blocks += [wr.H1(text=heading), wr.PanelGrid(runsets=[chosen], panels=panels(wr, logged))]
    commands = Counter(run.command for run in runs)
    description = f"{len(runs)} runs: {', '.join(f'{count} {command}' for command, count in commands.items())}"
    return wr.Report(project=project, entity=entity, title=title, description=description, blocks=blocks)


def report_spec(report: wr.Report) -> dict[str, Any]:
    """The report as W&B stores it, made without a connection."""
    return json.loads(report._to_model().spec.model_dump_json(by_alias=True, exclude_none=True))


def push_report(report: wr.Report) -> str:
    """Save the report on W&B and return its address; an ``OSError`` where W&B cannot be reached or refuses."""
    with _server():
        report.save()
        return str(report.url)


@contextmanager
def _server() -> Iterator[None]:
    """Whatever goes wrong at W&B, in one line."""
    try:
        yield
    except Exception as error:  # its client lets through errors of several libraries
        raise OSError(" ".join(str(error).split())) from error


def _arranged(wr: Any, panels: list[Any]) -> list[Any]:
    """The panels, two side by side."""
    for i, panel in enumerate(panels):
        panel.layout = wr.Layout(x=_HALF * (i % 2), y=_HEIGHT * (i // 2), w=_HALF, h=_HEIGHT)
    return panels


def _metric_panels(wr: Any, runs: Sequence[Run]) -> list[Any]:
    """Bars of each metric and data set, one for each ranking and run; rankings against accuracies as clouds."""
    rankings: dict[Measure, dict[str, None]] = {}
    for row in (row for run in runs for row in run.metrics):
        rankings.setdefault(measure_of(row), {})[row["ranking"]] = None
    panels = []
    for measure, names in rankings.items():
        for metric, short in METRICS.items():
            if metric == "ndcg" and not measure.is_accuracy:
                continue
            # Bars take bare keys, as those that are made by hand on W&B.
            keys: list[Any] = [f"{measure.dataset}/{ranking}/{metric}" for ranking in names]
            panels.append(wr.BarPlot(title=f"{short} on {measure.dataset}", metrics=keys, orientation="h"))
    measure = next(iter(rankings))
    what = f"accuracy on {measure.dataset}" if measure.is_accuracy else measure.axis
    for ranking in list(rankings[measure])[:_SCATTERS]:
        fields = {"x": ranking, "y": measure.key}
        title = {"title": f"rank by {ranking} (1 = best) and {what}"}
        chart = {"query": {"summaryTable": {"tableKey": "ranking"}}, "chart_name": "wandb/scatter/v0"}
        panels.append(wr.CustomChart(**chart, chart_fields=fields, chart_strings=title))
    return _arranged(wr, panels)


def _search_panels(wr: Any, runs: Sequence[Run]) -> list[Any]:
    panels: list[Any] = [
        wr.LinePlot(title=title, x="search/evaluated", y=list(keys), title_x="networks evaluated")
        for title, keys in SEARCH_CURVES.items()
    ]
    found = {axis: wr.SummaryMetric(f"found/{name}") for axis, name in (("x", "macs"), ("y", "score"))}
    return _arranged(wr, [*panels, wr.ScatterPlot(title="found networks: MACs and score", **found)])


def _training_panels(wr: Any, runs: Sequence[Run]) -> list[Any]:
    """Curves, then proxies at initialization against the accuracy that was reached."""
    logged = {key for run in runs for line in run.history for key in line}
    panels: list[Any] = []
    for title, keys in TRAINING_CURVES.items():
        if drawn := [key for key in keys if key in logged]:
            panels.append(wr.LinePlot(title=title, x="epoch", y=drawn, title_x="epoch"))
    proxies = list(dict.fromkeys(name for run in runs for name in run.initial_proxies if "_decile_" not in name))
    result = RESULT if any(RESULT in run.results for run in runs) else "val/top1"
    for name in proxies[:_SCATTERS]:
        axes = {"x": wr.SummaryMetric(f"proxy/{name}"), "y": wr.SummaryMetric(result)}
        panels.append(wr.ScatterPlot(title=f"{name} before training and {result}", regression=True, **axes))
    panels = _arranged(wr, panels)
    if proxies:
        y = _HEIGHT * ((len(panels) + 1) // 2)
        columns = [*(f"proxy/{name}" for name in proxies), result]
        metrics = [wr.ParallelCoordinatesPlotColumn(metric=wr.SummaryMetric(name)) for name in columns]
        layout = wr.Layout(x=0, y=y, w=_WHOLE, h=_HEIGHT + 2)
        panels.append(wr.ParallelCoordinatesPlot(title="from proxies to accuracy", columns=metrics, layout=layout))
    return panels


def _differences(wr: Any, runs: Sequence[Run]) -> list[Any]:
    return [wr.RunComparer(diff_only="split", layout=wr.Layout(x=0, y=0, w=_WHOLE, h=2 * _HEIGHT))]
