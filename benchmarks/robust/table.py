"""Renews the tables of docs/robust.md: gains from benchmarks/spaces/results, the choice from a report of choose.py.

python benchmarks/robust/table.py
"""

from __future__ import annotations

import csv
from pathlib import Path

from vkdnw_pl.report.text import between

ROOT = Path(__file__).parents[2]
RANKING, BASELINES = "vkdnw_robust", ("vkdnw_agg", "macs")


def gains() -> str:
    """Kendall's tau on every data set beside the baselines' and the paired differences, as Markdown."""
    with (ROOT / "benchmarks/spaces/results/spaces.csv").open(newline="", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["metric"] == "kendall" and row["value"]]
    tau = {(row["ranking"], row["space"], row["dataset"]): float(row["value"]) for row in rows}
    lines = ["| space, data set | n | `vkdnw_robust` | `vkdnw_agg` | `macs` | robust less agg | robust less macs |"]
    lines.append("|---|---|---|---|---|---|---|")
    counts = {base: [0, 0, 0] for base in BASELINES}
    for row in (row for row in rows if row["ranking"] == RANKING):
        cells = []
        for base in BASELINES:
            value, low, high = (float(row[f"minus_{base}{end}"]) for end in ("", "_low", "_high"))
            side = 0 if low > 0 else 2 if high < 0 else 1
            counts[base][side] += 1
            text = f"{value:+.3f} [{low:+.3f}, {high:+.3f}]"
            cells.append((f"**{text}**", text, f"_{text}_")[side])
        of = [f"{tau[name, row['space'], row['dataset']]:.3f}" for name in (RANKING, *BASELINES)]
        lines.append(f"| {row['space']}, {row['dataset']} | {row['n']} | {' | '.join(of)} | {' | '.join(cells)} |")
    told = [f"over `{base}` better in {a}, not to be told in {b}, worse in {c}" for base, (a, b, c) in counts.items()]
    caption = (
        "Kendall's tau, and the paired 95 % intervals of its differences: **above zero**, _below zero_, or neither."
    )
    return f"{caption} Of the {len(lines) - 2} data sets it is {'; '.join(told)}.\n\n" + "\n".join(lines)


def renew(text: str, name: str, command: str, content: str) -> str:
    """``text`` with what stands between two markers replaced."""
    begin, end = f"<!-- {name}: made by `python benchmarks/robust/{command}` -->", f"<!-- /{name} -->"
    return between(text, begin, end, content)


def main() -> None:
    page = ROOT / "docs/robust.md"
    text = renew(page.read_text(encoding="utf-8"), "robust", "table.py", gains())
    report = (ROOT / "benchmarks/robust/report.txt").read_text(encoding="utf-8").strip()
    page.write_text(renew(text, "choice", "choose.py", f"```text\n{report}\n```"), encoding="utf-8")


if __name__ == "__main__":
    main()
