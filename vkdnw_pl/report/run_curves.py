"""The curves of one training as files of its run folder."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from vkdnw_pl.report.figures.style import run_style, save_figure
from vkdnw_pl.report.figures.trainings import Curve, curve_panels
from vkdnw_pl.report.run_contents import epoch_values
from vkdnw_pl.report.runs import Run, read_run

_CURVES = {
    "loss": {"train/loss": "training", "val/loss": "validation"},
    "top-1 (%)": {"train/top1": "training", "val/top1": "validation"},
    "learning rate": {"lr": "learning rate"},
}
"""Label of a panel -> key in the history -> name of its line."""


def write_curves(folder: str | Path) -> list[Path]:
    """Draw loss, accuracy and learning rate over the epochs into ``figures/curves.png``, and the proxies on the weights as
    they were, where the training has some, into ``figures/proxy_drift.png``.

    Returns:
        The files; none of what the folder has no values of, and none of proxies that never change.

    Raises:
        ValueError: if a file of the folder is damaged.
    """
    run = read_run(folder)
    panels = {label: curves for label, keys in _CURVES.items() if (curves := _logged(run, keys))}
    figures = {"curves": panels, "proxy_drift": _drift(run)}
    drawn = [name for name, panels in figures.items() if panels]
    return [save_figure(curve_panels(figures[name]), run.path / "figures" / f"{name}.png") for name in drawn]


def _logged(run: Run, keys: dict[str, str]) -> list[Curve]:
    curves = []
    for place, (key, name) in enumerate(keys.items()):
        points = epoch_values(run, key)
        if any(math.isfinite(value) for _, value in points):
            epochs, values = zip(*points)
            curves.append(_curve(name, epochs, values, place))
    return curves


def _drift(run: Run) -> dict[str, list[Curve]]:
    if run.proxy_drift is None:
        return {}
    names = [name for name in run.proxy_drift if name not in ("epoch", "step") and "_decile_" not in str(name)]
    moved = [name for name in names if run.proxy_drift[name].nunique() > 1]
    epochs = run.proxy_drift["epoch"].tolist()
    return {str(name): [_curve(str(name), epochs, run.proxy_drift[name].tolist(), 0)] for name in moved}


def _curve(name: str, epochs: Sequence[float], values: Sequence[float], place: int) -> Curve:
    return Curve(name, run_style(place), epochs, values)
