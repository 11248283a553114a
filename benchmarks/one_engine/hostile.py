"""A search space whose networks sleep, die or hang: what becomes of the rows and of the workers.

    PYTHONPATH=benchmarks/one_engine python -m vkdnw_pl score --space hostile.Sleepy --archs all --proxies '[params]' ...

An architecture is what its network does when it is built: ``sleep-S-N`` sleeps S seconds, ``kill-N`` ends its process by
SIGKILL, ``exit-N`` by exit code 7. The log named by HOSTILE_LOG gets a line with process, start and end for each.
"""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Iterator
from typing import Any

from torch import Tensor, nn

from vkdnw_pl.spaces import Cost, Space

ARCHS = os.environ.get("HOSTILE_ARCHS", "").split(",")


class Net(nn.Module):
    """A linear classifier."""

    def __init__(self, num_classes: int, image_size: int) -> None:
        super().__init__()
        self.head = nn.Linear(3 * image_size**2, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(x.flatten(1))


class Sleepy(Space):
    """The architectures of HOSTILE_ARCHS."""

    name = "sleepy"

    def validate(self, arch: str) -> str:
        if arch not in ARCHS:
            raise ValueError(f"{arch!r} is not among {', '.join(ARCHS)}")
        return arch

    def enumerate(self, unique: bool = False) -> Iterator[str]:
        yield from ARCHS

    def sample(self, rng: random.Random, unique: bool = False) -> str:
        return rng.choice(ARCHS)

    def neighbour(self, arch: str, rng: random.Random) -> str:
        return self.sample(rng)

    def cost(self, arch: str, **network: Any) -> Cost:
        return Cost(macs=30720, num_params=30730)

    def build(self, arch: str, **network: Any) -> nn.Module:
        options = self.read_options(network)
        began = time.time()
        action, *numbers = arch.split("-")
        if action == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if action == "exit":
            os._exit(7)
        time.sleep(float(numbers[0]))
        if log := os.environ.get("HOSTILE_LOG"):
            with open(log, "a", encoding="utf-8") as file:
                file.write(f"{arch} {os.getpid()} {began:.3f} {time.time():.3f}\n")
        return Net(options.num_classes, options.image_size)
