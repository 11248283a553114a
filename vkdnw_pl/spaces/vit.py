"""What the spaces of vision transformers share: numbers in their strings, and what a layer costs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypeVar

from vkdnw_pl.spaces.base import BuildOptions

Number = TypeVar("Number", int, float)


def check_image_size(options: BuildOptions, multiple: int) -> None:
    """Refuse an image that the patches of 16 pixels, ``multiple`` apart, do not cover."""
    size = options.image_size
    if size < 16 or size % multiple:
        raise ValueError(
            f"network.image_size={size} is not allowed: give a multiple of {multiple} of at least 16, which the patches "
            "cover"
        )


def read_numbers(where: str, text: str, allowed: Sequence[Number]) -> tuple[Number, ...]:
    """The numbers of a text such as ``3-4-3``, each one of ``allowed``; ValueError that begins with ``where``."""
    names = {f"{number:g}": number for number in allowed}
    numbers = []
    for place, part in enumerate(text.split("-"), start=1):
        name = part.strip().removesuffix(".0")
        if name not in names:
            raise ValueError(f"{where}: number {place} is {part!r} (allowed: {', '.join(names)})")
        numbers.append(names[name])
    return tuple(numbers)


def write_numbers(numbers: Iterable[float]) -> str:
    """The text that `read_numbers` reads."""
    return "-".join(f"{number:g}" for number in numbers)


def layer_cost(dim: int, hidden: int, tokens: int) -> tuple[int, int]:
    """Multiply-adds for one image of ``tokens`` tokens (biases not counted), and parameters, of a transformer layer.

    Its tokens have ``dim`` dimensions, its MLP ``hidden``. Both matrix products of attention count, softmax does not.
    """
    macs = tokens * dim * (4 * dim + 2 * hidden) + 2 * tokens**2 * dim
    return macs, 4 * dim**2 + 9 * dim + (2 * dim + 1) * hidden
