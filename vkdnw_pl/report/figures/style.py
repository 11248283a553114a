"""The one place of colours, fonts and sizes; matplotlib figures as PNG files and as SVG for a page.

Figures are drawn without pyplot and the user's settings: no global state is touched, equal input gives equal files.
"""

from __future__ import annotations

import io
import json
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast
from xml.etree import ElementTree

import numpy as np
from markupsafe import Markup
from matplotlib import style
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.patches import Patch
from matplotlib.transforms import Bbox

from vkdnw_pl.report.text import clean

Floats = np.ndarray[Any, np.dtype[np.float64]]

LIGHT = {
    **{"ink": "#1d232b", "soft": "#5b6673", "paper": "#ffffff", "raised": "#f6f8fa", "line": "#dfe4ea"},
    **{"link": "#0b5cad", "best": "#e3f1e6", "best-ink": "#14532d", "odd": "#fff1cc", "bad": "#fde4df"},
    **{"bad-ink": "#8f1d0c", "c0": "#1769aa", "c1": "#d55e00", "c2": "#00866a", "c3": "#b0508a", "c4": "#a87b00"},
    **{"c5": "#3f9fd8", "c6": "#6b4fbb", "c7": "#6b7280"},
}
"""Name -> colour on a light ground, in files and pages; ``c0`` ... are those of runs."""
DARK = {
    **{"ink": "#e4e8ee", "soft": "#9aa6b4", "paper": "#12161b", "raised": "#1a2027", "line": "#2c343e"},
    **{"link": "#7db7f0", "best": "#16382a", "best-ink": "#a9e5c1", "odd": "#443610", "bad": "#4a2019"},
    **{"bad-ink": "#ffb4a5", "c0": "#5aa9e6", "c1": "#ff8f4a", "c2": "#35c49d", "c3": "#e58fc1", "c4": "#e3bd4c"},
    **{"c5": "#9ad3f5", "c6": "#b29cf0", "c7": "#a3adba"},
}
"""The same colours on a dark ground."""

INK, GREY, LINE = LIGHT["ink"], LIGHT["soft"], LIGHT["line"]
RUN_COLORS = tuple(LIGHT[f"c{i}"] for i in range(8))
BLUE, ACCENT, LIGHT_BLUE = LIGHT["c0"], LIGHT["c1"], LIGHT["c5"]
CLOUD = "#3b8ed0"
"""Blue of a picture of many points, which cannot change with the page: readable on a light and on a dark ground."""
SHADES = ("#0072B2", "#56B4E9", "#009E73", "#F0E442", "#E69F00", "#D55E00", "#CC79A7")
"""Okabe & Ito's colours, for areas beside each other."""
DASHES = ("solid", (0, (7, 4)), (0, (2, 4)))
MAX_POINTS = 300
"""More points than these are drawn as a picture of their density."""

PAGE_WIDTH = 3.4
"""Inches of every figure of a page. A page shows them at this size or larger: so they fit a phone, and text of `SMALL`
points has 12 pixels or more."""
SMALL = 9
"""Points of the smallest text."""
MAX_NAMES = 15
"""So many points of a figure have their names beside them."""

_FAINT = 3000
"""So many points need large cells in a picture of their density."""
_DPI = 150
_STYLE = {
    **{"font.size": 9.5, "axes.titlesize": 11, "axes.titleweight": "bold", "axes.labelsize": 9.5, "legend.fontsize": 9},
    **{"xtick.labelsize": SMALL, "ytick.labelsize": SMALL, "figure.labelsize": 10, "figure.titlesize": 11},
    **{"text.color": INK, "axes.labelcolor": GREY, "xtick.color": GREY, "ytick.color": GREY, "axes.edgecolor": GREY},
    **{"axes.spines.top": False, "axes.spines.right": False, "axes.axisbelow": True, "axes.grid": True},
    **{"xtick.major.size": 0, "ytick.major.size": 0, "axes.facecolor": "none"},
    **{"grid.color": LINE, "grid.linewidth": 0.6},
    **{"legend.frameon": False, "svg.fonttype": "none", "text.parse_math": False, "axes.formatter.useoffset": False},
}
_BESIDE: tuple[tuple[tuple[float, float], str, str], ...] = (
    ((5, 0), "left", "center"),
    ((-5, 0), "right", "center"),
    ((4, 4), "left", "bottom"),
    ((4, -4), "left", "top"),
    ((-4, 4), "right", "bottom"),
    ((-4, -4), "right", "top"),
    ((0, 5), "center", "bottom"),
    ((0, -5), "center", "top"),
)
"""Offsets and alignments of a name that are tried, in this order; farther away, one would not know whose it is."""
_SVG = "{http://www.w3.org/2000/svg}"
_CSS = {color: f"var(--{name})" for name, color in LIGHT.items() if name != "paper"}
_STYLES = re.compile(r"([\w-]+): ?([^;]+)")
_NUMBER = re.compile(r"-?\d+\.\d+(?:e-?\d+)?")


@contextmanager
def drawing() -> Iterator[None]:
    """This style while figures are drawn, the caller's settings afterwards."""
    with style.context(["default", _STYLE]), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from font")  # names may have any character
        yield


def new_figure(width: float, height: float) -> Figure:
    """An empty figure of so many inches whose parts make room for each other; within `drawing`."""
    return Figure(figsize=(width, height), dpi=_DPI, layout=ConstrainedLayoutEngine(w_pad=0.06, h_pad=0.06))


@contextmanager
def panel(width: float, height: float) -> Iterator[tuple[Figure, Axes]]:
    """`drawing`, with a new figure of one panel."""
    with drawing():
        figure = new_figure(width, height)
        yield figure, figure.subplots()


def run_style(run: int) -> dict[str, Any]:
    """Colour and line of a run by its place among those that are compared."""
    return {"color": RUN_COLORS[run % len(RUN_COLORS)], "linestyle": DASHES[run // len(RUN_COLORS) % len(DASHES)]}


def hover(artist: Artist, texts: Sequence[str]) -> None:
    """Say what a page shows where one points at the artist's shapes, a text for each."""
    # The group's id is all that an artist can tell matplotlib's SVG; `to_svg` takes the texts out.
    artist.set_gid(json.dumps([clean(text) for text in texts]))


def draw_points(ax: Axes, x: Floats, y: Floats, color: str, texts: Sequence[str] = ()) -> None:
    """Draw points one by one, or, where they are more than `MAX_POINTS`, the picture of their density.

    The limits of ``ax`` must be those of the finished figure; ``x`` and ``y`` have shape (n,); ``texts`` are shown where
    one points at a point.
    """
    if len(x) <= MAX_POINTS:
        size = 22.0 if len(x) <= 30 else 9.0
        hover(ax.scatter(x, y, color=color, s=size, alpha=0.78, linewidths=0, zorder=3), texts)
        return
    (left, right), (low, high) = ax.get_xlim(), ax.get_ylim()
    width, height = (200, 130) if len(x) > _FAINT else (100, 65)
    columns = np.clip((x - left) / (right - left) * width, 0, width - 1).astype(int)
    rows = np.clip((y - low) / (high - low) * height, 0, height - 1).astype(int)
    counts = np.zeros((height, width))
    np.add.at(counts, (rows, columns), 1)
    most = max(float(np.quantile(counts[counts > 0], 0.995)), 2.0)
    levels = np.round(15 * np.log1p(np.minimum(counts, most)) / np.log1p(most)) / 15  # few levels make a small file
    image = np.zeros((height, width, 4), dtype=np.uint8)
    image[..., :3] = [int((CLOUD if color == BLUE else color)[i : i + 2], 16) for i in (1, 3, 5)]
    image[..., 3] = np.where(counts > 0, 255 * (0.4 + 0.6 * levels), 0)
    ax.imshow(image, extent=(left, right, low, high), origin="lower", aspect="auto", interpolation="nearest", zorder=3)


def name_points(ax: Axes, x: Sequence[float], y: Sequence[float], names: Sequence[str], color: str = INK) -> None:
    """Write names beside points where they cover no other point or name; the others, and those of no name, stay without.

    The limits of ``ax`` must be those of the finished figure, whose layout is fixed here. Earlier points come first.
    """
    figure = cast(Figure, ax.figure)
    figure.draw_without_rendering()
    figure.set_layout_engine("none")
    renderer = FigureCanvasAgg(figure).get_renderer()
    places = ax.transData.transform(np.column_stack([x, y]))
    panel_box, figure_box = ax.get_window_extent(renderer), figure.bbox
    room = Bbox([[panel_box.x0, panel_box.y0], [figure_box.x1 - 2, figure_box.y1 - 2]])
    taken = [Bbox.from_bounds(left - 6, low - 6, 12, 12) for left, low in places]
    for i, name in enumerate(names):
        if not name:
            continue
        text = ax.annotate(clean(name), (x[i], y[i]), (0, 0), textcoords="offset points", fontsize=SMALL, color=color)
        for offset, side, height in _BESIDE:
            text.set(position=offset, ha=side, va=height)
            box = text.get_window_extent(renderer)
            inside = room.x0 <= box.x0 and box.x1 <= room.x1 and room.y0 <= box.y0 and box.y1 <= room.y1
            if inside and not any(box.overlaps(other) for j, other in enumerate(taken) if j != i):
                taken.append(box)
                break
        else:
            text.remove()


def write_above(ax: Axes, text: str, offset: float = 5, color: str = GREY) -> None:
    """Write a text over the middle of a panel, ``offset`` points above its edge."""
    ax.annotate(text, (0.5, 1), (0, offset), "axes fraction", "offset points", ha="center", fontsize=SMALL, color=color)


def color_legend(figure: Figure, colors: Mapping[str, str], columns: int = 2) -> None:
    """Say below a figure what its colours mean: text -> colour."""
    handles = [Patch(color=color, label=text) for text, color in colors.items()]
    figure.legend(handles=handles, loc="outside lower center", ncols=columns)


def save_figure(figure: Figure, path: str | Path) -> Path:
    """Write a figure as PNG, making its folder where needed, and return the path."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with drawing():
        figure.set_dpi(_DPI)
        FigureCanvasAgg(figure).print_png(path, metadata={"Software": None})  # `savefig` would draw everything twice
    return path


def to_svg(figure: Figure, title: str) -> Markup:
    """A figure in the colours of `LIGHT` as SVG that takes the colours and the font of its page, without ids, styles and
    fixed size; ``title`` is what a screen reader says."""
    buffer = io.BytesIO()
    figure.patch.set_visible(False)
    with drawing():
        FigureCanvasSVG(figure).print_svg(buffer)
    root = ElementTree.fromstring(buffer.getvalue())
    shapes = {f"#{path.get('id')}": path for path in root.iter(f"{_SVG}path") if path.get("id")}
    parts = [_leaf(element, shapes, text) for element, text in _leaves(root, iter(()))]
    return Markup('<svg viewBox="{}" role="img" aria-label="{}">{}</svg>').format(
        root.get("viewBox"), clean(title), Markup("").join(parts)
    )


def css_colors() -> str:
    """The style sheet's variables: the colours, light, dark, and on paper light; and the least width of a figure."""
    light, dark = (
        f"color-scheme: {name}; " + " ".join(f"--{key}: {color};" for key, color in colors.items())
        for name, colors in (("light", LIGHT), ("dark", DARK))
    )
    return (
        f":root {{ {light} --figure: {PAGE_WIDTH}in; }}\n"
        f'@media screen and (prefers-color-scheme: dark) {{ :root:not([data-theme="light"]) {{ {dark} }} }}\n'
        f'@media screen {{ :root[data-theme="dark"] {{ {dark} }} }}\n'
    )


def _leaves(element: ElementTree.Element, texts: Iterator[str]) -> Iterator[tuple[ElementTree.Element, str]]:
    """What is drawn, in order, with its hover text."""
    for child in element:
        tag = child.tag.removeprefix(_SVG)
        if tag == "g":
            gid = child.get("id", "")
            yield from _leaves(child, iter(json.loads(gid)) if gid.startswith("[") else texts)
        elif tag in ("path", "use", "image", "text"):
            yield child, next(texts, "")


def _leaf(element: ElementTree.Element, shapes: dict[str, ElementTree.Element], text: str) -> Markup:
    tag = element.tag.removeprefix(_SVG)
    attributes = {name.rpartition("}")[2]: value for name, value in element.attrib.items()}
    styles: dict[str, str] = dict(_STYLES.findall(attributes.pop("style", "")))
    if tag == "use":  # a copy of a shape at another place
        shape = shapes[attributes.pop("href")]
        tag, place = "path", (float(attributes.pop("x", 0)), float(attributes.pop("y", 0)))
        outline = shape.get("d", "")
        styles = dict(_STYLES.findall(shape.get("style", ""))) | styles
        if outline.count("C") == 8:  # a circle, which begins at its lowest point
            tag = "circle"
            attributes |= {"cx": f"{place[0]:.1f}", "cy": f"{place[1]:.1f}", "r": outline.split()[2]}
        else:
            attributes |= {"d": outline, "transform": f"translate({place[0]:.1f} {place[1]:.1f})"}
    for name in ("id", "clip-path", "stroke-linejoin"):
        attributes.pop(name, None)
    for name, value in styles.items():
        if name in ("font", "font-size"):
            attributes["font-size"] = value.partition("px")[0].rpartition(" ")[2]
        elif name not in ("font-family", "stroke-linejoin", "stroke-linecap", "stroke-miterlimit"):
            attributes[name] = _CSS.get(value, value)
    if tag in ("path", "circle") and attributes.get("fill") == "none" and "stroke" not in attributes:
        return Markup("")
    if tag == "text":
        attributes.setdefault("fill", _CSS[INK])
        if attributes.get("transform", "").startswith("rotate(-0 "):
            del attributes["transform"]
    written = Markup(" ").join(
        Markup('{}="{}"').format(name, _NUMBER.sub(lambda number: f"{float(number[0]):.4g}", value.replace("\n", "")))
        for name, value in attributes.items()
    )
    inner = Markup("{}").format(clean(element.text or "")) if tag == "text" else Markup("")
    said = Markup("<title>{}</title>").format(text) if text else Markup("")
    return Markup("<{} {}>{}{}</{}>").format(tag, written, inner, said, tag)
