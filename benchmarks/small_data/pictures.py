"""Draws a small data set of coloured pictures, as a folder of class folders: shapes cut out of photographs, on photographs.

    python benchmarks/small_data/pictures.py runs/pictures

Eight classes, 100 training pictures each, 64 pixels. Everything comes from the two photographs that scikit-learn carries;
those of training are from their left three fifths, those of validation and test from the rest.
"""

import argparse
import colorsys
import math
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageEnhance, ImageFilter
from sklearn.datasets import load_sample_images

CLASSES = ("arrow", "crescent", "cross", "hexagon", "ring", "square", "star", "triangle")
SIZE = 64
COUNTS = {"train": 100, "val": 40, "test": 150}
"""Pictures of each class."""
_FINE = 4 * SIZE  # outlines are drawn larger and scaled down
_LEFT_SHARE = 0.6


def main(folder: Path, seed: int = 0) -> None:
    photos = [Image.fromarray(photo) for photo in load_sample_images().images]
    for number, (part, count) in enumerate(COUNTS.items()):
        regions = [_region(photo, part == "train") for photo in photos]
        for label, name in enumerate(CLASSES):
            (folder / part / name).mkdir(parents=True, exist_ok=True)
            for i in range(count):
                rng = np.random.default_rng([seed, number, label, i])
                picture(name, regions, rng).save(folder / part / name / f"{i:03d}.png")


def picture(name: str, photos: list[Image.Image], rng: np.random.Generator) -> Image.Image:
    """A shape anywhere, of any size and turn, filled with one tinted piece of photograph on another, and partly covered."""
    back, front, cover = (_piece(photos, rng) for _ in range(3))
    back, cover = (Image.blend(piece, piece.convert("L").convert("RGB"), 0.7) for piece in (back, cover))
    hue = CLASSES.index(name) / len(CLASSES) + rng.normal(0, 0.08)  # neighbours overlap
    colour = colorsys.hsv_to_rgb(hue % 1, *rng.uniform(0.4, 1.0, 2))
    plain = Image.new("RGB", front.size, tuple(round(255 * c) for c in colour))
    front = Image.blend(front, plain, rng.uniform(0.5, 0.9))
    mask = _mask(name, rng)
    image = Image.composite(front, back, mask)
    stripe = Image.new("L", image.size, 0)
    x, y, angle, width = rng.uniform(0, SIZE), rng.uniform(0, SIZE), rng.uniform(0, math.pi), rng.integers(3, 10)
    dx, dy = SIZE * math.cos(angle), SIZE * math.sin(angle)
    ImageDraw.Draw(stripe).line((x - dx, y - dy, x + dx, y + dy), 255, int(width))
    image = Image.composite(cover, image, stripe)
    image = ImageEnhance.Brightness(image).enhance(rng.uniform(0.6, 1.3))
    image = image.filter(ImageFilter.GaussianBlur(rng.uniform(0, 0.8)))
    noisy = np.asarray(image) + rng.normal(0, rng.uniform(0, 12), (SIZE, SIZE, 3))
    return Image.fromarray(noisy.round().clip(0, 255).astype(np.uint8))


def _region(photo: Image.Image, left: bool) -> Image.Image:
    border = round(photo.width * _LEFT_SHARE)
    return photo.crop((0, 0, border, photo.height) if left else (border, 0, photo.width, photo.height))


def _piece(photos: list[Image.Image], rng: np.random.Generator) -> Image.Image:
    photo = photos[rng.integers(len(photos))]
    side = int(rng.integers(48, 200))
    x, y = rng.integers(photo.width - side), rng.integers(photo.height - side)
    piece = photo.crop((x, y, x + side, y + side)).resize((SIZE, SIZE), Image.Resampling.BILINEAR)
    return piece.rotate(90 * int(rng.integers(4)))


def _mask(name: str, rng: np.random.Generator) -> Image.Image:
    mask = Image.new("L", (_FINE, _FINE), 0)
    draw = ImageDraw.Draw(mask)
    radius = rng.uniform(0.25, 0.45) * _FINE
    margin = 0.8 * radius
    centre = rng.uniform(margin, _FINE - margin, 2)
    angle, squeeze = rng.uniform(0, 2 * math.pi), rng.uniform(0.7, 1.0)
    turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])

    def place(points: np.ndarray) -> list[tuple[float, float]]:
        return [tuple(p) for p in (points * [1, squeeze] * radius @ turn.T + centre).tolist()]

    for points, ink in _outlines(name):
        draw.polygon(place(points), ink)
    return mask.resize((SIZE, SIZE), Image.Resampling.BOX)


def _outlines(name: str) -> list[tuple[np.ndarray, int]]:
    """Polygons within the unit circle, and whether they are filled (255) or cut out (0)."""
    if name == "arrow":
        head = [(1, 0), (0.1, 0.65), (0.1, 0.25), (-0.9, 0.25), (-0.9, -0.25), (0.1, -0.25), (0.1, -0.65)]
        return [(np.array(head), 255)]
    if name == "cross":
        a, b = 0.3, 0.9
        half = [(a, b), (a, a), (b, a), (b, -a), (a, -a), (a, -b)]
        return [(np.array(half + [(-x, -y) for x, y in half]), 255)]
    if name == "crescent":
        return [(_regular(48), 255), (0.85 * _regular(48) + [0.45, 0], 0)]
    if name == "ring":
        return [(_regular(48), 255), (0.55 * _regular(48), 0)]
    if name == "star":
        return [(_regular(10) * np.where(np.arange(10) % 2, 0.45, 1.0)[:, None], 255)]
    return [(_regular({"triangle": 3, "square": 4, "hexagon": 6}[name]), 255)]


def _regular(corners: int) -> np.ndarray:
    angles = 2 * math.pi * np.arange(corners) / corners
    return np.stack([np.cos(angles), np.sin(angles)], 1)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    main(parser.parse_args().folder)
