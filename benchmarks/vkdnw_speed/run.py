"""VKDNW's Jacobian engine against per-sample ``vmap(jacrev)`` over the same scalars: time and memory.

    python benchmarks/vkdnw_speed/run.py results.csv                 # 10 networks, two settings, about 20 minutes
    python benchmarks/vkdnw_speed/run.py results.csv --nets 2        # a look
    python benchmarks/vkdnw_speed/run.py passes.csv --in-passes      # in forward passes instead, about 2 minutes

Every measurement has a process of its own. Time is the whole score (Jacobian, Fisher root, spectrum, entropy), after a
warm-up on two samples. Extra memory is the highest resident memory during the timed call less that before it.
"""

import argparse
import csv
import json
import random
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path

import torch
from torch import Tensor, nn

from vkdnw_pl.networks.init import initialise
from vkdnw_pl.proxies.borrow import borrow
from vkdnw_pl.proxies.functional.batchnorm import BatchNorm, BatchNormMode
from vkdnw_pl.proxies.functional.fisher import (
    eigenvalues_of_root,
    entropy,
    fisher_root,
    quantiles,
    smoothed_probabilities,
)
from vkdnw_pl.proxies.functional.jacobian import jacobian
from vkdnw_pl.proxies.functional.scalars import Scalar, layer_weights
from vkdnw_pl.proxies.vkdnw import VKDNW
from vkdnw_pl.spaces import NB201

SETTINGS = {"cifar10": (10, 32), "imagenet16": (120, 16)}
# vmap(jacrev) of all 64 samples at once with 120 classes was killed for want of memory on a machine of 24 GB.
SAMPLES_AT_ONCE = {"cifar10": None, "imagenet16": 16}
METHODS = ("vmap_jacrev", "ours")


def vmap_jacrev(
    network: nn.Module, inputs: Tensor, scalars: list[Scalar], batchnorm: BatchNorm, at_once: int | None
) -> tuple[Tensor, Tensor]:
    """The straightforward way: the chosen entries are written into the weights, jacrev per sample, vmap over samples."""
    parameters = {name: p.detach() for name, p in network.named_parameters()}
    places = {s.parameter: torch.unravel_index(torch.tensor(s.index), parameters[s.parameter].shape) for s in scalars}
    values = torch.stack([parameters[s.parameter][places[s.parameter]] for s in scalars])

    def logits(chosen: Tensor, image: Tensor) -> tuple[Tensor, Tensor]:
        written = {
            name: parameters[name].index_put(place, value)
            for (name, place), value in zip(places.items(), chosen, strict=True)
        }
        out = torch.func.functional_call(network, {**parameters, **written}, (image.unsqueeze(0),))[0]
        return out, out

    with BatchNormMode(batchnorm, composite=True):
        of_one_sample = torch.func.jacrev(logits, has_aux=True)
        return torch.func.vmap(of_one_sample, in_dims=(None, 0), chunk_size=at_once)(values, inputs)


def resident_mb() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 2**20


def peak_mb() -> float:
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 2**10


def measure(
    arch: str, setting: str, method: str, batchnorm: BatchNorm, threads: int, batch: int
) -> dict[str, float | str]:
    torch.set_num_threads(threads)
    num_classes, image_size = SETTINGS[setting]
    network = initialise(NB201().build(arch, num_classes=num_classes, image_size=image_size), seed=1).eval()
    network.requires_grad_(False)
    inputs = torch.randn(batch, 3, image_size, image_size, generator=torch.Generator().manual_seed(1))
    scalars = [Scalar(name, 0) for name in layer_weights(network)]
    if method == "ours":  # what `borrow` does on CPU
        network.to(memory_format=torch.channels_last)
        inputs = inputs.contiguous(memory_format=torch.channels_last)

    def score(images: Tensor) -> float:
        if method == "ours":
            result = jacobian(network, images, scalars, batchnorm, up_to_shift=True)
            jac, logits = result.jac_BCP, result.logits_BC
        else:
            jac, logits = vmap_jacrev(network, images, scalars, batchnorm, SAMPLES_AT_ONCE[setting])
            jac = jac.reshape(*logits.shape, len(scalars))
        return float(entropy(quantiles(eigenvalues_of_root(fisher_root(jac, smoothed_probabilities(logits, 0.05))))))

    score(inputs[:2])
    before = resident_mb()
    Path("/proc/self/clear_refs").write_text("5")  # starts VmHWM anew
    times = []
    for _ in range(3 if method == "ours" else 1):
        started_at = time.perf_counter()
        value = score(inputs)
        times.append(time.perf_counter() - started_at)
    return {
        "seconds": statistics.median(times),
        "extra_mb": peak_mb() - before,
        "score": value,
        "scalars": len(scalars),
    }


def in_passes(arch: str, batch: int, batchnorm: BatchNorm) -> dict[str, float | str]:
    """Processor time of the whole proxy, from the built network to the score, and of one forward pass in channels-last.

    One thread, C = 10, 32 pixels, running statistics in the forward pass; medians of three, taken in turns.
    """
    torch.set_num_threads(1)
    network = NB201().build(arch, num_classes=10, image_size=32)
    images = torch.randn(batch, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    proxy = VKDNW(batchnorm=batchnorm)
    whole, compute, forward = [], [], []
    for _ in range(4):
        times = [time.process_time()]
        with borrow(network, images) as borrowed:
            times.append(time.process_time())
            proxy.compute(borrowed)
            times.append(time.process_time())
            with torch.no_grad():
                borrowed.network(borrowed.inputs)
                borrowed.network(borrowed.inputs)
            times.append(time.process_time())
        whole.append(times[2] - times[0])
        compute.append(times[2] - times[1])
        forward.append((times[3] - times[2]) / 2)
    whole_s, compute_s, forward_s = (statistics.median(values[1:]) for values in (whole, compute, forward))
    row = {"arch": arch, "batch": batch, "whole_s": whole_s, "compute_s": compute_s, "forward_s": forward_s}
    return {**row, "whole_in_passes": whole_s / forward_s, "compute_in_passes": compute_s / forward_s}


def write(path: Path, rows: list[dict[str, float | str]]) -> None:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path)
    parser.add_argument("--nets", type=int, default=10)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--batchnorm", default="sample", choices=["sample", "running"])
    parser.add_argument("--settings", nargs="+", default=list(SETTINGS), choices=list(SETTINGS))
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=list(METHODS))
    parser.add_argument(
        "--in-passes", action="store_true", help="ours alone, at batch 16 and 64, in forward passes of the same batch"
    )
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument(
        "--one", nargs=3, metavar=("ARCH", "SETTING", "METHOD"), help="internal: one measurement, as JSON"
    )
    args = parser.parse_args()
    if args.one:
        print(json.dumps(measure(*args.one, args.batchnorm, args.threads, args.batch)))
        return
    archs = random.Random(0).sample(list(NB201().enumerate(unique=True)), args.nets)
    rows: list[dict[str, float | str]] = []
    if args.in_passes:
        for batch in (16, 64):
            of_batch = [in_passes(arch, batch, args.batchnorm) for arch in archs]
            medians = {key: statistics.median(float(row[key]) for row in of_batch) for key in list(of_batch[0])[2:]}
            print(batch, {key: round(value, 3) for key, value in medians.items()}, flush=True)
            rows += of_batch
        write(args.results, rows)
        return
    for setting in args.settings:
        for arch in archs:
            for method in args.methods:
                command = [sys.executable, __file__, str(args.results), "--threads", str(args.threads)]
                command += ["--batchnorm", args.batchnorm, "--batch", str(args.batch), "--one", arch, setting, method]
                done = subprocess.run(command, capture_output=True, text=True, check=True)
                row = {
                    "setting": setting,
                    "batch": args.batch,
                    "arch": arch,
                    "method": method,
                    **json.loads(done.stdout.splitlines()[-1]),
                }
                rows.append(row)
                print(row, flush=True)
    write(args.results, rows)
    for setting in args.settings:
        medians = {
            (method, column): statistics.median(
                float(r[column]) for r in rows if r["setting"] == setting and r["method"] == method
            )
            for method in args.methods
            for column in ("seconds", "extra_mb")
        }
        print(setting, {f"{m} {c}": round(v, 3) for (m, c), v in medians.items()})
        if len(args.methods) == 2:
            pairs = [
                (a["seconds"], b["seconds"], a["extra_mb"], b["extra_mb"])
                for a, b in zip(rows[::2], rows[1::2], strict=True)
                if a["setting"] == setting
            ]
            print("  speed-up: median of ratios", round(statistics.median(float(p[0]) / float(p[1]) for p in pairs), 2))
            print(
                "  memory share: median of ratios",
                round(statistics.median(float(p[3]) / float(p[2]) for p in pairs), 3),
            )


if __name__ == "__main__":
    main()
