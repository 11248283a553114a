"""Quality of every setting against the default on the same networks: results.csv and a table.

    python benchmarks/fast_settings/analyse.py FOLDER ORACLE_PATH OUT_FOLDER COST.csv

FOLDER has the tables of `score.py`.
"""

from __future__ import annotations

import csv
import gzip
import statistics
import sys
from itertools import combinations
from pathlib import Path

import numpy as np
from settings import IMAGENET16, SETTINGS, SMALL, Setting, reference

from vkdnw_pl.metrics.functional import kendall_tau, spearman_rho
from vkdnw_pl.oracles import load_oracle
from vkdnw_pl.ranking import NAMED_SETS, aggregate, rank_agreement

RANKINGS = {"vkdnw": ("vkdnw",), **{name: NAMED_SETS[name] for name in ("vkdnw_single", "vkdnw_agg")}}
SPACE_SIZE = 9445

Row = dict[str, float]


def read(path: Path) -> dict[tuple[str, int], Row]:
    with gzip.open(path, "rt") if path.suffix == ".gz" else path.open() as file:
        return {
            (row["arch"], int(row["seed"])): {
                k: float(v or "nan") for k, v in row.items() if k not in ("arch", "seed", "status", "reason")
            }
            for row in csv.DictReader(file)
        }


def sources(setting: Setting) -> tuple[str, str, str, str]:
    """Table and column of VKDNW, table of expressivity and trainability, table of Jacov."""
    if setting.network == SMALL:
        table = f"small{setting.vkdnw}"
        return table, "vkdnw", table, table
    column = f"b{setting.vkdnw}" + (f"_sketch{setting.sketch}" if setting.sketch else "")
    if setting.network == IMAGENET16:
        table = "exact16_c120"
    elif setting.bfloat16:
        table = "bfloat16"
    else:
        table = "exact16"
        if not setting.sketch and setting.vkdnw >= 16:
            table, column = f"companions{setting.vkdnw}", "vkdnw"
    jacov = "jacov16" if setting.jacov == 16 else f"companions{setting.jacov}"
    return table, column, f"companions{setting.maps}", jacov


def deviation(got: np.ndarray, expected: np.ndarray, accuracies: np.ndarray) -> float:
    """Standard deviation, over samples of networks, of the change in Kendall's tau, mean over accuracies (d, n).

    Tau is a mean over pairs, so that twice the mean of a network's pairs is its share in the variance.
    """
    n = len(got)
    change = np.sign(got[:, None] - got) - np.sign(expected[:, None] - expected)
    signs = np.mean([np.sign(a[:, None] - a) for a in accuracies], axis=0)
    return float(2 * ((change * signs).sum(1) / (n - 1)).std(ddof=1) / n**0.5)


def main(folder: str, oracle_path: str, out: str, cost_path: str) -> None:
    tables = {path.name.split(".")[0]: read(path) for path in sorted(Path(folder).glob("*.csv*"))}
    benchmarks = Path(__file__).parents[1]
    known = read(benchmarks / "nb201_unique" / "scores.csv.gz")  # seed 1 of batch 16
    # Seeds 1 to 3 of batch 16 but for Jacov, which had random images there; batch 32.
    tables["companions16"] = read(benchmarks / "nb201_1000" / "scores.csv.gz")
    tables["jacov16"] |= {key: row for key, row in known.items() if key in tables["companions16"]}
    tables["companions32"] = read(benchmarks / "paper" / "main" / "scores.csv.gz")
    oracle = load_oracle("nb201", oracle_path)
    truth = {dataset: oracle.accuracies(dataset) for dataset in oracle.datasets}
    with open(cost_path) as file:
        costs = {(row["setting"], row["kind"]): float(row["ratio"]) for row in csv.DictReader(file)}

    def columns(setting: Setting, seed: int) -> dict[str, Row]:
        """Arch -> the columns of the rankings, of the networks that have all."""
        table, column, maps, jacov = sources(setting)
        rows: dict[str, Row] = {}
        for (arch, row_seed), values in tables.get(table, {}).items():
            key = (arch, row_seed)
            if row_seed == seed and all(key in tables.get(name, {}) for name in (maps, jacov)):
                rows[arch] = {name: known[arch, 1][name] for name in ("aleph", "macs")}
                rows[arch] |= {name: tables[maps][key][name] for name in ("expressivity", "trainability")}
                rows[arch] |= {"jacov": tables[jacov][key]["jacov"], "vkdnw": values.get(column, np.nan)}
        return rows

    def ranked(rows: dict[str, Row], archs: list[str]) -> dict[str, np.ndarray]:
        table = {name: np.array([rows[arch][name] for arch in archs]) for name in rows[archs[0]]}
        return {name: aggregate(table, terms) for name, terms in RANKINGS.items()}

    lines: list[dict[str, object]] = []
    for name, setting in SETTINGS.items():
        rows, default = columns(setting, 1), columns(SETTINGS[reference(name)], 1)
        archs = sorted(rows.keys() & default.keys())
        if len(archs) < 30:
            continue
        got, expected = ranked(rows, archs), ranked(default, archs)
        seeds = {seed: columns(setting, seed) for seed in (1, 2, 3)}
        in_all = sorted(set.intersection(*(set(seeds[seed]) for seed in seeds)))
        by_seed = [ranked(seeds[seed], in_all) for seed in seeds] if len(in_all) >= 30 else []
        for ranking in RANKINGS:
            if not setting.agg if ranking == "vkdnw_agg" else (setting.maps, setting.jacov) != (16, 16):
                continue  # there are no companions, or they are not in the ranking
            line: dict[str, object] = {"setting": name, "ranking": ranking, "networks": len(archs)}
            line["undefined"] = sum(not np.isfinite(rows[arch]["vkdnw"]) for arch in archs)
            for dataset, table in truth.items():
                accuracy = np.array([table[arch] for arch in archs])
                places = max(SPACE_SIZE / len(archs), 1.0)
                agreement = rank_agreement(got[ranking], accuracy, 1000, "average", places)
                before = rank_agreement(expected[ranking], accuracy, 1000, "average", places)
                for metric, value in agreement.items():
                    line[f"{dataset}_{metric}"] = round(value or 0.0, 4)
                    line[f"{dataset}_{metric}_change"] = round((value or 0.0) - (before[metric] or 0.0), 4)
            accuracies = np.stack([[table[arch] for arch in archs] for table in truth.values()])
            changes = [line[f"{dataset}_kendall_change"] for dataset in truth]
            mean_change = statistics.mean(changes)  # type: ignore[type-var]
            line["kendall_change"] = round(mean_change, 4)
            if name != reference(name):
                half = 1.96 * deviation(got[ranking], expected[ranking], accuracies)
                line["change_low"], line["change_high"] = (round(mean_change + sign * half, 4) for sign in (-1, 1))
            line["agreement_with_default"] = round(float(spearman_rho(got[ranking], expected[ranking])), 4)
            if by_seed:
                per_seed = [
                    statistics.mean(
                        float(kendall_tau(r[ranking], [t[arch] for arch in in_all])) for t in truth.values()
                    )
                    for r in by_seed
                ]
                line["seeds_networks"] = len(in_all)
                line["kendall_sd"] = round(statistics.stdev(per_seed), 4)
                line["between_seeds"] = round(
                    statistics.mean(float(spearman_rho(a[ranking], b[ranking])) for a, b in combinations(by_seed, 2)), 4
                )
            which = "agg" if ranking == "vkdnw_agg" else "vkdnw"
            line["cost"] = costs.get((name, which), "")
            lines.append(line)
    fields = list(dict.fromkeys(name for line in lines for name in line))
    with (Path(out) / "results.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, fields)
        writer.writeheader()
        writer.writerows(lines)
    show = ("setting", "ranking", "networks", "undefined", "kendall_change", "change_low", "change_high")
    show += ("agreement_with_default", "kendall_sd", "between_seeds", "cost")
    print("| " + " | ".join(show) + " |")
    for line in lines:
        print("| " + " | ".join(str(line.get(name, "")) for name in show) + " |")


if __name__ == "__main__":
    main(*sys.argv[1:])
