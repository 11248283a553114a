"""The MobileNetV2 ("IDW") networks as models of timm; importing this module registers them.

    timm.create_model("vkdnw_mbv2", arch="runs/search/found.json", num_classes=10)
    timm.create_model("vkdnw_mbv2_480m", features_only=True)

``vkdnw_mbv2`` takes any architecture of the space; every published one is a model of its own, its name behind
``vkdnw_``. None has trained weights here; ``checkpoint_path=`` reads those that ``export`` wrote.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from timm.layers import create_classifier
from timm.models import build_model_with_cfg, checkpoint_seq, generate_default_cfgs, register_model
from timm.models._features import feature_take_indices
from torch import Tensor, nn

from vkdnw_pl.networks.arch_file import is_arch_file, read_arch_file
from vkdnw_pl.networks.mbv2 import MBV2Network
from vkdnw_pl.networks.mbv2_blocks import NAMED, Blocks, ConvBlock, format_structure, read_arch

__all__ = ["TimmMBV2"]

DEFAULT_ARCH = "mbv2_480m"
_TIMM_NAMES = {"in_channels": "in_chans", "num_classes": "num_classes", "use_se": "use_se", "bn_eps": "bn_eps"}


class TimmMBV2(MBV2Network):
    """`MBV2Network` with the interface of timm's models. State dicts are those of `MBV2Network`.

    Args:
        arch: structure string, name (``mbv2_480m``), or path of a JSON file that names one (a search's ``found.json``,
            an export's ``model.json``), whose network options are then the defaults of the following arguments.
        num_classes: K; 0 for no classifier, so that the output is what would go into it.
        in_chans: channels of the images, whatever ``arch`` says. Default: what it says.
        use_se: squeeze-and-excitation after the depthwise convolutions.
        bn_eps: epsilon of every batch norm.
        global_pool: ``avg``, ``max``, ``avgmax``, ``catavgmax``, or empty for none, which needs ``num_classes=0``.
        drop_rate: dropout before the classifier.
    """

    def __init__(
        self,
        arch: str = DEFAULT_ARCH,
        num_classes: int | None = None,
        in_chans: int | None = None,
        use_se: bool | None = None,
        bn_eps: float | None = None,
        global_pool: str = "avg",
        drop_rate: float = 0.0,
    ) -> None:
        blocks, options, _ = _read(arch)
        arguments = {"num_classes": num_classes, "in_chans": in_chans, "use_se": use_se, "bn_eps": bn_eps}
        options |= {name: value for name, value in arguments.items() if value is not None}
        channels = options.pop("in_chans")
        blocks = (replace(blocks[0], in_channels=channels), *blocks[1:])
        classes = options.pop("num_classes", 1000)
        super().__init__(blocks, max(classes, 1), **options)
        self.arch, self.in_chans = format_structure(blocks), channels
        self.num_features = self.head_hidden_size = blocks[-1].out_channels
        self.feature_info = _feature_info(blocks)
        self.drop_rate = drop_rate
        self.grad_checkpointing = False
        initial = self.classifier
        self.reset_classifier(classes, global_pool)
        if classes and self.classifier.in_features == initial.in_features:
            self.classifier = initial  # whose draws are MBV2Network's

    def get_classifier(self) -> nn.Module:
        return self.classifier

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """Put a new classifier, and perhaps another pooling, in the place of the present one."""
        if global_pool is not None:
            self.global_pool = global_pool
        weight = next(self.parameters())
        self.num_classes = num_classes
        self.pool, self.classifier = create_classifier(self.num_features, num_classes, pool_type=self.global_pool)
        self.classifier.to(weight.device, weight.dtype).train(self.training)
        self.pool.train(self.training)

    def forward_features(self, x: Tensor) -> Tensor:
        """The last map (B, num_features, h, w) of images (B, C, H, W)."""
        if self.grad_checkpointing and not torch.jit.is_scripting():
            return checkpoint_seq(self.blocks, x)
        return self.blocks(x)

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """Logits (B, K) of the last map; with ``pre_logits`` what goes into the classifier."""
        x = F.dropout(self.pool(x), self.drop_rate, self.training)
        return x if pre_logits else self.classifier(x)

    def forward(self, x: Tensor) -> Tensor:
        return self.forward_head(self.forward_features(x))

    def forward_intermediates(
        self,
        x: Tensor,
        indices: int | list[int] | None = None,
        norm: bool = False,
        stop_early: bool = False,
        output_fmt: str = "NCHW",
        intermediates_only: bool = False,
    ) -> list[Tensor] | tuple[Tensor, list[Tensor]]:
        """Maps of stages of ``feature_info`` (the last n for a number, all for None) along with the last map."""
        if output_fmt != "NCHW":
            raise ValueError(f"output_fmt={output_fmt!r} is not allowed: maps of this network are NCHW")
        if stop_early and not intermediates_only:
            raise ValueError("stop_early=True is not allowed without intermediates_only=True")
        chosen, last = feature_take_indices(len(self.feature_info), indices)
        block_numbers = {self._block_number(stage) for stage in chosen}
        maps = []
        for i, block in enumerate(self.blocks):
            if stop_early and i > self._block_number(last):
                break
            x = block(x)
            if i in block_numbers:
                maps.append(x)
        return maps if intermediates_only else (x, maps)

    def prune_intermediate_layers(
        self, indices: int | list[int] = 1, prune_norm: bool = False, prune_head: bool = True
    ) -> list[int]:
        """Leave out what ``forward_intermediates`` does not need for ``indices``, and return these as a list."""
        chosen, last = feature_take_indices(len(self.feature_info), indices)
        kept = self._block_number(last) + 1
        shortened = kept < len(self.blocks)
        self.blocks = self.blocks[:kept]
        if shortened:
            self.num_features = self.head_hidden_size = self.feature_info[last]["num_chs"]
        if prune_head or shortened:
            self.reset_classifier(0, "")
        return chosen

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        self.grad_checkpointing = enable

    def group_matcher(self, coarse: bool = False) -> dict[str, Any]:
        return {"stem": r"^blocks\.0\.", "blocks": r"^blocks\.(\d+)" if coarse else r"^blocks\.(\d+)\.(\d+)"}

    def _block_number(self, stage: int) -> int:
        return int(self.feature_info[stage]["module"].rpartition(".")[2])


def _read(arch: str) -> tuple[Blocks, dict[str, Any], Mapping[str, Any]]:
    """Blocks, the arguments that the architecture or its file decides where the user does not, and what images it takes."""
    options: dict[str, Any] = {}
    images: Mapping[str, Any] = {}
    if is_arch_file(arch):
        file = read_arch_file(arch.strip())
        if file.space not in (None, "mbv2"):
            raise ValueError(f"arch={arch!r} is an architecture of the space {file.space!r}, but vkdnw_mbv2 needs mbv2")
        arch, options, images = file.arch, {**file.network, **file.task}, file.images
        options.pop("image_size", None)
        if unknown_options := [name for name in options if name not in _TIMM_NAMES]:
            raise ValueError(f"arch={str(file.path)!r} has the network option {unknown_options[0]!r}, unknown to mbv2")
    blocks = read_arch(arch)
    named = {_TIMM_NAMES[name]: value for name, value in options.items()}
    return blocks, {"in_chans": blocks[0].in_channels, **named}, images


def _feature_info(blocks: Blocks) -> list[dict[str, Any]]:
    """The last super-block at every reduction; the last convolution counts as head unless it reduces itself."""
    last: dict[int, dict[str, Any]] = {}
    reduction = 1
    for i, block in enumerate(blocks):
        reduction *= block.stride
        is_head = isinstance(block, ConvBlock) and i == len(blocks) - 1
        if not is_head or reduction not in last:
            last[reduction] = {"num_chs": block.out_channels, "reduction": reduction, "module": f"blocks.{i}"}
    return list(last.values())


def _without_prefix(state: Mapping[str, Tensor], model: nn.Module) -> dict[str, Tensor]:
    """The network's part of a ``fit`` checkpoint; a bare state dict as it is."""
    weights = {name.removeprefix("network."): value for name, value in state.items() if name.startswith("network.")}
    return weights or dict(state)


def _create(variant: str, pretrained: bool, arch: str, **kwargs: Any) -> nn.Module:
    blocks, options, images = _read(arch)
    for name, value in options.items():
        kwargs.setdefault(name, value)  # before timm fills in those of ImageNet
    names = images.get("label_names")
    if names is not None and len(names) != kwargs.get("num_classes"):  # a new classifier, for other classes
        images = {name: value for name, value in images.items() if name != "label_names"}
    kwargs["pretrained_cfg_overlay"] = {**images, **(kwargs.get("pretrained_cfg_overlay") or {})}
    return build_model_with_cfg(
        TimmMBV2,
        variant,
        pretrained,
        arch=arch,
        feature_cfg={"out_indices": tuple(range(len(_feature_info(blocks)))), "flatten_sequential": True},
        pretrained_filter_fn=_without_prefix,
        **kwargs,
    )


def _published(name: str) -> Callable[..., nn.Module]:
    def create(pretrained: bool = False, **kwargs: Any) -> nn.Module:
        return _create(create.__name__, pretrained, name, **kwargs)

    create.__name__ = create.__qualname__ = f"vkdnw_{name}"
    create.__doc__ = f"The architecture ``{name}`` (origin: {NAMED[name].origin})."
    return create


_CFG = {
    "url": "",
    "num_classes": 1000,
    "input_size": (3, 224, 224),
    "pool_size": (7, 7),
    "crop_pct": 0.875,
    "interpolation": "bicubic",
    "mean": IMAGENET_DEFAULT_MEAN,
    "std": IMAGENET_DEFAULT_STD,
    "first_conv": "blocks.0.0.0",
    "classifier": "classifier",
}
default_cfgs = generate_default_cfgs({f"vkdnw_{name}": dict(_CFG) for name in ("mbv2", *NAMED)})


@register_model
def vkdnw_mbv2(pretrained: bool = False, arch: str = DEFAULT_ARCH, **kwargs: Any) -> nn.Module:
    """Any architecture of the MobileNetV2 ("IDW") space; see `TimmMBV2` for the arguments."""
    return _create("vkdnw_mbv2", pretrained, arch, **kwargs)


for _name in NAMED:
    globals()[f"vkdnw_{_name}"] = register_model(_published(_name))
