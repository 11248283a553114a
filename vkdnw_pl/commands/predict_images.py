"""The command ``predict`` with ``--images``."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from vkdnw_pl.errors import CommandFailed, check_whole, one_line, user_input
from vkdnw_pl.options import ComputeOptions, OptionGroup
from vkdnw_pl.runs.folder import check_out, digest

_SHOWN, _WIDEST = 10, 60


@dataclass(frozen=True, kw_only=True)
class PredictImagesOptions(OptionGroup):
    """Options of ``predict`` with ``--images``."""

    source: str
    """The trained network: a run folder of fit, a checkpoint, or the folder or file that export wrote."""
    images: str | None = None
    """The pictures: a folder of any depth, or one picture."""
    out: str | None = None
    """Folder for predictions.csv. Default: a name made from the pictures' and a digest of both paths, below predictions/."""
    ckpt_path: str | None = None
    """Checkpoint of a run folder: best, last or epoch_N. Default: best, else last."""
    top_k: int = 5
    """Number of the likeliest classes that get columns of their own; 0 for none."""
    batch_size: int = 64
    """Pictures that are looked at together; changes only speed and memory."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where to compute; auto takes CUDA if there is some."""
    space: str = "auto"
    """Search space of the network, if it is a class of your own: its dotted name."""
    progress: bool = True
    """Show how far it is."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.images:
            raise ValueError(f"images={self.images!r} is not allowed: give a folder of pictures, or one picture")
        check_whole("top_k", self.top_k, 0)
        check_whole("batch_size", self.batch_size, 1)

    @property
    def folder(self) -> Path:
        """Folder for predictions.csv; never that of a run, where such a file is of the test images."""
        images = Path(self.images or "").expanduser().resolve()
        if self.out is None:
            paths = {"source": str(Path(self.source).expanduser().resolve()), "images": str(images)}
            return Path("predictions", f"{images.stem or 'images'}-{digest(paths)}")
        folder = Path(self.out).expanduser()
        check_out(folder)
        if (folder / "meta.json").exists():
            raise ValueError(f"out={self.out!r} is not allowed: it is a run folder; give one for these predictions")
        return folder


def predict_images(options: PredictImagesOptions) -> int:
    """Label pictures with a trained network.

    They are resized, cropped and normalised as those that the network was evaluated on; its training's images are not
    needed. OUT/predictions.csv has a line for each picture: file, predicted class, its probability, and the likeliest
    classes.

    Returns:
        0 if every picture has a line, 1 if some cannot be read, which are named.
    """
    with user_input():
        folder = options.folder
        device = ComputeOptions(device=options.device).resolve_device()
    from vkdnw_pl.callbacks.prediction_writer import write_predictions
    from vkdnw_pl.training.pictures import Classifier, find_pictures, label_pictures

    with user_input():
        root, files = find_pictures(str(options.images))
        classifier = Classifier.read(options.source, options.ckpt_path, options.space)
    names = classifier.record.class_names
    print(
        f"{len(files):,} picture{'s' * (len(files) > 1)}, {classifier.record.num_classes} classes, network of {classifier.path}"
    )
    if names is None:
        print("note: the network knows no names of its classes: numbers stand in their place", file=sys.stderr)
    rows, broken = label_pictures(classifier, root, files, options.batch_size, device, options.top_k, options.progress)
    for reason in list(broken.values())[:_SHOWN]:
        print(f"not labelled: {reason}", file=sys.stderr)
    failure = f"{len(broken):,} of {len(files):,} pictures cannot be read"
    if not rows:
        raise CommandFailed(f"{failure}; nothing is written")
    path = folder / "predictions.csv"
    folder.mkdir(parents=True, exist_ok=True)
    write_predictions(path, rows, names, files, options.top_k)
    best = {files[i]: (row.classes[0], row.probabilities[0]) for i, row in rows.items()}
    _print_table(best, names)
    print(f"predictions in {path}")
    if broken:
        raise CommandFailed(f"{failure} and have no line in {path}")
    return 0


def _print_table(best: Mapping[str, tuple[int, float]], names: Sequence[str] | None) -> None:
    """The first pictures with their classes, and how many there are of each class."""
    from tabulate import tabulate

    def name(number: int) -> str:
        return one_line(str(number) if names is None else names[number], _WIDEST)

    lines = [
        (one_line(file, _WIDEST), name(number), f"{100 * share:.1f} %")
        for file, (number, share) in list(best.items())[:_SHOWN]
    ]
    align = ("left", "left", "right")
    print(tabulate(lines, ("file", "predicted", "probability"), "plain", disable_numparse=True, colalign=align))
    if len(best) > _SHOWN:
        print(f"... and {len(best) - _SHOWN:,} more")
    counts: dict[int, int] = {}
    for number, _ in best.values():
        counts[number] = counts.get(number, 0) + 1
    most = sorted(counts, key=lambda number: (-counts[number], number))
    more = f"; {len(most) - _SHOWN} more classes" if len(most) > _SHOWN else ""
    print("by class: " + "; ".join(f"{name(number)!r} {counts[number]:,}" for number in most[:_SHOWN]) + more)
