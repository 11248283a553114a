"""Neighbours of MobileNetV2 ("IDW") architectures, as the evolutionary searches of ZenNAS, ZiCo, AZ-NAS and VKDNW make them."""

from __future__ import annotations

import itertools
import random
from dataclasses import replace
from functools import lru_cache
from typing import Literal, get_args

from vkdnw_pl.networks.mbv2_blocks import OPERATORS, Block, Blocks, ConvBlock, ResBlock, round8

OperatorSampling = Literal["uniform", "reference"]
OPERATOR_SAMPLINGS: tuple[str, ...] = get_args(OperatorSampling)

OPERATOR_WEIGHTS: dict[str, tuple[int, ...]] = {
    "uniform": (1,) * len(OPERATORS),
    # The reference gathers its candidates in a list that keeps those of the types before: early types are repeated.
    "reference": (12, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2),
}
"""How often each of `OPERATORS` is drawn."""

SPLIT_FROM = 6
"""A residual block with this many sub-layers or more is split in two."""

_FACTORS = (2.5, 2, 1.5, 1.25, 1)


@lru_cache(maxsize=4096)
def channel_choices(channels: int) -> tuple[int, ...]:
    """Widths that a width may become: times and divided by 1, 1.25, 1.5, 2, 2.5, to multiples of 8, largest first."""
    scaled = [channels * f for f in _FACTORS] + [channels / f for f in _FACTORS]
    return tuple(sorted({round8(max(8, x)) for x in scaled}, reverse=True))


def sub_layer_choices(sub_layers: int) -> tuple[int, ...]:
    """Depths that a depth may become: up to two more or fewer, at least 1."""
    return tuple(n for n in range(sub_layers + 2, sub_layers - 3, -1) if n > 0)


def mutate_blocks(blocks: Blocks, rng: random.Random, operators: str, num_replaced: int = 1) -> Blocks:
    """Replace blocks by neighbours, then mend the channels along the chain and split deep blocks.

    ``num_replaced`` times a block is drawn uniformly, and skipped if drawn before. The stem gets another width, a residual
    block another type, width, depth and bottleneck (each may also stay), the last convolution stays. Strides never
    change and no block is removed.

    Args:
        blocks: the architecture.
        rng: source of all draws.
        operators: one of `OPERATOR_SAMPLINGS`.
        num_replaced: number of draws.
    """
    mutated = list(blocks)
    drawn = set()
    for _ in range(num_replaced):
        i = rng.randrange(len(mutated))
        if i not in drawn:
            drawn.add(i)
            mutated[i] = _neighbour(mutated[i], rng, operators)
    for i, (before, block) in enumerate(itertools.pairwise(mutated), start=1):
        if block.in_channels != before.out_channels:
            mutated[i] = replace(block, in_channels=before.out_channels)
    # Twice, as in the reference: enough for everything that mutation alone makes deep.
    return tuple(_split(_split(mutated)))


def _neighbour(block: Block, rng: random.Random, operators: str) -> Block:
    if isinstance(block, ResBlock):
        expansion, kernel = rng.choices(OPERATORS, OPERATOR_WEIGHTS[operators])[0]
        return ResBlock(
            expansion,
            kernel,
            block.in_channels,
            rng.choice(channel_choices(block.out_channels)),
            block.stride,
            rng.choice(channel_choices(block.bottleneck_channels)),
            rng.choice(sub_layer_choices(block.sub_layers)),
        )
    if block.kernel == 1:
        return block
    width = rng.choice(channel_choices(block.out_channels))
    return ConvBlock(block.kernel, block.in_channels, width, block.stride, block.sub_layers)


def _split(blocks: list[Block]) -> list[Block]:
    parts: list[Block] = []
    for block in blocks:
        if isinstance(block, ResBlock) and block.sub_layers >= SPLIT_FROM:
            first = SPLIT_FROM // 2
            parts.append(replace(block, sub_layers=first))
            rest = block.sub_layers - first
            parts.append(replace(block, in_channels=block.out_channels, stride=1, sub_layers=rest))
        else:
            parts.append(block)
    return parts
