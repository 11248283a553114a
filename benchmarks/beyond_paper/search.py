"""Searches for an unsupervised ranking that beats VKDNW_agg, and reports it where it was not chosen.

    python benchmarks/beyond_paper/search.py SCORES --dataset ImageNet16-120 --out results.csv
    python benchmarks/beyond_paper/search.py OTHER_SCORES --confirm vkdnw+jacov+expressivity+trainability+macs+synflow

The architectures are split into two random halves. Rankings are compared on the first half and on one data set alone; what
is chosen there is reported on the second half, for all three data sets, with paired bootstrap intervals of its
difference to VKDNW_agg.
"""

import argparse
import csv
import itertools
import sys

import numpy as np
from scipy.stats import kendalltau, rankdata

from vkdnw_pl.metrics.functional import ndcg
from vkdnw_pl.oracles import load_oracle
from vkdnw_pl.ranking import aggregate, parse_ranking
from vkdnw_pl.scoring.score_tables import join_columns, read_score_tables

BASELINE = "vkdnw_agg"
TERMS = [
    "aleph>vkdnw", "vkdnw", "aleph", "macs", "jacov", "expressivity", "progressivity", "trainability", "grad_norm",
    "snip", "grasp", "synflow", "naswot", "zen", "zico", "ntk_condition", "fisher", "epe_nas", "l2_norm",
    "jacov_random", "naswot_data", "expressivity_data",
]  # fmt: skip
LARGEST = 6
METRICS = ("KT", "SPR", "nDCG")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scores", nargs="+")
    parser.add_argument("--oracle_path")
    parser.add_argument("--out", default="results.csv")
    parser.add_argument("--dataset", default="cifar10", help="the data set to choose on")
    parser.add_argument("--split_seed", type=int, default=0)
    parser.add_argument("--resamples", type=int, default=1000)
    parser.add_argument("--confirm", help="only report this ranking, such as vkdnw+jacov, on all architectures")
    parser.add_argument("--beam", type=int, default=300, help="subsets kept from each size for the next")
    args = parser.parse_args()

    columns, accuracy = read(args.scores, args.oracle_path)
    rows = next(iter(accuracy.values()))
    if args.confirm:
        whole = Half(columns, accuracy, np.arange(len(rows)))
        base = {d: measure(whole.score(BASELINE_TERMS, "log"), whole.accuracy[d]) for d in accuracy}
        print(f"{len(rows)} architectures; value, difference to VKDNW_agg, 95 % interval of the difference")
        report(whole, args.confirm.split("+"), "log", base, args.resamples)
        return
    order = np.random.default_rng(args.split_seed).permutation(len(rows))
    halves = order[: len(rows) // 2], order[len(rows) // 2 :]
    print(f"{len(rows)} architectures, {len(halves[0])} to choose on and {len(halves[1])} to report on")

    first = Half(columns, accuracy, halves[0])
    tried = search(first, args.dataset, args.beam)
    second = Half(columns, accuracy, halves[1])
    base = {d: measure(second.score(BASELINE_TERMS, "log"), second.accuracy[d]) for d in accuracy}
    with open(args.out, "w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(
            ["form", "terms", "worst gain on the first half", *(f"{d} {m}" for d in accuracy for m in METRICS)]
        )
        for gain, form, terms in tried[:50]:
            values = [v for d in accuracy for v in measure(second.score(terms, form), second.accuracy[d])]
            writer.writerow([form, "+".join(terms), f"{gain:.3f}", *(f"{v:.4f}" for v in values)])
    for gain, form, terms in tried[:10]:
        print(f"\n{form} {' + '.join(terms)}   (first half, {args.dataset}: worst gain {gain:.2f} standard errors)")
        report(second, terms, form, base, args.resamples)


def read(scores, oracle_path):
    """Columns of the first seed, and accuracies."""
    table = join_columns(read_score_tables(scores, "nb201"))
    oracle = load_oracle("nb201", oracle_path)
    rows = [row for row in table.rows if row.seed == table.seeds[0]]
    columns = {c: np.array([np.nan if row.values[c] is None else row.values[c] for row in rows]) for c in table.columns}
    return columns, {d: np.array([oracle.accuracies(d)[row.arch] for row in rows]) for d in oracle.datasets}


class Half:
    """Terms as ranks among some of the architectures."""

    def __init__(self, columns, accuracy, places):
        self.columns = {c: v[places] for c, v in columns.items()}
        self.accuracy = {d: v[places] for d, v in accuracy.items()}
        self.n = len(places)
        self.ranks = {t: rankdata(aggregate(self.columns, parse_ranking(t))) / self.n for t in TERMS if self.has(t)}

    def has(self, term):
        return all(c in self.columns for c in term.split(">"))

    def score(self, terms, form):
        ranks = np.stack([self.ranks[t] for t in terms])
        return FORMS[form](ranks)


FORMS = {
    "log": lambda r: np.log(r).sum(0),  # product of ranks, as in the paper
    "mean": lambda r: r.sum(0),
    "square": lambda r: -((1 - r) ** 2).sum(0),  # distance from the best corner
    "sqrt": lambda r: np.sqrt(r).sum(0),
}
BASELINE_TERMS = ["aleph>vkdnw", "jacov", "expressivity", "trainability", "macs"]


def measure(score, accuracy):
    return np.array([
        kendalltau(score, accuracy).statistic,
        np.corrcoef(rankdata(score), rankdata(accuracy))[0, 1],
        float(ndcg(score, accuracy, top_k=1000, places=9445 / len(score))),  # as evaluate --paper
    ])  # fmt: skip


def standard_errors(half, dataset, resamples=200):
    """Of the difference between two good aggregates, the scale in which gains of different metrics compare."""
    rng = np.random.default_rng(0)
    a = half.score(BASELINE_TERMS, "log")
    b = half.score([*BASELINE_TERMS, "vkdnw"], "mean")
    differences = []
    for _ in range(resamples):
        pick = rng.integers(half.n, size=half.n)
        differences.append(
            measure(b[pick], half.accuracy[dataset][pick]) - measure(a[pick], half.accuracy[dataset][pick])
        )
    return np.std(differences, axis=0)


def search(half, dataset, beam):
    """All subsets of up to three terms, then the best of each size widened by one term; gains in standard errors."""
    base = measure(half.score(BASELINE_TERMS, "log"), half.accuracy[dataset])
    scale = standard_errors(half, dataset)
    print(f"VKDNW_agg there: {base.round(3)}, standard errors of a difference {scale.round(4)}", flush=True)
    terms = list(half.ranks)
    found = {}
    for form in FORMS:
        level = [frozenset(c) for k in (2, 3) for c in itertools.combinations(terms, k)]
        for size in range(3, LARGEST + 1):
            scored = {}
            for subset in level:
                ordered = [t for t in terms if t in subset]
                gain = ((measure(half.score(ordered, form), half.accuracy[dataset]) - base) / scale).min()
                scored[subset] = gain
                found[form, tuple(ordered)] = gain
            best = sorted(scored, key=scored.get, reverse=True)[:beam]
            level = list({subset | {t} for subset in best for t in terms if t not in subset})
            print(f"{form}: up to {size} terms, {len(found)} tried", file=sys.stderr, flush=True)
    return sorted(((gain, form, list(t)) for (form, t), gain in found.items()), key=lambda x: -x[0])


def report(half, terms, form, base, resamples):
    """Value, difference to VKDNW_agg and its 95 % interval in the nine cells."""
    rng = np.random.default_rng(1)
    ours, theirs = half.score(terms, form), half.score(BASELINE_TERMS, "log")
    for dataset, accuracy in half.accuracy.items():
        value = measure(ours, accuracy)
        draws = []
        for _ in range(resamples):
            pick = rng.integers(half.n, size=half.n)
            draws.append(measure(ours[pick], accuracy[pick]) - measure(theirs[pick], accuracy[pick]))
        low, high = np.quantile(draws, [0.025, 0.975], axis=0)
        cells = [
            f"{m} {v:.3f} ({v - b:+.3f} [{lo:+.3f}, {hi:+.3f}])"
            for m, v, b, lo, hi in zip(METRICS, value, base[dataset], low, high, strict=True)
        ]
        print(f"  {dataset:15s} {'   '.join(cells)}")


if __name__ == "__main__":
    main()
