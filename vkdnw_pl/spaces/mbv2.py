"""The MobileNetV2 ("IDW") search space of ZenNAS, ZiCo, AZ-NAS and VKDNW: an unbounded set of structure strings."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any, ClassVar, Literal, get_args

from vkdnw_pl.errors import check_bool, check_choice, check_number, check_whole
from vkdnw_pl.networks.mbv2_blocks import (
    EXPANSIONS,
    KERNELS,
    NAMED,
    OPERATORS,
    Block,
    Blocks,
    ConvBlock,
    ResBlock,
    Residual,
    check_structure,
    format_structure,
    inverted_residuals,
    read_arch,
    round8,
)
from vkdnw_pl.spaces.base import BuildOptions, Cost, Space, check_weights, read_options

if TYPE_CHECKING:
    from vkdnw_pl.networks.mbv2 import MBV2Network

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

SAMPLE_MUTATIONS = 10
"""Mutations of one sample: about two of each block; half of the samples have 300M to 940M MACs, 9 in 10 have 8 to 16
layers."""


@dataclass(frozen=True, kw_only=True)
class MBV2Options(BuildOptions):
    """What the structure string does not say; its first number is ``in_channels`` too."""

    use_se: bool = False
    """Squeeze-and-excitation in every inverted residual (the reference: in training, not in search)."""
    bn_eps: float = 1e-3

    def __post_init__(self) -> None:
        super().__post_init__()
        check_bool("network.use_se", self.use_se)
        check_number("network.bn_eps", self.bn_eps, 0, 1, open_low=True, open_high=True)


class MBV2(Space):
    """The MobileNetV2 ("IDW") space.

    An architecture is a structure string (see `mbv2_blocks`), one of the names in ``NAMED`` such as ``mbv2_480m``, or a
    sequence of blocks.

    Args:
        operator_sampling: how `mutate` draws the type of a residual block: ``uniform``, or ``reference`` with the weights
            that the published search code has by accident (`OPERATOR_WEIGHTS`).
    """

    name: ClassVar[str] = "mbv2"
    build_options = MBV2Options
    search_options: ClassVar = {"operator_sampling": OPERATOR_SAMPLINGS}
    search_start = "mbv2_initial"
    training_config = "configs/mbv2_imnet.yaml"
    examples = f"{Space.examples}; an architecture is a name such as mbv2_480m, a structure string, or the found.json of a search"
    decisions: ClassVar = {
        "kernel size of the residual blocks": (r"SuperResIDWE\d+K(\d+)", tuple(map(str, KERNELS))),
        "expansion of the residual blocks": (r"SuperResIDWE(\d+)K", tuple(map(str, EXPANSIONS))),
    }

    def __init__(self, operator_sampling: OperatorSampling = "uniform") -> None:
        check_choice("operator_sampling", operator_sampling, OPERATOR_SAMPLINGS)
        self.operator_sampling = operator_sampling

    def parse(self, arch: str | Sequence[Block]) -> Blocks:
        """Return the typed form of a structure string, a name, or blocks."""
        if not isinstance(arch, str):
            check_structure(arch)
            return tuple(arch)
        return read_arch(arch)

    def format(self, blocks: Sequence[Block]) -> str:
        """Return the structure string of a typed form."""
        return format_structure(blocks)

    def validate(self, arch: str) -> str:
        return self.format(self.parse(arch))

    def layers(self, arch: str) -> int:
        """Number of sub-layers of all blocks, which the searches limit (``max_layers``, 14 in the papers)."""
        return sum(block.sub_layers for block in self.parse(arch))

    def enumerate(self, unique: bool = False) -> Iterator[str]:
        """Not possible: always a ValueError, which names the alternatives."""
        raise ValueError(
            "mbv2 is unbounded, so its architectures cannot be listed: sample some, give a file of architectures, or one "
            f"of the names {', '.join(NAMED)}"
        )

    def sample(self, rng: random.Random, unique: bool = False, num_mutations: int = SAMPLE_MUTATIONS) -> str:
        """Mutate the initial network of the published searches ``num_mutations`` times.

        The space is unbounded, so no draw can be uniform. Two strings are never one network, so ``unique`` changes nothing.
        """
        blocks = self.parse("mbv2_initial")
        for _ in range(num_mutations):
            blocks = self._mutate(blocks, rng, 1)
        return self.format(blocks)

    def mutate(self, arch: str, rng: random.Random, num_replaced: int = 1) -> str:
        """Return a neighbour (see `mutate_blocks`); a draw that changes nothing is made again.

        ``num_replaced`` blocks are drawn: the published searches replace 1 of the initial network, then 2.
        """
        check_whole("num_replaced", num_replaced, 1)
        return self.format(self._mutate(self.parse(arch), rng, num_replaced))

    def cost(self, arch: str, **network: Any) -> Cost:
        blocks, opt = self._fitting(arch, network)
        return true_cost(blocks, opt.image_size, opt.num_classes, opt.use_se)

    def aleph(self, arch: str, **network: Any) -> int:
        """Convolutions, those of the shortcuts and of squeeze-and-excitation included, and the classifier."""
        blocks, opt = self._fitting(arch, network)
        count = 1
        for layer in _layers(blocks):
            count += 3 + layer.projects + 2 * opt.use_se if isinstance(layer, Residual) else 1
        return count

    def reference_cost(self, arch: str, **network: Any) -> Cost:
        """FLOPs and model size as the published search code counts them."""
        blocks, opt = self._fitting(arch, network)
        return reference_cost(blocks, opt.image_size, opt.num_classes, opt.use_se)

    def build(self, arch: str, **network: Any) -> MBV2Network:
        from vkdnw_pl.networks.mbv2 import MBV2Network

        blocks, opt = self._fitting(arch, network)
        check_weights(arch, true_cost(blocks, opt.image_size, opt.num_classes, opt.use_se).num_params)
        return MBV2Network(blocks, num_classes=opt.num_classes, use_se=opt.use_se, bn_eps=opt.bn_eps)

    def _mutate(self, blocks: Blocks, rng: random.Random, num_replaced: int) -> Blocks:
        while True:
            mutated = mutate_blocks(blocks, rng, self.operator_sampling, num_replaced)
            if mutated != blocks:
                return mutated

    def _fitting(self, arch: str, network: dict[str, Any]) -> tuple[Blocks, MBV2Options]:
        """The architecture and the options, which must agree on the channels of the images."""
        blocks, opt = self.parse(arch), read_options(MBV2Options, network)
        stem = blocks[0]
        if stem.in_channels != opt.in_channels:
            right = self.format((replace(stem, in_channels=opt.in_channels), *blocks[1:]))
            raise ValueError(
                f"network.in_channels={opt.in_channels} does not fit the mbv2 architecture, whose first block takes "
                f"{stem.in_channels} channels; for such images write {right}"
            )
        return blocks, opt


def true_cost(blocks: Sequence[Block], image_size: int, num_classes: int, use_se: bool) -> Cost:
    """MACs of convolutions and linear layers, a bias counting one per output element, and learnable scalars."""
    macs = num_params = 0
    size = image_size
    for layer in _layers(blocks):
        before, size = size, -(-size // layer.stride)
        if isinstance(layer, Residual):
            macs += _residual_macs(layer, before, size, use_se)
            num_params += _residual_params(layer, use_se, reference=False)
        else:
            weights = layer.kernel**2 * layer.in_channels * layer.out_channels
            macs += weights * size**2
            num_params += weights + 2 * layer.out_channels
    head = blocks[-1].out_channels * num_classes + num_classes
    return Cost(macs=macs + head, num_params=num_params + head)


def reference_cost(blocks: Sequence[Block], image_size: int, num_classes: int, use_se: bool) -> Cost:
    """What the published search code of AZ-NAS and VKDNW counts as FLOPs and model size, for their budgets.

    Differs from `true_cost`: batch norm costs one MAC per element and has C parameters, sizes are rounded down at a
    stride, a projection shortcut is counted at its *output* size divided by the stride (a quarter of its MACs at stride
    2), its batch norm is left out, the linear layer's bias costs nothing and is one parameter. A fraction of a MAC, which
    channels that are no multiples of 8 can give, is dropped.
    """
    macs, num_params = 0.0, 0
    size = image_size
    for layer in _layers(blocks):
        before, size = size, size // layer.stride
        if isinstance(layer, Residual):
            macs += _reference_residual_macs(layer, before, size, use_se)
            num_params += _residual_params(layer, use_se, reference=True)
        else:
            weights = layer.kernel**2 * layer.in_channels * layer.out_channels
            macs += weights * before**2 // layer.stride**2 + size**2 * layer.out_channels
            num_params += weights + layer.out_channels
    head = blocks[-1].out_channels * num_classes
    return Cost(macs=int(macs) + head, num_params=num_params + head + 1)


def _layers(blocks: Sequence[Block]) -> Iterator[ConvBlock | Residual]:
    """The convolutions and inverted residuals, one by one."""
    for block in blocks:
        if isinstance(block, ResBlock):
            first, others = inverted_residuals(block)
            yield from itertools.chain(first, *[others] * (block.sub_layers - 1))
        else:
            yield block
            further = replace(block, in_channels=block.out_channels, stride=1)
            yield from itertools.repeat(further, block.sub_layers - 1)


def _residual_macs(shape: Residual, before: int, after: int, use_se: bool) -> int:
    c_in, hidden, c_out = shape.in_channels, shape.hidden, shape.out_channels
    at_output = hidden * shape.kernel**2 + hidden * c_out + (c_in * c_out + c_out if shape.projects else 0)
    return c_in * hidden * before**2 + at_output * after**2 + (2 * hidden * shape.squeezed if use_se else 0)


def _reference_residual_macs(shape: Residual, before: int, after: int, use_se: bool) -> float:
    c_in, hidden, c_out, stride = shape.in_channels, shape.hidden, shape.out_channels, shape.stride
    macs: float = (c_in * hidden + hidden) * before**2
    macs += hidden * shape.kernel**2 * before**2 // stride**2 + hidden * after**2
    macs += (hidden * c_out + c_out) * after**2
    if use_se:
        macs += 2 * hidden * shape.squeezed + hidden + hidden * after**2
    if shape.projects:
        macs += (c_in * c_out + c_out) * (after / stride) ** 2
    return macs


def _residual_params(shape: Residual, use_se: bool, reference: bool) -> int:
    c_in, hidden, c_out, squeezed = shape.in_channels, shape.hidden, shape.out_channels, shape.squeezed
    weights = c_in * hidden + hidden * shape.kernel**2 + hidden * c_out
    norms = (1 if reference else 2) * (hidden + hidden + c_out)
    projection = c_in * c_out + c_out + (0 if reference else 2 * c_out) if shape.projects else 0
    excitation = 2 * hidden * squeezed + 2 * (squeezed + hidden) if use_se else 0
    return weights + norms + projection + excitation


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
    change and no block is removed. ``operators`` is one of `OPERATOR_SAMPLINGS`.
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
