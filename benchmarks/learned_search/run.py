"""Accuracy of the best network found against the number of labels, on NAS-Bench-201 and NAS-Bench-Macro.

    python benchmarks/learned_search/run.py ORACLE_PATH [--seeds 20] [--only TEXT]

ORACLE_PATH has the public tables in its folders nb201 and nasbench_macro. Each seed is one run of `search` guided by labels,
in batches of 10. On NAS-Bench-201 labels are validation accuracies and the regret is one of test accuracies: that of the
network with the best test accuracy, less that of the network with the best label so far. NAS-Bench-Macro has test accuracies
only, which are both. ``--only`` measures those truths anew whose title has this text, and keeps the others of results.csv
(no title has ``none``: then only the figure is drawn). Proxies are looked up in benchmarks/nb201_unique.
"""

from __future__ import annotations

import argparse
import csv
import json
import statistics
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from vkdnw_pl.oracles import load_oracle
from vkdnw_pl.ranking import aggregate, columns_of, parse_ranking
from vkdnw_pl.report.figures.style import RUN_COLORS, drawing, new_figure, save_figure
from vkdnw_pl.search.constraints import Budget, HowToMeasure
from vkdnw_pl.search.folder import SearchFolder
from vkdnw_pl.search.history import COST_COLUMNS, LABEL, Candidate
from vkdnw_pl.search.labels import Labels
from vkdnw_pl.search.loop import search
from vkdnw_pl.search.scores import TableScores, open_scores
from vkdnw_pl.search.settings import SearchSettings
from vkdnw_pl.spaces import SPACES

FOLDER = Path(__file__).parent
RESULTS = FOLDER / "results.csv"
SCORES = FOLDER.parent / "nb201_unique" / "scores.csv.gz"
PROXIES = ("vkdnw", "aleph", "jacov", "expressivity", "progressivity", "trainability", "synflow")
BATCH, LABELS = 10, 200
NB201_FILES = {"CIFAR-10": "cifar10", "CIFAR-100": "cifar100", "ImageNet16-120": "imagenet"}
GUIDED = {
    "random": ("random", {}, ()),
    "evolution": ("evolution", {"population": 20}, ()),
    "ageing": ("ageing", {"population": 20, "tournament": 5}, ()),
    "local": ("local", {}, ()),
    "predictor": ("predictor", {}, ()),
    "predictor, with proxies": ("predictor", {}, PROXIES),
}
FREE = ("vkdnw_agg", "macs")


@dataclass(frozen=True)
class Truth:
    """One panel of the figure."""

    space: str
    labels: Mapping[str, float]
    test: Mapping[str, float]
    scores: Path | None = None


def truths(oracle_path: Path) -> dict[str, Truth]:
    result = {}
    unique = list(SPACES["nb201"].enumerate(unique=True))
    for name, file in NB201_FILES.items():
        rows = json.loads((oracle_path / "nb201" / f"nasbench201_{file}.json").read_text())
        labels, test = ({arch: rows[arch][key] for arch in unique} for key in ("val_acc_200", "test_acc_200"))
        result[f"NAS-Bench-201, {name}"] = Truth("nb201", labels, test, SCORES)
    oracle = load_oracle("nasbench_macro", oracle_path / "nasbench_macro", "nasbench_macro")
    labels = dict(Labels.of(oracle, None, SPACES["nasbench_macro"]).values)
    result["NAS-Bench-Macro, CIFAR-10"] = Truth("nasbench_macro", labels, labels)
    return result


@cache
def looked_up(scores: Path, space: str, columns: tuple[str, ...]) -> TableScores:
    return TableScores(str(scores), SPACES[space], columns, 1)


def history(truth: Truth, name: str, seed: int) -> list[Candidate]:
    strategy, options, columns = GUIDED[name]
    fixed = {
        **{"space": truth.space, "network": {}, "space_options": {}, "strategy": strategy, "population": 100},
        **{"tournament": 10, "start": None, "objectives": ("score", "macs"), "ranking": LABEL, "terms": (LABEL,)},
        **{"columns": columns, "scores": str(truth.scores) if columns else None, "batch": BATCH, "seed": seed},
        **{"proxies": [], "proxy_seed": 1, "batch_size": 16, "input": "random", "data": None, "init": "auto"},
        **{"device": "cpu", "budget": Budget(), "how_to_measure": HowToMeasure()},
    }
    settings = SearchSettings(**{**fixed, **options}, labels=Labels("", "", "", truth.labels))
    with tempfile.TemporaryDirectory() as place:
        folder = SearchFolder(place)
        if columns:
            search(settings, folder, LABELS, looked_up(truth.scores, truth.space, columns))
        else:
            with open_scores(settings) as evaluate:
                search(settings, folder, LABELS, evaluate)
        candidates = folder.read_candidates()
    assert len(candidates) == LABELS
    return candidates


def regrets(truth: Truth, name: str, seed: int) -> list[float]:
    """After 10, 20, ... labels."""
    candidates = history(truth, name, seed)
    best = max(truth.test.values())
    return [
        best - truth.test[max(candidates[:count], key=lambda one: one.values[LABEL]).arch]
        for count in range(BATCH, LABELS + 1, BATCH)
    ]


def unsupervised(truth: Truth, ranking: str) -> float:
    """Regret of the network that a ranking without any label puts first in the whole space."""
    space, terms, archs = SPACES[truth.space], parse_ranking(ranking), list(truth.test)
    names = [name for name in columns_of(terms) if name not in COST_COLUMNS]
    columns: dict[str, list[float | None]] = {"macs": [space.cost(arch).macs for arch in archs]}
    if names:
        rows = list(looked_up(truth.scores, truth.space, tuple(names))(archs))
        columns |= {name: [row.values[name] for row in rows] for name in names}
    return max(truth.test.values()) - truth.test[archs[int(np.argmax(aggregate(columns, terms)))]]


def summary(truth: str, strategy: str, labels: int, values: list[float]) -> dict[str, object]:
    mean = statistics.mean(values)
    half = 1.96 * statistics.stdev(values) / len(values) ** 0.5 if len(values) > 1 else 0.0
    numbers = {"mean_regret": mean, "low": mean - half, "high": mean + half, "median_regret": statistics.median(values)}
    found = {"found_optimum": sum(value == 0 for value in values), "seeds": len(values)}
    return {
        "truth": truth,
        "strategy": strategy,
        "labels": labels,
        **{k: f"{v:.4f}" for k, v in numbers.items()},
        **found,
    }


def run(oracle_path: Path, seeds: int, only: str) -> None:
    rows = []
    for title, truth in truths(oracle_path).items():
        if only not in title:
            rows += [row for row in read_results() if row["truth"] == title]
            continue
        for name, (_, _, proxies) in GUIDED.items():
            if proxies and truth.scores is None:
                continue
            began_at = time.process_time()
            curves = [regrets(truth, name, seed) for seed in range(seeds)]
            rows += [summary(title, name, BATCH * (i + 1), list(values)) for i, values in enumerate(zip(*curves))]
            print(f"{title}, {name}: {time.process_time() - began_at:.0f} s, {rows[-1]}", flush=True)
        for ranking in FREE:
            if ranking == "macs" or truth.scores is not None:
                rows.append(summary(title, ranking, 0, [unsupervised(truth, ranking)]))
                print(f"{title}, {rows[-1]}", flush=True)
    with RESULTS.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0], lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def read_results() -> list[dict[str, str]]:
    with RESULTS.open(newline="") as file:
        return list(csv.DictReader(file))


def draw() -> None:
    rows = read_results()
    titles = list(dict.fromkeys(row["truth"] for row in rows))
    colors = dict(zip(GUIDED, [RUN_COLORS[i] for i in (7, 4, 3, 2, 5, 1)]))
    with drawing():
        figure = new_figure(9.0, 7.0)
        for ax, title in zip(figure.subplots(2, 2, sharex=True).ravel(), titles, strict=True):
            for name, color in colors.items():
                mine = [r for r in rows if (r["truth"], r["strategy"]) == (title, name)]
                if not mine:
                    continue
                x, mean, low, high = (
                    np.array([float(r[key]) for r in mine]) for key in ("labels", "mean_regret", "low", "high")
                )
                ax.fill_between(x, np.maximum(low, 0), high, color=color, alpha=0.15, linewidth=0)
                ax.plot(x, mean, color=color, linewidth=1.8, label=name)
            for ranking, dash in zip(FREE, ("--", ":")):
                if mine := [r for r in rows if (r["truth"], r["strategy"]) == (title, ranking)]:
                    value = float(mine[0]["mean_regret"])
                    ax.axhline(value, color="black", linestyle=dash, linewidth=1.2, label=f"{ranking}, no labels")
            ax.set_title(title)
            ax.set_xlim(0, LABELS)
            ax.set_ylim(0, None)
            ax.set_xlabel("labels")
        figure.supylabel("test accuracy of the best network less that of the one found (%)")
        handles, names = figure.axes[0].get_legend_handles_labels()
        figure.legend(handles, names, loc="outside lower center", ncols=4)
        save_figure(figure, FOLDER / "figure.png")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("oracle_path", type=Path)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--only", default="")
    run(**vars(parser.parse_args()))
    draw()
