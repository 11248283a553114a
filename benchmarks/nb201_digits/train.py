"""Trains NAS-Bench-201 cells on corrupted digits: the accuracies of the embedded table ``nb201_digits``.

    cd benchmarks/nb201_digits
    OMP_NUM_THREADS=1 python train.py train runs.csv --archs 320   # about 40 minutes on one core
    python train.py table runs.csv ../../vkdnw_pl/oracles/tables/nb201_digits.csv

``train`` appends a row per run (architecture, seed) and continues where it stopped; a run is a pure function of the two.
``table`` keeps the architectures that have every seed.
"""

import argparse
import csv
import gzip
import math
import random
import statistics
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from vkdnw_pl.data.digit_images import Split, clean_digits, corrupt
from vkdnw_pl.networks.nb201 import NB201Network
from vkdnw_pl.oracles.nb201_tables import DIGITS_NETWORK
from vkdnw_pl.spaces import NB201

SEEDS = (0, 1, 2)
NETWORK = DIGITS_NETWORK
EPOCHS = 12
BATCH_SIZE = 50
LEARNING_RATE = 0.1
MOMENTUM = 0.9
WEIGHT_DECAY = 5e-4
TRAIN_COPIES = 36  # one fresh corruption of the training digits for every epoch of every seed
TEST_COPIES = 5
FIELDS = ("arch", "seed", "accuracy", "accuracy_even", "accuracy_odd", "seconds")


def architectures(count: int) -> list[str]:
    """Uniform sample without replacement from the 9,445 unique networks."""
    return random.Random(0).sample(list(NB201().enumerate(unique=True)), count)


def train(arch: str, seed: int, images: Tensor, labels: Tensor) -> NB201Network:
    """SGD with Nesterov momentum, cosine schedule per epoch, cross-entropy, PyTorch's default initialisation."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = NB201().build(arch, **NETWORK).to(memory_format=torch.channels_last)
    order = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.SGD(
        network.parameters(), lr=LEARNING_RATE, momentum=MOMENTUM, nesterov=True, weight_decay=WEIGHT_DECAY
    )
    per_copy = len(images) // TRAIN_COPIES
    for epoch in range(EPOCHS):
        for group in optimizer.param_groups:
            group["lr"] = LEARNING_RATE * 0.5 * (1 + math.cos(math.pi * epoch / EPOCHS))
        first = (seed * EPOCHS + epoch) % TRAIN_COPIES * per_copy
        for chosen in (first + torch.randperm(per_copy, generator=order)).split(BATCH_SIZE):
            optimizer.zero_grad()
            F.cross_entropy(network(images[chosen]), labels[chosen]).backward()
            optimizer.step()
    return network.eval()


@torch.inference_mode()
def correct(network: NB201Network, images: Tensor, labels: Tensor) -> Tensor:
    return torch.cat([network(part).argmax(1) for part in images.split(500)]) == labels


def corrupted_digits(split: Split, copies: int, seed: int) -> tuple[Tensor, Tensor]:
    """Independent corruptions (copies * n, 1, 16, 16) of every digit of a split, copy after copy, and their labels."""
    images, labels = clean_digits(split)
    return corrupt(images.repeat(copies, 1, 1, 1), seed), labels.repeat(copies)


def run_all(path: Path, count: int) -> None:
    torch.set_num_threads(1)
    train_images, train_labels = corrupted_digits("train", TRAIN_COPIES, seed=100)
    test_images, test_labels = corrupted_digits("test", TEST_COPIES, seed=200)
    text = path.read_text() if path.exists() else ""
    text = text[: text.rfind("\n") + 1]  # a row cut short by a kill is done again
    path.write_text(text)
    done = {(row["arch"], int(row["seed"])) for row in csv.DictReader(text.splitlines())}
    with path.open("a", newline="") as file:
        writer = csv.DictWriter(file, FIELDS, lineterminator="\n")
        if not text:
            writer.writeheader()
        for arch in architectures(count):
            for seed in SEEDS:
                if (arch, seed) in done:
                    continue
                started_at = time.perf_counter()
                right = correct(train(arch, seed, train_images, train_labels), test_images, test_labels).double() * 100
                values = [f"{part.mean().item():.4f}" for part in (right, right[0::2], right[1::2])]
                elapsed_s = f"{time.perf_counter() - started_at:.2f}"
                writer.writerow(dict(zip(FIELDS, [arch, seed, *values, elapsed_s], strict=True)))
                file.flush()


def read_runs(path: Path) -> dict[str, dict[int, dict[str, float]]]:
    """arch → seed → columns, of the architectures that have every seed, in the order of the sample."""
    runs: dict[str, dict[int, dict[str, float]]] = {}
    with gzip.open(path, "rt") if path.suffix == ".gz" else path.open() as file:
        for row in csv.DictReader(file):
            values = {name: float(row[name]) for name in FIELDS[2:]}
            runs.setdefault(row["arch"], {})[int(row["seed"])] = values
    return {arch: by_seed for arch, by_seed in runs.items() if set(by_seed) == set(SEEDS)}


def write_table(runs_path: Path, table_path: Path) -> None:
    with table_path.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["arch", "digits", "digits_std", *(f"digits_seed{seed}" for seed in SEEDS)])
        for arch, by_seed in read_runs(runs_path).items():
            values = [by_seed[seed]["accuracy"] for seed in SEEDS]
            mean, std = statistics.fmean(values), statistics.stdev(values)
            writer.writerow([arch, f"{mean:.4f}", f"{std:.4f}", *(f"{value:.4f}" for value in values)])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    sub = commands.add_parser("train")
    sub.add_argument("runs", type=Path)
    sub.add_argument("--archs", type=int, default=320)
    sub = commands.add_parser("table")
    sub.add_argument("runs", type=Path)
    sub.add_argument("table", type=Path)
    args = parser.parse_args()
    if args.command == "train":
        run_all(args.runs, args.archs)
    else:
        write_table(args.runs, args.table)


if __name__ == "__main__":
    main()
