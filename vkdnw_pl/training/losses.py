"""What the loss of a step is made of: label smoothing, mixup (Zhang et al., ICLR 2018), what a teacher says."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vkdnw_pl.data.transforms import IMAGENET_MEAN, IMAGENET_STD
from vkdnw_pl.networks.features import FeatureTap, first_stage_at
from vkdnw_pl.training.teacher import Teacher, TeacherOptions, teacher_stages


def in_full_precision(tensor: Tensor) -> Tensor:
    """In float32 where it is in half precision: mixed precision is not for losses."""
    return tensor.float() if tensor.dtype in (torch.float16, torch.bfloat16) else tensor


def smooth_targets(labels: Tensor, num_classes: int, smoothing: float = 0.0) -> Tensor:
    """Float32 probabilities (B, K) for labels (B,): 1 - s + s / K for the label, s / K for each other class."""
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
    """
    # torch's Beta distribution takes no generator; numpy's, seeded from ours, does the same.
    gamma = np.random.default_rng(int(torch.randint(2**62, (), generator=generator))).beta(alpha, alpha)
    partners = torch.randperm(len(images), generator=generator).to(images.device)
    # lerp(a, b, w) = a + w (b - a)
    return torch.lerp(images[partners], images, gamma), torch.lerp(targets[partners], targets, gamma)


def logit_loss(student_logits: Tensor, teacher_logits: Tensor, temperature: float = 1.0) -> Tensor:
    """Cross-entropy of the student's probabilities against the teacher's, -Σ softmax(t / T) log_softmax(s / T), mean.

    T divides both logits: above 1 both distributions are flatter and the teacher's small probabilities count more. The
    loss is *not* multiplied by T², so that its gradient shrinks by about that; the reference code has T = 1 only
    (github.com/cvlab-yonsei/AZ-NAS, ImageNet_MBV2/ts_train_image_classification.py, 5e6683a). Logits are (B, K); the
    scalar is in float32, or in the student's dtype where that is wider.
    """
    student = in_full_precision(student_logits)
    teacher = in_full_precision(teacher_logits).to(student)
    return F.cross_entropy(student / temperature, F.softmax(teacher / temperature, dim=1))


class FeatureLoss(nn.Module):
    """Smooth L1 distance of the student's maps, brought to the teacher's channels, to the teacher's.

    Σ_i mean smooth_l1(conv_i(student_i), resize(teacher_i)): conv_i is a 1x1 convolution with bias that is trained along,
    without normalisation or activation; the teacher's map is resized (bilinear) to the student's height and width;
    smooth L1 has β = 1 and is averaged over all elements (ts_train_image_classification.py of AZ-NAS, 5e6683a).

    The convolutions start as N(0, 1) · 1e-4 / √(output channels) with bias 0. (The reference means to divide by the
    root of the fan-in, but reads the two channel counts of the weight in the wrong order; kept, as it is what the
    published networks were trained with.)
    """

    def __init__(self, student_channels: Sequence[int], teacher_channels: Sequence[int], seed: int = 0) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.projections = nn.ModuleList()
        for c_in, c_out in zip(student_channels, teacher_channels, strict=True):
            projection = nn.utils.skip_init(nn.Conv2d, c_in, c_out, kernel_size=1)  # touches no random state
            with torch.no_grad():
                projection.weight.copy_(torch.randn(projection.weight.shape, generator=generator))
                projection.weight.mul_(1e-4 / math.sqrt(c_out))
                projection.bias.zero_()
            self.projections.append(projection)

    def forward(self, student: Sequence[Tensor], teacher: Sequence[Tensor]) -> Tensor:
        """Scalar loss of the student's maps (B, C_i, H_i, W_i) and the teacher's (B, C'_i, H'_i, W'_i)."""
        losses = []
        for projection, student_map, target in zip(self.projections, student, teacher, strict=True):
            if target.shape[-2:] != student_map.shape[-2:]:
                target = F.interpolate(target, student_map.shape[-2:], mode="bilinear", align_corners=False)
            projected = in_full_precision(projection(student_map))
            losses.append(F.smooth_l1_loss(projected, target.to(projected)))
        return torch.stack(losses).sum()


class Distillation(nn.Module):
    """A teacher, and where student and teacher are compared. Its only parameters are those of the feature loss.

    The teacher's weights are read by :meth:`prepare` and not before, so that a checkpoint of a distilled network can be
    evaluated where they are not at hand. A loss with weight 0 is not computed. Maps of the student (``network``, for
    images of ``input_size``: channels, height, width) are taken at the first stage of every reduction; ``seed`` is that
    of the feature loss's convolutions.
    """

    def __init__(
        self, options: TeacherOptions, network: nn.Module, input_size: Sequence[int], num_classes: int, seed: int = 0
    ) -> None:
        super().__init__()
        self.options, self.num_classes = options, num_classes
        self.teacher: Teacher | None = None
        self.features: FeatureLoss | None = None
        self._tap: FeatureTap | None = None
        if options.feature_weight:
            teacher_taps = teacher_stages(options.name, options.reductions, options.image_size)
            taps = [first_stage_at(network, input_size, reduction) for reduction in options.reductions]
            self.features = FeatureLoss([s.channels for s in taps], [s.channels for s in teacher_taps], seed)
            self._tap = FeatureTap(network, [s.name for s in taps])

    def prepare(
        self, device: torch.device | str, statistics: tuple[Sequence[float], Sequence[float]] | None = None
    ) -> None:
        """Read the teacher's weights, unless they are there, and put it on the student's device.

        ``statistics``: mean and standard deviation that the images are normalised with; None for ImageNet's.
        """
        if self.teacher is None:
            self.teacher = Teacher(self.options, self.num_classes, statistics or (IMAGENET_MEAN, IMAGENET_STD))
            if self.options.compile:
                self.teacher.compile()
        self.teacher.to(device)

    def compile(self, **options: Any) -> None:
        """Compile the feature loss; the student and the teacher are compiled on their own."""
        if self.features is not None:
            self.features.compile(**options)

    def forward(self, network: nn.Module, student: Tensor, images: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """The student's logits (B, K) and the weighted losses (``logits``, ``features``) against the teacher.

        ``student`` are its images (B, C, h, w), ``images`` the teacher's: the same pictures, possibly larger.
        """
        if self.teacher is None:
            self.prepare(images.device)
            assert self.teacher is not None
        logits = network(student)
        target = self.teacher(images)
        losses = {}
        if self.options.logit_weight:
            losses["logits"] = self.options.logit_weight * logit_loss(logits, target.logits, self.options.temperature)
        if self.features is not None and self._tap is not None:
            losses["features"] = self.options.feature_weight * self.features(self._tap.take(), target.features)
        return logits, losses
