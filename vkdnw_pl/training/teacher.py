"""The trained network that a student learns from: its options, and itself, frozen and no part of the module that trains."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

import timm
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vkdnw_pl.data.transforms import IMAGENET_MEAN, IMAGENET_STD
from vkdnw_pl.errors import check_choice, check_number, check_whole, nearest, what_it_says
from vkdnw_pl.networks.features import FeatureTap, Stage, stage_outputs
from vkdnw_pl.training.exported import check_archive

Dtype = Literal["float32", "bfloat16", "float16"]


@dataclass(frozen=True, kw_only=True)
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

    name: str = "tf_efficientnet_b3.ns_jft_in1k"  # with noisy student; the teacher of ZenNAS, ZiCo and AZ-NAS
    pretrained: bool = True
    weights: str | None = None
    image_size: int | None = None
    logit_weight: float = 1.0
    feature_weight: float = 1.0
    temperature: float = 1.0
    reductions: list[int] = field(default_factory=lambda: [16, 32])
    dtype: Dtype = "float32"
    channels_last: bool = False
    compile: bool = False

    def __post_init__(self) -> None:
        check_number("model.teacher.logit_weight", self.logit_weight, 0)
        check_number("model.teacher.feature_weight", self.feature_weight, 0)
        check_number("model.teacher.temperature", self.temperature, 0, open_low=True)
        check_choice("model.teacher.dtype", self.dtype, get_args(Dtype))
        if self.image_size is not None:
            check_whole("model.teacher.image_size", self.image_size, 1)
        if not self.logit_weight and not self.feature_weight:
            raise ValueError("model.teacher has logit_weight=0 and feature_weight=0: leave the teacher out (null)")


class TeacherOutput(NamedTuple):
    """What a teacher says about a batch; float32, without gradients."""

    logits: Tensor
    """(B, K)"""
    features: list[Tensor]
    """(B, C_i, H_i, W_i), one for each of the teacher's ``stages``."""


class Teacher:
    """A frozen timm classifier with its logits and feature maps, in evaluation mode and outside autocast.

    It is no ``nn.Module``, and a deep copy of it is the teacher itself: so it is in no state dict, checkpoint, optimizer
    or average of the training module that has it. It follows the images to their device.

    Feature maps: at each reduction the output of the *first* stage there, but at the deepest reduction of the network
    its last map: in EfficientNet and its kin (``conv_head`` and ``bn2`` behind the blocks) the head after batch norm and
    before the activation, in other families the output of the last stage. For the default teacher this is as in the
    reference code: 96 channels at 1/16 and 1536 at 1/32 (github.com/cvlab-yonsei/AZ-NAS,
    ImageNet_MBV2/ModelLoader/geffnet/gen_efficientnet.py, 5e6683a).

    Args:
        options: features are taken where the feature loss has a weight. ``pretrained=False`` without weights gives an
            untrained network, drawn from a fixed seed, which is of use in tests only. Images of another size than
            ``image_size`` are resized (bilinear, without antialiasing, as the reference does).
        num_classes: K, the classes of the student; the teacher must know just as many.
        statistics: mean and standard deviation of each channel that the images were normalised with. If the teacher was
            trained with others, the images are normalised anew for it.
    """

    def __init__(
        self,
        options: TeacherOptions,
        num_classes: int = 1000,
        statistics: tuple[Sequence[float], Sequence[float]] = (IMAGENET_MEAN, IMAGENET_STD),
    ) -> None:
        self.name = options.name
        self.image_size = options.image_size
        self.network = _build(options, num_classes)
        reductions = options.reductions if options.feature_weight else ()
        self.stages = teacher_stages(options.name, reductions, options.image_size)
        if any(stage.name == _BEFORE_ACTIVATION for stage in self.stages):
            activation: Any = self.network.get_submodule("bn2.act")
            if hasattr(activation, "inplace"):
                activation.inplace = False  # or it would overwrite the map
        self.network.eval().requires_grad_(False)
        self.network.to(getattr(torch, options.dtype))
        self._memory_format = torch.channels_last if options.channels_last else torch.contiguous_format
        self.network.to(memory_format=self._memory_format)
        self._tap = FeatureTap(self.network, [stage.name for stage in self.stages])
        config: Any = self.network.pretrained_cfg
        if options.image_size is None and config.get("fixed_input_size"):
            self.image_size = config["input_size"][-1]  # it takes no other
        self._renormalisation = _renormalisation(*statistics, config["mean"], config["std"])

    def to(self, device: torch.device | str) -> Teacher:
        """Move the weights; returns the teacher itself."""
        self.network.to(device)
        return self

    def compile(self, **options: Any) -> None:
        """Run the network through ``torch.compile`` from now on; before the first call only."""
        self.network.compile(**options)

    @torch.no_grad()
    def __call__(self, images: Tensor) -> TeacherOutput:
        """Logits and features of images (B, 3, H, W) that are normalised with ``mean`` and ``std``."""
        weight = next(self.network.parameters())
        if images.device != weight.device:
            self.to(images.device)
        if self._renormalisation is not None:
            scale, shift = self._renormalisation
            images = images * scale.to(images) + shift.to(images)
        if self.image_size is not None and images.shape[-2:] != (self.image_size, self.image_size):
            images = F.interpolate(images, (self.image_size, self.image_size), mode="bilinear", align_corners=False)
        images = images.to(weight.dtype, memory_format=self._memory_format)
        with torch.autocast(images.device.type, enabled=False):
            logits = self.network(images)
        return TeacherOutput(logits.float(), [feature.float() for feature in self._tap.take()])

    def __copy__(self) -> Teacher:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Teacher:
        return self


def teacher_stages(name: str, reductions: Sequence[int], image_size: int | None = None) -> list[Stage]:
    """Where a :class:`Teacher` of this name has its features, one stage for each reduction; needs no weights."""
    if not reductions:
        return []
    _check_name(name)
    with torch.device("meta"), torch.random.fork_rng(devices=[]):
        network = timm.create_model(name, pretrained=False)
    config: Any = network.pretrained_cfg
    size = image_size or config["input_size"][-1]
    if not config.get("fixed_input_size"):
        size = -(-size // 64) * 64  # every halving is whole there: 300 pixels would make 1/32 look like 1/30
    stages = stage_outputs(network, (3, size, size))
    deepest = max((stage.reduction for stage in stages), default=0)
    chosen = []
    for reduction in reductions:
        candidates = [stage for stage in stages if stage.reduction == reduction]
        if not candidates:
            allowed = ", ".join(map(str, dict.fromkeys(stage.reduction for stage in stages))) or "none"
            raise ValueError(
                f"model.teacher.reductions={list(reductions)} is not allowed: {name} has no stage at {reduction} "
                f"(reductions of its stages: {allowed})"
            )
        chosen.append((_head(network, reduction) or candidates[-1]) if reduction == deepest else candidates[0])
    return chosen


_BEFORE_ACTIVATION = "bn2.drop"
"""timm's batch norm and activation are one module; what is between them goes through ``drop``, which does nothing."""


def _head(network: nn.Module, reduction: int) -> Stage | None:
    """The 1x1 convolution behind the blocks of an EfficientNet with its batch norm, before the activation."""
    conv, norm = getattr(network, "conv_head", None), getattr(network, "bn2", None)
    if not isinstance(conv, nn.Conv2d) or not isinstance(norm, nn.Module):
        return None
    if hasattr(norm, "drop") and hasattr(norm, "act"):
        return Stage(_BEFORE_ACTIVATION, conv.out_channels, reduction)
    return Stage("bn2", conv.out_channels, reduction) if isinstance(norm, nn.modules.batchnorm._BatchNorm) else None


def _check_name(name: str) -> None:
    # With a colon (hf-hub:..., local-dir:...) it is a place, which timm resolves.
    if ":" not in name and not timm.is_model(name):
        models = [*map(str, timm.list_models()), *map(str, timm.list_models(pretrained=True))]
        raise ValueError(f"model.teacher.name={name!r} is not a model of timm{nearest(name, models)}")


def _build(options: TeacherOptions, num_classes: int) -> nn.Module:
    name = options.name
    _check_name(name)
    arguments: dict[str, Any] = {"num_classes": num_classes}
    if options.weights is not None:
        path = Path(options.weights)
        if not path.is_file():
            raise ValueError(f"model.teacher.weights={str(path)!r}: there is no such file")
        # With the class count of the student: timm would otherwise drop a head of another size and leave ours untrained.
        overlay: dict[str, Any] = {"file": str(path), "source": "", "num_classes": num_classes}
        if path.suffix not in (".npz", ".npy"):  # formats that the model's own code reads
            overlay["custom_load"] = False
        arguments |= {"pretrained": True, "pretrained_cfg_overlay": overlay}
    elif options.pretrained:
        _check_published(name, num_classes)
        arguments |= {"pretrained": True}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        try:
            if options.weights is not None:
                check_archive(Path(options.weights))
            return timm.create_model(name, **arguments)
        except Exception as error:
            text = what_it_says(error) or type(error).__name__
            if options.weights is not None:
                text = (
                    f"model.teacher.weights={str(options.weights)!r} does not hold the weights of {name} with {num_classes} "
                    f"classes in a file that can be read safely: {text}"
                )
            elif options.pretrained:
                text = _how_to_get(name, text)
            else:
                text = f"model.teacher.name={name!r} cannot be built: {text}"
            raise ValueError(text) from error


def _check_published(name: str, num_classes: int) -> None:
    if ":" in name:
        return  # a place, where timm looks
    try:
        config = timm.get_pretrained_cfg(name)
    except RuntimeError:  # the tag is not known
        config = None
    if config is None or not config.has_weights:
        base = name.partition(".")[0]
        tags = [str(tag) for tag in timm.list_models(f"{base}.*", pretrained=True)]
        published = f"; there are weights for {', '.join(tags)}" if tags else ""
        raise ValueError(
            f"model.teacher.name={name!r} has no published weights{published}; or give a file with model.teacher.weights"
        )
    if config.num_classes != num_classes:
        raise ValueError(
            f"model.teacher.name={name!r} knows {config.num_classes} classes and the student has {num_classes}: choose "
            "another, or give a file for these classes with model.teacher.weights"
        )


def _how_to_get(name: str, error: str) -> str:
    places: list[str] = []
    if ":" not in name and (config := timm.get_pretrained_cfg(name)) is not None:
        places += [f"https://huggingface.co/{config.hf_hub_id} (model.safetensors)"] if config.hf_hub_id else []
        places += [str(config.url)] if config.url else []
    where = f" from {' or '.join(places)}" if places else ""
    return (
        f"the weights of the teacher {name!r} could not be fetched ({error}); on a machine without network, get the "
        f"file{where} elsewhere and give its path with model.teacher.weights"
    )


def _renormalisation(
    mean: Sequence[float], std: Sequence[float], own_mean: Sequence[float], own_std: Sequence[float]
) -> tuple[Tensor, Tensor] | None:
    """Scale and shift (3, 1, 1) that turn images normalised with ``mean``, ``std`` into the teacher's; None if they do."""
    pairs = [*zip(mean, own_mean, strict=True), *zip(std, own_std, strict=True)]
    if all(math.isclose(a, b, abs_tol=1e-6) for a, b in pairs):
        return None
    given_mean, given_std, teacher_mean, teacher_std = (
        torch.tensor(values, dtype=torch.float32).view(-1, 1, 1) for values in (mean, std, own_mean, own_std)
    )
    return given_std / teacher_std, (given_mean - teacher_mean) / teacher_std
