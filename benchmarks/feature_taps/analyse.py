"""Kendall's tau of each rule (see measure.py): python benchmarks/feature_taps/analyse.py RESULT.csv... Prints Markdown."""

from __future__ import annotations

import csv
import sys
from pathlib import Path

import numpy as np
from scipy.stats import kendalltau

from vkdnw_pl.ranking import aggregate, parse_ranking

OWN = ("expressivity", "progressivity", "trainability")
AGGREGATES = ("vkdnw_agg", "az_nas")


def main() -> None:
    for path in map(Path, sys.argv[1:]):
        rows = list(csv.DictReader(path.open()))
        columns = {n: np.array([float(row[n] or "nan") for row in rows]) for n in rows[0] if n != "arch"}
        accuracy = columns["accuracy"]
        print(f"\n{path.stem}, {len(rows)} networks\n\n| rule | {' | '.join((*OWN, *AGGREGATES))} |")
        print("|---" * (1 + len(OWN) + len(AGGREGATES)) + "|")
        rules = dict.fromkeys(name.rpartition("/")[0] for name in columns if "/" in name)
        rng = np.random.default_rng(0)
        draws = [rng.integers(0, len(rows), len(rows)) for _ in range(300)]
        base: np.ndarray | None = None
        for rule in rules:
            there = {name: columns.get(f"{rule}/{name}", np.full(len(rows), np.nan)) for name in OWN}
            values = {**{n: columns[n] for n in ("vkdnw", "aleph", "macs", "jacov")}, **there}
            scores = [aggregate(values, parse_ranking(name)) for name in (*OWN, *AGGREGATES)]
            taus = np.array([[kendalltau(s[d], accuracy[d])[0] for s in scores] for d in draws])
            base = taus if base is None else base
            low, high = np.nanquantile(taus - base, [0.025, 0.975], axis=0)
            cells = [
                f"{kendalltau(score, accuracy)[0]:.3f} ({a:+.3f} to {b:+.3f})"
                if base is not taus
                else f"{kendalltau(score, accuracy)[0]:.3f}"
                for score, a, b in zip(scores, low, high)
            ]
            print(f"| {rule} | {' | '.join(cells)} |")
        others = {"vkdnw_single": aggregate({n: columns[n] for n in ("vkdnw", "aleph")}, parse_ranking("vkdnw_single"))}
        others |= {
            n: np.nan_to_num(columns[n], nan=-np.inf)
            for n in ("aleph", "macs", "layers")
            if not np.isnan(columns[n]).all()
        }
        print("\n" + ", ".join(f"`{n}` {kendalltau(v, accuracy)[0]:.3f}" for n, v in others.items()))


if __name__ == "__main__":
    main()
