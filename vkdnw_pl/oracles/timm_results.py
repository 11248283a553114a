"""ImageNet accuracies of timm's models: the tables in the ``results`` folder of the timm repository.

One row for each set of weights and size of images: ``model,img_size,top1,...``, accuracies in percent. An architecture has
several; `choose_weights` says which stands for it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from vkdnw_pl.oracles.base import NotDownloaded, Oracle, TableFile, cache_dir, download_command
from vkdnw_pl.runs.csv_table import read_csv
from vkdnw_pl.spaces import TimmZoo

SPACE = TimmZoo.name

BASE_URL = "https://raw.githubusercontent.com/huggingface/pytorch-image-models/aa4b5850c1543fa488abf260f18390eda46cf85d/results/"
"""Public address of the files, at a fixed commit."""

FILES: dict[str, TableFile] = {
    "imagenet": TableFile("results-imagenet.csv", "30972bf7c7ab451bbd4480ec6116b13d0a84441c57bbc946896fd312264acfcd"),
    "imagenet-real": TableFile(
        "results-imagenet-real.csv", "e94696aed665475e4d0235195733775c5e1b3f36d6f5f7de99f4386e7ed11630"
    ),
    "imagenetv2": TableFile(
        "results-imagenetv2-matched-frequency.csv", "1d066d8897c40224b14f3cf1d02029c49ebdc56b761ba9a3841bd3bdd3bd0a8e"
    ),
}
"""Data set -> its file: ImageNet's validation images, the same with reassessed labels, and ImageNetV2."""

CONTENTS = (
    "accuracies of timm's models on ImageNet-1k, on the same images with reassessed labels, and on ImageNetV2 (three CSV "
    "files, 0.4 MB)"
)
"""What there is to download, for the user."""

_SIZE = 224
_OTHER_DATA = frozenset(
    [
        "in12k",
        "in21k",
        "in22k",
        "jft",
        "ig1b",
        "yfcc100m",
        "laion2b",
        "laiona",
        "openai",
        "webli",
        "clip",
        "m30m",
        "m38m",
        "seer",
        "swag",
        "indomain",
        "6m",
        "stage2",
    ]
)
"""Parts of a tag that name images beyond ImageNet-1k (the second stage of SSLD follows one on ImageNet-22k)."""
_TEACHER = frozenset(("dist", "distilled", "ssld", "usi", "teacher"))
"""Parts of a tag that say that a trained network taught this one."""


@dataclass(frozen=True)
class Weights:
    """One row: weights of an architecture, evaluated at one size of images."""

    arch: str
    tag: str
    image_size: int
    top1: float

    @property
    def level(self) -> Literal["plain", "taught", "other data"]:
        """How the weights were trained, as far as the tag says it."""
        parts = set(self.tag.split("_"))
        if parts & _OTHER_DATA:
            return "other data"
        return "taught" if parts & _TEACHER else "plain"


def choose_weights(rows: Iterable[Weights]) -> Weights | None:
    """The row that stands for an architecture.

    Of weights that saw ImageNet-1k alone, those without a teacher if there are any; of these the rows evaluated nearest to
    224 pixels (the smaller of two that are equally near), which is where budgets are counted; of these the highest top-1.
    None where all weights saw other images too.
    """
    usable = [row for row in rows if row.level != "other data"]

    def order(row: Weights) -> tuple[bool, int, int, float, str]:
        return row.level != "plain", abs(row.image_size - _SIZE), row.image_size, -row.top1, row.tag

    return min(usable, key=order, default=None)


def load_timm(path: Path | None) -> Oracle:
    """Load the tables.

    ``path`` is one such file, or a folder with them (or a clone of the timm repository); None for the cache folder. Of a
    folder, the tables of `FILES` that are there are data sets.
    """
    files = _find(path)
    rows = {dataset: read_results(file) for dataset, file in files.items()}
    first = next(iter(rows.values()))
    by_arch: dict[str, list[Weights]] = {}
    for row in first.values():
        if not row.arch.startswith("test_"):  # tiny networks that timm tests itself with
            by_arch.setdefault(row.arch, []).append(row)
    chosen = [row for row in map(choose_weights, by_arch.values()) if row is not None]
    if not chosen:
        raise ValueError(
            f"oracle='timm': {next(iter(files.values()))} holds no model that was trained on ImageNet-1k alone"
        )
    keys = {row.arch: (f"{row.arch}.{row.tag}" if row.tag else row.arch, row.image_size) for row in chosen}
    tables = {}
    for dataset, dataset_rows in rows.items():
        if missing := [model for model, size in keys.values() if (model, size) not in dataset_rows]:
            raise ValueError(
                f"oracle='timm': {files[dataset]} lacks {len(missing)} of {len(keys)} models, the first is {missing[0]}: "
                f"tables of one version of timm belong together; fetch them with: {download_command('timm', files[dataset].parent)}"
            )
        tables[dataset] = {arch: dataset_rows[key].top1 for arch, key in keys.items()}
    taught = sum(row.level == "taught" for row in chosen)
    description = (
        f"timm's results in {next(iter(files.values())).parent} ({len(chosen):,} architectures, top-1 of weights trained "
        f"on ImageNet-1k alone, {taught} of them with a teacher): {', '.join(tables)}"
    )
    return Oracle("timm", description, dict.fromkeys(tables, "val"), tables, SPACE)


def load_auto(folder: Path | None) -> Oracle | None:
    """`load_timm`, but None where neither a folder is given nor the cache folder has the tables; one of them is enough."""
    in_cache = (cache_dir() / "timm" / FILES["imagenet"].name).is_file()
    return load_timm(folder) if folder is not None or in_cache else None


def _find(path: Path | None) -> dict[str, Path]:
    """Data set -> file."""
    if path is not None and path.is_file():
        datasets = {file.name: dataset for dataset, file in FILES.items()}
        return {datasets.get(path.name, "imagenet"): path}
    folder = cache_dir() / "timm" if path is None else path
    name = FILES["imagenet"].name
    for results in (folder, folder / "results", folder / "timm"):
        if (results / name).is_file():
            return {key: results / file.name for key, file in FILES.items() if (results / file.name).is_file()}
    raise NotDownloaded(
        f"oracle='timm' needs {name} of the timm repository in the folder {folder}; get it with: {download_command('timm', folder)}"
    )


def read_results(path: Path) -> dict[tuple[str, int], Weights]:
    """(model with tag, size of images) -> row."""
    try:
        table = read_csv(path, ("model", "img_size", "top1"))
    except ValueError as error:
        raise ValueError(
            f"oracle='timm': {error} (this must be a results table of timm; a table of your own, with the columns "
            "arch,<data set>, can be given as oracle=FILE.csv)"
        ) from None
    rows: dict[tuple[str, int], Weights] = {}
    sizes = table.required("img_size", table.wholes("img_size"))
    accuracies = table.required("top1", table.numbers("top1"))
    for row, (model, size, top1) in enumerate(zip(table.texts("model"), sizes, accuracies)):
        if not model or not 0 <= top1 <= 100:
            raise ValueError(
                f"oracle='timm': {table.place(row)}: {model!r} with top1={top1!r} is not a model with an accuracy in "
                "percent"
            )
        arch, _, tag = model.partition(".")
        rows[model, size] = Weights(arch, tag, size, top1)
    if not rows:
        raise ValueError(f"oracle='timm': {path} holds no model")
    return rows
