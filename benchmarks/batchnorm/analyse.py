"""Rankings of ``run.py``'s scores against the public accuracies, for every behaviour of batch norm.

python benchmarks/batchnorm/analyse.py scores.csv ORACLE_PATH
"""

import csv
import gzip
import sys

import numpy as np

from vkdnw_pl.metrics.functional import kendall_tau, ndcg, spearman_rho
from vkdnw_pl.oracles import load_oracle
from vkdnw_pl.ranking import aggregate

BEHAVIOURS = ("sample", "running", "batch")
SWITCHED = ("vkdnw", "jacov", "expressivity", "progressivity", "trainability")


def main(path: str, oracle_path: str) -> None:
    with gzip.open(path, "rt") if path.endswith(".gz") else open(path) as file:
        rows = list(csv.DictReader(file))
    names = [name for name in rows[0] if name != "arch"]
    columns = {name: np.array([float(row[name] or "nan") for row in rows]) for name in names}
    oracle = load_oracle("nb201", oracle_path)
    truth = {d: np.array([oracle.accuracies(d)[row["arch"]] for row in rows]) for d in oracle.datasets}

    rankings = {"aleph": ("aleph",), "macs": ("macs",)}
    rankings["official_single"] = (("vkdnw_official_dim", "vkdnw_official"),)
    for b in BEHAVIOURS:
        rankings |= {f"{name}@{b}": (f"{name}@{b}",) for name in SWITCHED}
        rankings[f"single@{b}"] = (("aleph", f"vkdnw@{b}"),)
    for v in BEHAVIOURS:
        for others in BEHAVIOURS:
            companions = tuple(f"{name}@{others}" for name in ("jacov", "expressivity", "trainability"))
            rankings[f"agg V@{v} JET@{others}"] = (("aleph", f"vkdnw@{v}"), *companions, "macs")
    companions = ("jacov@batch", "expressivity@batch", "trainability@batch")
    rankings["agg official V, JET@batch"] = (("vkdnw_official_dim", "vkdnw_official"), *companions, "macs")
    for b in BEHAVIOURS:
        rankings[f"az_nas@{b}"] = (f"expressivity@{b}", f"progressivity@{b}", f"trainability@{b}", "macs")

    top_k = round(1000 / 9445 * len(rows))
    print(f"{len(rows)} networks; KT / SPR / nDCG_{top_k} on {', '.join(truth)}\n")
    print("| ranking | " + " | ".join(truth) + " |\n|---" * 1 + "|---" * len(truth) + "|")
    for name, terms in rankings.items():
        score = aggregate(columns, terms)
        cells = [
            f"{float(kendall_tau(score, acc)):.3f} / {float(spearman_rho(score, acc)):.3f} / "
            f"{float(ndcg(score, acc, top_k=top_k)):.3f}"
            for acc in truth.values()
        ]
        print(f"| {name} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main(*sys.argv[1:])
