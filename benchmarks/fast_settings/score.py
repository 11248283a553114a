"""Scores NAS-Bench-201 networks with cheaper settings, each network with all of them.

    python benchmarks/fast_settings/score.py FOLDER NETWORKS SEEDS TASKS...     # as in: run 1000 1 exact16 companions8

The networks are the first of `score --archs sample:1000`. One Jacobian with all classes gives the scores of all smaller
batches, whose images are its first, and of all sketches: they are what `{name: vkdnw, sketch: 2}` with that batch size
gives (`check` compares). Goes on where it was stopped.
"""

from __future__ import annotations

import argparse
import csv
import random
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from settings import IMAGENET16, SMALL
from torch import Tensor
from torch.overrides import TorchFunctionMode

from vkdnw_pl.data.batches import batches
from vkdnw_pl.proxies import make_proxies
from vkdnw_pl.proxies.borrow import borrow
from vkdnw_pl.proxies.functional.batchnorm import sample_norm
from vkdnw_pl.proxies.functional.fisher import (
    eigenvalues_of_root,
    entropy,
    fisher_root,
    quantiles,
    sketch_cotangents,
    smoothed_probabilities,
)
from vkdnw_pl.proxies.functional.jacobian import jacobian
from vkdnw_pl.proxies.functional.scalars import Scalar, layer_weights
from vkdnw_pl.proxies.scoring import Images, score_network
from vkdnw_pl.spaces import NB201

SPACE = NB201()
COMPANIONS = ("jacov", "expressivity", "trainability")
ALPHA = 0.05


def build(arch: str, seed: int, network: dict[str, int]):
    torch.manual_seed(seed)
    return SPACE.build(arch, **network)


def images_of(batch_size: int, seed: int, network: dict[str, int]) -> Images:
    size, classes = SPACE.input_size(**network), SPACE.num_classes(**network)
    sources = ("random", "digits")
    return Images(*(batches(source, batch_size, size, seed, classes) for source in sources))


def proxies(names, batch_size: int, network: dict[str, int] | None = None):
    made, network = make_proxies(names), network or {}

    def task(arch: str, seed: int) -> dict[str, float | None]:
        images = images_of(batch_size, seed, network)
        return score_network(build(arch, seed, network), images, made, seed, fresh=True).values

    return task


def exact(batch_size: int, sizes, sketches, network: dict[str, int] | None = None, mode=None):
    """VKDNW of the first images of a batch and of sketches of their classes, from one Jacobian."""
    network = network or {}

    def task(arch: str, seed: int) -> dict[str, float | None]:
        images = images_of(batch_size, seed, network).images
        with borrow(build(arch, seed, network), images, seed, fresh=True) as lent:
            scalars = [Scalar(name, 0) for name in layer_weights(lent.network)]
            if mode is None:
                result = jacobian(lent.network, lent.inputs, scalars, "sample", up_to_shift=True)
            else:
                with mode():
                    result = jacobian(lent.network, lent.inputs, scalars, "sample", "reverse", up_to_shift=True)
            values: dict[str, float | None] = {}
            for size in sizes:
                jac, p = result.jac_BCP[:size], smoothed_probabilities(result.logits_BC[:size], ALPHA)
                values[f"b{size}"] = score(fisher_root(jac, p))
                for count in sketches:
                    shape = (size, p.shape[1], count)
                    draws = torch.randn(shape, generator=lent.generator("vkdnw sketch"), dtype=torch.float64)
                    root = (sketch_cotangents(p, draws) @ jac.double()).flatten(0, 1) / size**0.5
                    values[f"b{size}_sketch{count}"] = score(root)
        return values

    return task


def score(root: Tensor) -> float | None:
    deciles = quantiles(eigenvalues_of_root(root))
    return float(entropy(deciles)) if deciles.any() else None


class _Rounded(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor) -> Tensor:
        return x.bfloat16().float()

    @staticmethod
    def backward(ctx, grad: Tensor) -> Tensor:
        return grad.bfloat16().float()


class BFloat16(TorchFunctionMode):
    """Rounds weights, images, every activation and every gradient of one to bfloat16; sums are in float32."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        if func in (F.conv2d, F.linear):
            args = (_Rounded.apply(args[0]), args[1].bfloat16().float(), *args[2:])
        out = func(*args, **(kwargs or {}))
        rounds = func in (F.conv2d, F.linear, F.avg_pool2d, F.relu, F.batch_norm, sample_norm, torch.relu)
        return _Rounded.apply(out) if rounds or getattr(func, "__name__", "") in ("add", "__add__", "mean") else out


TASKS = {
    "exact16": exact(16, (16, 8, 4), (1, 2, 4, 8)),
    "exact16_c120": exact(16, (16, 8, 4), (1, 2, 4, 8, 16), IMAGENET16),
    "bfloat16": exact(16, (16,), (), mode=BFloat16),
    "jacov16": proxies(("jacov",), 16),
    **{f"companions{size}": proxies(COMPANIONS, size) for size in (4, 8)},
    "small16": proxies(("vkdnw", *COMPANIONS), 16, SMALL),
    # For a look at whether `exact` is what the proxy gives.
    "check": proxies(
        [{"name": "vkdnw", "label": "b8", "samples": 8}]
        + [{"name": "vkdnw", "label": f"b{b}_sketch{k}", "samples": b, "sketch": k} for b in (16, 8) for k in (2, 8)],
        16,
    ),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("networks", type=int)
    parser.add_argument("seeds", help="as in 1 or 2,3")
    parser.add_argument("tasks", nargs="+", choices=TASKS)
    parser.add_argument("--block", type=int, default=50, help="networks before the next task")
    args = parser.parse_args()
    torch.set_num_threads(1)
    args.folder.mkdir(exist_ok=True)
    archs = random.Random(0).sample(list(SPACE.enumerate(unique=True)), 1000)[: args.networks]
    for start in range(0, len(archs), args.block):
        for name in args.tasks:
            path = args.folder / f"{name}.csv"
            done = set()
            if path.exists():
                with path.open() as file:
                    done = {(row["arch"], int(row["seed"])) for row in csv.DictReader(file)}
            for seed in map(int, args.seeds.split(",")):
                for arch in archs[start : start + args.block]:
                    if (arch, seed) in done:
                        continue
                    started_at = time.process_time()
                    try:
                        values = TASKS[name](arch, seed)
                    except (FloatingPointError, ValueError) as error:
                        print(name, arch, seed, error, flush=True)
                        values = {}
                    row = {"arch": arch, "seed": seed, **values, "cpu_seconds": time.process_time() - started_at}
                    write_header = not path.exists()
                    with path.open("a", newline="") as file:
                        writer = csv.DictWriter(file, list(row))
                        if write_header:
                            writer.writeheader()
                        writer.writerow({k: v if k != "cpu_seconds" else round(v, 3) for k, v in row.items()})
            print(name, start, flush=True)


if __name__ == "__main__":
    main()
