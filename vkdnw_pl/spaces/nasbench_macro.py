"""NAS-Bench-Macro: eight layers in a row, three choices each; 6,561 strings, 3,969 different networks."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, ClassVar

from vkdnw_pl.networks.nasbench_macro_layers import HEAD_CHANNELS, OPS, STAGES, STEM_CHANNELS, layers_of
from vkdnw_pl.spaces.base import BuildOptions, Cost, Space, read_options

if TYPE_CHECKING:
    from vkdnw_pl.networks.nasbench_macro import NASBenchMacroNetwork

_NUM_LAYERS = STAGES[-1][1]
_DIGITS = tuple(map(str, range(len(OPS))))
_ALLOWED = ", ".join(f"{digit}={op}" for digit, op in zip(_DIGITS, OPS, strict=True))


@dataclass(frozen=True, kw_only=True)
class NASBenchMacroOptions(BuildOptions):
    """The defaults are those of CIFAR-10, which the benchmark's networks were trained on."""

    num_classes: int = 10
    image_size: int = 32


class NASBenchMacro(Space):
    """NAS-Bench-Macro (Su et al., "Prioritized Architecture Sampling with Monto-Carlo Tree Search", CVPR 2021).

    An architecture is the benchmark's string of eight digits, one for each layer: 0 is the identity, 1 a MobileNetV2
    layer with expansion 3 and kernel 3, 2 one with expansion 6 and kernel 5. The layers form stages of 2, 3 and 3; the
    first of a stage halves the map and doubles the channels, also where its digit is 0. Inside a stage an identity behind
    the first layer does nothing: strings that differ only in where it stands are one network.
    """

    name: ClassVar[str] = "nasbench_macro"
    build_options = NASBenchMacroOptions
    default_archs = "sample:100"
    examples = f"oracle (with known accuracies), unique (all different ones), {Space.examples}"
    decisions: ClassVar = {
        f"layers of stage {stage} ({_ALLOWED})": (rf"(?<=\d{{{begin}}})(?<!\d{{{end}}})\d", _DIGITS)
        for stage, (begin, end) in enumerate(STAGES, start=1)
    }

    def parse(self, arch: str) -> tuple[int, ...]:
        """Return the eight operations of a string, places in `OPS`."""
        if not isinstance(arch, str):
            raise ValueError(
                f"nasbench_macro architecture {arch!r} is a number, which has no leading zeros: write it in quotation "
                "marks, such as '01201201'"
            )
        text = arch.strip()
        if len(text) != _NUM_LAYERS:
            raise ValueError(
                f"nasbench_macro architecture {arch!r} has {len(text)} characters; it needs {_NUM_LAYERS}, one for each "
                f"layer ({_ALLOWED})"
            )
        for place, digit in enumerate(text):
            if digit not in _DIGITS:
                raise ValueError(
                    f"nasbench_macro architecture {arch!r}: layer {place} is {digit!r}; allowed: {_ALLOWED}"
                )
        return tuple(map(int, text))

    def format(self, genotype: Sequence[int]) -> str:
        """Return the benchmark's string of eight operations."""
        return self.validate("".join(map(str, genotype)))

    def validate(self, arch: str) -> str:
        return "".join(map(str, self.parse(arch)))

    def enumerate(self, unique: bool = False) -> Iterator[str]:
        """All strings, ascending; ``unique`` leaves out those that `canonicalise` changes."""
        yield from _all_archs(unique)

    def sample(self, rng: random.Random, unique: bool = False) -> str:
        return rng.choice(_all_archs(unique))

    def neighbour(self, arch: str, rng: random.Random) -> str:
        """Replace the operation of one layer, both drawn uniformly, by another; it always is another network."""
        genotype = list(self.parse(arch))
        layer = rng.randrange(_NUM_LAYERS)
        genotype[layer] = rng.choice([op for op in range(len(OPS)) if op != genotype[layer]])
        return self.format(genotype)

    def canonicalise(self, arch: str) -> str:
        """Put the identities of a stage, but for one in the first place, behind its other layers.

        The 3,969 unique networks are those that this leaves as they are.
        """
        text = self.validate(arch)
        return "".join(text[a] + text[a + 1 : b].replace("0", "").ljust(b - a - 1, "0") for a, b in STAGES)

    def layers(self, arch: str) -> int:
        """Number of layers that are no identity."""
        return sum(op != 0 for op in self.parse(arch))

    def cost(self, arch: str, **network: Any) -> Cost:
        """MACs, with the classifier's bias, and parameters, which are equal to the benchmark's."""
        published = self.reference_cost(arch, **network)
        return Cost(published.macs + self.num_classes(**network), published.num_params)

    def reference_cost(self, arch: str, **network: Any) -> Cost:
        """MACs and parameters, equal to the benchmark's ``flops`` and ``params``: without the classifier's bias in the MACs."""
        opt = read_options(NASBenchMacroOptions, network)
        macs, num_params, size = 0, 0, opt.image_size

        def conv(c_in: int, c_out: int, kernel: int = 1, groups: int = 1) -> None:
            nonlocal macs, num_params
            weights = c_in * c_out // groups * kernel**2
            macs += weights * size**2
            num_params += weights + 2 * c_out

        conv(opt.in_channels, STEM_CHANNELS, 3)
        for layer in layers_of(self.parse(arch)):
            if layer.hidden:
                conv(layer.in_channels, layer.hidden)
            size = -(-size // layer.stride)
            if layer.hidden:
                conv(layer.hidden, layer.hidden, layer.kernel, layer.hidden)
            if layer.hidden or not layer.keeps_shape:
                conv(layer.hidden or layer.in_channels, layer.out_channels)
        conv(layer.out_channels, HEAD_CHANNELS)
        return Cost(macs + HEAD_CHANNELS * opt.num_classes, num_params + (HEAD_CHANNELS + 1) * opt.num_classes)

    def aleph(self, arch: str, **network: Any) -> int:
        """Three convolutions of a layer, one of an identity that begins a stage, stem, head and classifier."""
        layers = layers_of(self.parse(arch))
        return sum(3 if layer.hidden else not layer.keeps_shape for layer in layers) + 3

    def build(self, arch: str, **network: Any) -> NASBenchMacroNetwork:
        from vkdnw_pl.networks.nasbench_macro import NASBenchMacroNetwork

        opt = read_options(NASBenchMacroOptions, network)
        self.check_network(arch, **network)
        return NASBenchMacroNetwork(self.parse(arch), opt.num_classes, opt.in_channels)


@cache
def _all_archs(unique: bool) -> tuple[str, ...]:
    space = NASBenchMacro()
    archs = map("".join, itertools.product(_DIGITS, repeat=_NUM_LAYERS))
    return tuple(arch for arch in archs if not unique or space.canonicalise(arch) == arch)
