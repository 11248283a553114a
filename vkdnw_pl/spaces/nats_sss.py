"""The size space of NATS-Bench: one fixed cell, five channel numbers out of eight, 32,768 networks."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from vkdnw_pl.errors import check_number
from vkdnw_pl.runs.environment import check_memory
from vkdnw_pl.spaces.base import Cost, Space, read_options
from vkdnw_pl.spaces.nb201 import CellNetworkOptions, cell_network_cost

if TYPE_CHECKING:
    from vkdnw_pl.networks.nats_sss import NatsSSSNetwork

CHANNELS = (8, 16, 24, 32, 40, 48, 56, 64)
NUM_CHANNELS = 5
OPS = ("nor_conv_3x3", "nor_conv_3x3", "nor_conv_3x3", "skip_connect", "nor_conv_3x3", "nor_conv_3x3")
"""Operations of the cell, in the order of `nb201_cell.EDGES`."""

_LAYOUT = "c0:c1:c2:c3:c4, such as 64:8:24:32:40"
_ALLOWED = ", ".join(map(str, CHANNELS))

Channels = tuple[int, ...]
"""Five channel numbers: c0 of stem and first cell, c1 of the first reduction, c2 of the second cell, c3 of the second
reduction, c4 of the third cell."""


@dataclass(frozen=True, kw_only=True)
class NatsSSSOptions(CellNetworkOptions):
    """What the five numbers do not say about the network."""

    width: float = 1.0
    """Factor of all five numbers, a multiple of 1/8: with 0.25 the 8..64 of a string stand for 2..16 channels."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_number("network.width", self.width, 0, open_low=True)
        # The widest network has at most 175 times the square of its channels in weights.
        check_memory("network.width", self.width, 4 * 175 * (64 * self.width) ** 2, "the weights")
        if self.width * CHANNELS[0] % 1:
            raise ValueError(
                f"network.width={self.width!r} is not allowed: give a multiple of 1/{CHANNELS[0]}, so that all channel "
                "numbers are whole"
            )


class NatsSSS(Space):
    """NATS-Bench's size space (Dong et al., TPAMI 2021, "SSS").

    An architecture is the benchmark's string of five channel numbers, ``c0:c1:c2:c3:c4``, each one of 8, 16, ..., 64. The
    cell is the same everywhere: ``|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_3x3~1|+|skip_connect~0|nor_conv_3x3~1|
    nor_conv_3x3~2|``. There is one cell per stage (and not five, as in ``nb201``), which leads from c0 to c0, from c1 to c2,
    from c3 to c4 channels; between them the reductions lead from c0 to c1 and from c2 to c3.
    """

    name: ClassVar[str] = "nats_sss"
    build_options = NatsSSSOptions
    default_archs = "oracle"
    decisions: ClassVar = {
        f"channels c{place}, {what}": (rf"^(?:\d+:){{{place}}}(\d+)", tuple(map(str, CHANNELS)))
        for place, what in enumerate(
            ("stem and first cell", "first reduction", "second cell", "second reduction", "third cell")
        )
    }

    def parse(self, arch: str) -> Channels:
        """The five channel numbers."""
        parts = arch.strip().split(":")
        if len(parts) != NUM_CHANNELS:
            raise ValueError(
                f"nats_sss architecture {arch!r} has {len(parts)} part(s) separated by ':'; it needs {NUM_CHANNELS}: "
                f"{_LAYOUT}"
            )
        for place, part in enumerate(parts):
            if part not in map(str, CHANNELS):
                raise ValueError(f"nats_sss architecture {arch!r}: c{place} is {part!r}; allowed: {_ALLOWED}")
        return tuple(map(int, parts))

    def format(self, channels: Sequence[int]) -> str:
        """The string of five channel numbers."""
        return self.validate(":".join(map(str, channels)))

    def validate(self, arch: str) -> str:
        return ":".join(map(str, self.parse(arch)))

    def index(self, arch: str) -> int:
        """The benchmark's number of an architecture, 0..32,767; its place in `enumerate`."""
        number = 0
        for channels in self.parse(arch):
            number = number * len(CHANNELS) + CHANNELS.index(channels)
        return number

    def enumerate(self, unique: bool = False) -> Iterator[str]:
        """All 32,768 strings in the benchmark's order, the last number varying fastest; no two are the same network."""
        return (":".join(map(str, channels)) for channels in itertools.product(CHANNELS, repeat=NUM_CHANNELS))

    def sample(self, rng: random.Random, unique: bool = False) -> str:
        return self.format([rng.choice(CHANNELS) for _ in range(NUM_CHANNELS)])

    def neighbour(self, arch: str, rng: random.Random) -> str:
        """Replace one of the five numbers, both drawn uniformly, by another."""
        channels = list(self.parse(arch))
        place = rng.randrange(NUM_CHANNELS)
        channels[place] = rng.choice([number for number in CHANNELS if number != channels[place]])
        return self.format(channels)

    def cost(self, arch: str, **network: Any) -> Cost:
        """MACs and parameters; with the defaults equal to the benchmark's own numbers for CIFAR-10."""
        opt = read_options(NatsSSSOptions, network)
        return cell_network_cost(OPS, self._stages(arch, opt), 1, opt)

    def aleph(self, arch: str, **network: Any) -> int:
        """Convolutions of stem, cells and reductions, those of skips that change the channels, and the classifier."""
        self.read_options(network)
        _, c1, c2, c3, c4 = self.parse(arch)
        return 1 + 3 * 5 + (c1 != c2) + (c3 != c4) + 2 * 3 + 1

    def build(self, arch: str, **network: Any) -> NatsSSSNetwork:
        from vkdnw_pl.networks.nats_sss import NatsSSSNetwork

        self.check_network(arch, **network)
        opt = read_options(NatsSSSOptions, network)
        return NatsSSSNetwork(
            OPS,
            self._stages(arch, opt),
            num_classes=opt.num_classes,
            in_channels=opt.in_channels,
            bn_affine=opt.bn_affine,
            bn_track_running_stats=opt.bn_track_running_stats,
        )

    def _stages(self, arch: str, opt: NatsSSSOptions) -> list[tuple[int, int]]:
        """Channels before and behind the cell of each stage."""
        c0, c1, c2, c3, c4 = (int(channels * opt.width) for channels in self.parse(arch))
        return [(c0, c0), (c1, c2), (c3, c4)]
