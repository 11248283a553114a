"""What the image data modules have in common: their loader of batches, and which images are held out.

Any LightningDataModule can be trained on whose batches are (images, labels) and that says ``num_classes`` and
``input_size``, known once it is made. It may also say what else `ImageDataModule` lists: that goes with the network,
into checkpoints, exports and predictions, and may be known from ``setup`` on only.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from pytorch_lightning import LightningDataModule
from torch import Tensor
from torch.utils.data import DataLoader

from vkdnw_pl.data.seeded import (
    Batch,
    EvaluationSampler,
    ImageSet,
    SeededDataset,
    TrainingSampler,
    draw,
    even_batch_size,
)
from vkdnw_pl.errors import check_whole, is_whole, one_line
from vkdnw_pl.runs.documents import parse_json
from vkdnw_pl.runs.environment import usable_cores
from vkdnw_pl.runs.signals import follow_loader

Part = Literal["train", "val", "test"]
"""What images are used for."""
Source = Literal["train", "eval"]
"""Where published images are from: a data set's training images, or those that it is evaluated on."""

_HOLD_OUT_SEED = 0
_ORIGIN = "github.com/D-X-Y/AutoDL-Projects, folder configs/nas-benchmark"
_MOST_WORKERS = 12
Transform = Callable[[Any], Tensor] | None
_STAGES: dict[str | None, tuple[Part, ...]] = {"fit": ("train", "val"), "validate": ("val",), None: get_args(Part)}


class ImageDataModule(LightningDataModule):
    """Images and their classes, as batches (images float32 (B, C, H, W), labels int64 (B,)).

    Everything random about a training image is a pure function of (seed, epoch, image): the number of workers, of
    processes or of resumes changes nothing. ``predict`` sees the test images.

    A subclass sets ``num_classes`` and ``input_size``, gives stored images in ``load`` and how they are transformed in
    ``transforms``.

    Args:
        batch_size: training images per batch and process.
        eval_batch_size: images per batch and process when nothing is learned; null for batch_size.
        num_workers: processes that load images, for each training process; auto for its share of the CPU cores, at most
            12 (none for small images in memory unless a GPU waits for them).
        prefetch: batches that each worker loads ahead.
        seed: decides order and augmentation of the training images.
        drop_last: leave out the incomplete batch at the end of an epoch.
        pin_memory: put batches into memory that a GPU can copy from at once; auto does so when training on CUDA.
        prepare_per_node: download or extract once on every machine (each has its own disk) instead of once in all.
    """

    num_classes: int
    """Classes, numbered from 0."""
    input_size: tuple[int, int, int]
    """(channels, height, width) of what the loaders give."""
    image_statistics: tuple[Sequence[float], Sequence[float]] | None = None
    """Mean and standard deviation of each channel that images are normalised with, for white = 1; None if not known."""
    class_names: tuple[str, ...] | None = None
    """Names of the classes in the order of their numbers, known from ``setup`` on; None if they have none."""
    crop_pct: float | None = None
    """Height of what the network sees over the shorter side to which images are resized for evaluation, from whose
    middle it is cut; None where they are given whole."""
    interpolation: str = "bicubic"
    """How images are resized for evaluation, as Pillow and timm call it."""
    validates_on_test: bool = False
    """Whether the validation images are the test images."""
    held_out: str | None = None
    """Digest of which images are held out of which for validation; None where that is the same for everyone."""
    auto_workers: int | None = None
    """Most workers that ``num_workers: auto`` means; 0 if loading costs next to nothing."""

    def __init__(
        self,
        batch_size: int = 64,
        eval_batch_size: int | None = None,
        num_workers: int | Literal["auto"] = "auto",
        prefetch: int = 2,
        seed: int = 0,
        drop_last: bool = True,
        pin_memory: bool | Literal["auto"] = "auto",
        prepare_per_node: bool = False,
    ) -> None:
        super().__init__()
        check_whole("batch_size", batch_size, 1)
        check_whole("prefetch", prefetch, 1)
        check_whole("seed", seed, 0)
        if eval_batch_size is not None:
            check_whole("eval_batch_size", eval_batch_size, 1, "or null for batch_size")
        if num_workers != "auto":
            check_whole("num_workers", num_workers, 0, "or auto")
        if not isinstance(pin_memory, bool) and pin_memory != "auto":
            raise ValueError(f"pin_memory={pin_memory!r} is not allowed: give true, false or auto")
        self.batch_size, self.eval_batch_size = batch_size, batch_size if eval_batch_size is None else eval_batch_size
        self.num_workers, self.prefetch, self.seed = num_workers, prefetch, seed
        self.drop_last, self.pin_memory = drop_last, pin_memory
        self.prepare_data_per_node = prepare_per_node
        self._parts: dict[Part, ImageSet] = {}

    @property
    def notes(self) -> Sequence[str]:
        """What the user should know of these images before a training."""
        return ()

    @abstractmethod
    def load(self, part: Part) -> ImageSet:
        """Stored images for one use, asked for once; a ValueError says what is missing or damaged and how to get it."""

    @abstractmethod
    def transforms(self, train: bool) -> tuple[Transform, Transform]:
        """Transform and finish of ``SeededDataset``, for training or for evaluation."""

    def setup(self, stage: str | None = None) -> None:
        for part in _STAGES.get(getattr(stage, "value", stage), ("test",)):  # test and predict
            self.images(part)

    def images(self, part: Part) -> ImageSet:
        if part not in self._parts:
            self._parts[part] = self.load(part)
        return self._parts[part]

    def file_names(self, part: Part) -> Sequence[str] | None:
        """Names of the files of a part, relative to the root, in the order of its loader in one process; None for none."""
        return None

    def train_dataloader(self) -> ImageLoader:
        world, rank = self._world_and_rank()
        sampler = TrainingSampler(self.images("train"), self.batch_size, world, rank, self.seed, self.drop_last)
        return self._loader(self._training_images(self.seed), sampler, self.batch_size)

    def val_dataloader(self) -> ImageLoader:
        return self._evaluation_loader("val")

    def test_dataloader(self) -> ImageLoader:
        return self._evaluation_loader("test")

    predict_dataloader = test_dataloader

    def proxy_batch(self, batch_size: int, seed: int = 1, index: int = 0) -> Batch:
        """Training images with the training's transform, drawn without replacement: a function of the arguments."""
        check_whole("seed", seed, 0)
        check_whole("batch_size", batch_size, 1)
        data = self._training_images(seed)
        numbers = draw(len(data), batch_size, seed, index, type(self).__name__)
        return Batch(*data.__getitems__(numbers.tolist()))

    def _training_images(self, seed: int) -> SeededDataset:
        return SeededDataset(self.images("train"), *self.transforms(train=True), seed)

    def _evaluation_loader(self, part: Part) -> ImageLoader:
        world, rank = self._world_and_rank()
        images = self.images(part)
        data = SeededDataset(images, *self.transforms(train=False), seed=None)
        sampler = EvaluationSampler(images, world, rank)
        return self._loader(data, sampler, even_batch_size(len(images), self.eval_batch_size, world))

    def _loader(
        self, data: SeededDataset, sampler: TrainingSampler | EvaluationSampler, batch_size: int
    ) -> ImageLoader:
        workers = self._workers()
        return ImageLoader(
            data,
            batch_size=batch_size,
            sampler=sampler,
            drop_last=False,  # done by the sampler, for all processes together
            collate_fn=_unchanged,
            num_workers=workers,
            prefetch_factor=self.prefetch if workers else None,
            persistent_workers=workers > 0,
            worker_init_fn=follow_loader,
            pin_memory=self._on_cuda() if self.pin_memory == "auto" else bool(self.pin_memory),
            # Seeds of the workers; without it they would be drawn from the global stream.
            generator=torch.Generator().manual_seed(self.seed),
        )

    def _world_and_rank(self) -> tuple[int, int]:
        return (1, 0) if self.trainer is None else (self.trainer.world_size, self.trainer.global_rank)

    def _workers(self) -> int:
        if self.num_workers != "auto":
            return int(self.num_workers)
        limit = self.auto_workers if self.auto_workers is None or self._on_cuda() else 0
        workers = automatic_workers(1 if self.trainer is None else self.trainer.num_devices)
        return workers if limit is None else min(limit, workers)

    def _on_cuda(self) -> bool:
        if self.trainer is None:
            return torch.cuda.is_available()
        return self.trainer.strategy.root_device.type == "cuda"


class ImageLoader(DataLoader):
    """Reads its sampler, and starts its workers, when the first batch is asked for.

    Lightning asks for an iterator before it tells the sampler the epoch, and before a resumed module can say how many
    batches of the epoch are done; with workers, PyTorch's own loader would have drawn images by then.
    """

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]
        try:
            yield from super().__iter__()
        except ValueError as error:  # of a worker it says where in the program
            text = str(error)
            if not text.startswith("Caught ValueError in DataLoader worker"):
                raise
            raise ValueError(text[text.rindex("\nValueError: ") :].removeprefix("\nValueError: ").strip()) from error


def automatic_workers(num_processes: int) -> int:
    """This process' share of the usable CPU cores, at most 12, beside ``num_processes`` on this machine."""
    return min(usable_cores() // num_processes, _MOST_WORKERS)


def _unchanged(batch: Any) -> Any:
    return batch


def hold_out(count: int, size: int) -> tuple[Tensor, Tensor]:
    """Numbers (int64, ascending) of the images kept and of the ``size`` held out of ``count``, always the same ones."""
    if not is_whole(size, 0) or size >= count:
        raise ValueError(f"val_size={size!r} is not allowed: give a whole number from 0 to {count - 1}")
    order = torch.randperm(count, generator=torch.Generator().manual_seed(_HOLD_OUT_SEED))
    return order[size:].sort().values, order[:size].sort().values


def read_splits(path: str | Path) -> tuple[Source, Tensor, Tensor]:
    """Read a file of splits of NAS-Bench-201 or NATS-Bench: which images are split, and the int64 numbers of each half.

    JSON with ``train`` and ``valid`` (of the training images) or ``xvalid`` and ``xtest`` (of those for evaluation);
    each is ``["int", ["0", "5", ...]]`` or a plain list of numbers from 0.
    """
    try:
        content = parse_json(Path(path).expanduser().read_text(encoding="utf-8"), f"splits={str(path)!r}")
    except OSError as error:
        raise ValueError(f"splits={str(path)!r} cannot be read: {error.strerror}; the files are in {_ORIGIN}") from None
    except UnicodeDecodeError as error:
        raise ValueError(f"splits={str(path)!r} is not a text: {error}") from None
    held = list(content) if isinstance(content, Mapping) else [type(content).__name__]
    for source, first, second in (("train", "train", "valid"), ("eval", "xvalid", "xtest")):
        if set(held) == {first, second}:
            halves = _numbers(content[first], first, path), _numbers(content[second], second, path)
            if common := set(halves[0].tolist()) & set(halves[1].tolist()):
                raise ValueError(
                    f"splits={str(path)!r}: {first} and {second} share {len(common)}, one is {min(common)}"
                )
            return source, *halves  # type: ignore[return-value]
    needed = f"train and valid, or xvalid and xtest, as in the files of {_ORIGIN}"
    raise ValueError(f"splits={str(path)!r} holds {one_line(', '.join(map(str, held))) or 'nothing'}; needed: {needed}")


def check_cover(first: Tensor, second: Tensor, count: int, path: str | Path) -> None:
    """Refuse two halves that are not all ``count`` images."""
    largest = int(max(first.max(), second.max()))
    if len(first) + len(second) != count or largest >= count:
        split = f"{len(first)} + {len(second)} images, the last of them {largest}"
        raise ValueError(f"splits={str(path)!r} is for another data set: it splits {split}; here are {count}, from 0")


def _numbers(entry: Any, name: str, path: str | Path) -> Tensor:
    if isinstance(entry, list) and len(entry) == 2 and entry[0] == "int" and isinstance(entry[1], list):
        entry = entry[1]
    try:
        if not isinstance(entry, list) or not entry:
            raise ValueError(f"it is {entry!r:.40}")
        numbers = [int(number) for number in entry if not isinstance(number, bool | float)]
        if len(numbers) != len(entry) or min(numbers) < 0 or len(set(numbers)) != len(numbers):
            raise ValueError("it has negative or repeated places, or some that are not whole numbers")
    except (TypeError, ValueError) as error:
        raise ValueError(f'splits={str(path)!r}: {name} must be a list of places, or ["int", list]: {error}') from None
    return torch.tensor(numbers)
