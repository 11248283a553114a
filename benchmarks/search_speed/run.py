"""Speed of the search without proxies: draw, check the budget and for duplicates, add and rank, at a long history.

    python benchmarks/search_speed/run.py                    # 100,000 candidates, several minutes to make them
    python benchmarks/search_speed/run.py --history 5000     # a look

Values of proxies are made up: trends with the size of the network and noise. One process, one thread. Seconds are of the
processor (`time.process_time`), which other programs disturb less; the clock's stand beside them.
"""

import argparse
import random
import time
from dataclasses import replace

import numpy as np

from vkdnw_pl.ranking import aggregate, parse_ranking
from vkdnw_pl.search.constraints import Budget, CostCheck
from vkdnw_pl.search.history import Candidate, RankedHistory
from vkdnw_pl.search.proposals import DrawCounts, Proposer
from vkdnw_pl.search.settings import make_strategy
from vkdnw_pl.spaces import SPACES

RANKING = "vkdnw_agg"
BUDGETS = {"450M, 14 layers": Budget(max_macs=450_000_000, max_layers=14), "none": Budget()}


def evaluated(proposal: Candidate, rng: random.Random) -> Candidate:
    layers = proposal.layers or 0
    return replace(
        proposal,
        values={
            "aleph": float(8 * layers + 5),  # many ties, as the real one has
            "vkdnw": rng.random(),
            "jacov": -50 / (1 + layers) + rng.gauss(0, 1),
            "expressivity": proposal.num_params**0.5 + rng.gauss(0, 100),
            "trainability": rng.gauss(0, 1) - 0.1 * layers,
        },
    )


def grow(record: RankedHistory, proposer: Proposer, until: int, batch: int, rng: random.Random) -> None:
    while len(record) < until:
        record.add([evaluated(one, rng) for one in proposer.propose(record, batch)])


def measure(history: int, seconds: float, batches: list[int]) -> None:
    space, terms, rng = SPACES["mbv2"], parse_ranking(RANKING), random.Random(0)
    strategy = make_strategy("evolution", space, 1024, start=space.validate("mbv2_initial"))
    record = RankedHistory(terms)
    limited = BUDGETS["450M, 14 layers"]
    grow(record, Proposer(strategy, CostCheck(limited, space, {}), limited, None, 0), history, 256, rng)

    print(f"history of {len(record):,} candidates, ranking {RANKING}\n")
    print("| budget | batch | draws/s | candidates/s | accepted | draws/s by the clock |\n|---|---|---|---|---|---|")
    for name, budget in BUDGETS.items():
        for batch in batches:
            proposer = Proposer(strategy, CostCheck(budget, space, {}), budget, None, 1)
            proposer.counts = DrawCounts()
            clock, processor = time.perf_counter(), time.process_time()
            while time.process_time() - processor < seconds:
                grow(record, proposer, len(record) + batch, batch, rng)
            processor, clock = time.process_time() - processor, time.perf_counter() - clock
            counts = proposer.counts
            print(
                f"| {name} | {batch} | {counts.tries / processor:,.0f} | {counts.accepted / processor:,.0f} | "
                f"{100 * counts.acceptance:.0f} % | {counts.tries / clock:,.0f} |",
                flush=True,
            )

    columns = {name: np.array([one.value(name) for one in record]) for name in ("aleph", "vkdnw", "jacov", "macs")}
    columns |= {name: np.array([one.value(name) for one in record]) for name in ("expressivity", "trainability")}
    whole = least(lambda: aggregate(columns, terms), 5)

    def add_and_rank() -> None:
        grow(record, proposer, len(record) + 64, 64, rng)

    def propose_only() -> None:
        proposer.propose(record, 64)

    step = least(add_and_rank, 20) - least(propose_only, 20)
    print(f"\nranking all {len(record):,} anew, as `aggregate` does: {1e3 * whole:.1f} ms")
    print(f"adding 64 candidates and ranking all: {1e3 * step:.1f} ms, that is {1e6 * step / 64:.0f} µs for each")


def least(work, repeats: int) -> float:
    times = []
    for _ in range(repeats):
        began = time.process_time()
        work()
        times.append(time.process_time() - began)
    return min(times)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--history", type=int, default=100_000)
    parser.add_argument("--seconds", type=float, default=5.0, help="for each measurement")
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 16, 32, 64, 128])
    options = parser.parse_args()
    measure(options.history, options.seconds, options.batches)
