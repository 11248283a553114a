"""The MobileNetV2 ("IDW") network of ZenNAS, ZiCo, AZ-NAS and VKDNW: stem, inverted residuals, linear head."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from torch import Tensor, nn
from torchvision.ops import Conv2dNormActivation

from vkdnw_pl.networks.mbv2_blocks import Block, ResBlock, Residual, inverted_residuals

_LINEAR_BIAS = 2.0
"""Standard deviations by which a normalised map is lifted so that a ReLU cuts off 2 % of it instead of half."""


class SqueezeExcitation(nn.Module):
    """Pool, conv, norm, ReLU, conv, norm, sigmoid: with batch norms and no biases, unlike torchvision's and timm's."""

    def __init__(self, channels: int, squeezed: int, bn_eps: float) -> None:
        super().__init__()
        norm = partial(nn.BatchNorm2d, eps=bn_eps)
        self.scale = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            Conv2dNormActivation(channels, squeezed, 1, norm_layer=norm),
            Conv2dNormActivation(squeezed, channels, 1, norm_layer=norm, activation_layer=nn.Sigmoid, inplace=None),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.scale(x) * x


class InvertedResidual(nn.Module):
    """Main branch (1×1 to the hidden width, depthwise, 1×1 without activation) plus shortcut, then ReLU."""

    def __init__(self, shape: Residual, use_se: bool, bn_eps: float) -> None:
        super().__init__()
        conv = partial(Conv2dNormActivation, norm_layer=partial(nn.BatchNorm2d, eps=bn_eps))
        c_in, hidden, c_out = shape.in_channels, shape.hidden, shape.out_channels
        self.main = nn.Sequential(
            conv(c_in, hidden, 1),
            conv(hidden, hidden, shape.kernel, shape.stride, groups=hidden),
            *([SqueezeExcitation(hidden, shape.squeezed, bn_eps)] if use_se else []),
            conv(hidden, c_out, 1, activation_layer=None),
        )
        self.shortcut: nn.Module = nn.Identity()
        if shape.projects:
            self.shortcut = conv(c_in, c_out, 1, shape.stride, activation_layer=None, bias=True)
        self.act = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.main(x) + self.shortcut(x))

    def zero_init_last(self) -> None:
        last = self.main[-1]
        assert isinstance(last, Conv2dNormActivation)
        nn.init.zeros_(last[1].weight)

    def start_linear(self) -> None:
        """Let the block begin as its shortcut, and the ReLU behind it as next to linear."""
        self.zero_init_last()
        if isinstance(self.shortcut, Conv2dNormActivation):  # what passes the identity is not negative anyway
            nn.init.constant_(self.shortcut[1].bias, _LINEAR_BIAS)


class MBV2Network(nn.Module):
    """A network of the MobileNetV2 ("IDW") space: input ``(B, C, H, W)``, output logits ``(B, num_classes)``.

    Each of ``blocks`` has as many input channels as the one before it gives; the first one's are those of the images.
    ``use_se`` puts squeeze-and-excitation after the depthwise convolutions (the reference trains with it, and searches
    without); ``bn_eps`` is 1e-3 in the reference, 1e-5 is PyTorch's default. Parameters come in the order of the
    reference network's. Any input size works; a stride of 2 gives half the size, rounded up.
    """

    def __init__(
        self, blocks: Sequence[Block], num_classes: int = 1000, use_se: bool = False, bn_eps: float = 1e-3
    ) -> None:
        super().__init__()
        self.blocks = nn.Sequential(*(nn.Sequential(*_units(block, use_se, bn_eps)) for block in blocks))
        self.pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.classifier = nn.Linear(blocks[-1].out_channels, num_classes)
        self.num_classes = num_classes
        self.stages = [f"blocks.{i}" for i in range(len(self.blocks))]
        # Where AZ-NAS reads features: after every ReLU that is no inner part of a residual.
        self.feature_taps = tuple(
            f"blocks.{i}.{j}"
            for i, block in enumerate(self.blocks)
            for j in range(len(block))  # type: ignore[arg-type]
        )
        self.space_layers = sum(block.sub_layers for block in blocks)  # as the space counts them
        self.final_map = "blocks"  # where Zen reads: the last map before pooling

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.pool(self.blocks(x)))


def _units(block: Block, use_se: bool, bn_eps: float) -> list[nn.Module]:
    if isinstance(block, ResBlock):
        first, further = inverted_residuals(block)
        shapes = first + further * (block.sub_layers - 1)
        return [InvertedResidual(shape, use_se, bn_eps) for shape in shapes]
    conv = partial(Conv2dNormActivation, norm_layer=partial(nn.BatchNorm2d, eps=bn_eps))
    width, kernel = block.out_channels, block.kernel
    repeats = (conv(width, width, kernel) for _ in range(block.sub_layers - 1))
    return [conv(block.in_channels, width, kernel, block.stride), *repeats]
