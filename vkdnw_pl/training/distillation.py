"""What a student learns from a teacher: its class probabilities and its feature maps."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vkdnw_pl.data.transforms import IMAGENET_MEAN, IMAGENET_STD
from vkdnw_pl.errors import check_number
from vkdnw_pl.networks.features import FeatureTap, first_stage_at
from vkdnw_pl.training.losses import in_full_precision
from vkdnw_pl.training.teacher import Teacher, TeacherOptions, teacher_stages


def logit_loss(student_logits: Tensor, teacher_logits: Tensor, temperature: float = 1.0) -> Tensor:
    """Cross-entropy of the student's probabilities against the teacher's, -Σ softmax(t / T) log_softmax(s / T), mean.

    T divides both logits: above 1 both distributions are flatter and the teacher's small probabilities count more. The
    loss is *not* multiplied by T², so that its gradient shrinks by about that; the reference code has T = 1 only
    (github.com/cvlab-yonsei/AZ-NAS, ImageNet_MBV2/ts_train_image_classification.py, 5e6683a).

    Args:
        student_logits: (B, K).
        teacher_logits: (B, K); no gradient is wanted here.
        temperature: T, positive.

    Returns:
        A scalar in float32 (or the student's dtype where that is wider).
    """
    check_number("temperature", temperature, 0, open_low=True)
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

    Args:
        student_channels: of the student's maps.
        teacher_channels: of the teacher's, as many.
        seed: of the initial convolutions.
    """

    def __init__(self, student_channels: Sequence[int], teacher_channels: Sequence[int], seed: int = 0) -> None:
        super().__init__()
        if len(student_channels) != len(teacher_channels):
            raise ValueError(
                f"student_channels={list(student_channels)} and teacher_channels={list(teacher_channels)} must be as many"
            )
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
    evaluated where they are not at hand.

    Args:
        options: teacher and weights of the two losses; one with weight 0 is not computed.
        network: the student. Its feature maps are taken at the first stage of every reduction
            (:func:`vkdnw_pl.networks.features.first_stage_at`).
        input_size: channels, height, width of the student's images.
        num_classes: of the student.
        seed: of the feature loss's convolutions.

    Raises:
        ValueError: if the teacher's name is not known, or one of the two has no stage at a reduction.
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
        """Read the teacher's weights and put it, which is no submodule, on the device; compiled if the options say so.

        Args:
            device: of the student.
            statistics: mean and standard deviation of each channel that the images are normalised with; None for
                ImageNet's.

        Raises:
            ValueError: if the weights cannot be had, or do not fit the name or the number of classes.
        """
        if self.teacher is None:
            self.teacher = Teacher(self.options, self.num_classes, statistics or (IMAGENET_MEAN, IMAGENET_STD))
            if self.options.compile:
                self.teacher.compile()
        self.teacher.to(device)

    def compile(self, *args: Any, **kwargs: Any) -> None:
        """Compile the feature loss; the student and the teacher are compiled on their own."""
        if self.features is not None:
            self.features.compile(*args, **kwargs)

    def forward(self, network: nn.Module, student: Tensor, images: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """The student's logits, and the weighted losses against the teacher.

        Args:
            network: the student that this was made with.
            student: its images (B, C, h, w).
            images: the teacher's (B, C, H, W): the same pictures, possibly larger.

        Returns:
            Logits (B, K), and ``logits`` and ``features``, scalars times their weights.
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
