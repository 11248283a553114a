"""Agreement of the rankings in scores.csv.gz with timm's ImageNet accuracies, in several views:

    python benchmarks/timm_zoo/analyse.py TIMM_RESULTS_FILE_OR_FOLDER [SCORES]

all models (a missing value ranks last), those that have a value of every column of the ranking, those of these whose accuracy
comes without a teacher, the pairs of one family, and what is left when MACs are known. Prints Markdown.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

import numpy as np
from scipy.stats import rankdata

from vkdnw_pl.metrics.functional import kendall_tau, ndcg, spearman_rho
from vkdnw_pl.oracles import load_oracle
from vkdnw_pl.oracles.timm_results import FILES, Weights, choose_weights, read_results
from vkdnw_pl.ranking import aggregate, available_rankings, parse_ranking
from vkdnw_pl.runs.table import read_table

HERE = Path(__file__).parent
SHARE = 0.106
"""nDCG looks at this share from the top, as at 1,000 of the 9,445 of NAS-Bench-201."""


def main() -> None:
    place = Path(sys.argv[1])
    table = read_table(Path(sys.argv[2]) if len(sys.argv) > 2 else HERE / "scores.csv.gz")
    oracle = load_oracle("timm", place, "timm_zoo")
    accuracy = oracle.accuracies("imagenet")
    rows = [row for row in table.rows if row.arch in accuracy]
    target = np.array([accuracy[row.arch] for row in rows])
    columns = {name: np.array([row.values[name] for row in rows], float) for name in table.columns}
    taught = taught_archs(place)
    plain = np.array([row.arch not in taught for row in rows])

    print(
        f"{len(rows)} models, top-1 from {target.min():.1f} to {target.max():.1f} %; {int((~plain).sum())} with a teacher\n"
    )
    cut = round(SHARE * len(rows))
    heads = (
        "ranking",
        f"all: KT / SPR / nDCG@{cut}",
        "n with a value",
        "those: KT / SPR",
        "without a teacher: KT / SPR",
    )
    print(f"| {' | '.join((*heads, 'KT within families', 'SPR given MACs'))} |")
    print("|---|---|---|---|---|---|---|")
    families = np.array([re.match(r"(?:tf_)?([a-z]+)", row.arch)[1] for row in rows])  # type: ignore[index]
    lines = []
    for name in available_rankings(table.columns):
        terms = parse_ranking(name)
        used = [one for term in terms for one in ([term] if isinstance(term, str) else term)]
        there = np.all([np.isfinite(columns[one]) for one in used], axis=0)
        every = aggregate(columns, terms)
        some = aggregate({key: values[there] for key, values in columns.items()}, terms)
        alone = aggregate({key: values[there & plain] for key, values in columns.items()}, terms)
        spearman = float(spearman_rho(every, target))
        given = partial(some, target[there], columns["macs"][there]) if name != "macs" else float("nan")
        lines.append(
            (
                -spearman,
                f"| `{name}` | {float(kendall_tau(every, target)):.3f} / {spearman:.3f} / "
                f"{float(ndcg(every, target, top_k=cut)):.3f} | {int(there.sum())} | {pair(some, target[there])} | "
                f"{pair(alone, target[there & plain])} | {within(some, target[there], families[there]):.3f} | {'' if np.isnan(given) else f'{given:.3f}'} |",
            )
        )
    print("\n".join(line for _, line in sorted(lines)))
    seconds = np.array([row.seconds for row in rows])
    print(f"\nseconds per model: median {np.median(seconds):.1f}, sum {seconds.sum():.0f}; slowest:")
    for i in np.argsort(-seconds)[:6]:
        print(f"- {rows[i].arch} {seconds[i]:.0f} s")
    print("\nmissing values:")
    for reason in dict.fromkeys(part for row in rows for part in row.reason.split("; ") if part):
        archs = [row.arch for row in rows if reason in row.reason.split("; ")]
        print(f"- {len(archs)} x {reason}: {', '.join(archs)}")


def pair(score: np.ndarray, target: np.ndarray) -> str:
    return f"{float(kendall_tau(score, target)):.3f} / {float(spearman_rho(score, target)):.3f}"


def within(score: np.ndarray, target: np.ndarray, families: np.ndarray) -> float:
    """Kendall's tau over the pairs of one family, the beginning of the name: concordant less discordant, by all of them."""
    first, second = np.triu_indices(len(score), 1)
    same = (families[first] == families[second]) & (target[first] != target[second])
    first, second = first[same], second[same]
    return float(np.mean(np.sign(score[first] - score[second]) * np.sign(target[first] - target[second])))


def partial(score: np.ndarray, target: np.ndarray, control: np.ndarray) -> float:
    """Spearman correlation of what a line in the control's ranks leaves of the ranks of the other two."""
    x, y, z = (rankdata(values) for values in (score, target, control))
    base = np.stack([z, np.ones_like(z)], axis=1)
    left = [values - base @ np.linalg.lstsq(base, values, rcond=None)[0] for values in (x, y)]
    return float(np.corrcoef(*left)[0, 1])


def taught_archs(place: Path) -> set[str]:
    """Architectures whose accuracy comes with a teacher."""
    found: dict[str, list[Weights]] = {}
    for row in read_results(place if place.is_file() else place / FILES["imagenet"].name).values():
        found.setdefault(row.arch, []).append(row)
    chosen = {arch: choose_weights(rows) for arch, rows in found.items()}
    return {arch for arch, row in chosen.items() if row is not None and row.level == "taught"}


if __name__ == "__main__":
    main()
