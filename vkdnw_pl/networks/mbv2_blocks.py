"""Architectures of the MobileNetV2 ("IDW") space, torch-free: their typed form, and their structure strings

    SuperConvK3BNRELU(in,out,stride,sub_layers)
    SuperResIDWE{1,2,4,6}K{3,5,7}(in,out,stride,bottleneck,sub_layers)  any number of them
    SuperConvK1BNRELU(in,out,stride,sub_layers)

without separators. ``name|`` before the numbers of a block is read and not kept; spaces and line ends are ignored.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import yaml

from vkdnw_pl.errors import check_whole, nearest

EXPANSIONS = (1, 2, 4, 6)
"""Hidden channels of an inverted residual, as multiples of its bottleneck."""
KERNELS = (3, 5, 7)
"""Kernel sizes of the depthwise convolution of an inverted residual."""

_ALLOWED: dict[str, dict[str, tuple[int, ...]]] = {
    "ConvBlock": {"kernel": (3, 1), "stride": (1, 2)},
    "ResBlock": {"expansion": EXPANSIONS, "kernel": KERNELS, "stride": (1, 2)},
}


_MOST = 100_000
"""Largest number in a block: far beyond the space, so that no string stands for a network that no machine can hold."""


def round8(x: float) -> int:
    """The multiple of 8 nearest to ``x``, at least 8; halves go to the even multiple, as Python rounds."""
    return max(8, 8 * round(x / 8))


class _Checked:
    """A block whose numbers are checked when it is made."""

    __slots__: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        allowed = _ALLOWED[type(self).__name__]
        for name in self.__slots__:
            value = getattr(self, name)
            check_whole(name, value, 1, most=_MOST)
            if name in allowed and value not in allowed[name]:
                raise ValueError(f"{name}={value} is not allowed; allowed: {', '.join(map(str, allowed[name]))}")


@dataclass(frozen=True, slots=True)
class ConvBlock(_Checked):
    """``sub_layers`` times convolution, batch norm, ReLU; the first has the stride."""

    kernel: int
    """3 (the stem) or 1 (the last block before pooling)."""
    in_channels: int
    out_channels: int
    stride: int
    sub_layers: int


@dataclass(frozen=True, slots=True)
class ResBlock(_Checked):
    """``sub_layers`` times two inverted residuals, see `inverted_residuals`; the first of all has the stride."""

    expansion: int
    """One of `EXPANSIONS`."""
    kernel: int
    """One of `KERNELS`."""
    in_channels: int
    out_channels: int
    stride: int
    bottleneck_channels: int
    """Channels between the two inverted residuals of a sub-layer."""
    sub_layers: int


Block = ConvBlock | ResBlock
Blocks = tuple[Block, ...]


class Residual(NamedTuple):
    """One inverted residual: 1×1 convolution to ``hidden``, depthwise convolution, 1×1 convolution; and a shortcut."""

    in_channels: int
    hidden: int
    out_channels: int
    kernel: int
    stride: int
    projects: bool
    """The shortcut is a 1×1 convolution with bias and a batch norm, not the identity."""

    @property
    def squeezed(self) -> int:
        """Channels inside the squeeze-and-excitation branch, where there is one."""
        return max(1, round(self.hidden / 4))


def inverted_residuals(block: ResBlock) -> tuple[list[Residual], list[Residual]]:
    """The two inverted residuals of the first sub-layer, and the two of every further one."""
    narrow, wide, kernel = block.bottleneck_channels, block.out_channels, block.kernel
    first_hidden, second_hidden = round8(narrow * block.expansion), round8(wide * block.expansion)
    differs = narrow != wide
    # The first shortcut of a block always projects, also where the identity would fit.
    entry = Residual(block.in_channels, first_hidden, narrow, kernel, block.stride, True)
    down = Residual(wide, first_hidden, narrow, kernel, 1, differs)
    up = Residual(narrow, second_hidden, wide, kernel, 1, differs)
    return [entry, up], [down, up]


OPERATORS = tuple((expansion, kernel) for kernel in KERNELS for expansion in EXPANSIONS)
"""(expansion, kernel) of the twelve residual blocks, in the reference's order."""

_STEM, _LAST = "SuperConvK3BNRELU", "SuperConvK1BNRELU"
_CONVS = {_STEM: 3, _LAST: 1}
_RESIDUALS = {f"SuperResIDWE{e}K{k}": (e, k) for e, k in OPERATORS}
_NAMES = (*_CONVS, *_RESIDUALS)
_ALLOWED_NAMES = f"{_STEM}, {_LAST}, SuperResIDWE{{1,2,4,6}}K{{3,5,7}}"
# The numbers of a block in the order of the string; its name has the others.
_CONV_FIELDS, _RES_FIELDS = (
    [f.name for f in fields(kind) if f.name not in ("kernel", "expansion")] for kind in (ConvBlock, ResBlock)
)
_BLOCK = re.compile(r"(\w+)\((?:[^()|]*\|)?([^()|]*)\)")
_SPACE = re.compile(r"\s+")


@lru_cache(maxsize=4096)  # a search mutates, costs, counts and builds one string
def parse_structure(text: str) -> Blocks:
    """Read a structure string; a ``ValueError`` names the block, its place (spaces not counted) and what is allowed."""
    text = _SPACE.sub("", text)
    blocks: list[Block] = []
    position = 0
    while position < len(text):
        match = _BLOCK.match(text, position)
        where = f"mbv2 architecture, block {len(blocks) + 1} at character {position + 1}"
        if match is None:
            excerpt = text[position : position + 30] + ("..." if len(text) > position + 30 else "")
            raise ValueError(f"{where}: found {excerpt!r}; a block is Name(number,number,...), one of {_ALLOWED_NAMES}")
        blocks.append(_read_block(match[1], match[2], where))
        position = match.end()
    check_structure(blocks)
    return tuple(blocks)


def format_structure(blocks: Sequence[Block]) -> str:
    """The canonical structure string of blocks that pass `check_structure`."""
    check_structure(blocks)
    return "".join(map(_write_block, blocks))


def check_structure(blocks: Sequence[Block]) -> None:
    """Refuse blocks that are not stem, residuals, last convolution, each taking what the one before gives."""
    rule = f"an architecture is one {_STEM}, any number of SuperResIDWE..K.. blocks, one {_LAST}"
    if len(blocks) < 2:
        raise ValueError(f"mbv2 architecture has {len(blocks)} block(s); {rule}")
    last = len(blocks) - 1
    for i, block in enumerate(blocks):
        fits = isinstance(block, ResBlock) if 0 < i < last else name_of(block) == (_LAST if i else _STEM)
        if not fits:
            raise ValueError(f"mbv2 architecture, block {i + 1} of {len(blocks)} is {name_of(block)}; {rule}")
        if i and block.in_channels != blocks[i - 1].out_channels:
            before = blocks[i - 1]
            raise ValueError(
                f"mbv2 architecture, block {i + 1} of {len(blocks)} ({_write_block(block)}) has in_channels="
                f"{block.in_channels}, but the block before it ({_write_block(before)}) gives {before.out_channels}"
            )


def name_of(block: Block) -> str:
    """Class name of a block in structure strings."""
    if isinstance(block, ResBlock):
        return f"SuperResIDWE{block.expansion}K{block.kernel}"
    return f"SuperConvK{block.kernel}BNRELU"


def _write_block(block: Block) -> str:
    field_names = _RES_FIELDS if isinstance(block, ResBlock) else _CONV_FIELDS
    return f"{name_of(block)}({','.join(str(getattr(block, name)) for name in field_names)})"


def _read_block(name: str, numbers: str, where: str) -> Block:
    if name not in _NAMES:
        raise ValueError(f"{where}: {name!r} is not known{nearest(name, _NAMES)} (allowed: {_ALLOWED_NAMES})")
    field_names = _CONV_FIELDS if name in _CONVS else _RES_FIELDS
    parts = numbers.split(",") if numbers else []
    if len(parts) != len(field_names):
        raise ValueError(f"{where}: {name}({numbers}) has {len(parts)} number(s), it needs {field_names}")
    for field, part in zip(field_names, parts, strict=True):
        if not (part.isascii() and part.isdigit()):
            raise ValueError(f"{where}: {name}({numbers}) has {field}={part!r}; allowed: a whole number of at least 1")
    values = [int(part) for part in parts]
    try:
        if name in _CONVS:
            return ConvBlock(_CONVS[name], *values)
        return ResBlock(*_RESIDUALS[name], *values)
    except ValueError as error:
        raise ValueError(f"{where}: {name}({numbers}): {error}") from None


@dataclass(frozen=True)
class NamedArch:
    """An architecture that has a name, with its costs at 224 pixels and 1000 classes, without SE."""

    arch: str
    macs: int
    num_params: int
    origin: str


NAMED = {
    name: NamedArch(**entry)
    for name, entry in yaml.safe_load(Path(__file__).with_name("mbv2_named.yaml").read_text(encoding="utf-8")).items()
}
"""Published architectures by name. Which of its many candidates AZ-NAS trained is not recorded."""


def read_arch(text: str) -> Blocks:
    """The typed form of a structure string or of one of the names in ``NAMED``."""
    if "(" in text:
        return parse_structure(text)
    named = NAMED.get(text.strip())
    if named is None:
        raise ValueError(
            f"mbv2 architecture {text!r} is not known{nearest(text, NAMED)} (known names: {', '.join(NAMED)}; or a "
            "structure such as SuperConvK3BNRELU(3,8,2,1)SuperResIDWE6K3(8,32,2,8,1)SuperConvK1BNRELU(32,64,1,1))"
        )
    return parse_structure(named.arch)
