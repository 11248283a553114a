"""Many points as a small picture: each place is the more opaque, the more points are there."""

from __future__ import annotations

import struct
import zlib
from typing import Any

import numpy as np

Floats = np.ndarray[Any, np.dtype[np.float64]]

COLOR = (0x3B, 0x8E, 0xD0)
"""Red, green, blue: stays readable on white and on black."""
_LEVELS = 16
_LEAST = 0.3  # opacity of one point


def density_png(x: Floats, y: Floats, width: int, height: int) -> bytes:
    """Draw points as a PNG with a transparent background.

    Args:
        x: from 0 (left) to 1 (right), shape (n,).
        y: from 0 (bottom) to 1 (top), shape (n,).
        width: pixels.
        height: pixels.
    """
    columns = np.clip(np.rint(x * (width - 1)).astype(int), 0, width - 1)
    rows = np.clip(np.rint((1 - y) * (height - 1)).astype(int), 0, height - 1)
    counts = np.zeros((height, width))
    np.add.at(counts, (rows, columns), 1)
    # A point is two pixels wide and high, so that a single one can be seen.
    thick = counts.copy()
    thick[1:] += counts[:-1]
    thick[:, 1:] += counts[:, :-1]
    thick[1:, 1:] += counts[:-1, :-1]
    most = max(float(np.quantile(thick[thick > 0], 0.995)) if len(x) else 1.0, 2.0)
    share = np.log1p(np.minimum(thick, most)) / np.log1p(most)
    levels = np.where(thick > 0, 1 + np.rint(share * (_LEVELS - 2)), 0).astype(np.uint8)
    return _png(levels)


def _png(levels: np.ndarray[Any, np.dtype[np.uint8]]) -> bytes:
    """An indexed PNG of 4 bits a pixel, one colour in `_LEVELS` opacities; level 0 is transparent."""
    height, width = levels.shape
    even = np.pad(levels, ((0, 0), (0, width % 2)))
    packed = (even[:, 0::2] << 4) | even[:, 1::2]
    lines = np.pad(packed, ((0, 0), (1, 0))).tobytes()  # every line begins with its filter: none
    alphas = [0, *(round(255 * (_LEAST + (1 - _LEAST) * i / (_LEVELS - 2))) for i in range(_LEVELS - 1))]
    return b"".join(
        [
            b"\x89PNG\r\n\x1a\n",
            _chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 4, 3, 0, 0, 0)),
            _chunk(b"PLTE", bytes(COLOR) * _LEVELS),
            _chunk(b"tRNS", bytes(alphas)),
            _chunk(b"IDAT", zlib.compress(lines, 6)),
            _chunk(b"IEND", b""),
        ]
    )


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
