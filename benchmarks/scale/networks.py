"""How the time of a network grows with batch, depth and classes, and networks a second with workers (NAS-Bench-201).

    python benchmarks/scale/networks.py axes --out benchmarks/scale/axes.csv          # one thread, about 4 minutes
    python benchmarks/scale/networks.py workers --out benchmarks/scale/workers.csv    # all cores, about a minute

``axes``: processor seconds of VKDNW and of the six proxies of vkdnw_agg for the same random unique networks, one value
after the other of one axis while the others stay (batch 16, 5 cells a stage, 10 classes, 32 pixels); a run through all
values for one network, then for the next. ``workers``: rows per second of the clock, between the first rows and the last.
"""

from __future__ import annotations

import argparse
import csv
import random
import time
from pathlib import Path
from typing import Any

import torch

from vkdnw_pl.data.batches import batches
from vkdnw_pl.proxies import make_proxies
from vkdnw_pl.proxies.scoring import Images, score_network
from vkdnw_pl.scoring.scorer import Scorer
from vkdnw_pl.scoring.settings import ScorerSettings
from vkdnw_pl.scoring.workers import Workers
from vkdnw_pl.spaces import SPACES

SPACE = SPACES["nb201"]
AGG = ("vkdnw", "aleph", "jacov", "expressivity", "trainability", "macs")
USUAL = {"batch": 16, "cells": 5, "classes": 10}
AXES = {
    "batch": (4, 8, 16, 32, 64, 128),
    "cells": (1, 2, 3, 5, 8, 12),
    "classes": (10, 20, 50, 100, 200, 500, 1000),
}


def networks(count: int) -> list[str]:
    return random.Random(0).sample(list(SPACE.enumerate(unique=True)), count)


def measure(arch: str, proxies: tuple[str, ...], batch: int, cells: int, classes: int) -> tuple[float, float]:
    """Processor seconds, building and copying included, and the number of layers with weights."""
    network = {"cells": cells, "num_classes": classes}
    size = SPACE.input_size(**network)
    images = Images(*(batches(source, batch, size, 1, classes) for source in ("random", "digits")))
    images.images(0), images.data(0)  # which a worker makes once
    made = make_proxies(proxies)
    began_at = time.process_time()
    scores = score_network(SPACE.build(arch, **network), images, made, seed=1, fresh=True)
    seconds = time.process_time() - began_at
    assert not scores.failed, scores.reasons
    aleph = score_network(SPACE.build(arch, **network), images, make_proxies(["aleph"]), seed=1, fresh=True)
    return seconds, float(aleph.values["aleph"] or 0)


def axes(out: Path, count: int) -> None:
    torch.set_num_threads(1)
    measure(networks(1)[0], AGG, 4, 1, 10)  # warms up
    with out.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["axis", "value", "arch", "layers", "what", "seconds"])
        for arch in networks(count):
            for axis, values in AXES.items():
                for value in values:
                    for what, proxies in {"vkdnw": ("vkdnw",), "vkdnw_agg": AGG}.items():
                        seconds, layers = measure(arch, proxies, **{**USUAL, axis: value})
                        writer.writerow([axis, value, arch, int(layers), what, f"{seconds:.4f}"])
                        file.flush()


def workers(out: Path, count: int) -> None:
    rows: list[list[Any]] = []
    for batch, number in ((16, 8 * count), (64, 2 * count)):
        settings = ScorerSettings(
            space="nb201",
            network={},
            proxies=[proxy.record() for proxy in make_proxies(AGG)],
            batch_size=batch,
            input="random",
            data="digits",
            init="auto",
            device="cpu",
        )
        for processes in (1, 2):
            keys = [(arch, 1) for arch in networks(number)]
            with Workers(Scorer(settings), "cpu", processes) as team:
                times = [time.perf_counter() for row in team.rows(keys) if not row.failed]
            warm = times[processes:]
            rate = (len(warm) - 1) / (warm[-1] - warm[0])
            rows.append([batch, processes, len(times), f"{rate:.4f}"])
            print(rows[-1], flush=True)
    with out.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["batch", "workers", "networks", "networks_per_s"])
        writer.writerows(rows)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=["axes", "workers"])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--nets", type=int, default=3)
    arguments = parser.parse_args()
    {"axes": axes, "workers": workers}[arguments.what](arguments.out, arguments.nets)
