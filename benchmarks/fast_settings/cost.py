"""Processor time of one network for every setting, interleaved in one process: medians over networks.

python benchmarks/fast_settings/cost.py OUT.csv [NETWORKS [SETTINGS...]]
"""

import csv
import random
import statistics
import sys
import time
from pathlib import Path

import torch
from score import SPACE, build, images_of
from settings import SETTINGS, reference

from vkdnw_pl.proxies import make_proxies
from vkdnw_pl.proxies.scoring import score_network


def main(out: str, networks: str = "10", *names: str) -> None:
    torch.set_num_threads(1)
    archs = random.Random(0).sample(list(SPACE.enumerate(unique=True)), int(networks))
    settings = {name: s for name, s in SETTINGS.items() if not names or name in names or name == reference(name)}
    times: dict[tuple[str, str], list[float]] = {}
    for number, arch in enumerate([archs[0], *archs]):  # the first one twice: it warms up
        measured: dict[str, float] = {}
        for name, setting in settings.items():
            if setting.bfloat16:
                continue  # emulated
            for kind in ("vkdnw", "agg") if setting.agg else ("vkdnw",):
                specs = setting.proxies(kind == "agg")
                key = str((specs, setting.network))
                if key not in measured:
                    proxies = make_proxies(specs)
                    images = images_of(max(setting.vkdnw, setting.maps, setting.jacov), 1, setting.network)
                    images.images(0), images.data(0)
                    started_at = time.process_time()
                    score_network(build(arch, 1, setting.network), images, proxies, 1, fresh=True)
                    measured[key] = time.process_time() - started_at
                if number:
                    times.setdefault((name, kind), []).append(measured[key])
        if number:
            write(Path(out), times)  # what there is, should the run be stopped


def write(out: Path, times: dict[tuple[str, str], list[float]]) -> None:
    with out.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["setting", "kind", "networks", "seconds", "ratio"])
        for (name, kind), seconds in times.items():
            ratio = statistics.median(a / b for a, b in zip(seconds, times[reference(name), kind], strict=True))
            writer.writerow([name, kind, len(seconds), f"{statistics.median(seconds):.4f}", f"{ratio:.3f}"])


if __name__ == "__main__":
    main(*sys.argv[1:])
