"""The space of pooling-based vision transformers (PiT) of ViT-Bench-101 (Wei et al., AAAI 2024): 1,600 networks."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from vkdnw_pl.errors import nearest
from vkdnw_pl.spaces.base import BuildOptions, Cost, Space, read_options
from vkdnw_pl.spaces.vit import check_image_size, layer_cost, write_numbers

if TYPE_CHECKING:
    from vkdnw_pl.networks.pit import PiTNetwork

BASE_DIMS = (16, 24, 32, 40)
RATIOS = (2, 4, 6, 8)
# fmt: off
DEPTHS = ((1, 6, 6), (1, 8, 4), (2, 4, 6), (2, 6, 4), (2, 6, 6), (2, 8, 2), (2, 8, 4), (3, 4, 6), (3, 6, 4), (3, 8, 2))
# fmt: on
HEADS = tuple(itertools.combinations_with_replacement((2, 4, 8), 3))
"""Heads do not decrease, because the convolution that pools maps each channel to a whole number of them."""

_PATCH, _STRIDE = 16, 8

Genotype = tuple[int, int, tuple[int, ...], tuple[int, ...]]
"""Dimensions of a head, MLP ratio, layers of the three stages, heads of the three stages."""


@dataclass(frozen=True, kw_only=True)
class PiTOptions(BuildOptions):
    """What the string does not say: 224 pixels and 1,000 classes, those of ImageNet, if nothing else is said."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_image_size(self, _STRIDE)


class PiT(Space):
    """Pooling-based vision transformers: 1,600 networks of 0.16 to 29 million parameters.

    An architecture is ``dimensions of a head|MLP ratio|layers of each stage|heads of each stage``, such as
    ``16|6|2-8-4|2-4-4``. Ten triples of layers and ten of heads are of the space (`DEPTHS`, `HEADS`).
    """

    name: ClassVar[str] = "pit"
    build_options = PiTOptions
    decisions: ClassVar = {
        "dimensions of a head": (r"^(\d+)\|", tuple(map(str, BASE_DIMS))),
        "MLP ratio": (r"^\d+\|(\d+)\|", tuple(map(str, RATIOS))),
        "layers of the stages": (r"\|([\d-]+)\|[\d-]+$", tuple(map(write_numbers, DEPTHS))),
        "heads of the stages": (r"\|([\d-]+)$", tuple(map(write_numbers, HEADS))),
    }

    def parse(self, arch: str) -> Genotype:
        """The four decisions of a string."""
        where = f"pit architecture {arch!r}"
        parts = arch.split("|")
        if len(parts) != 4:
            raise ValueError(
                f"{where} has {len(parts)} part(s), it needs 4: dimensions of a head|MLP ratio|layers of each stage|heads "
                "of each stage, such as 16|6|2-8-4|2-4-4"
            )
        (base_dim,) = self._read(where, "dimensions of a head", parts[0], [(n,) for n in BASE_DIMS])
        (ratio,) = self._read(where, "MLP ratio", parts[1], [(n,) for n in RATIOS])
        depths = self._read(where, "layers of the stages", parts[2], DEPTHS)
        return base_dim, ratio, depths, self._read(where, "heads of the stages", parts[3], HEADS)

    def format(self, genotype: tuple[int, int, Sequence[int], Sequence[int]]) -> str:
        """The string of the four decisions."""
        base_dim, ratio, depths, heads = genotype
        return f"{base_dim}|{ratio}|{write_numbers(depths)}|{write_numbers(heads)}"

    def validate(self, arch: str) -> str:
        return self.format(self.parse(arch))

    def enumerate(self, unique: bool = False) -> Iterator[str]:
        """All 1,600; no two are the same network."""
        return map(self.format, itertools.product(BASE_DIMS, RATIOS, DEPTHS, HEADS))

    def sample(self, rng: random.Random, unique: bool = False) -> str:
        return self.format((rng.choice(BASE_DIMS), rng.choice(RATIOS), rng.choice(DEPTHS), rng.choice(HEADS)))

    def neighbour(self, arch: str, rng: random.Random) -> str:
        """Replace one of the four decisions, both drawn uniformly, by another value."""
        decisions: list[Any] = list(self.parse(arch))
        place = rng.randrange(4)
        values: Sequence[Any] = (BASE_DIMS, RATIOS, DEPTHS, HEADS)[place]
        decisions[place] = rng.choice([value for value in values if value != decisions[place]])
        base_dim, ratio, depths, heads = decisions
        return self.format((base_dim, ratio, depths, heads))

    def layers(self, arch: str) -> int:
        """Number of transformer layers, each attention and MLP."""
        return sum(self.parse(arch)[2])

    def cost(self, arch: str, **network: Any) -> Cost:
        """MACs of convolutions, linear layers and attention's matrix products, biases not counted, and parameters."""
        base_dim, ratio, depths, heads = self.parse(arch)
        opt = read_options(PiTOptions, network)
        dims = [base_dim * number for number in heads]
        side = (opt.image_size - _PATCH) // _STRIDE + 1
        embedding = opt.in_channels * _PATCH**2 * dims[0]
        macs = side**2 * embedding + dims[-1] * opt.num_classes
        # Position, bias of the embedding, class token; last norm.
        num_params = embedding + (side**2 + 2) * dims[0] + 2 * dims[-1] + (dims[-1] + 1) * opt.num_classes
        for stage, (dim, depth) in enumerate(zip(dims, depths, strict=True)):
            layer_macs, layer_params = layer_cost(dim, dim * ratio, side**2 + 1)
            macs += depth * layer_macs
            num_params += depth * layer_params
            if stage + 1 < len(dims):
                new_dim, side = dims[stage + 1], (side + 1) // 2
                macs += 9 * new_dim * side**2 + dim * new_dim
                num_params += (9 + 1) * new_dim + (dim + 1) * new_dim
        return Cost(macs=macs, num_params=num_params)

    def aleph(self, arch: str, **network: Any) -> int:
        """Patch embedding, four linear layers of each layer, two of each of the two poolings, and the head."""
        return 2 + 4 * self.layers(arch) + 2 * 2

    def build(self, arch: str, **network: Any) -> PiTNetwork:
        """The network, tokens drawn from the truncated normal of 0.02."""
        from vkdnw_pl.networks.pit import PiTNetwork

        self.check_network(arch, **network)
        return PiTNetwork(*self.parse(arch), **asdict(read_options(PiTOptions, network)))

    @staticmethod
    def _read(where: str, what: str, text: str, allowed: Sequence[tuple[int, ...]]) -> tuple[int, ...]:
        values = {write_numbers(value): value for value in allowed}
        name = text.replace(" ", "")
        if name not in values:
            raise ValueError(
                f"{where}: {what} {text!r} is not allowed{nearest(name, values)} (allowed: {', '.join(values)})"
            )
        return values[name]
