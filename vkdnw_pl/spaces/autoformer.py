"""AutoFormer's space of vision transformers (Chen et al., ICCV 2021), with the networks of ViT-Bench-101."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from vkdnw_pl.spaces.base import BuildOptions, Cost, Space, read_options
from vkdnw_pl.spaces.vit import check_image_size, layer_cost, read_numbers, write_numbers

if TYPE_CHECKING:
    from vkdnw_pl.networks.autoformer import AutoFormerNetwork

_PATCH = 16

Genotype = tuple[int, tuple[float, ...], tuple[int, ...]]
"""Width of the tokens, MLP ratio of each layer, heads of each layer."""


@dataclass(frozen=True, kw_only=True)
class AutoFormerOptions(BuildOptions):
    """What the string does not say: 224 pixels and 1,000 classes, those of ImageNet, if nothing else is said."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_image_size(self, _PATCH)


class AutoFormer(Space):
    """AutoFormer, with the ranges of its size T: about 10⁹ networks of 5 to 10 million parameters.

    An architecture is ``width|MLP ratio of each layer|heads of each layer``, such as
    ``192|4-3.5-4-4-4-4-4-4-4-4-4-4|3-3-3-3-4-4-3-3-3-3-3-3``. A subclass with other ranges has other sizes; S: ``dims``
    320, 384, 448, ``ratios`` 3, 3.5, 4, ``heads`` 5, 6, 7; B: 528, 576, 624; 3, 3.5, 4; 8, 9, 10; ``depths`` 14, 15, 16.
    """

    name: ClassVar[str] = "autoformer"
    build_options = AutoFormerOptions
    dims: ClassVar[tuple[int, ...]] = (192, 216, 240)
    ratios: ClassVar[tuple[float, ...]] = (3.5, 4.0)
    heads: ClassVar[tuple[int, ...]] = (3, 4)
    depths: ClassVar[tuple[int, ...]] = (12, 13, 14)
    decisions: ClassVar = {
        "width of the tokens": (r"^(\d+)\|", ("192", "216", "240")),
        "MLP ratio of the layers": (r"([\d.]+)(?=[^|]*\|[^|]*$)", ("3.5", "4")),
        "heads of the layers": (r"(\d+)(?=[^|]*$)", ("3", "4")),
    }

    def parse(self, arch: str) -> Genotype:
        """Width, ratios and heads of a string."""
        parts = arch.split("|")
        if len(parts) != 3:
            raise ValueError(
                f"{self.name} architecture {arch!r} has {len(parts)} part(s), it needs 3: width|MLP ratio of each layer|"
                "heads of each layer, such as 192|4-3.5-4-...|3-4-3-..."
            )
        where = f"{self.name} architecture {arch!r}"
        width, *more = read_numbers(f"{where}, width", parts[0], self.dims)
        ratios = read_numbers(f"{where}, MLP ratios", parts[1], self.ratios)
        heads = read_numbers(f"{where}, heads", parts[2], self.heads)
        if more:
            raise ValueError(f"{where} has {1 + len(more)} widths; all layers have the same one")
        if len(ratios) != len(heads) or len(ratios) not in self.depths:
            raise ValueError(
                f"{where} has MLP ratios for {len(ratios)} and heads for {len(heads)} layers; it needs both for the same "
                f"number of layers (allowed: {', '.join(map(str, self.depths))})"
            )
        return width, ratios, heads

    def format(self, genotype: tuple[int, Sequence[float], Sequence[int]]) -> str:
        """The string of width, ratios and heads."""
        dim, ratios, heads = genotype
        return f"{dim}|{write_numbers(ratios)}|{write_numbers(heads)}"

    def validate(self, arch: str) -> str:
        return self.format(self.parse(arch))

    def enumerate(self, unique: bool = False) -> Iterator[str]:
        """Not possible: always a ValueError, which names the alternatives."""
        raise ValueError(
            f"{self.name} has about {len(self.dims) * (len(self.ratios) * len(self.heads)) ** max(self.depths):.0e} "
            "architectures, too many to be listed: sample some, or give a file of architectures"
        )

    def sample(self, rng: random.Random, unique: bool = False) -> str:
        """Draw width and depth, then ratio and heads of each layer, uniformly (so each depth alike, as published)."""
        dim, depth = rng.choice(self.dims), rng.choice(self.depths)
        ratios = [rng.choice(self.ratios) for _ in range(depth)]
        return self.format((dim, ratios, [rng.choice(self.heads) for _ in range(depth)]))

    def neighbour(self, arch: str, rng: random.Random) -> str:
        """Change the width, or ratio or heads of one layer, or put a layer in or take one out; each kind alike."""
        dim, ratios, heads = self.parse(arch)
        layers = list(zip(ratios, heads, strict=True))
        place = rng.randrange(len(layers))
        ratio, number = layers[place]
        match rng.choice(("width", "ratio", "heads", "depth")):
            case "width":
                dim = rng.choice([other for other in self.dims if other != dim])
            case "ratio":
                layers[place] = rng.choice([other for other in self.ratios if other != ratio]), number
            case "heads":
                layers[place] = ratio, rng.choice([other for other in self.heads if other != number])
            case "depth":
                moves = [move for move in (-1, 1) if len(layers) + move in self.depths]
                if rng.choice(moves) > 0:
                    layers.insert(place, (rng.choice(self.ratios), rng.choice(self.heads)))
                else:
                    del layers[place]
        return self.format((dim, [ratio for ratio, _ in layers], [number for _, number in layers]))

    def layers(self, arch: str) -> int:
        """Number of transformer layers, each attention and MLP."""
        return len(self.parse(arch)[1])

    def cost(self, arch: str, **network: Any) -> Cost:
        """MACs of convolution, linear layers and attention's matrix products, biases not counted, and parameters."""
        dim, ratios, _ = self.parse(arch)
        opt = read_options(AutoFormerOptions, network)
        patches = (opt.image_size // _PATCH) ** 2
        embedding = opt.in_channels * _PATCH**2 * dim
        macs = patches * embedding + dim * opt.num_classes
        # Position, class token, bias of the embedding, last norm.
        num_params = embedding + (patches + 1 + 1 + 1 + 2) * dim + (dim + 1) * opt.num_classes
        for ratio in ratios:
            layer_macs, layer_params = layer_cost(dim, int(dim * ratio), patches + 1)
            macs += layer_macs
            num_params += layer_params
        return Cost(macs=macs, num_params=num_params)

    def aleph(self, arch: str, **network: Any) -> int:
        """Patch embedding, four linear layers of each layer, and the head."""
        return 2 + 4 * self.layers(arch)

    def build(self, arch: str, **network: Any) -> AutoFormerNetwork:
        """The network, linear layers and tokens drawn from the truncated normal of 0.02."""
        from vkdnw_pl.networks.autoformer import AutoFormerNetwork

        self.check_network(arch, **network)
        return AutoFormerNetwork(*self.parse(arch), **asdict(read_options(AutoFormerOptions, network)))
