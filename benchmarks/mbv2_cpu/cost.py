"""Processor seconds of one network in every setting: median over the first networks of archs.txt, settings in turn.

python benchmarks/mbv2_cpu/cost.py > benchmarks/mbv2_cpu/costs.csv
"""

import argparse
import statistics
import time
from collections import defaultdict
from pathlib import Path

from vkdnw_pl.proxies import make_proxies
from vkdnw_pl.scoring.scorer import Scorer
from vkdnw_pl.scoring.settings import ScorerSettings

SETTINGS = [
    *[(64, 4, 4, 10), (64, 4, 32, 10), (64, 8, 8, 10), (64, 8, 32, 10), (64, 8, 8, 1000)],
    *[(96, 4, 4, 10), (96, 4, 32, 10), (96, 8, 8, 10), (96, 8, 32, 10), (128, 4, 4, 10), (128, 8, 8, 10)],
]
"""Pixels, images of VKDNW, images of the other proxies, classes."""

parser = argparse.ArgumentParser()
parser.add_argument("--networks", type=int, default=4)
archs = (Path(__file__).parent / "archs.txt").read_text().split()[: parser.parse_args().networks]
scorers = {}
for setting in SETTINGS:
    pixels, samples, batch, classes = setting
    proxies = [{"name": "vkdnw", "samples": samples}, "aleph", "macs", "jacov", "expressivity", "trainability"]
    scorers[setting] = Scorer(
        ScorerSettings(
            space="mbv2",
            network={"image_size": pixels, "num_classes": classes},
            proxies=[proxy.record() for proxy in make_proxies(proxies)],
            batch_size=batch,
            input="random",
            data="random",
            init="auto",
            device="cpu",
        )
    )
    scorers[setting].use("cpu")
seconds = defaultdict(list)
for number, arch in enumerate([archs[0], *archs]):
    for setting, scorer in scorers.items():
        began = time.process_time()
        assert not scorer.row(arch, 1).failed
        if number:  # the first network warms up
            seconds[setting].append(time.process_time() - began)
print("pixels,vkdnw_images,images,classes,seconds")
for setting, times in seconds.items():
    print(*setting, f"{statistics.median(times):.3f}", sep=",")
