"""Charts as SVG for a page: drawn with the page's own colours, so that they are right in light and dark.

Classes that the page's style sheet has colours for: ``f0`` ... ``f7`` (filled) and ``l0`` ... ``l7`` (lines) for the
runs, ``axis``, ``grid``, ``label``. Every text is escaped.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from markupsafe import Markup, escape

from vkdnw_pl.report.clean_text import clean, shortened
from vkdnw_pl.report.density import density_png
from vkdnw_pl.report.tables import Value

COLORS = 8
MAX_DOTS = 300
"""More points than these are drawn as a picture of their density."""

_CHAR = 6.7  # width of a character of a label, in the SVG's units
Floats = np.ndarray[Any, np.dtype[np.float64]]


@dataclass(frozen=True)
class Line:
    """A curve; a y that is not finite is a gap."""

    name: str
    color: int
    x: Sequence[float]
    y: Sequence[float]


@dataclass(frozen=True)
class Dots:
    """Points of one colour, with what is said when one points at them."""

    color: int
    x: Sequence[float]
    y: Sequence[float]
    texts: Sequence[str] = ()


def line_chart(
    lines: Sequence[Line], title: str, xlabel: str, ylabel: str, steps: bool = False, whole: bool = False
) -> Markup:
    """Draw curves over each other.

    Args:
        lines: at least one, with at least one finite point in all.
        title: what a screen reader says.
        xlabel: below the axis.
        ylabel: above the axis.
        steps: the value stays until the next point.
        whole: only whole numbers have a tick below.
    """
    points = [(x, y) for line in lines for x, y in zip(line.x, line.y) if math.isfinite(x) and math.isfinite(y)]
    xs, ys = [x for x, _ in points], [y for _, y in points]
    frame = _Frame(440, 270, _span(min(xs), max(xs), 0.0 if steps else 0.02), _span(min(ys), max(ys), 0.05))
    parts = [frame.axes(xlabel, ylabel, whole)]
    for line in lines:
        style = f"l{line.color % COLORS} dash{line.color // COLORS % 3}"
        for piece in _pieces(line):
            if len(piece) == 1 and not steps:
                parts.append(_circle(frame.x(piece[0][0]), frame.y(piece[0][1]), 3, f"f{line.color % COLORS}"))
                continue
            path = _step_path(piece, frame) if steps else _path([(frame.x(x), frame.y(y)) for x, y in piece])
            parts.append(
                Markup('<path class="{}" d="{}"><title>{}</title></path>').format(style, path, clean(line.name))
            )
        if not steps and len(line.x) <= 30:
            for x, y in zip(line.x, line.y):
                if math.isfinite(y):
                    text = f"{line.name}: {_number(y)} at {_number(x)}"
                    parts.append(_circle(frame.x(x), frame.y(y), 2.2, f"f{line.color % COLORS}", text))
    return frame.svg(title, parts)


def dot_chart(
    groups: Sequence[Dots],
    title: str,
    xlabel: str,
    ylabel: str,
    best_right: bool = False,
    floor: float | None = None,
    size: tuple[float, float] = (330, 235),
) -> Markup:
    """Draw points; where there are more than `MAX_DOTS`, their density.

    Args:
        groups: at least one, with at least one point in all; of several, each has its own colour.
        title: what a screen reader says.
        xlabel: below the axis.
        ylabel: above the axis.
        best_right: x is a rank, 1 is on the right.
        floor: points below are drawn on the lower edge, as triangles.
        size: width and height.
    """
    xs = np.concatenate([np.asarray(group.x, dtype=np.float64) for group in groups])
    ys = np.concatenate([np.asarray(group.y, dtype=np.float64) for group in groups])
    low = float(ys.min()) if floor is None else floor
    span = _span(low, max(float(ys.max()), low), 0.05)
    if floor is not None:
        span = (floor, span[1])
    across = _span(float(xs.min()), float(xs.max()), 0.03)
    frame = _Frame(*size, (across[1], across[0]) if best_right else across, span, tight=True)
    parts = [frame.axes(xlabel, ylabel, whole=best_right)]
    if len(xs) > MAX_DOTS:
        inside = ys >= span[0]
        parts.append(frame.density(xs[inside], ys[inside]))
        parts += [_triangle(frame.x(x), frame.bottom, "f0") for x in _thinned(xs[~inside], 40)]
    else:
        radius = 4.2 if len(xs) <= 30 else 2.8
        for group in groups:
            texts = group.texts or [""] * len(group.x)
            style = f"f{group.color % COLORS} dot"
            for x, y, text in zip(group.x, group.y, texts):
                if y < span[0]:
                    parts.append(_triangle(frame.x(x), frame.bottom, style, text))
                else:
                    parts.append(_circle(frame.x(x), frame.y(y), radius, style, text))
    return frame.svg(title, parts)


def bar_chart(
    labels: Sequence[str], groups: Sequence[tuple[int, str, Sequence[Value | None]]], title: str, xlabel: str
) -> Markup:
    """Draw horizontal bars, for each label one bar of every group, with error bars where there are deviations.

    Args:
        labels: one per line.
        groups: colour, name, and one value per label (None: no bar).
        title: what a screen reader says.
        xlabel: below the axis.
    """
    thick = {1: 13.0, 2: 10.0, 3: 7.0}.get(len(groups), max(3.5, 22.0 / len(groups)))
    gap = 6.0
    line = thick * len(groups) + gap
    ends = [
        value.mean + sign * (value.std or 0)
        for _, _, values in groups
        for value in values
        if value is not None and value.mean is not None
        for sign in (-1, 1)
    ]
    low, high = min(0.0, *ends), max(0.0, *ends)
    width, top = 420.0, 6.0
    left = 10 + _CHAR * min(24, max(len(label) for label in labels))
    # Beside the bars, their numbers.
    frame = _Frame(width, top + line * len(labels) + 40, _bar_span(low, high), (0, 1), left=left, top=top, right=10)
    parts = [frame.vertical_grid(xlabel)]
    zero = frame.x(0)
    for i, label in enumerate(labels):
        y = top + i * line + gap / 2
        middle = y + thick * len(groups) / 2
        parts.append(
            Markup('<text class="label" x="{}" y="{}" text-anchor="end">{}<title>{}</title></text>').format(
                _f(left - 6), _f(middle + 4), shortened(clean(label), 24), clean(label)
            )
        )
        for j, (color, name, values) in enumerate(groups):
            value = values[i]
            if value is None or value.mean is None:
                continue
            at, place = frame.x(value.mean), y + j * thick
            parts.append(
                Markup('<rect class="f{}" x="{}" y="{}" width="{}" height="{}" rx="1"><title>{}</title></rect>').format(
                    color % COLORS,
                    _f(min(at, zero)),
                    _f(place),
                    _f(max(abs(at - zero), 0.5)),
                    _f(thick - 0.8),
                    clean(f"{label}, {name}: {value}"),
                )
            )
            end = at
            if value.std:
                a, b = frame.x(value.mean - value.std), frame.x(value.mean + value.std)
                parts.append(
                    Markup('<path class="error" d="M{} {}H{}"/>').format(_f(a), _f(place + (thick - 0.8) / 2), _f(b))
                )
                end = b if value.mean >= 0 else a
            if thick >= 10:
                side, anchor = (4, "start") if value.mean >= 0 else (-4, "end")
                parts.append(
                    Markup('<text class="label value" x="{}" y="{}" text-anchor="{}">{:.3f}</text>').format(
                        _f(end + side), _f(place + thick / 2 + 3.2), anchor, value.mean
                    )
                )
    parts.append(Markup('<path class="axis" d="M{} {}V{}"/>').format(_f(zero), _f(top), _f(frame.bottom)))
    return frame.svg(title, parts)


def ticks(low: float, high: float, count: int = 5, whole: bool = False) -> list[float]:
    """Round numbers between two ends, at most about ``count``."""
    if not high > low:
        return [low]
    raw = (high - low) / max(count, 1)
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(power * one for one in (1, 2, 2.5, 5, 10) if power * one >= raw * 0.999)
    if whole:
        step = max(1.0, round(step) if step >= 1 else 1.0)
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [round(i * step, 12) for i in range(first, last + 1)]


class _Frame:
    """Where data are on the paper, and its axes."""

    def __init__(
        self,
        width: float,
        height: float,
        across: tuple[float, float],
        up: tuple[float, float],
        left: float | None = None,
        top: float = 24,
        right: float = 12,
        tight: bool = False,
    ) -> None:
        self.width, self.height, self.across, self.up = width, height, across, up
        self.tight = tight
        self.y_ticks = ticks(*up, 4 if tight else 5)
        widest = max((len(_number(tick)) for tick in self.y_ticks), default=1)
        self.left = 12 + _CHAR * widest if left is None else left
        self.top, self.right = top, width - right
        self.bottom = height - 38

    def x(self, value: float) -> float:
        low, high = self.across
        return self.left + (value - low) / (high - low) * (self.right - self.left)

    def y(self, value: float) -> float:
        low, high = self.up
        return self.bottom - (value - low) / (high - low) * (self.bottom - self.top)

    def axes(self, xlabel: str, ylabel: str, whole: bool) -> Markup:
        """Grid, ticks and labels."""
        parts = []
        for tick in self.y_ticks:
            y = self.y(tick)
            parts.append(Markup('<path class="grid" d="M{} {}H{}"/>').format(_f(self.left), _f(y), _f(self.right)))
            parts.append(_text(self.left - 6, y + 4, _number(tick), "end"))
        low, high = sorted(self.across)
        for tick in self._x_ticks(low, high, whole):
            x = self.x(tick)
            parts.append(Markup('<path class="axis" d="M{} {}v4"/>').format(_f(x), _f(self.bottom)))
            parts.append(_text(x, self.bottom + 16, _number(tick), "middle"))
        parts.append(
            Markup('<path class="axis" d="M{} {}H{}"/>').format(_f(self.left), _f(self.bottom), _f(self.right))
        )
        parts.append(_text((self.left + self.right) / 2, self.height - 5, xlabel, "middle"))
        parts.append(_text(4, 13, ylabel, "start"))
        return Markup("").join(parts)

    def _x_ticks(self, low: float, high: float, whole: bool) -> list[float]:
        found = ticks(low, high, 4 if self.tight else 6, whole)
        if whole and low < 1 < high:  # ranks and numbers begin with 1, not with 0
            found = [1.0, *(tick for tick in found if tick > max(1, 0.08 * high))]
        return found

    def vertical_grid(self, xlabel: str) -> Markup:
        """Grid and ticks of bars."""
        parts = []
        for tick in ticks(*self.across, 5):
            x = self.x(tick)
            parts.append(Markup('<path class="grid" d="M{} {}V{}"/>').format(_f(x), _f(self.top), _f(self.bottom)))
            parts.append(_text(x, self.bottom + 16, _number(tick), "middle"))
        parts.append(_text((self.left + self.right) / 2, self.height - 5, xlabel, "middle"))
        return Markup("").join(parts)

    def density(self, xs: Floats, ys: Floats) -> Markup:
        """The picture of many points."""
        width, height = round(self.right - self.left), round(self.bottom - self.top)
        x = (xs - self.across[0]) / (self.across[1] - self.across[0])
        y = (ys - self.up[0]) / (self.up[1] - self.up[0])
        data = base64.b64encode(density_png(x, y, width, height)).decode("ascii")
        return Markup('<image x="{}" y="{}" width="{}" height="{}" href="data:image/png;base64,{}"/>').format(
            _f(self.left), _f(self.top), width, height, data
        )

    def svg(self, title: str, parts: Sequence[Markup]) -> Markup:
        """The whole, with what a screen reader says of it."""
        return Markup('<svg viewBox="0 0 {} {}" role="img" aria-label="{}">{}</svg>').format(
            _f(self.width), _f(self.height), clean(title), Markup("").join(parts)
        )


def _text(x: float, y: float, text: str, anchor: str) -> Markup:
    return Markup('<text class="label" x="{}" y="{}" text-anchor="{}">{}</text>').format(
        _f(x), _f(y), anchor, shortened(clean(text), 64)
    )


def _titled(tag: str, text: str) -> Markup:
    if not text:
        return Markup(f"<{tag}/>")  # the tag is made here, from numbers
    return Markup(f"<{tag}><title>") + escape(clean(text)) + Markup(f"</title></{tag.partition(' ')[0]}>")


def _circle(x: float, y: float, radius: float, style: str, text: str = "") -> Markup:
    return _titled(f'circle class="{style}" cx="{_f(x)}" cy="{_f(y)}" r="{_f(radius)}"', text)


def _triangle(x: float, y: float, style: str, text: str = "") -> Markup:
    return _titled(f'path class="{style}" d="M{_f(x)} {_f(y)}l-3 -5h6z"', text)


def _path(points: Sequence[tuple[float, float]]) -> str:
    return "M" + "L".join(f"{_f(x)} {_f(y)}" for x, y in points)


def _step_path(piece: Sequence[tuple[float, float]], frame: _Frame) -> str:
    (x, y), *others = piece
    path = [f"M{_f(frame.x(x))} {_f(frame.y(y))}"]
    path += [f"H{_f(frame.x(x))}V{_f(frame.y(y))}" for x, y in others]
    return "".join(path)


def _pieces(line: Line) -> list[list[tuple[float, float]]]:
    """The curve between its gaps."""
    pieces: list[list[tuple[float, float]]] = [[]]
    for x, y in zip(line.x, line.y):
        if math.isfinite(x) and math.isfinite(y):
            pieces[-1].append((x, y))
        elif pieces[-1]:
            pieces.append([])
    return [piece for piece in pieces if piece]


def _thinned(values: Floats, most: int) -> Floats:
    """At most so many of them, evenly over their order."""
    if len(values) <= most:
        return values
    return np.sort(values)[np.linspace(0, len(values) - 1, most).round().astype(int)]


def _span(low: float, high: float, margin: float) -> tuple[float, float]:
    wide = high - low
    if not wide > 0:
        wide = max(abs(high) * 0.1, 1e-6)
        return low - wide / 2, high + wide / 2
    return low - margin * wide, high + margin * wide


def _bar_span(low: float, high: float) -> tuple[float, float]:
    """From the smallest to the largest bar, with room for the numbers."""
    wide = max(high - low, 1e-6)
    return (low - 0.16 * wide if low < 0 else 0.0), (high + 0.16 * wide if high > 0 else 0.0)


def _number(value: float) -> str:
    """A tick."""
    for size, mark in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e4, "k")):
        if abs(value) >= size:
            return f"{value / (1e3 if mark == 'k' else size):.4g}{mark}"
    return f"{value:,.4g}".replace("-", "−") if abs(value) < 1000 else f"{value:,.0f}"


def _f(value: float) -> str:
    """A coordinate with as few characters as can be."""
    return f"{value:.1f}".removesuffix(".0")
