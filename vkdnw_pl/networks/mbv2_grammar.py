"""Structure strings of the MobileNetV2 ("IDW") space, read and written.

    SuperConvK3BNRELU(in,out,stride,sub_layers)
    SuperResIDWE{1,2,4,6}K{3,5,7}(in,out,stride,bottleneck,sub_layers)  any number of them
    SuperConvK1BNRELU(in,out,stride,sub_layers)

without separators. ``name|`` before the numbers of a block is read and not kept; spaces and line ends are ignored.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence

from vkdnw_pl.networks.mbv2_blocks import EXPANSIONS, KERNELS, Block, Blocks, ConvBlock, ResBlock, field_names

OPERATORS = tuple((expansion, kernel) for kernel in KERNELS for expansion in EXPANSIONS)
"""(expansion, kernel) of the twelve residual blocks, in the reference's order."""

_STEM, _LAST = "SuperConvK3BNRELU", "SuperConvK1BNRELU"
_CONVS = {_STEM: 3, _LAST: 1}
_RESIDUALS = {f"SuperResIDWE{e}K{k}": (e, k) for e, k in OPERATORS}
_NAMES = (*_CONVS, *_RESIDUALS)
_ALLOWED = f"{_STEM}, {_LAST}, SuperResIDWE{{1,2,4,6}}K{{3,5,7}}"
_CONV_FIELDS, _RES_FIELDS = field_names(ConvBlock), field_names(ResBlock)
_BLOCK = re.compile(r"(\w+)\((?:[^()|]*\|)?([^()|]*)\)")
_SPACE = re.compile(r"\s+")


_parsed: dict[str, Blocks] = {}
"""The latest strings and what they mean: a search mutates, costs, counts and builds one string."""


def parse_structure(text: str) -> Blocks:
    """Read a structure string.

    Raises:
        ValueError: naming the block, its place in the string (spaces not counted), what is there and what is allowed.
    """
    known = _parsed.get(text)
    return _remember(text, _parse(text)) if known is None else known


def _remember(text: str, blocks: Blocks) -> Blocks:
    if len(_parsed) >= 4096:
        _parsed.clear()
    _parsed[text] = blocks
    return blocks


def _parse(text: str) -> Blocks:
    text = _SPACE.sub("", text)
    blocks: list[Block] = []
    position = 0
    while position < len(text):
        match = _BLOCK.match(text, position)
        where = f"mbv2 architecture, block {len(blocks) + 1} at character {position + 1}"
        if match is None:
            raise ValueError(
                f"{where}: found {_excerpt(text, position)!r}; a block is written Name(number,number,...), with Name "
                f"one of {_ALLOWED}"
            )
        blocks.append(_read_block(match[1], match[2], where))
        position = match.end()
    check_structure(blocks)
    return tuple(blocks)


def format_structure(blocks: Sequence[Block]) -> str:
    """Write the canonical structure string.

    Raises:
        ValueError: if the blocks are no architecture of the space (see `check_structure`).
    """
    check_structure(blocks)
    text = "".join(map(_write_block, blocks))
    _remember(text, tuple(blocks))
    return text


def check_structure(blocks: Sequence[Block]) -> None:
    """Raise ValueError unless blocks are stem, residuals, last convolution, and each takes what the one before gives."""
    rule = f"an architecture is one {_STEM}, any number of SuperResIDWE..K.. blocks, one {_LAST}"
    if len(blocks) < 2:
        raise ValueError(f"mbv2 architecture has {len(blocks)} block(s); {rule}")
    last = len(blocks) - 1
    for i, block in enumerate(blocks):
        fits = isinstance(block, ResBlock) if 0 < i < last else name_of(block) == (_LAST if i else _STEM)
        if not fits:
            raise ValueError(f"mbv2 architecture, block {i + 1} of {len(blocks)} is {name_of(block)}; {rule}")
        if i and block.in_channels != blocks[i - 1].out_channels:
            raise ValueError(
                f"mbv2 architecture, block {i + 1} of {len(blocks)} ({_write_block(block)}) has in_channels="
                f"{block.in_channels}, but the block before it ({_write_block(blocks[i - 1])}) gives "
                f"{blocks[i - 1].out_channels}"
            )


def name_of(block: Block) -> str:
    """Class name of a block in structure strings."""
    if isinstance(block, ResBlock):
        return f"SuperResIDWE{block.expansion}K{block.kernel}"
    return f"SuperConvK{block.kernel}BNRELU"


def _write_block(block: Block) -> str:
    if isinstance(block, ResBlock):
        return (
            f"SuperResIDWE{block.expansion}K{block.kernel}({block.in_channels},{block.out_channels},{block.stride},"
            f"{block.bottleneck_channels},{block.sub_layers})"
        )
    return f"{name_of(block)}({block.in_channels},{block.out_channels},{block.stride},{block.sub_layers})"


def _read_block(name: str, numbers: str, where: str) -> Block:
    if name not in _NAMES:
        near = difflib.get_close_matches(name, _NAMES, 1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"{where}: {name!r} is not known{hint} (allowed: {_ALLOWED})")
    names = _CONV_FIELDS if name in _CONVS else _RES_FIELDS
    parts = numbers.split(",") if numbers else []
    if len(parts) != len(names):
        raise ValueError(f"{where}: {name}({numbers}) has {len(parts)} number(s), it needs {len(names)}: {names}")
    for field, part in zip(names, parts, strict=True):
        if not (part.isascii() and part.isdigit()):
            raise ValueError(f"{where}: {name}({numbers}) has {field}={part!r}; allowed: a whole number of at least 1")
    values = [int(part) for part in parts]
    try:
        if name in _CONVS:
            return ConvBlock(_CONVS[name], *values)
        return ResBlock(*_RESIDUALS[name], *values)
    except ValueError as error:
        raise ValueError(f"{where}: {name}({numbers}): {error}") from None


def _excerpt(text: str, position: int, length: int = 30) -> str:
    return text[position : position + length] + ("..." if len(text) > position + length else "")
