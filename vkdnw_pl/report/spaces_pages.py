"""Pages of an evaluation on several spaces; ``python -m vkdnw_pl.report.spaces_pages docs/trust.md`` renews the
documentation's tables."""

from __future__ import annotations

import sys
from pathlib import Path

from vkdnw_pl.report.figures.spaces import save_spaces_figures
from vkdnw_pl.report.run_pages import runs_html, spaces_markdown
from vkdnw_pl.report.runs import read_run
from vkdnw_pl.report.text import between
from vkdnw_pl.runs.files import write_atomically
from vkdnw_pl.scoring.spaces_evaluation import SpacesEvaluation
from vkdnw_pl.scoring.spaces_folder import SpacesFolder

RESULTS = "benchmarks/spaces/results"
"""Folder in the repository of the results that the documentation shows."""
BEGIN = f"<!-- spaces: made by `python -m vkdnw_pl.report.spaces_pages docs/trust.md` from {RESULTS} -->"
END = "<!-- /spaces -->"


def write_spaces_pages(folder: SpacesFolder, evaluation: SpacesEvaluation) -> list[str]:
    """Write figures, ``spaces.md`` and ``spaces.html`` of a finished run folder, and return the names of all its results."""
    figures = save_spaces_figures(evaluation, folder.figures)
    run = read_run(folder.path)
    write_atomically(folder.path / "spaces.md", spaces_markdown(run))
    write_atomically(folder.path / "spaces.html", runs_html([run], "Rankings on several spaces"))
    names = [name for name in folder.files if "/" not in name]
    return [*names, f"{folder.figures.name}/{{{','.join(path.name for path in figures)}}}"]


def renewed(text: str, folder: Path) -> str:
    """``text`` with the tables of a folder's results between its markers made anew; without them a ``ValueError``."""
    return between(text, BEGIN, END, f"\n{spaces_markdown(read_run(folder))}")


if __name__ == "__main__":
    path = Path(sys.argv[1])
    path.write_text(renewed(path.read_text(encoding="utf-8"), Path(RESULTS)), encoding="utf-8")
