"""The network of NATS-Bench's size space (Dong et al., TPAMI 2021): one fixed cell per stage, five channel numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from vkdnw_pl.networks.nb201 import CellNetwork


class NatsSSSNetwork(CellNetwork):
    """Input ``(B, in_channels, H, W)``, output logits ``(B, num_classes)``; arguments as `CellNetwork`, one cell a stage.

    It names no taps: feature proxies read the stem and the last map of every resolution.
    """

    def __init__(self, ops: Sequence[str], stages: Sequence[tuple[int, int]], **options: Any) -> None:
        super().__init__(ops, stages, cells=1, **options)
        self.stages = ["blocks.0", "blocks.2", "blocks.4"]  # the three cells, for distillation
