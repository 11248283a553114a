"""How stored images become tensors. Functions return a transform of one image and a finish of whole batches."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torchvision.transforms import v2
from torchvision.transforms.v2 import InterpolationMode

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
_FILL = 128  # grey, as AutoAugment's authors put it where an image was moved away
Step = Callable[[Any], Any]


class PCALighting:
    """Adds one colour to a whole image: a random mixture of the main axes of ImageNet's colours.

    ``image + Σ_k v_k α_k λ_k`` with ``α_k ~ N(0, std)`` and λ, v the eigenvalues and eigenvectors of the covariance of
    the RGB values of ImageNet's pixels, white = 1 (Krizhevsky et al., NIPS 2012, section 4.1, where std is 0.1; numbers
    of fb.resnet.torch).
    """

    values = torch.tensor([0.2175, 0.0188, 0.0045])
    vectors = torch.tensor(
        [[-0.5675, 0.7192, 0.4009], [-0.5808, -0.0045, -0.8140], [-0.5836, -0.6948, 0.4203]]
    )  # one column for each value

    def __init__(self, std: float) -> None:
        self.std = std

    def __call__(self, image: Tensor) -> Tensor:
        """Change a float image (3, height, width) in [0, 1]; the result may leave the range a little."""
        colour = self.vectors @ (self.values * (torch.randn(3) * self.std))
        return image + colour[:, None, None]


def normalisation(mean: Sequence[float], std: Sequence[float]) -> v2.Compose:
    """From uint8 to float32 with mean 0 and standard deviation 1; mean and std for white = 1."""
    return v2.Compose([v2.ToDtype(torch.float32, scale=True), v2.Normalize(list(mean), list(std))])


def flip_and_crop(image_size: int, padding: int) -> v2.Compose:
    """NAS-Bench-201's augmentation of uint8 tensors: half are mirrored, all shifted by up to ``padding`` over black."""
    return v2.Compose([v2.RandomHorizontalFlip(), v2.RandomCrop(image_size, padding=padding)])


def photo_training(
    image_size: int,
    auto_augment: bool,
    color_jitter: float,
    lighting: float,
    erase_probability: float,
    crop_scale: float = 0.08,
    flip: bool = True,
) -> tuple[Step, Step | None]:
    """Augmentation of photographs (PIL images, RGB) for training; ``ImageNet`` and ``ImageFolder`` document the arguments."""
    steps: list[Step] = [
        v2.RandomResizedCrop(image_size, scale=(crop_scale, 1.0), interpolation=InterpolationMode.BICUBIC)
    ]
    if flip:
        steps.append(v2.RandomHorizontalFlip())
    if auto_augment:
        steps.append(v2.AutoAugment(v2.AutoAugmentPolicy.IMAGENET, InterpolationMode.BICUBIC, fill=_FILL))
    if color_jitter:
        steps.append(v2.ColorJitter(color_jitter, color_jitter, color_jitter))
    steps.append(v2.PILToTensor())
    normalise = normalisation(IMAGENET_MEAN, IMAGENET_STD)
    if not lighting and not erase_probability:
        return v2.Compose(steps), normalise
    if lighting:
        steps += [v2.ToDtype(torch.float32, scale=True), PCALighting(lighting)]
    steps.append(normalise)
    if erase_probability:
        steps.append(v2.RandomErasing(erase_probability, scale=(0.02, 0.33), ratio=(0.3, 3.3), value=0))
    return v2.Compose(steps), None


def photo_evaluation(
    image_size: int,
    crop_pct: float,
    mean: Sequence[float] = IMAGENET_MEAN,
    std: Sequence[float] = IMAGENET_STD,
    interpolation: str = "bicubic",
) -> tuple[Step, Step]:
    """Photographs (PIL) for evaluation: resized to ``image_size / crop_pct`` rounded upwards, then cropped."""
    resize = v2.Resize(_shorter_side(image_size, crop_pct), interpolation=InterpolationMode(interpolation))
    steps = [resize, v2.CenterCrop(image_size), v2.PILToTensor()]
    return v2.Compose(steps), normalisation(mean, std)


def needed_side(image_size: int, crop_pct: float | None = None, crop_scale: float | None = None) -> int:
    """Pixels that both sides of a photograph need so that what is cut out of it is resized from twice as many or more."""
    side = image_size / math.sqrt(crop_scale) if crop_scale is not None else _shorter_side(image_size, crop_pct or 1.0)
    return math.ceil(2 * side)


def _shorter_side(image_size: int, crop_pct: float) -> int:
    return math.ceil(round(image_size / crop_pct, 6))  # 300 / 0.6 must not become 501
