"""The typed form of a MobileNetV2 ("IDW") architecture, torch-free so that the space reads it without importing torch."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import NamedTuple

EXPANSIONS = (1, 2, 4, 6)
"""Hidden channels of an inverted residual, as multiples of its bottleneck."""
KERNELS = (3, 5, 7)
"""Kernel sizes of the depthwise convolution of an inverted residual."""

_ALLOWED: dict[str, dict[str, tuple[int, ...]]] = {
    "ConvBlock": {"kernel": (3, 1), "stride": (1, 2)},
    "ResBlock": {"expansion": EXPANSIONS, "kernel": KERNELS, "stride": (1, 2)},
}


def round8(x: float) -> int:
    """The multiple of 8 nearest to ``x``, at least 8; halves go to the even multiple, as Python rounds."""
    return max(8, 8 * round(x / 8))


@dataclass(frozen=True, slots=True)
class ConvBlock:
    """``sub_layers`` times convolution, batch norm, ReLU; the first has the stride."""

    kernel: int
    """3 (the stem) or 1 (the last block before pooling)."""
    in_channels: int
    out_channels: int
    stride: int
    sub_layers: int

    def __post_init__(self) -> None:
        _check(self)


@dataclass(frozen=True, slots=True)
class ResBlock:
    """``sub_layers`` times two inverted residuals, see `inverted_residuals`; the first of all has the stride."""

    expansion: int
    """One of `EXPANSIONS`."""
    kernel: int
    """One of `KERNELS`."""
    in_channels: int
    out_channels: int
    stride: int
    bottleneck_channels: int
    """Channels between the two inverted residuals of a sub-layer."""
    sub_layers: int

    def __post_init__(self) -> None:
        _check(self)


Block = ConvBlock | ResBlock
Blocks = tuple[Block, ...]


class Residual(NamedTuple):
    """One inverted residual: 1×1 convolution to ``hidden``, depthwise convolution, 1×1 convolution, beside a shortcut."""

    in_channels: int
    hidden: int
    out_channels: int
    kernel: int
    stride: int
    projects: bool
    """The shortcut is a 1×1 convolution with bias and a batch norm, not the identity."""

    @property
    def squeezed(self) -> int:
        """Channels inside the squeeze-and-excitation branch, where there is one."""
        return max(1, round(self.hidden / 4))


def inverted_residuals(block: ResBlock) -> tuple[list[Residual], list[Residual]]:
    """The two inverted residuals of the first sub-layer, and the two of every further one."""
    narrow, wide, kernel = block.bottleneck_channels, block.out_channels, block.kernel
    first_hidden, second_hidden = round8(narrow * block.expansion), round8(wide * block.expansion)
    differs = narrow != wide
    # The first shortcut of a block always projects, also where the identity would fit.
    entry = Residual(block.in_channels, first_hidden, narrow, kernel, block.stride, True)
    down = Residual(wide, first_hidden, narrow, kernel, 1, differs)
    up = Residual(narrow, second_hidden, wide, kernel, 1, differs)
    return [entry, up], [down, up]


def _check(block: Block) -> None:
    allowed = _ALLOWED[type(block).__name__]
    for name in block.__slots__:
        value = getattr(block, name)
        if type(value) is not int or value < 1:
            raise ValueError(f"{name}={value!r} is not allowed: give a whole number of at least 1")
        if name in allowed and value not in allowed[name]:
            raise ValueError(f"{name}={value} is not allowed; allowed: {', '.join(map(str, allowed[name]))}")


def field_names(kind: type[ConvBlock] | type[ResBlock]) -> list[str]:
    """Names of a block's numbers in the order of the structure string, those that its class name carries left out."""
    return [f.name for f in fields(kind) if f.name not in ("kernel", "expansion")]
