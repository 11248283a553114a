"""The batch of images that proxies see."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from vkdnw_pl.data.digits import clean_digits, corrupt

NAMED_INPUTS = ("random", "digits")


def input_batch(kind: str, batch_size: int, input_size: tuple[int, int, int], seed: int) -> Tensor:
    """A batch of images, a pure function of its arguments.

    Args:
        kind: ``random`` (independent N(0, 1) values, the proxies' usual input), ``digits`` (scikit-learn's digits,
            corrupted, normalised, resized to the input size) or the path of a ``.npy`` file of images
            (n, channels, height, width) of the input size, already normalised.
        batch_size: B; data sets are sampled without replacement.
        input_size: (channels, height, width).
        seed: of the values, or of which images are drawn.

    Returns:
        (B, channels, height, width) float32 on the CPU.

    Raises:
        ValueError: for an unknown kind, a batch that is larger than the data set, or images of another size.
    """
    if batch_size < 1:
        raise ValueError(f"batch_size={batch_size!r} is not allowed: it must be at least 1")
    generator = torch.Generator().manual_seed(seed)
    if kind == "random":
        return torch.randn(batch_size, *input_size, generator=generator)
    if kind == "digits":
        images = _digits(input_size)
    elif kind.endswith(".npy"):
        images = _from_file(Path(kind), input_size)
    else:
        raise ValueError(f"input={kind!r} is not known; allowed: {', '.join(NAMED_INPUTS)}, or the path of a .npy file")
    if batch_size > len(images):
        raise ValueError(f"batch_size={batch_size} is more than the {len(images)} images of input={kind!r}")
    return images[torch.randperm(len(images), generator=generator)[:batch_size]]


def _digits(input_size: tuple[int, int, int]) -> Tensor:
    images = corrupt(clean_digits("train")[0], seed=0)
    images = (images - images.mean()) / images.std()
    images = F.interpolate(images, size=input_size[1:], mode="bilinear", align_corners=False)
    return images[:, :1].expand(-1, input_size[0], -1, -1)


def _from_file(path: Path, input_size: tuple[int, int, int]) -> Tensor:
    if not path.is_file():
        raise ValueError(f"input={str(path)!r}: there is no such file")
    images = np.load(path, allow_pickle=False)
    if images.ndim != 4 or images.shape[1:] != input_size:
        raise ValueError(
            f"input={str(path)!r} holds an array {images.shape}; needed: (n, {', '.join(map(str, input_size))})"
        )
    return torch.from_numpy(images).float()
