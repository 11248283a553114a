"""Time of a pass in float32 and in bfloat16, five random networks of NAS-Bench-201, 16 images, channels last.

python benchmarks/fast_settings/bfloat16.py
"""

import random
import statistics
import time
from collections.abc import Callable

import torch

from vkdnw_pl.networks.init import initialise
from vkdnw_pl.spaces import NB201


def seconds(work: Callable[[], object], repeats: int = 3) -> float:
    work()
    times = []
    for _ in range(repeats):
        started_at = time.process_time()
        work()
        times.append(time.process_time() - started_at)
    return statistics.median(times)


def passes(network: torch.nn.Module, images: torch.Tensor) -> list[float]:
    """Seconds of a forward pass, and of one with its backward pass to the images."""
    with torch.no_grad():
        forward = seconds(lambda: network(images))
    return [forward, seconds(lambda: network(images.clone().requires_grad_()).sum().backward())]


def main() -> None:
    torch.set_num_threads(1)
    for arch in random.Random(0).sample(list(NB201().enumerate(unique=True)), 5):
        network = initialise(NB201().build(arch), seed=1).eval().requires_grad_(False)
        network = network.to(memory_format=torch.channels_last)
        images = torch.randn(16, 3, 32, 32).contiguous(memory_format=torch.channels_last)
        times = [passes(network.to(dtype), images.to(dtype)) for dtype in (torch.float32, torch.bfloat16)]
        forward, both = (b / a for a, b in zip(*times, strict=True))
        print(times, f"forward {forward:.1f}, with backward {both:.1f} times as long")


if __name__ == "__main__":
    main()
