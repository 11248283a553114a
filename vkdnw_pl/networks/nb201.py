"""The NAS-Bench-201 network (Dong & Yang, ICLR 2020): a stem, three stages of cells, two reductions, a linear head."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

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


def _make_op(op: str, c_in: int, c_out: int, norm: dict[str, bool]) -> nn.Module:
    match op:
        case "none":
            return _Zero()
        case "skip_connect" if c_in != c_out:  # the benchmark's: a projection without ReLU
            return nn.Sequential(nn.Conv2d(c_in, c_out, 1, bias=False), nn.BatchNorm2d(c_out, **norm))
        case "skip_connect":
            return nn.Identity()
        case "nor_conv_1x1":
            return _ReLUConvBN(c_in, c_out, 1, 1, norm)
        case "nor_conv_3x3":
            return _ReLUConvBN(c_in, c_out, 3, 1, norm)
        case "avg_pool_3x3" if c_in == c_out:
            return nn.AvgPool2d(3, stride=1, padding=1, count_include_pad=False)
        case _:
            raise ValueError(f"op {op!r} from {c_in} to {c_out} channels is not one of {', '.join(OPS)}")


class Cell(nn.Module):
    """Four nodes; node j is the sum over i < j of op_ij(node i), the output is node 3. The resolution is preserved.

    The edges that leave node 0 map ``c_in`` to ``c_out`` channels. A cell without path to node 3 returns zeros.
    """

    def __init__(self, ops: Sequence[str], c_in: int, c_out: int, norm: dict[str, bool]) -> None:
        super().__init__()
        self.edges = nn.ModuleList(
            _make_op(op, c_out if source else c_in, c_out, norm) for op, (source, _) in zip(ops, EDGES, strict=True)
        )

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
    """Residual block that halves the resolution."""

    def __init__(self, c_in: int, c_out: int, norm: dict[str, bool]) -> None:
        super().__init__()
        self.conv_a = _ReLUConvBN(c_in, c_out, 3, 2, norm)
        self.conv_b = _ReLUConvBN(c_out, c_out, 3, 1, norm)
        self.shortcut = nn.Sequential(nn.AvgPool2d(2, stride=2), nn.Conv2d(c_in, c_out, 1, bias=False))

    def forward(self, x: Tensor) -> Tensor:
        return self.conv_b(self.conv_a(x)) + self.shortcut(x)


class CellNetwork(nn.Module):
    """The macro network around a cell: input ``(B, in_channels, H, W)``, output logits ``(B, num_classes)``.

    Args:
        ops: the six operations in edge order 0→1, 0→2, 1→2, 0→3, 1→3, 2→3.
        stages: channels before and behind the first cell of each stage; further cells keep the latter. The stem has
            those before the first stage, a reduction leads from each stage to the next.
        cells: cells per stage.
        bn_affine: batch norm has learnable weight and bias.
        bn_track_running_stats: batch norm keeps running statistics; without them it uses those of the batch in
            evaluation too.

    Any input size that two halvings leave at least one pixel of works; the benchmark uses 32 and 16.
    """

    def __init__(
        self,
        ops: Sequence[str],
        stages: Sequence[tuple[int, int]],
        cells: int,
        num_classes: int = 10,
        in_channels: int = 3,
        bn_affine: bool = True,
        bn_track_running_stats: bool = True,
    ) -> None:
        super().__init__()
        norm = {"affine": bn_affine, "track_running_stats": bn_track_running_stats}
        width = stages[0][0]
        self.stem = nn.Sequential(
            nn.Conv2d(in_channels, width, 3, padding=1, bias=False), nn.BatchNorm2d(width, **norm)
        )
        blocks: list[nn.Module] = []
        for number, (c_in, c_out) in enumerate(stages):
            if number:
                blocks.append(Reduction(width, c_in, norm))
            for cell in range(cells):
                blocks.append(Cell(ops, c_out if cell else c_in, c_out, norm))
            width = c_out
        self.blocks = nn.ModuleList(blocks)
        self.head = nn.Sequential(nn.BatchNorm2d(width, **norm), nn.ReLU())
        self.classifier = nn.Linear(width, num_classes)
        self.num_classes = num_classes
        self.final_map = "head"  # where Zen reads: the last map before pooling

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for block in self.blocks:
            x = block(x)
        return self.classifier(self.head(x).mean((2, 3)))


class NB201Network(CellNetwork):
    """A NAS-Bench-201 network: ``channels`` is C; the stages have C, 2C and 4C channels. The rest as `CellNetwork`."""

    def __init__(self, ops: Sequence[str], channels: int = 16, cells: int = 5, **options: Any) -> None:
        super().__init__(ops, [(channels * 2**stage,) * 2 for stage in range(3)], cells, **options)
        # Where AZ-NAS reads features: the stem and every block.
        self.feature_taps = ("stem", *(f"blocks.{i}" for i in range(len(self.blocks))))
        self.space_layers = sum(op.startswith("nor_conv") for op in ops)  # as the space counts them
