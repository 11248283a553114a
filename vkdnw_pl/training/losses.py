"""What the loss of a step is made of: label smoothing, mixup (Zhang et al., ICLR 2018), full precision."""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from vkdnw_pl.errors import check_number


def in_full_precision(tensor: Tensor) -> Tensor:
    """In float32 where it is in half precision: mixed precision is not for losses."""
    return tensor.float() if tensor.dtype in (torch.float16, torch.bfloat16) else tensor


def smooth_targets(labels: Tensor, num_classes: int, smoothing: float = 0.0) -> Tensor:
    """Probabilities of every class: 1 - s + s / K for the label, s / K for each other one.

    Args:
        labels: int64 ``(B,)``.
        num_classes: K.
        smoothing: s in [0, 1); 0 gives one-hot targets.

    Returns:
        Float32 ``(B, K)`` on the labels' device; rows sum to 1.

    Raises:
        ValueError: if ``smoothing`` is not in [0, 1).
    """
    check_number("smoothing", smoothing, 0, 1, open_high=True)
    one_hot = F.one_hot(labels, num_classes).to(torch.float32)
    return one_hot.mul_(1.0 - smoothing).add_(smoothing / num_classes)


def mixup(images: Tensor, targets: Tensor, alpha: float, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """γ · batch + (1 - γ) · permuted batch, of images and targets alike, with one γ ~ Beta(alpha, alpha) per batch.

    Partners are a random permutation of the batch, as in the code of ZenNAS and AZ-NAS
    (github.com/cvlab-yonsei/AZ-NAS, ImageNet_MBV2/ts_train_image_classification.py, 5e6683a), so that an image may
    meet itself and the batch may be odd. There γ comes from numpy's global random state and the permutation from
    torch's; here both come from ``generator`` (γ first), so one generator state means one result on every device.

    Args:
        images: ``(B, ...)``, float.
        targets: ``(B, K)`` probabilities, smoothed or one-hot.
        alpha: of the Beta distribution, positive; 0.2 in the ImageNet recipe.
        generator: a CPU generator; it is advanced.

    Returns:
        New images and targets of the same shapes, dtypes and device.

    Raises:
        ValueError: if ``alpha`` is not positive, the generator is not on the CPU, or the targets are not one row per image.
    """
    check_number("alpha", alpha, 0, math.inf, open_low=True, open_high=True)
    if generator.device.type != "cpu":
        raise ValueError(f"generator is on {generator.device}; give one on the CPU, so that every device has one draw")
    if targets.ndim != 2 or len(targets) != len(images):
        raise ValueError(
            f"targets have shape {tuple(targets.shape)}; {len(images)} images need ({len(images)}, classes) probabilities"
        )
    # torch's Beta distribution takes no generator; numpy's, seeded from ours, does the same.
    gamma = np.random.default_rng(int(torch.randint(2**62, (), generator=generator))).beta(alpha, alpha)
    partners = torch.randperm(len(images), generator=generator).to(images.device)
    # lerp(a, b, w) = a + w (b - a)
    return torch.lerp(images[partners], images, gamma), torch.lerp(targets[partners], targets, gamma)
