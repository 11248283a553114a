"""The global random streams of PyTorch, NumPy and Python: seeded for a while, then as they were."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch


def seed_streams(seed: int, device: torch.device | None = None) -> None:
    """Seed the three of the CPU, and that of a CUDA device."""
    # Not torch.manual_seed, which reaches for every GPU.
    torch.default_generator.manual_seed(seed)
    if device is not None and device.type == "cuda":
        with torch.cuda.device(device):
            torch.cuda.manual_seed(seed)
    np.random.seed(seed & 0xFFFF_FFFF)
    random.seed(seed)


@contextmanager
def kept_streams(seed: int | None = None, device: torch.device | None = None) -> Iterator[None]:
    """Whatever is drawn within leaves the streams as they were; with ``seed`` they start from it."""
    numpy_state, python_state = np.random.get_state(), random.getstate()
    devices = [device] if device is not None and device.type == "cuda" else []
    try:
        with torch.random.fork_rng(devices=devices):
            if seed is not None:
                seed_streams(seed, device)
            yield
    finally:
        np.random.set_state(numpy_state)
        random.setstate(python_state)
