"""Groups of training options, as they stand in YAML below ``model:``."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal


def check_at_least(group: str, least: float, **values: float | None) -> None:
    """Raise ValueError for a value that is below ``least``; None is allowed."""
    for name, value in values.items():
        if value is not None and not value >= least:
            raise ValueError(f"model.{group}.{name}={value!r} is not allowed: it must be at least {least:g}")


@dataclass(kw_only=True)
class OptimizerOptions:
    """How the weights are changed.

    Args:
        name: Any optimizer of timm; sgd there is SGD with Nesterov momentum, momentum is SGD without it.
        lr: Peak learning rate for a global batch of lr_batch_size images.
        lr_batch_size: The learning rate grows in proportion to the global batch (all processes, accumulated) over this;
            null takes lr as it is.
        momentum: Momentum of SGD.
        weight_decay: L2 decay.
        decay: What decays - the weights of convolutions and linear layers only, or all parameters.
        extra: Further arguments of the optimizer.
    """

    name: str = "sgd"
    lr: float = 0.1
    lr_batch_size: int | None = 256
    momentum: float = 0.9
    weight_decay: float = 4e-5
    decay: Literal["weights", "all"] = "weights"
    extra: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_at_least("optimizer", 0, lr=self.lr, momentum=self.momentum, weight_decay=self.weight_decay)
        check_at_least("optimizer", 1, lr_batch_size=self.lr_batch_size)


@dataclass(kw_only=True)
class ScheduleOptions:
    """How the learning rate goes.

    Args:
        name: cosine changes it at every step and ends at 0, cosine_per_epoch at every epoch, constant only warms up.
        warmup_epochs: Linear warm-up from 0, in epochs; not for cosine_per_epoch.
    """

    name: Literal["cosine", "cosine_per_epoch", "constant"] = "cosine"
    warmup_epochs: float = 0.0

    def __post_init__(self) -> None:
        check_at_least("schedule", 0, warmup_epochs=self.warmup_epochs)
        if self.name == "cosine_per_epoch" and self.warmup_epochs:
            raise ValueError(
                f"model.schedule.warmup_epochs={self.warmup_epochs!r} is not allowed with cosine_per_epoch, which has "
                "no warm-up; use cosine"
            )


@dataclass(kw_only=True)
class TeacherOptions:
    """A trained timm network whose logits and features the network learns from.

    Args:
        name: Any classification model of timm.
        pretrained: Take its published weights (from the hub, or the cache); false is for tests only.
        weights: File of its weights, for machines without network.
        image_size: Images are resized to this for the teacher; null gives it what the data module gives.
        logit_weight: Weight of the cross-entropy against the teacher's softmax.
        feature_weight: Weight of the smooth L1 distance of feature maps.
        temperature: Of both softmaxes.
        reductions: Where features are compared, as input size over feature map size.
        dtype: What the teacher computes in.
        channels_last: Memory order of the teacher's weights and maps.
        compile: Run the teacher through torch.compile.
    """

    name: str = "tf_efficientnet_b3.ns_jft_in1k"
    pretrained: bool = True
    weights: str | None = None
    image_size: int | None = None
    logit_weight: float = 1.0
    feature_weight: float = 1.0
    temperature: float = 1.0
    reductions: list[int] = field(default_factory=lambda: [16, 32])
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    channels_last: bool = False
    compile: bool = False

    def __post_init__(self) -> None:
        check_at_least("teacher", 0, logit_weight=self.logit_weight, feature_weight=self.feature_weight)
        if not self.temperature > 0:
            raise ValueError(f"model.teacher.temperature={self.temperature!r} is not allowed: it must be above 0")
        if not self.logit_weight and not self.feature_weight:
            raise ValueError("model.teacher has logit_weight=0 and feature_weight=0: leave the teacher out (null)")
