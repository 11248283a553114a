"""The order of the images, shared out over processes."""

from __future__ import annotations

from collections.abc import Iterator, Sized
from typing import Any

import torch
from torch.utils.data import DistributedSampler

from vkdnw_pl.data.seeded import Key, mix


class TrainingSampler(DistributedSampler[Key]):
    """Keys (epoch, image) of one process, in an order that is a pure function of (seed, epoch).

    Global batch k of an epoch, all processes together, is the same set of images for any number of processes with the
    same number of images in it: process r takes every world-th image of the order, from r.

    It is a ``DistributedSampler`` because Lightning replaces every other one when there are several processes; it
    needs no process group.

    Args:
        data: what has the images.
        batch_size: images per batch and process.
        num_replicas: processes.
        rank: this process.
        seed: of the order.
        drop_last: leave out the incomplete global batch at the end; else it is cut to a multiple of the processes.

    Raises:
        ValueError: if there are fewer images than one global batch takes.
    """

    skip_batches: int
    """Batches to be left out at the beginning of the next iteration, and of that one only; ``len`` stays whole."""

    def __init__(
        self, data: Sized, batch_size: int, num_replicas: int = 1, rank: int = 0, seed: int = 0, drop_last: bool = True
    ) -> None:
        super().__init__(data, num_replicas, rank, seed=seed, drop_last=drop_last)  # type: ignore[arg-type]
        together = batch_size * num_replicas
        needed = together if drop_last else num_replicas
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
        first, self.skip_batches = self.skip_batches * self.batch_size, 0
        epoch = self.epoch
        generator = torch.Generator().manual_seed(mix(self.seed, epoch))
        order = torch.randperm(len(self.dataset), generator=generator)  # type: ignore[arg-type]
        for index in order[self.rank : self.total_size : self.num_replicas][first:].tolist():
            yield epoch, index


class EvaluationSampler(DistributedSampler[int]):
    """Every world-th image from this process' rank on, in order; all processes together have each image once.

    Args:
        data: what has the images.
        num_replicas: processes.
        rank: this process.
    """

    def __init__(self, data: Sized, num_replicas: int = 1, rank: int = 0) -> None:
        super().__init__(data, num_replicas, rank, shuffle=False)  # type: ignore[arg-type]
        self.num_samples = len(range(rank, len(data), num_replicas))
        self.total_size = len(data)

    def __iter__(self) -> Iterator[Any]:
        return iter(range(self.rank, self.total_size, self.num_replicas))


def even_batch_size(count: int, batch_size: int, num_replicas: int) -> int:
    """Largest batch size, up to a given one, with which all processes evaluate the same number of batches.

    DDP broadcasts buffers at every batch, of an evaluation too, so a process with one batch more would get out of step
    with the others or wait for ever. No image may come twice, so some processes have one image more than others; that
    makes one batch more only where the others' batches are all full. The given size is returned where every size
    fills them, as up to 4 with 12 images.
    """
    if count % num_replicas:
        for size in range(batch_size, 1, -1):
            if (count // num_replicas) % size:
                return size
    return batch_size
