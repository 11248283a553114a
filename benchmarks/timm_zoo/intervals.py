"""Kendall's tau of every ranking of scores.csv.gz with its 95 % interval over models, into intervals.csv:

python benchmarks/timm_zoo/intervals.py TIMM_RESULTS_FILE_OR_FOLDER
"""

from __future__ import annotations

import csv
import sys
from pathlib import Path

from vkdnw_pl.oracles import load_oracle
from vkdnw_pl.ranking import available_rankings, parse_ranking
from vkdnw_pl.runs.table import read_table
from vkdnw_pl.scoring.bootstrap import bootstrap_intervals

HERE = Path(__file__).parent


def main() -> None:
    table = read_table(HERE / "scores.csv.gz")
    rankings = {name: parse_ranking(name) for name in available_rankings(table.columns)}
    intervals = bootstrap_intervals(table, load_oracle("timm", sys.argv[1], "timm_zoo"), rankings)
    with (HERE / "metrics.csv").open(newline="") as file:
        values = {row["ranking"]: row["kendall"] for row in csv.DictReader(file)}
    with (HERE / "intervals.csv").open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["ranking", "kendall", "low", "high"])
        for (name, _), of_metrics in intervals.items():
            low, high = of_metrics["kendall"]
            writer.writerow([name, f"{float(values[name]):.6f}", f"{low:.6f}", f"{high:.6f}"])


if __name__ == "__main__":
    main()
