"""Latency: how long a forward pass takes, by the clock."""

from __future__ import annotations

import gc
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from vkdnw_pl.networks.measuring import check_measuring, private_copy, random_input


@dataclass(frozen=True)
class Latency:
    """Time of one forward pass of a batch in milliseconds, from several passes."""

    median_ms: float
    iqr_ms: float
    """Third quartile minus first: what to think of a difference between two medians."""
    min_ms: float
    repeats: int
    batch_size: int
    device: str
    """As given, such as ``cpu`` or ``cuda:0``."""
    threads: int
    """Threads that one operation could use on the CPU."""

    @property
    def images_per_s(self) -> float:
        """Throughput at the median."""
        return 1000 * self.batch_size / self.median_ms


def measure_latency(
    network: nn.Module,
    input_size: Sequence[int],
    batch_size: int = 1,
    device: str | torch.device = "cpu",
    warmup: int = 3,
    repeats: int = 10,
) -> float:
    """Median time in milliseconds of one forward pass of a batch; see `latency`."""
    return latency(network, input_size, batch_size, device, warmup, repeats).median_ms


def latency(
    network: nn.Module,
    input_size: Sequence[int],
    batch_size: int = 1,
    device: str | torch.device = "cpu",
    warmup: int = 3,
    repeats: int = 10,
    threads: int | None = None,
) -> Latency:
    """Time forward passes of a network in evaluation and inference mode, in its own precision.

    Each pass is timed from its call until the device is done, so that on CUDA the time includes the launch of the
    kernels. Copying images to the device is not part of it, nor is anything that only the first passes do. The clock
    sees whatever else the machine does: compare medians only where `Latency.iqr_ms` is small beside them.

    A private copy is measured: the caller's network, its mode and its device, the random state and the number of threads
    are as before afterwards. The published search code does not wait for the device, whose times are therefore of little
    meaning.

    Args:
        network: maps images (B, ...) to anything.
        input_size: shape of one image, such as (3, 224, 224).
        batch_size: images of one pass.
        device: ``cpu`` or ``cuda``.
        warmup: passes before the clock is read.
        repeats: passes that are timed.
        threads: number of CPU threads; None for PyTorch's present setting.

    Raises:
        ValueError: if an argument is not allowed, or the device is not there.
    """
    known = check_measuring(
        input_size,
        device,
        batch_size=(batch_size, 1),
        warmup=(warmup, 0),
        repeats=(repeats, 1),
        threads=(1 if threads is None else threads, 1),
    )
    with torch.random.fork_rng([known] if known.type == "cuda" else []), _threads(threads), _no_collection():
        copied = private_copy(network, known)
        images = random_input(copied, input_size, batch_size, known)
        times = []
        with torch.inference_mode():
            for _ in range(warmup):
                copied(images)
            for _ in range(repeats):
                _wait_for(known)
                started_at = time.perf_counter()
                copied(images)
                _wait_for(known)
                times.append(1000 * (time.perf_counter() - started_at))
        used = torch.get_num_threads()
    first, median, third = np.quantile(times, [0.25, 0.5, 0.75])
    return Latency(float(median), float(third - first), min(times), repeats, batch_size, str(device), used)


def _wait_for(device: torch.device) -> None:
    """Return when the device has done all its work."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


@contextmanager
def _threads(threads: int | None) -> Iterator[None]:
    before = torch.get_num_threads()
    if threads is not None:
        torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def _no_collection() -> Iterator[None]:
    """Python's garbage collection does not fall into a timed pass."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
