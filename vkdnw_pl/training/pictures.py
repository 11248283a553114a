"""Pictures of a user, labelled by a trained network that comes with what it takes to prepare them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from vkdnw_pl.callbacks.prediction_writer import TOP_K, Prediction, read_logits
from vkdnw_pl.data.base import automatic_workers
from vkdnw_pl.data.own_images import ENDINGS, image_files
from vkdnw_pl.data.photos import open_photo
from vkdnw_pl.data.transforms import Step, needed_side, photo_evaluation
from vkdnw_pl.runs.signals import follow_loader
from vkdnw_pl.training.export import read_source
from vkdnw_pl.training.export_options import ExportOptions
from vkdnw_pl.training.exported import NetworkRecord
from vkdnw_pl.training.folder import NAMED_CHECKPOINT, TrainingFolder

_FEW = 256
"""So many pictures are read before another process would have begun."""
_SOURCES = "give a run folder of fit, a checkpoint, or the folder or file that export wrote"
_MODES = {1: "L", 3: "RGB"}
"""Channels of a network -> Pillow's name for such images."""


@dataclass(frozen=True)
class Classifier:
    """A trained network and what it says of itself."""

    network: nn.Module
    """In evaluation mode, on the CPU."""
    record: NetworkRecord
    path: Path
    """Where it was read."""

    @classmethod
    def read(cls, source: str, checkpoint: str | None = None, space: str = "auto") -> Classifier:
        """Read the network of a run folder, a checkpoint or an export.

        Args:
            source: path.
            checkpoint: ``best``, ``last`` or ``epoch_N`` of a run folder; None for the best one, else the last one.
            space: dotted name of a space of the user's own.

        Raises:
            ValueError: if there is no trained network, or it does not say how its images are normalised.
        """
        path = Path(source).expanduser()
        if not path.exists():
            raise ValueError(f"source={source!r} does not exist; {_SOURCES}")
        folder = TrainingFolder(path)
        if checkpoint is not None and not NAMED_CHECKPOINT.fullmatch(checkpoint):
            raise ValueError(f"ckpt_path={checkpoint!r}: give best, last or epoch_N here, or the file as source")
        if checkpoint is None:
            has_best = folder.checkpoint("best").is_file() or not folder.checkpoint("last").is_file()
            checkpoint = "best" if has_best else "last"
        elif not folder.checkpoints.is_dir():
            raise ValueError(
                f"ckpt_path={checkpoint!r} has no use here: {source} is no run folder of fit; leave it out"
            )
        found = read_source(ExportOptions(source=str(path), checkpoint=checkpoint, space=space))
        record = found.record
        if record.normalisation is None:
            raise ValueError(
                f"source={source!r} does not say how its images are normalised: the data module that it was trained with "
                "has no image_statistics (mean and standard deviation of each channel, for white = 1)"
            )
        channels = record.input_size[0]
        if channels not in _MODES:
            raise ValueError(f"source={source!r} takes images of {channels} channels; pictures have 1 or 3")
        if any(len(values) not in (1, channels) for values in record.normalisation.values()):
            raise ValueError(f"source={source!r} has {channels} channels and a normalisation of {record.normalisation}")
        return cls(found.network, record, folder.checkpoint(checkpoint) if folder.checkpoints.is_dir() else path)

    def transform(self) -> tuple[Step, Step]:
        """Of a picture, and of a batch of them, to what the network takes: images (B, C, H, W)."""
        record = self.record
        assert record.normalisation is not None  # `read` has seen to it
        channels, height, _ = record.input_size
        size = record.resized_from or height
        mean, std = (record.normalisation[name] for name in ("mean", "std"))
        prepare, normalise = photo_evaluation(size, record.crop_pct, mean, std, record.interpolation or "bicubic")

        def finish(images: Tensor) -> Tensor:
            images = normalise(images)
            if size == height:
                return images
            return F.interpolate(images, size=(height, height), mode="bilinear", align_corners=False)

        return (lambda image: prepare(image.convert(_MODES[channels]))), finish


def find_pictures(images: str) -> tuple[Path, list[str]]:
    """The image files below a folder, or one file: the folder that they are relative to, and their names in order."""
    path = Path(images).expanduser()
    if path.is_file():
        return path.parent, [path.name]
    if not path.is_dir():
        raise ValueError(f"images={images!r} does not exist; give a folder of pictures, or one picture")
    files, others = image_files(path, "")
    if not files:
        also = f"; it has {len(others)} other file(s), such as {others[0]!r}" if others else ""
        raise ValueError(f"images={images!r} holds no pictures, whose names end in {', '.join(ENDINGS)}{also}")
    return path, files


def label_pictures(
    classifier: Classifier,
    root: Path,
    files: Sequence[str],
    batch_size: int = 64,
    device: str = "cpu",
    top_k: int = TOP_K,
    progress: bool = False,
) -> tuple[dict[int, Prediction], dict[int, str]]:
    """Label pictures; returns the predictions by the picture's number, and why others cannot be read.

    Args:
        classifier: its network is moved to ``device``.
        root: folder that the files are relative to.
        files: names.
        batch_size: pictures that are looked at together.
        device: of the computation.
        top_k: as many of the likeliest classes are kept.
        progress: whether a bar shows how far it is, where it takes longer than a moment.
    """
    prepare, finish = classifier.transform()
    workers = automatic_workers(1) if len(files) > _FEW else 0
    record = classifier.record
    least_side = needed_side(record.resized_from or record.input_size[1], record.crop_pct)  # as ImageFolder does
    pictures = _Pictures(root, files, prepare, least_side)
    loader = DataLoader(pictures, batch_size, num_workers=workers, collate_fn=list, worker_init_fn=follow_loader)
    network = classifier.network.to(device)
    predictions: dict[int, Prediction] = {}
    broken: dict[int, str] = {}
    with torch.inference_mode(), tqdm(total=len(files), unit=" pictures", delay=2, disable=not progress) as bar:
        for batch in loader:
            broken |= {index: content for index, content in batch if isinstance(content, str)}
            whole = {index: content for index, content in batch if not isinstance(content, str)}
            if whole:
                logits = network(finish(torch.stack(list(whole.values()))).to(device))
                predictions |= zip(whole, read_logits(logits, top_k=top_k), strict=True)
            bar.update(len(batch))
    return predictions, broken


class _Pictures(Dataset[tuple[int, "Tensor | str"]]):
    """Prepared pictures by their number, or what is wrong with them."""

    def __init__(self, root: Path, files: Sequence[str], prepare: Step, least_side: int) -> None:
        self.root, self.files, self.prepare, self.least_side = root, files, prepare, least_side

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> tuple[int, Tensor | str]:
        try:
            photo = open_photo(str(self.root / self.files[index]), least_side=self.least_side)
            return index, self.prepare(photo)
        except ValueError as error:
            return index, str(error)
