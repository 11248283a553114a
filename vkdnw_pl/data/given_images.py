"""Images that Python code hands over, a tensor, a loader or a data module, as the numbered batches that proxies see."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import BatchSampler, DataLoader, RandomSampler, SequentialSampler

from vkdnw_pl.data.batches import Batches
from vkdnw_pl.data.seeded import Batch, draw
from vkdnw_pl.networks.streams import kept_streams

_ALLOWED = "give a tensor (n, channels, height, width), (images, labels), a DataLoader or a data module"


@dataclass(frozen=True)
class GivenImages:
    """Numbered batches of given images, and what is known of them."""

    batches: Batches
    input_size: tuple[int, ...]
    """Of the first batch."""
    num_classes: int | None
    """What the data module says; None of others."""


def given_images(images: Any, batch_size: int, seed: int) -> GivenImages:
    """Batches of what a user gives as ``images``; a function of the arguments, which stay as they are.

    Of a tensor, of a loader that goes through a data set in order or at random, and of a data module with such a training
    loader, every batch is drawn by ``seed`` and without replacement, by the loader's ``collate_fn``. Of any other loader
    the batches are its first images, in its order; it is never read further than that. Nothing is normalised or resized.

    Args:
        images: (n, ...) of floating point numbers; (images, labels); an iterable of batches that can be begun again; or a
            data module, whose ``prepare_data`` and ``setup("fit")`` are called.
        batch_size: images per batch.
        seed: of the draw, and of what data set and loader draw themselves.

    Raises:
        ValueError: if it is none of these, has too few images, or images or labels of no use.
    """
    num_classes = None
    with kept_streams(0):  # a data module may split its images at random
        if callable(getattr(images, "train_dataloader", None)):
            num_classes = getattr(images, "num_classes", None)
            make = _of_module(images)
        else:
            make = _of_data(images)

    @lru_cache(maxsize=2)
    def numbered(index: int) -> Batch:
        with kept_streams(seed):
            return make(batch_size, seed, index)

    return GivenImages(numbered, tuple(numbered(0).images.shape[1:]), num_classes)


_Draw = Callable[[int, int, int], Batch]


def _of_module(module: Any) -> _Draw:
    module.prepare_data()
    if callable(draw_batch := getattr(module, "proxy_batch", None)):
        return draw_batch
    module.setup("fit")
    return _of_data(module.train_dataloader(), of="the data module's train_dataloader")


def _of_data(images: Any, of: str = "images") -> _Draw:
    if isinstance(images, DataLoader) and (data := _plainly_read(images)) is not None:

        def drawn(batch_size: int, seed: int, index: int) -> Batch:
            numbers = draw(len(data), batch_size, seed, index, of).tolist()
            items = data.__getitems__(numbers) if hasattr(data, "__getitems__") else [data[i] for i in numbers]
            return _batch(images.collate_fn(items), of)

        return drawn
    if isinstance(images, Tensor | Batch) or _is_pair(images):
        whole = _batch(images, of)
        return lambda batch_size, seed, index: _chosen(whole, draw(len(whole.images), batch_size, seed, index, of))
    if isinstance(images, Iterable) and not isinstance(images, str | Mapping | Sequence):
        if isinstance(images, Iterator):
            raise ValueError(f"{of} is an iterator, which would be used up: give the loader that it is of")
        return lambda batch_size, seed, index: _first_images(images, batch_size, index, of)
    raise ValueError(f"{of}={type(images).__name__} is not allowed: {_ALLOWED}")


def _is_pair(images: Any) -> bool:
    return isinstance(images, tuple | list) and len(images) == 2 and all(isinstance(part, Tensor) for part in images)


def _plainly_read(loader: DataLoader[Any]) -> Any:
    """The data set of a loader that reads all of it, in order or at random; None where the loader chooses itself."""
    data: Any = loader.dataset
    sampler: Any = loader.sampler
    if type(loader.batch_sampler) is not BatchSampler or type(sampler) not in (SequentialSampler, RandomSampler):
        return None
    # A sampler may be of something else, or take more or fewer than there are.
    is_whole = hasattr(data, "__len__") and sampler.data_source is data and len(sampler) == len(data)
    return data if is_whole else None


def _chosen(batch: Batch, numbers: Tensor) -> Batch:
    numbers = numbers.to(batch.images.device)
    return Batch(batch.images[numbers], None if batch.labels is None else batch.labels[numbers.to(batch.labels.device)])


def _first_images(loader: Iterable[Any], batch_size: int, index: int, of: str) -> Batch:
    """Images from ``index * batch_size`` on; the loader is begun anew."""
    parts: list[Batch] = []
    count, wanted = 0, (index + 1) * batch_size
    with _begun_anew(loader) as batches:
        for batch in batches:
            parts.append(_batch(batch, of))
            count += len(parts[-1].images)
            if count >= wanted:
                break
    if count < wanted:
        number = f"batch {index} of batch_size={batch_size}" if index else f"batch_size={batch_size}"
        raise ValueError(f"{number} needs more than the {count} images of {of!r}")
    labels = [part.labels for part in parts if part.labels is not None]
    joined = Batch(torch.cat([part.images for part in parts]), torch.cat(labels) if len(labels) == len(parts) else None)
    return _chosen(joined, torch.arange(index * batch_size, wanted))


@contextmanager
def _begun_anew(loader: Iterable[Any]) -> Iterator[Iterator[Any]]:
    """The loader's batches; its generators and workers stay as they are."""
    samplers = (loader, getattr(loader, "sampler", None), getattr(loader, "batch_sampler", None))
    generators = [g for part in samplers if isinstance(g := getattr(part, "generator", None), torch.Generator)]
    states = [generator.get_state() for generator in generators]
    try:
        # With persistent workers a loader keeps its iterator; the copy's are gone with it.
        yield iter(copy.copy(loader) if isinstance(loader, DataLoader) else loader)
    finally:
        for generator, state in zip(generators, states, strict=True):
            generator.set_state(state)


def _batch(content: Any, of: str) -> Batch:
    """Images and labels as they are given, checked."""
    if isinstance(content, Batch):
        images, labels = content.images, content.labels
    elif isinstance(content, tuple | list) and content:
        images, labels = (*itertools.islice(content, 2), None)[:2]
    else:
        images, labels = content, None
    if not isinstance(images, Tensor):
        raise ValueError(f"{of}: a batch is {type(content).__name__}; needed: a tensor of images, or (images, labels)")
    if images.dim() < 2 or images.is_meta or images.layout != torch.strided:
        raise ValueError(
            f"{of}: images of shape {tuple(images.shape)} are not allowed: needed is a dense tensor (n, ...)"
        )
    if images.dim() > 2 and not images.is_floating_point():
        raise ValueError(
            f"{of}: images of {images.dtype} are not allowed: give floating-point numbers, normalised as for the training"
        )
    if images.is_floating_point() and not bool(torch.isfinite(images).all()):
        raise ValueError(f"{of}: the images have values that are not finite")
    if labels is None:
        return Batch(images)
    whole = isinstance(labels, Tensor) and not labels.is_floating_point() and labels.shape == images.shape[:1]
    if not whole or bool((labels < 0).any()):
        got = f"{labels.dtype} {tuple(labels.shape)}" if isinstance(labels, Tensor) else type(labels).__name__
        raise ValueError(
            f"{of}: labels {got} are not allowed: needed are class numbers from 0 of shape ({len(images)},)"
        )
    return Batch(images, labels.long())
