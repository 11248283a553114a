"""The MobileNetV2 ("IDW") search space of ZenNAS, ZiCo, AZ-NAS and VKDNW: an unbounded set of structure strings."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

from vkdnw_pl.errors import check_bool, check_choice, check_number, check_whole
from vkdnw_pl.networks.mbv2_blocks import EXPANSIONS, KERNELS, Block, Blocks, check_structure, format_structure
from vkdnw_pl.networks.mbv2_named import NAMED, read_arch
from vkdnw_pl.spaces.base import BuildOptions, Cost, Space, read_options
from vkdnw_pl.spaces.mbv2_cost import reference_cost, true_cost
from vkdnw_pl.spaces.mbv2_mutation import OPERATOR_SAMPLINGS, OperatorSampling, mutate_blocks

if TYPE_CHECKING:
    from vkdnw_pl.networks.mbv2 import MBV2Network

SAMPLE_MUTATIONS = 10
"""Mutations of one sample: about two of each block; half of the samples have 300M to 940M MACs, 9 in 10 have 8 to 16
layers."""


@dataclass(frozen=True, kw_only=True)
class MBV2Options(BuildOptions):
    """What the structure string does not say about the network; its first number is ``in_channels`` too."""

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
            that the published search code has by accident (see `mbv2_mutation.OPERATOR_WEIGHTS`).
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
        """Return the typed form of a structure string, a name, or blocks.

        Raises:
            ValueError: if it is not an architecture of this space; the text says where and what is allowed.
        """
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
        """Not possible.

        Raises:
            ValueError: always; it names the alternatives.
        """
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
        """Return a neighbour (see `mbv2_mutation.mutate_blocks`); a draw that changes nothing is made again.

        Args:
            arch: the architecture.
            rng: source of all draws.
            num_replaced: number of blocks drawn; the published searches replace 1 of the initial network, then 2.

        Raises:
            ValueError: if ``arch`` is not of this space, or ``num_replaced`` is below 1.
        """
        check_whole("num_replaced", num_replaced, 1)
        return self.format(self._mutate(self.parse(arch), rng, num_replaced))

    def cost(self, arch: str, **network: Any) -> Cost:
        blocks, opt = self._fitting(arch, network)
        return true_cost(blocks, opt.image_size, opt.num_classes, opt.use_se)

    def reference_cost(self, arch: str, **network: Any) -> Cost:
        """FLOPs and model size as the published search code counts them (see `mbv2_cost.reference_cost`)."""
        blocks, opt = self._fitting(arch, network)
        return reference_cost(blocks, opt.image_size, opt.num_classes, opt.use_se)

    def build(self, arch: str, **network: Any) -> MBV2Network:
        from vkdnw_pl.networks.mbv2 import MBV2Network

        blocks, opt = self._fitting(arch, network)
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
