"""The NAS-Bench-201 network (Dong & Yang, ICLR 2020): a stem, three stages of cells, two reductions, a linear head."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from vkdnw_pl.networks.nb201_cell import EDGES, OPS


class _Zero(nn.Module):
    """The ``none`` operation. Cells leave the edge out instead of adding zeros."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.zeros_like(x)


class _ReLUConvBN(nn.Sequential):
    def __init__(self, c_in: int, c_out: int, kernel: int, stride: int, norm: dict[str, bool]) -> None:
        super().__init__(
            nn.ReLU(),
            nn.Conv2d(c_in, c_out, kernel, stride=stride, padding=kernel // 2, bias=False),
            nn.BatchNorm2d(c_out, **norm),
        )


def _make_op(op: str, channels: int, norm: dict[str, bool]) -> nn.Module:
    match op:
        case "none":
            return _Zero()
        case "skip_connect":
            return nn.Identity()
        case "nor_conv_1x1":
            return _ReLUConvBN(channels, channels, 1, 1, norm)
        case "nor_conv_3x3":
            return _ReLUConvBN(channels, channels, 3, 1, norm)
        case "avg_pool_3x3":
            return nn.AvgPool2d(3, stride=1, padding=1, count_include_pad=False)
        case _:
            raise ValueError(f"op {op!r} is not one of {', '.join(OPS)}")


class Cell(nn.Module):
    """Four nodes; node j is the sum over i < j of op_ij(node i), the output is node 3. Shape is preserved."""

    def __init__(self, ops: Sequence[str], channels: int, norm: dict[str, bool]) -> None:
        super().__init__()
        self.edges = nn.ModuleList(_make_op(op, channels, norm) for op in ops)

    def forward(self, x: Tensor) -> Tensor:
        nodes = [x]
        for target in (1, 2, 3):
            total: Tensor | None = None
            for (source, end), edge in zip(EDGES, self.edges, strict=True):
                if end != target or isinstance(edge, _Zero):
                    continue
                term = edge(nodes[source])
                total = term if total is None else total + term
            nodes.append(torch.zeros_like(x) if total is None else total)
        return nodes[3]


class Reduction(nn.Module):
    """Residual block that halves the resolution and doubles the channels."""

    def __init__(self, c_in: int, c_out: int, norm: dict[str, bool]) -> None:
        super().__init__()
        self.conv_a = _ReLUConvBN(c_in, c_out, 3, 2, norm)
        self.conv_b = _ReLUConvBN(c_out, c_out, 3, 1, norm)
        self.shortcut = nn.Sequential(nn.AvgPool2d(2, stride=2), nn.Conv2d(c_in, c_out, 1, bias=False))

    def forward(self, x: Tensor) -> Tensor:
        return self.conv_b(self.conv_a(x)) + self.shortcut(x)


class NB201Network(nn.Module):
    """A NAS-Bench-201 network: input ``(B, in_channels, H, W)``, output logits ``(B, num_classes)``.

    Args:
        ops: the six operations in edge order 0→1, 0→2, 1→2, 0→3, 1→3, 2→3.
        channels: C, the width of the stem; the stages have C, 2C, 4C channels.
        cells: cells per stage.
        bn_affine: batch norm has learnable weight and bias.
        bn_track_running_stats: batch norm keeps running statistics; without them it uses those of the batch in
            evaluation too.

    Any input size that two halvings leave at least one pixel of works; the benchmark uses 32 and 16.
    """

    def __init__(
        self,
        ops: Sequence[str],
        channels: int = 16,
        cells: int = 5,
        num_classes: int = 10,
        in_channels: int = 3,
        bn_affine: bool = True,
        bn_track_running_stats: bool = True,
    ) -> None:
        super().__init__()
        norm = {"affine": bn_affine, "track_running_stats": bn_track_running_stats}
        self.stem = nn.Sequential(
            nn.Conv2d(in_channels, channels, 3, padding=1, bias=False), nn.BatchNorm2d(channels, **norm)
        )
        blocks: list[nn.Module] = []
        for stage in range(3):
            width = channels * 2**stage
            if stage:
                blocks.append(Reduction(width // 2, width, norm))
            blocks.extend(Cell(ops, width, norm) for _ in range(cells))
        self.blocks = nn.ModuleList(blocks)
        self.head = nn.Sequential(nn.BatchNorm2d(4 * channels, **norm), nn.ReLU())
        self.classifier = nn.Linear(4 * channels, num_classes)
        self.num_classes = num_classes
        # Where AZ-NAS reads features: the stem and every block.
        self.feature_taps = ("stem", *(f"blocks.{i}" for i in range(len(blocks))))
        self.space_layers = sum(op.startswith("nor_conv") for op in ops)  # as the space counts them
        self.final_map = "head"  # where Zen reads: the last map before pooling

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for block in self.blocks:
            x = block(x)
        return self.classifier(self.head(x).mean((2, 3)))
