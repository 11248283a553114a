"""The layers of NAS-Bench-Macro's networks, torch-free so that the space reads them without importing torch."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

OPS = ("identity", "mb3_k3", "mb6_k5")
"""Operations in the order of the string's digits; mb: 1×1 convolution to a multiple of the width, depthwise, 1×1."""
STAGES = ((0, 2), (2, 5), (5, 8))
"""First layer of each stage, and the one behind its last."""
STEM_CHANNELS, HEAD_CHANNELS = 32, 1280
_EXPANSION_AND_KERNEL = {"identity": (0, 1), "mb3_k3": (3, 3), "mb6_k5": (6, 5)}


class Layer(NamedTuple):
    """One layer; the first of a stage has stride 2, all others 1."""

    in_channels: int
    out_channels: int
    stride: int
    hidden: int
    """Channels of the depthwise convolution; 0 where there is none: the identity, or what stands for it where the shape
    changes, a 1×1 convolution with a batch norm."""
    kernel: int

    @property
    def keeps_shape(self) -> bool:
        """Whether the input can be added to the output."""
        return self.stride == 1


def layers_of(ops: Sequence[int]) -> Iterator[Layer]:
    """The layers of eight operations, places in `OPS`."""
    width = STEM_CHANNELS
    for place, op in enumerate(ops):
        expansion, kernel = _EXPANSION_AND_KERNEL[OPS[op]]
        first = any(place == begin for begin, _ in STAGES)
        yield Layer(width, 2 * width if first else width, 2 if first else 1, expansion * width, kernel)
        width *= 2 if first else 1
