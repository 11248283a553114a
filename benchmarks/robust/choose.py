"""Chooses an unsupervised ranking on all spaces but one, and reports it on the one left out.

python benchmarks/robust/choose.py configs/spaces.yaml [OUT.csv]
"""

from __future__ import annotations

import csv
import itertools
import sys
from typing import Any

import numpy as np
import yaml

from vkdnw_pl.ranking import NAMED_SETS, aggregate, rank_values
from vkdnw_pl.ranking.agreement import agreement_weights
from vkdnw_pl.scoring.bootstrap import Resamples
from vkdnw_pl.scoring.evaluation import scores_by_seed
from vkdnw_pl.scoring.space_tables import read_space_tables, space_sources

PAIR: Any = ("log_width", "vkdnw")
HEADS: tuple[tuple[Any, ...], ...] = ((PAIR,), (PAIR, "vkdnw"), ("log_width", "vkdnw"))
"""Depth, width and VKDNW: its pair with widths, with a vote of VKDNW alone beside it, or two votes."""
COMPANIONS = ("jacov", "expressivity", "trainability", "macs")
"""Those of VKDNW_agg."""
FURTHER = ("synflow", "naswot", "meco")
POWERS = (0.0, 0.25, 0.5, 1.0)
CAP = 3.0
"""More standard errors above a baseline count as so many: one easy space does not make up for a lost one."""


NO_SPACES = ("timm_zoo", "autoformer")
"""Not chosen on: models of many families, where size decides; and networks within three points of each other, whose
accuracies partly fall with size. Both are reported."""


def candidates() -> list[tuple[str, tuple[Any, ...], float]]:
    """Name, terms and power of the weights of every candidate."""
    sets = [kept for count in range(len(FURTHER) + 1) for kept in itertools.combinations(FURTHER, count)]
    terms = [head + COMPANIONS + kept for head in HEADS for kept in sets]
    return [(f"{written(chosen)} ^{power}", chosen, power) for chosen in terms for power in POWERS]


def written(terms: tuple[Any, ...]) -> str:
    """The terms as users write them."""
    return "+".join(">".join(term) if isinstance(term, tuple) else term for term in terms)


def term_ranks(columns: dict[str, Any], terms: tuple[Any, ...]) -> Any:
    """Average ranks (k, n) under every term."""
    return np.stack([rank_values(aggregate(columns, [term])) for term in terms])


def weighted(ranks: Any, power: float) -> Any:
    """Scores (n,): the sum of the weighted logarithms of the ranks (k, n)."""
    at_half = agreement_weights(ranks)
    weights = np.where(at_half > 0, np.power(at_half, 2 * power, where=at_half > 0, out=np.zeros_like(at_half)), 0)
    return weights @ np.log(ranks / ranks.shape[1])


def main(config: str, out: str | None = None) -> None:
    with open(config, encoding="utf-8") as file:
        spaces = yaml.safe_load(file)["spaces"]
    tables, left_out = read_space_tables(space_sources(spaces))
    for name, why in left_out.items():
        print(f"{name} is left out: {why}")
    rows = []
    for space in tables:
        archs, by_seed = scores_by_seed(space.table)
        columns = by_seed[min(by_seed)]
        every = (PAIR, "log_width", "vkdnw", *COMPANIONS, *FURTHER)
        if lacking := [name for name in every if isinstance(name, str) and name not in columns]:
            print(f"{space.name} is left out: its table lacks {', '.join(lacking)}")
            continue
        ranks = dict(zip(every, term_ranks(columns, every), strict=True))
        scores = {name: weighted(np.stack([ranks[t] for t in terms]), power) for name, terms, power in candidates()}
        baselines = {name: aggregate(columns, NAMED_SETS.get(name, (name,))) for name in ("vkdnw_agg", "macs")}
        for dataset in space.datasets:
            known = space.oracle.tables[dataset]
            places = [i for i, arch in enumerate(archs) if arch in known]
            drawn = Resamples(np.array([known[archs[i]] for i in places]), 300, None)
            taus = {name: drawn.measure([of[places]])["kendall"] for name, of in {**scores, **baselines}.items()}
            for name in scores:
                gains = [taus[name] - taus[other] for other in baselines]
                z = [float(gain.mean() / gain.std()) if gain.std() > 0 else 0.0 for gain in gains]
                rows.append([name, space.name, dataset, len(places), float(taus[name].mean()), *z])
    if out is not None:
        with open(out, "w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(["ranking", "space", "dataset", "n", "kendall", "z_vkdnw_agg", "z_macs"])
            writer.writerows([*row[:4], *(f"{value:.4f}" for value in row[4:])] for row in rows)
    report(rows)


def report(rows: list[list[Any]]) -> None:
    """Print the choice on all spaces, and on all but one with what it gains there."""
    names = list(dict.fromkeys(row[0] for row in rows))
    spaces = list(dict.fromkeys(row[1] for row in rows))
    value = {  # of a candidate in a space: the mean over data sets of the smaller of the two gains, in standard errors
        (name, space): np.mean([min(row[5], row[6], CAP) for row in rows if row[0] == name and row[1] == space])
        for name in names
        for space in spaces
    }
    chosen_on = [space for space in spaces if space not in NO_SPACES]
    for left_out in [None, *chosen_on]:
        used = [space for space in chosen_on if space != left_out]
        worst = {name: min(value[name, space] for space in used) for name in names}
        best = max(worst, key=lambda name: worst[name])
        print(f"\n{'all spaces' if left_out is None else f'without {left_out}'}: {best}")
        for row in rows:
            if row[0] == best and left_out in (None, row[1]):
                print(
                    f"  {row[1]:16s} {row[2]:18s} KT {row[4]:6.3f}  vkdnw_agg {row[5]:+5.1f}  macs {row[6]:+5.1f} standard errors"
                )


if __name__ == "__main__":
    main(*sys.argv[1:])
