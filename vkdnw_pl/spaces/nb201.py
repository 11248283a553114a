"""The NAS-Bench-201 cell space: six edges, five operations, 15,625 strings, 9,445 without unreachable operations."""

from __future__ import annotations

import itertools
import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cache, lru_cache
from typing import TYPE_CHECKING, Any, ClassVar

from vkdnw_pl.errors import check_bool, check_choice, check_whole, nearest
from vkdnw_pl.networks.nb201_cell import EDGES, OPS
from vkdnw_pl.runs.environment import check_memory
from vkdnw_pl.spaces.base import BuildOptions, Cost, Space, read_options

if TYPE_CHECKING:
    from vkdnw_pl.networks.nb201 import NB201Network

_LAYOUT = "|op~0|+|op~0|op~1|+|op~0|op~1|op~2|"
_EDGE = re.compile(r"([^~|]*)~([^~|]*)")

_INTEGERS = re.compile(r"(?:(\w+)\s*:)?[\s(\[]*(-?\d+(?:\s*,\s*-?\d+)*)[\s)\]]*")

_CELL = 2500
"""What the modules of a cell without weights take of memory, in numbers of four bytes."""

Genotype = tuple[int, ...]
"""Six operations, places in `OPS`, in the order of `EDGES`."""


@dataclass(frozen=True)
class Coding:
    """What the integers of somebody's integer form mean."""

    ops: tuple[str, ...]
    edges: tuple[tuple[int, int], ...]


CODINGS = {
    "index": Coding(OPS, EDGES),
    "naslib": Coding(
        ("skip_connect", "none", "nor_conv_3x3", "nor_conv_1x1", "avg_pool_3x3"),
        ((0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3)),
    ),
}
"""``index`` is `Genotype`, ``naslib`` that of NASLib and zc_combine."""


@dataclass(frozen=True, kw_only=True)
class CellNetworkOptions(BuildOptions):
    """The parameters of the macro network around the cell that both spaces of NATS-Bench have."""

    num_classes: int = 10
    image_size: int = 32
    """32 pixels for CIFAR, 16 for ImageNet16-120."""
    bn_affine: bool = True
    bn_track_running_stats: bool = True

    def __post_init__(self) -> None:
        check_whole("network.image_size", self.image_size, 4)
        super().__post_init__()
        for name in ("bn_affine", "bn_track_running_stats"):
            check_bool(f"network.{name}", getattr(self, name))


@dataclass(frozen=True, kw_only=True)
class NB201Options(CellNetworkOptions):
    """The parameters of the macro network around the cell."""

    channels: int = 16
    """C, the width of the first stage."""
    cells: int = 5
    """N, the number of cells per stage."""

    def __post_init__(self) -> None:
        for name, least in {"channels": 1, "cells": 0}.items():
            check_whole(f"network.{name}", getattr(self, name), least)
        super().__post_init__()
        for name, numbers, what in (
            ("channels", 280 * self.channels**2, "the reductions' weights"),
            ("cells", 3 * _CELL * self.cells, "the modules of three stages of cells"),
            ("num_classes", 4 * self.channels * self.num_classes, "the last layer's weights"),
        ):
            check_memory(f"network.{name}", getattr(self, name), 4 * numbers, what)


class NB201(Space):
    """NAS-Bench-201 (Dong & Yang, ICLR 2020).

    An architecture is the benchmark's string ``|op~0|+|op~0|op~1|+|op~0|op~1|op~2|``, or six integers in 0..4 behind the
    name of their coding (see ``CODINGS``), such as ``naslib:(4, 0, 3, 1, 4, 3)`` or ``index:3,3,3,1,2,2``. Integers
    alone are refused: they name one network here and another in NASLib.
    """

    name: ClassVar[str] = "nb201"
    build_options = NB201Options
    default_archs = "digits"
    training_config = "configs/nb201_cifar10.yaml"
    decisions: ClassVar = {
        "operation of the edges": (r"(\w+)~", ("none", "skip_connect", "avg_pool_3x3", "nor_conv_1x1", "nor_conv_3x3"))
    }

    def parse(self, arch: str) -> Genotype:
        """Return the integer form of a string."""
        text = arch if isinstance(arch, str) else str(arch)  # a tuple, whatever its type says
        if integers := _INTEGERS.fullmatch(text.strip()):
            return self._parse_integers(text, integers[1], [int(n) for n in integers[2].split(",")])
        return self._parse_string(text)

    def format(self, genotype: Sequence[int]) -> str:
        """Return the benchmark's string of an integer form, coded as ``index``."""
        ops = [OPS[i] for i in self._check_integers(genotype, CODINGS["index"])]
        nodes: list[list[str]] = [[], [], []]
        for op, (source, target) in zip(ops, EDGES, strict=True):
            nodes[target - 1].append(f"{op}~{source}")
        return "+".join(f"|{'|'.join(node)}|" for node in nodes)

    def validate(self, arch: str) -> str:
        return self.format(self.parse(arch))

    def enumerate(self, unique: bool = False) -> Iterator[str]:
        """All 15,625 strings, the first edge varying slowest; ``unique``: the 9,445 without unreachable operations."""
        return iter(_all_archs(unique))

    def sample(self, rng: random.Random, unique: bool = False) -> str:
        while True:
            genotype = tuple(rng.randrange(len(OPS)) for _ in EDGES)
            if not unique or self._canonical(genotype) == genotype:
                return self.format(genotype)

    def neighbour(self, arch: str, rng: random.Random) -> str:
        """Replace the operation of one edge, both drawn uniformly, by another."""
        genotype = list(self.parse(arch))
        edge = rng.randrange(len(EDGES))
        genotype[edge] = rng.choice([op for op in range(len(OPS)) if op != genotype[edge]])
        return self.format(genotype)

    def canonicalise(self, arch: str) -> str:
        """Replace every operation that cannot be reached from the input or cannot reach the output by ``none``.

        The 9,445 unique networks are those that this leaves as they are.
        """
        return self.format(self._canonical(self.parse(arch)))

    def layers(self, arch: str) -> int:
        """Number of convolutions of the cell."""
        return sum(OPS[op].startswith("nor_conv") for op in self.parse(arch))

    def cost(self, arch: str, **network: Any) -> Cost:
        """MACs and parameters; equal to the benchmark's own numbers at its settings."""
        opt = read_options(NB201Options, network)
        stages = [(opt.channels * 2**stage,) * 2 for stage in range(3)]
        return cell_network_cost([OPS[i] for i in self.parse(arch)], stages, opt.cells, opt)

    def aleph(self, arch: str, **network: Any) -> int:
        """Convolutions of all cells, of the stem and of the two reductions, and the classifier."""
        cells = read_options(NB201Options, network).cells
        return 3 * cells * self.layers(arch) + 1 + 2 * 3 + 1

    def build(self, arch: str, **network: Any) -> NB201Network:
        from vkdnw_pl.networks.nb201 import NB201Network

        options = asdict(read_options(NB201Options, network))
        self.check_network(arch, **network)  # such as image sizes that the reductions cannot halve
        del options["image_size"]
        return NB201Network([OPS[i] for i in self.parse(arch)], **options)

    def _parse_integers(self, arch: str, coding: str | None, integers: Sequence[int]) -> Genotype:
        if coding is None:
            readings = {name: self._decode(integers, code) for name, code in CODINGS.items()}
            numbers = f"({', '.join(map(str, integers))})"
            raise ValueError(
                f"nb201 architecture {arch!r} does not say what its integers mean: write "
                + " or ".join(f"{name}:{numbers} for {self.format(read)}" for name, read in readings.items())
            )
        check_choice(f"nb201 architecture {arch!r}: the coding", coding, CODINGS)
        return self._decode(integers, CODINGS[coding])

    def _decode(self, integers: Sequence[int], coding: Coding) -> Genotype:
        op_of = dict(zip(coding.edges, self._check_integers(integers, coding), strict=True))
        return tuple(OPS.index(coding.ops[op_of[edge]]) for edge in EDGES)

    @staticmethod
    def _check_integers(integers: Sequence[int], coding: Coding) -> Genotype:
        allowed = ", ".join(f"{i}={op}" for i, op in enumerate(coding.ops))
        if len(integers) != len(coding.edges):
            edges = ", ".join(f"{source}→{target}" for source, target in coding.edges)
            raise ValueError(
                f"nb201 architecture {tuple(integers)} has {len(integers)} integers; it needs {len(coding.edges)}, one for "
                f"each of the edges {edges} ({allowed})"
            )
        for value, (source, target) in zip(integers, coding.edges, strict=True):
            if isinstance(value, bool) or value not in range(len(coding.ops)):
                raise ValueError(
                    f"nb201 architecture {tuple(integers)}: edge {source}→{target} has {value!r}; allowed: {allowed}"
                )
        return tuple(int(value) for value in integers)

    @staticmethod
    @lru_cache(maxsize=4096)  # the same string is validated, counted and built
    def _parse_string(arch: str) -> Genotype:
        where = f"nb201 architecture {arch!r}"
        nodes = arch.strip().split("+")
        if len(nodes) != 3:
            raise ValueError(
                f"{where} has {len(nodes)} part(s) separated by '+'; it needs 3, for the nodes 1, 2 and 3: {_LAYOUT}"
            )
        genotype: list[int] = []
        for target, node in enumerate(nodes, start=1):
            if len(node) < 2 or node[0] != "|" or node[-1] != "|":
                raise ValueError(f"{where}: node {target} is {node!r}; it must begin and end with '|': {_LAYOUT}")
            edges = node[1:-1].split("|")
            if len(edges) != target:
                raise ValueError(
                    f"{where}: node {target} has {len(edges)} edge(s), it needs {target} (from "
                    f"{', '.join(map(str, range(target)))}): {_LAYOUT}"
                )
            for source, edge in enumerate(edges):
                match = _EDGE.fullmatch(edge)
                if not match or match[2] != str(source):
                    raise ValueError(f"{where}: edge {source} of node {target} is {edge!r}; write it op~{source}")
                if match[1] not in OPS:
                    raise ValueError(
                        f"{where}: edge {source}→{target} has the operation {match[1]!r}{nearest(match[1], OPS)} "
                        f"(allowed: {', '.join(OPS)})"
                    )
                genotype.append(OPS.index(match[1]))
        return tuple(genotype)

    @staticmethod
    def _canonical(genotype: Sequence[int]) -> Genotype:
        live = [(s, t) for (s, t), op in zip(EDGES, genotype, strict=True) if op != 0]
        from_input, to_output = {0}, {3}
        for source, target in sorted(live):  # edges go upwards, so one sweep in each direction is enough
            if source in from_input:
                from_input.add(target)
        for source, target in sorted(live, key=lambda edge: -edge[1]):
            if target in to_output:
                to_output.add(source)
        return tuple(
            op if s in from_input and t in to_output else 0 for (s, t), op in zip(EDGES, genotype, strict=True)
        )


def cell_network_cost(
    ops: Sequence[str], stages: Sequence[tuple[int, int]], cells: int, opt: CellNetworkOptions
) -> Cost:
    """MACs and parameters of a `networks.nb201.CellNetwork` with these arguments, equal to the benchmark's own numbers."""
    macs = num_params = 0
    size = opt.image_size

    def conv(c_in: int, c_out: int, kernel: int, norm: bool = True) -> None:
        nonlocal macs, num_params
        weights = c_in * c_out * kernel**2
        macs += weights * size * size
        num_params += weights + (2 * c_out if norm and opt.bn_affine else 0)

    width = stages[0][0]
    conv(opt.in_channels, width, 3)
    for number, (c_in, c_out) in enumerate(stages):
        if number:
            pooled, size = size // 2, (size + 1) // 2
            if pooled != size:
                raise ValueError(
                    f"network.image_size={opt.image_size} is not allowed: it must be a multiple of 4, because "
                    "the two reductions halve the resolution on both of their branches"
                )
            conv(width, c_in, 3)
            conv(c_in, c_in, 3)
            conv(width, c_in, 1, norm=False)
        for cell in range(cells):
            for op, (source, _) in zip(ops, EDGES, strict=True):
                before = c_out if source or cell else c_in
                if op.startswith("nor_conv"):
                    conv(before, c_out, 1 if op == "nor_conv_1x1" else 3)
                elif op == "skip_connect" and before != c_out:
                    conv(before, c_out, 1)
        width = c_out
    num_params += (2 * width if opt.bn_affine else 0) + width * opt.num_classes + opt.num_classes
    macs += width * opt.num_classes + opt.num_classes
    return Cost(macs=macs, num_params=num_params)


@cache  # a third of a second, for which every `sample:N` and every table asked again
def _all_archs(unique: bool) -> tuple[str, ...]:
    space = NB201()
    genotypes = itertools.product(range(len(OPS)), repeat=len(EDGES))
    return tuple(space.format(item) for item in genotypes if not unique or space._canonical(item) == item)
