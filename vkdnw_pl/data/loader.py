"""The loader of batches."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch.utils.data import DataLoader

from vkdnw_pl.runs.cores import usable_cores

_MOST_WORKERS = 12


class ImageLoader(DataLoader):
    """A ``DataLoader`` that reads its sampler, and starts its workers, when the first batch is asked for.

    Lightning asks for an iterator before it tells the sampler the epoch, and before a resumed module can say how many
    batches of the epoch are done; with workers, PyTorch's own loader would have drawn images by then.
    """

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]
        yield from super().__iter__()


def automatic_workers(num_processes: int) -> int:
    """This process' share of the CPU cores that may be used, at most 12.

    Args:
        num_processes: training processes on this machine.
    """
    return min(usable_cores() // num_processes, _MOST_WORKERS)


def as_it_is(batch: Any) -> Any:
    """Collate nothing: the data set gives batches."""
    return batch
