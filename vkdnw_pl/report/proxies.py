"""The documentation's table of proxies, from their records: ``python -m vkdnw_pl.report.proxies docs/proxies.md`` renews it."""

from __future__ import annotations

import sys
from pathlib import Path

from vkdnw_pl.proxies import PROXIES
from vkdnw_pl.report.tables import markdown_table
from vkdnw_pl.report.text import between

BEGIN = "<!-- proxies: made by `python -m vkdnw_pl.report.proxies docs/proxies.md` -->"
END = "<!-- /proxies -->"


def renewed(text: str) -> str:
    """``text`` with the table of this package's proxies between its markers made anew; without them a ``ValueError``."""
    lines = []
    for name, cls in PROXIES.builtin.items():
        info = cls.info
        better = "higher" if info.higher_is_better else "lower"
        needs = f"{info.input} with labels" if info.needs_labels else info.input
        batchnorm = "–" if info.batchnorm == "none" else f"`{info.batchnorm}`"
        lines.append([f"`{name}`", info.title, better, needs, batchnorm, f"`{info.init}`", info.source])
    table = markdown_table(["name", "", "better", "input", "batch norm", "weights", "source"], lines)
    return between(text, BEGIN, END, table)


if __name__ == "__main__":
    path = Path(sys.argv[1])
    path.write_text(renewed(path.read_text()))
