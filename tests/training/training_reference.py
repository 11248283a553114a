"""Numbers that the published training code returned, and the formulas of their inputs (`tests/golden/training_official.json`)."""

import json
import math
import zlib
from pathlib import Path

import torch

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "training_official.json").read_text())


def wave(shape, phase, scale=1.0):
    i = torch.arange(math.prod(shape), dtype=torch.float64)
    return (scale * torch.sin(phase + 0.37 * i)).reshape(shape)


def noise(shape, key, scale=1.0):
    """Uniform numbers from an integer hash; products that overflow 64 bits keep the lower 32 right."""
    mask = 2**32 - 1
    h = (torch.arange(math.prod(shape)) * 2654435761 + zlib.crc32(key.encode())) & mask
    for shift, factor in ((15, 2246822519), (13, 3266489917)):
        h = ((h ^ (h >> shift)) * factor) & mask
    h = h ^ (h >> 16)
    return ((h.double() / 2**32 - 0.5) * (scale * math.sqrt(12))).reshape(shape)


def noisy_state(state):
    """Another state dict of the same names and shapes; whole numbers stay."""
    found = {}
    for name, value in state.items():
        if not value.is_floating_point():
            found[name] = value
        elif name.endswith("running_var"):
            found[name] = 1 + noise(value.shape, name, 0.2)
        elif value.ndim >= 2:
            found[name] = noise(value.shape, name, math.sqrt(2 / value[0].numel()))
        else:
            found[name] = (
                1 + noise(value.shape, name, 0.2) if name.endswith("weight") else noise(value.shape, name, 0.1)
            )
    return found
