"""Images in an order and with an augmentation that are pure functions of seeds: batches, data sets, samplers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence, Sized
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.utils.data import Dataset, DistributedSampler

from vkdnw_pl.networks.streams import kept_streams, seed_streams

Key = tuple[int, int]
"""(epoch, image)."""
_MASK = 0xFFFF_FFFF_FFFF_FFFF


@dataclass(frozen=True)
class Batch:
    """Images and what they show."""

    images: Tensor
    """(B, C, H, W) float32."""
    labels: Tensor | None = None
    """(B,) int64 class numbers from 0; None where they are not known."""


def draw(count: int, batch_size: int, seed: int, index: int, name: str) -> Tensor:
    """Numbers (int64) of the images of batch ``index``, drawn without replacement: batches of one seed share none."""
    first, last = index * batch_size, (index + 1) * batch_size
    if last > count:
        batch = f"batch {index} of batch_size={batch_size}" if index else f"batch_size={batch_size}"
        raise ValueError(f"{batch} needs more than the {count} images of {name!r}")
    return torch.randperm(count, generator=torch.Generator().manual_seed(seed))[first:last]


def mix(*numbers: int) -> int:
    """One seed of 64 bits out of whole numbers, every bit depending on all of them (SplitMix64's finaliser)."""
    state = 0
    for number in numbers:
        state = (state + number + 0x9E37_79B9_7F4A_7C15) & _MASK
        state = ((state ^ (state >> 30)) * 0xBF58_476D_1CE4_E5B9) & _MASK
        state = ((state ^ (state >> 27)) * 0x94D0_49BB_1331_11EB) & _MASK
        state ^= state >> 31
    return state


class ImageSet(Protocol):
    """Images as they are stored, before any transform."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> tuple[Any, int]:
        """An image and its class."""


class ImageArrays:
    """Images (n, channels, height, width) and labels in memory; ``chosen`` numbers those of the set, None for all."""

    def __init__(self, images: Tensor, labels: Tensor, chosen: Tensor | None = None) -> None:
        self.images, self.chosen = images, torch.arange(len(images)) if chosen is None else chosen
        self.labels = labels[self.chosen]

    def __len__(self) -> int:
        return len(self.chosen)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.images[self.chosen[index]], int(self.labels[index])


class SeededDataset(Dataset[tuple[Tensor, Tensor]]):
    """Transformed images, each a pure function of (seed, epoch, image), whoever loads it and after whatever else.

    The global random streams of PyTorch (CPU), NumPy and Python are afterwards as before. ``transform`` makes a tensor
    of a stored image, perhaps at random; ``finish`` is deterministic and takes (channels, height, width) or a batch of
    it. Without a seed nothing is random.
    """

    def __init__(
        self,
        data: ImageSet,
        transform: Callable[[Any], Tensor] | None = None,
        finish: Callable[[Tensor], Tensor] | None = None,
        seed: int | None = 0,
    ) -> None:
        self.data, self.transform, self.finish, self.seed = data, transform, finish, seed

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, key: int | Key) -> tuple[Tensor, Tensor]:
        images, labels = self.__getitems__([key])
        return images[0], labels[0]

    def __getitems__(self, keys: Sequence[int | Key]) -> tuple[Tensor, Tensor]:
        """Images float32 (B, channels, height, width) and labels int64 (B,); a plain number means epoch 0."""
        images, labels = [], []
        with nullcontext() if self.seed is None else kept_streams():
            for key in keys:
                epoch, index = key if isinstance(key, tuple) else (0, key)
                image, label = self.data[index]
                if self.seed is not None:
                    seed_streams(mix(self.seed, epoch, index))
                images.append(image if self.transform is None else self.transform(image))
                labels.append(label)
        batch = torch.stack(images)
        return batch if self.finish is None else self.finish(batch), torch.tensor(labels)


class TrainingSampler(DistributedSampler[Key]):
    """Keys (epoch, image) of one process, in an order that is a pure function of (seed, epoch).

    Global batch k of an epoch is the same set of images for any number of processes. With ``drop_last`` the incomplete
    global batch is left out, else cut to a multiple of the processes. A ``DistributedSampler`` because Lightning
    replaces every other one when there are several processes; it needs no process group.
    """

    skip_batches: int
    """Batches to be left out at the beginning of the next iteration, and of that one only; ``len`` stays whole."""

    def __init__(
        self, data: Sized, batch_size: int, num_replicas: int = 1, rank: int = 0, seed: int = 0, drop_last: bool = True
    ) -> None:
        super().__init__(data, num_replicas, rank, seed=seed, drop_last=drop_last)  # type: ignore[arg-type]
        needed = batch_size * num_replicas if drop_last else num_replicas
        if len(data) < needed:
            raise ValueError(
                f"batch_size={batch_size} x {num_replicas} process(es) is not allowed: there are only {len(data)} "
                "training images; give a smaller batch_size or drop_last: false"
            )
        self.batch_size, self.skip_batches = batch_size, 0
        self.total_size = len(data) - len(data) % needed
        self.num_samples = self.total_size // num_replicas

    def __iter__(self) -> Iterator[Key]:
        # A generator, so that epoch and skip_batches are read when the first image is asked for.
        first, self.skip_batches, epoch = self.skip_batches * self.batch_size, 0, self.epoch
        order = self.order(epoch)
        for index in order[self.rank : self.total_size : self.num_replicas][first:].tolist():
            yield epoch, index

    def order(self, epoch: int) -> Tensor:
        """Numbers (int64) of all images in the order of an epoch."""
        generator = torch.Generator().manual_seed(mix(self.seed, epoch))
        return torch.randperm(len(self.dataset), generator=generator)  # type: ignore[arg-type]


class EvaluationSampler(DistributedSampler[int]):
    """Every world-th image from this process' rank on, in order; all processes together have each image once."""

    def __init__(self, data: Sized, num_replicas: int = 1, rank: int = 0) -> None:
        super().__init__(data, num_replicas, rank, shuffle=False)  # type: ignore[arg-type]
        self.num_samples = len(range(rank, len(data), num_replicas))
        self.total_size = len(data)

    def __iter__(self) -> Iterator[Any]:
        return iter(range(self.rank, self.total_size, self.num_replicas))


def even_batch_size(count: int, batch_size: int, num_replicas: int) -> int:
    """Largest batch size, up to a given one, with which all processes evaluate the same number of batches.

    DDP broadcasts buffers at every batch, so a process with one batch more would wait for ever. Some processes have one
    image more, which makes one batch more only where the others' are all full. The given size is returned where every
    size fills them.
    """
    if count % num_replicas:
        for size in range(batch_size, 1, -1):
            if (count // num_replicas) % size:
                return size
    return batch_size
