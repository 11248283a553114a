"""NAS-Bench-Macro's network (Su et al., CVPR 2021): a stem, three stages of two or three layers, a wide head."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from torch import Tensor, nn
from torchvision.ops import Conv2dNormActivation

from vkdnw_pl.networks.nasbench_macro_layers import HEAD_CHANNELS, STAGES, STEM_CHANNELS, Layer, layers_of

# Outputs stay as they are, for proxies that read them.
_conv = partial(Conv2dNormActivation, inplace=None)


class MobileLayer(nn.Module):
    """1×1 convolution to the hidden width, depthwise, 1×1 without activation; plus the input where the shape allows."""

    def __init__(self, layer: Layer) -> None:
        super().__init__()
        self.main = nn.Sequential(
            _conv(layer.in_channels, layer.hidden, 1),
            _conv(layer.hidden, layer.hidden, layer.kernel, layer.stride, groups=layer.hidden),
            _conv(layer.hidden, layer.out_channels, 1, activation_layer=None),
        )
        self.keeps_shape = layer.keeps_shape

    def forward(self, x: Tensor) -> Tensor:
        out = self.main(x)
        return x + out if self.keeps_shape else out


def _make_layer(layer: Layer) -> nn.Module:
    if layer.hidden:
        return MobileLayer(layer)
    if layer.keeps_shape:
        return nn.Identity()
    return _conv(layer.in_channels, layer.out_channels, 1, layer.stride, activation_layer=None)


class NASBenchMacroNetwork(nn.Module):
    """A NAS-Bench-Macro network: input ``(B, in_channels, H, W)``, output logits ``(B, num_classes)``.

    ``ops`` are eight places in `nasbench_macro_layers.OPS`. Any input size works; a stride of 2 gives half the size,
    rounded up. Feature proxies read what the general rule finds (`vkdnw_pl.networks.features.stage_ends`): the stem and
    the three stages.
    """

    def __init__(self, ops: Sequence[int], num_classes: int = 10, in_channels: int = 3) -> None:
        super().__init__()
        self.stem = _conv(in_channels, STEM_CHANNELS, 3)
        layers = list(layers_of(ops))
        self.blocks = nn.ModuleList(nn.Sequential(*map(_make_layer, layers[a:b])) for a, b in STAGES)
        self.head = _conv(layers[-1].out_channels, HEAD_CHANNELS, 1)
        self.classifier = nn.Linear(HEAD_CHANNELS, num_classes)
        self.num_classes = num_classes
        self.stages = [f"blocks.{i}" for i in range(len(self.blocks))]
        self.space_layers = sum(op != 0 for op in ops)  # as the space counts them
        self.final_map = "head"  # where Zen reads: the last map before pooling

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for stage in self.blocks:
            x = stage(x)
        return self.classifier(self.head(x).mean((2, 3)))
