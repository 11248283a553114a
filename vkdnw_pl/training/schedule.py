"""Learning rates: warm-up with cosine per step, cosine per epoch, and scaling with the batch size."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

from vkdnw_pl.errors import check_choice, check_number, check_whole

Schedule = Literal["cosine", "cosine_per_epoch", "constant"]


@dataclass(frozen=True, kw_only=True)
class ScheduleOptions:
    """How the learning rate goes.

    Args:
        name: cosine changes it at every step and ends at 0, cosine_per_epoch at every epoch, constant only warms up.
        warmup_epochs: Linear warm-up from 0, in epochs; not for cosine_per_epoch.
    """

    name: Schedule = "cosine"
    warmup_epochs: float = 0.0

    def __post_init__(self) -> None:
        check_number("model.schedule.warmup_epochs", self.warmup_epochs, 0)
        if self.name == "cosine_per_epoch" and self.warmup_epochs:
            raise ValueError(
                f"model.schedule.warmup_epochs={self.warmup_epochs!r} is not allowed with cosine_per_epoch, which has "
                "no warm-up; use cosine"
            )


def warmup_cosine(step: int, total_steps: int, warmup_steps: int) -> float:
    """Factor of the peak learning rate at an optimizer step: linear warm-up, then a cosine to 0.

    With n = ``step`` + 1 (steps taken including this one), W = ``warmup_steps`` and T = ``total_steps`` it is n / W up
    to n = W and 1/2 (1 + cos(π (n - W) / (T - W))) after. The peak is reached at n = W; the last step of a run (n = T)
    has factor 0, and so have all steps after it.

    The training code of ZenNAS, ZiCo and AZ-NAS (``LearningRateScheduler`` of github.com/cvlab-yonsei/AZ-NAS,
    ImageNet_MBV2/global_utils.py, 5e6683a) counts images where this counts steps, and adds one image to n:
    (n + 1) / W and 1/2 (1 + cos(π (n - W + 1) / (T - W))). That is one image per run, and up to one batch per epoch
    where the last incomplete batch is dropped: at most 2.3e-5 of the peak in the ImageNet recipe (1,281,167 images,
    batch 512, 5 of 480 epochs warm-up).

    Args:
        step: index of the optimizer step, from 0.
        total_steps: optimizer steps of the whole run.
        warmup_steps: steps until the peak; 0 for none.

    Raises:
        ValueError: if a number is negative, or the warm-up leaves no step for the cosine.
    """
    check_whole("total_steps", total_steps, 1)
    if not 0 <= warmup_steps < total_steps:
        raise ValueError(
            f"warmup_steps={warmup_steps} is not allowed: it must be at least 0 and less than total_steps={total_steps}"
        )
    check_whole("step", step, 0)
    n = step + 1
    if n <= warmup_steps:
        return n / warmup_steps
    return _half_cosine((n - warmup_steps) / (total_steps - warmup_steps))


def cosine_per_epoch(epoch: int, epochs: int) -> float:
    """Factor of the initial learning rate in an epoch, 1/2 (1 + cos(π epoch / epochs)); no warm-up (NAS-Bench-201).

    The first epoch has factor 1, the last one a little above 0.

    Args:
        epoch: index of the epoch, from 0; from ``epochs`` on the factor is 0.
        epochs: epochs of the whole run.

    Raises:
        ValueError: if ``epoch`` is negative or ``epochs`` less than 1.
    """
    check_whole("epochs", epochs, 1)
    check_whole("epoch", epoch, 0)
    return _half_cosine(epoch / epochs)


def learning_rate_factor(
    schedule: Schedule, total_steps: int, warmup_steps: int, steps_per_epoch: int
) -> Callable[[int], float]:
    """The factor of the peak learning rate as a function of the optimizer step, for torch's ``LambdaLR``.

    Args:
        schedule: ``cosine`` (:func:`warmup_cosine`), ``cosine_per_epoch`` (:func:`cosine_per_epoch`, the epoch being that
            of the step), or ``constant`` (1 after the linear warm-up).
        total_steps: optimizer steps of the whole run.
        warmup_steps: steps until the peak; ``cosine_per_epoch`` has none.
        steps_per_epoch: optimizer steps of an epoch.

    Raises:
        ValueError: if the schedule is not known, or a number makes no sense.
    """
    check_choice("schedule", schedule, get_args(Schedule))
    check_whole("steps_per_epoch", steps_per_epoch, 1)
    if schedule == "cosine":
        warmup_cosine(0, total_steps, warmup_steps)  # refuses what it cannot do now, not at the first step
        return lambda step: warmup_cosine(step, total_steps, warmup_steps)
    if schedule == "cosine_per_epoch":
        if warmup_steps:
            raise ValueError(f"warmup_steps={warmup_steps} is not allowed with cosine_per_epoch, which has no warm-up")
        epochs = -(-total_steps // steps_per_epoch)
        cosine_per_epoch(0, epochs)
        return lambda step: cosine_per_epoch(step // steps_per_epoch, epochs)
    check_whole("warmup_steps", warmup_steps, 0)
    return lambda step: min(1.0, (step + 1) / max(1, warmup_steps))


def scaled_lr(lr: float, lr_batch_size: int | None, global_batch: int) -> float:
    """Learning rate for a batch size: ``lr`` * ``global_batch`` / ``lr_batch_size``.

    Args:
        lr: learning rate at a batch of ``lr_batch_size`` images (256 in the ImageNet recipes).
        lr_batch_size: batch size that ``lr`` is given for; None takes ``lr`` as it is.
        global_batch: images per optimizer step, over all processes and accumulated batches.

    Raises:
        ValueError: if the learning rate is negative or not finite, or a batch size is less than 1.
    """
    check_number("lr", lr, 0, math.inf, open_high=True)
    check_whole("global_batch", global_batch, 1)
    if lr_batch_size is None:
        return lr
    check_whole("lr_batch_size", lr_batch_size, 1, "or null")
    return lr * global_batch / lr_batch_size


def _half_cosine(progress: float) -> float:
    return 0.5 * (1.0 + math.cos(math.pi * min(progress, 1.0)))
