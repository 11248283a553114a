"""Seconds of every proxy of Table 1 on one NAS-Bench-201 network, alone and all together.

    python benchmarks/proxy_speed/run.py [--batch_size 64] [--ntk batch]

Alone: a copy of the network, its initialisation and all passes for one proxy. Together: the same proxies in one call,
which share copies, forward passes and gradients. Medians of three calls after a warm-up, on as many threads as cores.
Then GradSign and the NTK's gradients by one backward pass per image, and by torch.func.
"""

import argparse
import statistics
import time

import torch
import torch.nn.functional as F
from torch.func import functional_call

from vkdnw_pl.data.batches import batches
from vkdnw_pl.networks.init import initialise
from vkdnw_pl.proxies import make_proxies
from vkdnw_pl.proxies.functional.batchnorm import BatchNormMode
from vkdnw_pl.proxies.functional.samples import per_sample_gradients
from vkdnw_pl.proxies.functional.scalars import layer_weights
from vkdnw_pl.proxies.scoring import Images, score_network
from vkdnw_pl.spaces import NB201

TABLE1 = [
    "macs", "aleph", "vkdnw", "grad_norm", "grasp", "snip", "synflow", "jacov", "naswot", "zen", "grad_sign", "zico",
    "ntk_condition", "linear_regions", "expressivity", "progressivity", "trainability",
]  # fmt: skip
ARCH = "|nor_conv_3x3~0|+|avg_pool_3x3~0|skip_connect~1|+|nor_conv_1x1~0|skip_connect~1|nor_conv_3x3~2|"


def median(work, repeats=3):
    work()
    times = []
    for _ in range(repeats):
        begin = time.perf_counter()
        work()
        times.append(time.perf_counter() - begin)
    return statistics.median(times)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch_size", type=int, default=64)
    parser.add_argument("--ntk", default="batch", help="batch norm of ntk_condition: batch, sample or running")
    parser.add_argument("--init", default="auto")
    args = parser.parse_args()
    size, classes = (3, 32, 32), 10
    network = NB201().build(ARCH)
    images = Images(*(batches(source, args.batch_size, size, 1, classes) for source in ("random", "digits")))
    images.images(0), images.data(0), images.data(1)
    specs = [{"name": n, "batchnorm": args.ntk} if n == "ntk_condition" else n for n in TABLE1]
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, batch {args.batch_size}, init {args.init}")
    alone = {}
    for name, spec in zip(TABLE1, specs, strict=True):
        (proxy,) = make_proxies([spec])
        alone[name] = median(lambda proxy=proxy: score_network(network, images, [proxy], 1, args.init))
        print(f"{name:16s} {alone[name]:7.3f} s", flush=True)
    every = make_proxies(specs)
    together = median(lambda: score_network(network, images, every, 1, args.init))
    total = sum(alone.values())
    print(f"{'sum':16s} {total:7.3f} s\n{'together':16s} {together:7.3f} s   share {together / total:.3f}")
    per_image(network, images.data(0))


def per_image(network, batch):
    network = initialise(network, "pytorch", 1).eval().requires_grad_(False)
    weights = {name: w.detach() for name, w in layer_weights(network).items()}

    def loop(value):
        for image, label in zip(batch.images.split(1), batch.labels.split(1), strict=True):
            leaves = {name: w.clone().requires_grad_() for name, w in weights.items()}
            with BatchNormMode("batch"):
                logits = functional_call(network, leaves, (image,))
            torch.autograd.grad(value(logits[0], label[0]), list(leaves.values()))

    def func(value):
        for _ in per_sample_gradients(network, weights, batch.images, value, (batch.labels,)):
            pass

    for name, value in (("GradSign", F.cross_entropy), ("NTK", lambda logits, label: logits.sum())):
        slow, fast = median(lambda v=value: loop(v)), median(lambda v=value: func(v))
        print(f"{name}: one backward pass per image {slow:.2f} s, torch.func {fast:.2f} s ({slow / fast:.2f} times)")


if __name__ == "__main__":
    main()
