"""Scores random unique NAS-Bench-201 networks with every behaviour of batch norm, for the choice of the defaults.

python benchmarks/batchnorm/run.py 1000 scores.csv     # about 25 minutes on one core; continues where it stopped
python benchmarks/batchnorm/analyse.py scores.csv ORACLE_PATH
"""

import csv
import random
import sys
from pathlib import Path

import torch

from vkdnw_pl.data.batches import image_batch
from vkdnw_pl.proxies import make_proxies
from vkdnw_pl.proxies.scoring import score_network
from vkdnw_pl.spaces import NB201

BEHAVIOURS = ("sample", "running", "batch")
SWITCHED = ("vkdnw", "jacov", "expressivity", "progressivity", "trainability")


def main(count: int, path: Path, batch_size: int = 16, seed: int = 1) -> None:
    torch.set_num_threads(1)
    space = NB201()
    archs = random.Random(0).sample(list(space.enumerate(unique=True)), count)
    done = set()
    if path.exists():
        with path.open() as file:
            done = {row["arch"] for row in csv.DictReader(file)}
    inputs = image_batch("random", batch_size, space.input_size(), seed).images
    columns = ["arch", "aleph", "macs", "params"]
    columns += [f"{name}@{behaviour}" for behaviour in BEHAVIOURS for name in SWITCHED]
    columns += ["vkdnw_official", "vkdnw_official_dim"]
    with path.open("a", newline="") as file:
        writer = csv.DictWriter(file, columns)
        if not done:
            writer.writeheader()
        for arch in archs:
            if arch in done:
                continue
            network = space.build(arch)
            row: dict[str, object] = {"arch": arch}
            plain = score_network(network, inputs, make_proxies(["aleph", "macs", "params", "vkdnw_official"]), seed)
            row |= {name: plain.values[name] for name in columns if name in plain.values}
            for behaviour in BEHAVIOURS:
                proxies = make_proxies([{"name": name, "batchnorm": behaviour} for name in SWITCHED])
                scores = score_network(network, inputs, proxies, seed)
                row |= {f"{name}@{behaviour}": scores.values[name] for name in SWITCHED}
            writer.writerow(row)
            file.flush()


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]))
