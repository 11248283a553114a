"""The batches of images, with labels, that proxies see."""

from __future__ import annotations

import importlib
import json
import math
import zlib
from collections.abc import Callable, Mapping
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from vkdnw_pl.data.seeded import Batch, draw
from vkdnw_pl.errors import check_whole, first_line
from vkdnw_pl.networks.streams import kept_streams
from vkdnw_pl.runs.environment import check_memory

if TYPE_CHECKING:
    from pytorch_lightning import LightningDataModule

NAMED_INPUTS = ("random", "digits")
_Draw = Callable[[int, int, int], Batch]
"""(batch_size, seed, index) -> batch."""
Source = str | Mapping[str, Any]
"""Where images come from: a name, a file, or a data module as ``class_path`` and ``init_args``."""

Batches = Callable[[int], Batch]
"""Numbered batches, from 0."""

_KEPT_BYTES = 1 << 28


def batches(
    source: Source, batch_size: int, input_size: tuple[int, ...], seed: int, num_classes: int | None = None
) -> Batches:
    """Numbered batches of one source; ``batches(...)(i)`` is ``image_batch`` with ``index=i``.

    They are kept for the next network, all that fit in `_KEPT_BYTES`.
    """
    check_whole("batch_size", batch_size, 1)
    kept = max(2, _KEPT_BYTES // (4 * batch_size * math.prod(input_size)))
    return lru_cache(maxsize=kept)(partial(image_batch, source, batch_size, input_size, seed, num_classes))


def image_batch(
    source: Source,
    batch_size: int,
    input_size: tuple[int, ...],
    seed: int,
    num_classes: int | None = None,
    index: int = 0,
) -> Batch:
    """A batch of images on the CPU, a pure function of its arguments.

    Args:
        source: ``random`` (independent N(0, 1) values and uniform labels), ``digits`` (scikit-learn's digits,
            corrupted, normalised, resized to the input size; 10 classes), the path of a ``.npy`` file of images
            (n, channels, height, width) of the input size, already normalised, or of a ``.npz`` file with such
            ``images`` and ``labels`` (n,), or ``{"class_path": "package.DataModule", "init_args": {...}}``: the
            training images of any LightningDataModule whose data set gives (image, label); ours go by their names
            alone, such as CIFAR10.
        batch_size: B; data sets are sampled without replacement.
        input_size: (channels, height, width); of random values any shape.
        seed: of the values, or of which images are drawn.
        num_classes: labels of random images are drawn from so many; None gives them none.
        index: number of the batch; batches of one seed share no image of a data set.
    """
    if isinstance(source, Mapping):
        source = json.dumps(source, sort_keys=True)
    check_whole("batch_size", batch_size, 1)
    check_memory("batch_size", batch_size, 4 * batch_size * math.prod(input_size), f"images of size {input_size}")
    generator = torch.Generator().manual_seed(seed)
    if source == "random":
        for _ in range(index + 1):
            images = torch.randn(batch_size, *input_size, generator=generator)
        if num_classes is None:
            return Batch(images)
        # A stream of its own, so that labels do not change the images.
        generator.manual_seed(zlib.crc32(f"labels {index}".encode(), seed & 0xFFFFFFFF))
        return Batch(images, torch.randint(num_classes, (batch_size,), generator=generator))
    if len(input_size) != 3:
        raise ValueError(f"{source!r} has images (channels, height, width), the inputs are {input_size}; give random")
    batch = _data_set(source, (input_size[0], input_size[1], input_size[2]))(batch_size, seed, index)
    if (size := tuple(batch.images.shape[1:])) != tuple(input_size):
        name = json.loads(source)["class_path"] if source.startswith("{") else source
        options = "in_channels and image_size of network say it"
        raise ValueError(f"{name!r} has images of shape {size}; the networks take {input_size} ({options})")
    return batch


@lru_cache(maxsize=4)
def _data_set(source: str, input_size: tuple[int, int, int]) -> _Draw:
    if source.startswith("{"):
        return _from_module(json.loads(source))
    if source == "digits":
        return _drawn(source, *_digits(input_size))
    if source.endswith((".npy", ".npz")):
        return _drawn(source, *_from_file(Path(source).expanduser(), input_size))
    raise ValueError(
        f"{source!r} is not known as a source of images; allowed: {', '.join(NAMED_INPUTS)}, a folder or CSV file "
        "of images, the path of a .npy or .npz file, or a data module {class_path: ..., init_args: ...}"
    )


def _drawn(name: str, images: Tensor, labels: Tensor | None) -> _Draw:
    def numbered_batch(batch_size: int, seed: int, index: int) -> Batch:
        chosen = draw(len(images), batch_size, seed, index, name)
        return Batch(images[chosen], None if labels is None else labels[chosen])

    return numbered_batch


def _digits(input_size: tuple[int, int, int]) -> tuple[Tensor, Tensor]:
    from vkdnw_pl.data.digit_images import clean_digits, corrupt, statistics

    clean, labels = clean_digits("train")
    images = corrupt(clean, seed=0)
    mean, std = statistics(images)
    images = (images - mean) / std
    images = F.interpolate(images, size=input_size[1:], mode="bilinear", align_corners=False)
    return images[:, :1].expand(-1, input_size[0], -1, -1), labels.long()


def _from_file(path: Path, input_size: tuple[int, int, int]) -> tuple[Tensor, Tensor | None]:
    if not path.is_file():
        raise ValueError(f"{str(path)!r}: there is no such file")
    try:
        with path.open("rb") as file:  # of a damaged one np.load leaves it open
            content = np.load(file, allow_pickle=False)
            is_npz = isinstance(content, np.lib.npyio.NpzFile)
            if is_npz != (path.suffix == ".npz"):
                raise ValueError(f"its content is that of a {'.npz' if is_npz else '.npy'} file")
            names = content.files if is_npz else ["images"]
            arrays = (
                {name: content[name] for name in names if name in ("images", "labels")}
                if is_npz
                else {"images": content}
            )
    except Exception as error:  # damaged files raise nearly every kind of error
        raise ValueError(f"{str(path)!r} is not a {path.suffix} file of numbers: {first_line(error)}") from None
    if "images" not in arrays:
        raise ValueError(f"{str(path)!r} holds {', '.join(names) or 'nothing'}; needed: images, and perhaps labels")
    images, labels = arrays["images"], arrays.get("labels")
    if images.ndim != 4 or images.shape[1:] != input_size:
        raise ValueError(f"{str(path)!r} holds an array {images.shape}; needed: (n, {', '.join(map(str, input_size))})")
    if images.dtype.kind not in "biuf":
        raise ValueError(f"{str(path)!r} holds images of {images.dtype}; needed: whole or floating-point numbers")
    if images.dtype.kind == "f" and not np.isfinite(images).all():
        raise ValueError(f"{str(path)!r} holds images with values that are not finite")
    if labels is not None and (labels.shape != (len(images),) or not np.issubdtype(labels.dtype, np.integer)):
        raise ValueError(f"{str(path)!r} holds labels {labels.dtype} {labels.shape}; needed: int ({len(images)},)")
    if labels is not None and len(labels) and labels.min() < 0:
        raise ValueError(f"{str(path)!r} holds the label {labels.min()}; needed: class numbers from 0")
    images = torch.from_numpy(images.astype(np.float32))
    return images, None if labels is None else torch.from_numpy(labels.astype(np.int64))


def _from_module(spec: Mapping[str, Any]) -> _Draw:
    from torch.utils.data import default_collate

    from vkdnw_pl.data.base import ImageDataModule

    with kept_streams(0):  # it may split its images at random
        module = _make_module(spec)
        module.prepare_data()
        if isinstance(module, ImageDataModule):
            return module.proxy_batch
        module.setup("fit")
        loader = module.train_dataloader()
    data: Any = getattr(loader, "dataset", None)
    if not hasattr(data, "__len__") or not hasattr(data, "__getitem__"):
        raise ValueError(f"{spec['class_path']}: its train_dataloader has no data set to draw images from")

    def numbered_batch(batch_size: int, seed: int, index: int) -> Batch:
        chosen = draw(len(data), batch_size, seed, index, str(spec["class_path"])).tolist()
        with kept_streams(chosen[0]):  # augmentation draws from the global ones
            images, labels = default_collate([data[number] for number in chosen])[:2]
        return Batch(images.float(), labels.long())

    return numbered_batch


def _make_module(spec: Mapping[str, Any]) -> LightningDataModule:
    from vkdnw_pl.data.protocol import as_data_module, is_data_module

    if unknown := [key for key in spec if key not in ("class_path", "init_args")]:
        raise ValueError(f"{unknown[0]!r} is not known; a data module has class_path and init_args")
    path = str(spec.get("class_path", ""))
    package, _, name = path.rpartition(".")
    try:
        cls = getattr(importlib.import_module(package or "vkdnw_pl.data"), name)
    except (ImportError, AttributeError, ValueError, TypeError) as error:
        raise ValueError(f"class_path={path!r} cannot be imported: {error}") from None
    if not is_data_module(cls):
        raise ValueError(f"class_path={path!r} is not a LightningDataModule")
    try:
        return as_data_module(cls(**spec.get("init_args", {})))
    except TypeError as error:
        raise ValueError(f"{path}: {error}") from None
