"""True accuracy of the networks that a search of NAS-Bench-201 finds, over seeds, from a score table.

    python benchmarks/nb201_search/run.py SCORES.csv.gz ORACLE_PATH [--seeds 10] [--evaluations 1000]

Each seed is one run of `search` (proxy values looked up, so it takes a second); the accuracies are looked up after it, for
the network that ranks first among those it evaluated. Beside them: the best and the mean network of as many random draws by
true accuracy, and the optimum of the space.
"""

from __future__ import annotations

import argparse
import io
import json
import random
import statistics
import tempfile
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

from vkdnw_pl.cli import main
from vkdnw_pl.oracles import load_oracle
from vkdnw_pl.spaces import SPACES

RANKINGS = ("vkdnw_agg", "vkdnw_single", "az_nas", "macs")
KNOWN_BY_THE_SPACE = ("macs",)
STRATEGIES = ("evolution", "ageing", "random")


def search_options(ranking: str, strategy: str, evaluations: int, seed: int) -> dict[str, Any]:
    options = {"space": "nb201", "strategy": strategy, "ranking": ranking, "evaluations": evaluations, "seed": seed}
    return {**options, **({} if strategy == "random" else {"population": 100}), "batch": 10}


def found(scores: str, ranking: str, strategy: str, evaluations: int, seed: int, folder: Path) -> str:
    out = folder / f"{ranking}-{strategy}-{seed}"
    options = search_options(ranking, strategy, evaluations, seed)
    options |= {"out": out, "progress": "false", "figures": "false", "top_k": 1}
    if ranking not in KNOWN_BY_THE_SPACE:
        options["scores"] = scores
    with redirect_stdout(io.StringIO()):
        if code := main(["search", *(str(part) for name, value in options.items() for part in (f"--{name}", value))]):
            raise SystemExit(code)
    return json.loads((out / "found.json").read_text())["arch"]


def cell(values: list[float]) -> str:
    return f"{statistics.median(values):.2f} [{min(values):.2f}, {max(values):.2f}]"


def study(
    scores: str, oracle_path: str, seeds: int, evaluations: int, rankings: list[str], strategies: list[str]
) -> None:
    oracle, space = load_oracle("nb201", oracle_path), SPACES["nb201"]
    tables = [oracle.accuracies(dataset) for dataset in oracle.datasets]
    unique = list(space.enumerate(unique=True))
    lines = ["| ranking | strategy | " + " | ".join(oracle.datasets) + " |"]
    lines.append("|---|---|" + "---|" * len(tables))
    with tempfile.TemporaryDirectory() as folder:
        for ranking in rankings:
            for strategy in strategies:
                archs = [found(scores, ranking, strategy, evaluations, s, Path(folder)) for s in range(seeds)]
                cells = [cell([table[arch] for arch in archs]) for table in tables]
                lines.append(f"| `{ranking}` | {strategy} | " + " | ".join(cells) + " |")
    draws = [random.Random(s).sample(unique, evaluations) for s in range(seeds)]
    best = [cell([max(t[a] for a in drawn) for drawn in draws]) for t in tables]
    mean = [cell([statistics.mean(t[a] for a in drawn) for drawn in draws]) for t in tables]
    lines.append("| true accuracy | random draws, all trained, the best | " + " | ".join(best) + " |")
    lines.append("| none | a random network (mean of the draws) | " + " | ".join(mean) + " |")
    optima = " | ".join(f"{max(t[a] for a in unique):.2f}" for t in tables)
    lines.append(f"| true accuracy | optimum of the space | {optima} |")
    print("\n".join(lines))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("scores")
    parser.add_argument("oracle_path")
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--evaluations", type=int, default=1000)
    parser.add_argument("--rankings", nargs="+", default=RANKINGS)
    parser.add_argument("--strategies", nargs="+", default=STRATEGIES)
    study(**vars(parser.parse_args()))
