"""Accuracies of the space ``nats_sss``: a small embedded table, and NATS-Bench's size space.

The benchmark's folder ``NATS-sss-v1_0-50262-simple`` is the user's own download (github.com/D-X-Y/NATS-Bench says from
where). Its records are pickles, read without running anything that is in them. There is **one training run** of each
network at the full 90 epochs: values are no mean over seeds, and nobody knows how well two runs would agree (the ceiling
of every correlation). The embedded table has small networks that this project trained on scikit-learn's handwritten digits.
"""

from __future__ import annotations

import bz2
import csv
import io
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

from vkdnw_pl.errors import what_it_says
from vkdnw_pl.oracles.base import Oracle, num_archs
from vkdnw_pl.oracles.csv_file import embedded_accuracies
from vkdnw_pl.oracles.nats_folder import META, file_name, find_folder, kept_accuracies
from vkdnw_pl.oracles.nb201_tables import NETWORKS
from vkdnw_pl.spaces import NatsSSS
from vkdnw_pl.spaces.nats_sss import CHANNELS, NUM_CHANNELS

SPACE = NatsSSS.name
FOLDER = "NATS-sss-v1_0-50262-simple"
DIGITS = files("vkdnw_pl.oracles").joinpath("tables", "sss_digits.csv")
DIGITS_NETWORK = {"width": 0.25, "image_size": 16, "in_channels": 1}
"""The networks that the embedded table's accuracies are of; see benchmarks/sss_digits."""

_HP = "90"
_TEST = {
    "cifar10": ("cifar10", "ori-test"),
    "cifar100": ("cifar100", "x-test"),
    "ImageNet16-120": ("ImageNet16-120", "x-test"),
}
_VAL = {name: (name, "x-valid") for name in ("cifar10-valid", "cifar100", "ImageNet16-120")}
_LARGEST = 1 << 26
"""Bytes that a record may have when it is unpacked; the real ones have less than a hundred thousand, the meta file half a
million."""


def load_sss_digits() -> Oracle:
    """Load the table that comes with the package: data set ``digits``, mean test accuracy over three training seeds."""
    tables = embedded_accuracies("sss_digits", DIGITS, NatsSSS())
    description = (
        f"embedded table sss_digits ({num_archs(tables):,} networks of NATS-Bench's size space at a quarter of their width, "
        "trained by this project on handwritten digits, test accuracy); for CIFAR-10, CIFAR-100 and ImageNet16-120: "
        "oracle=nats_sss and the benchmark's folder"
    )
    networks = dict.fromkeys(tables, DIGITS_NETWORK)
    return Oracle("sss_digits", description, dict.fromkeys(tables, "test"), tables, SPACE, networks=networks)


def load_nats_sss(folder: Path | None) -> Oracle:
    """Load test accuracies after 90 epochs: ``cifar10``, ``cifar100`` and ``ImageNet16-120``.

    CIFAR-10 is the benchmark's ``ori-test`` of networks trained on all training images, the other two are ``x-test``.
    ``folder`` is the benchmark's or the one that contains it; None for the cache folder. Where records are missing, only
    the others are known, and the cautions say so. ValueError if the folder or a record is not the benchmark's.
    """
    return _load(folder, "nats_sss", "test", _TEST)


def load_nats_sss_val(folder: Path | None) -> Oracle:
    """Load validation accuracies (``x-valid``) of the same folder: ``cifar10-valid``, ``cifar100``, ``ImageNet16-120``.

    Those of ``cifar10-valid`` are of other networks than the test accuracies on ``cifar10``: of such that were trained on
    half of the training images, measured on the other half.
    """
    return _load(folder, "nats_sss_val", "val", _VAL)


def _load(folder: Path | None, oracle: str, split: str, sources: Mapping[str, tuple[str, str]]) -> Oracle:
    folder = find_folder(folder, FOLDER, oracle)
    kept = kept_accuracies(folder, "sss", NatsSSS(), _read_benchmark)
    tables = {dataset: kept[f"{trained_on} {images}"] for dataset, (trained_on, images) in sources.items()}
    caution = f"one training run at {_HP} epochs, so no mean over seeds and no known ceiling"
    if (known := num_archs(tables)) < len(CHANNELS) ** NUM_CHANNELS:
        caution += f"; the folder is incomplete, with records of {known:,} of 32,768 networks"
    description = (
        f"NATS-Bench's size space in {folder} ({known:,} architectures, {split} accuracy after {_HP} epochs, one run): "
        f"{', '.join(tables)}; for the embedded table: oracle=sss_digits"
    )
    networks = {dataset: NETWORKS[dataset.removesuffix("-valid")] for dataset in tables}
    cautions = dict.fromkeys(tables, caution)
    return Oracle(
        oracle, description, dict.fromkeys(tables, split), tables, SPACE, networks=networks, cautions=cautions
    )


def _read_benchmark(folder: Path) -> str:
    """Return the accuracies of all records that there are as CSV text, one column for each data set and set of images."""
    from tqdm import tqdm

    where = f"oracle='nats_sss': {folder / META}"
    archs = _unpickled(folder / META, where).get("meta_archs")
    if archs != list(NatsSSS().enumerate()):
        raise ValueError(f"{where} is not that of the size space: its meta_archs are not 8:8:8:8:8 to 64:64:64:64:64")
    there = [index for index in range(len(archs)) if (folder / file_name(index)).is_file()]
    if not there:
        raise ValueError(
            f"oracle='nats_sss': {folder} has no record, such as {file_name(0)}; unpack the benchmark again"
        )
    columns = list(dict.fromkeys([*_TEST.values(), *_VAL.values()]))
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["arch", *map(" ".join, columns)])
    for index in tqdm(there, "reading NATS-Bench", disable=len(there) < 100):
        where = f"oracle='nats_sss': {folder / file_name(index)}"
        record = _unpickled(folder / file_name(index), where)
        try:
            _check_arch(record[_HP], index, archs[index])
            writer.writerow([archs[index], *(_accuracy(record[_HP], *column) for column in columns)])
        except (LookupError, TypeError, ValueError, AttributeError) as error:
            raise ValueError(f"{where} is not a record of the size space: {error!r}") from error
    return out.getvalue()


def _check_arch(record: Mapping[str, Any], index: int, arch: str) -> None:
    runs = record["all_results"].values()
    channels = {run["arch_config"]["channels"] for run in runs}
    if record["arch_index"] != index or channels != {arch}:
        raise ValueError(f"it holds number {record['arch_index']}, {', '.join(map(str, channels))}, instead of {arch}")


def _accuracy(record: Mapping[str, Any], dataset: str, images: str) -> float:
    """Mean over the training seeds of the accuracy behind the last epoch, in percent."""
    runs = [record["all_results"][dataset, seed] for seed in record["dataset_seed"][dataset]]
    values = [float(run["eval_acc1es"][f"{images}@{run['epochs'] - 1}"]) for run in runs]
    return sum(values) / len(values)


def _unpickled(path: Path, where: str) -> dict[Any, Any]:
    from vkdnw_pl.data.restricted_pickle import read_dict  # NumPy, which listing the tables does without

    unpacker = bz2.BZ2Decompressor()
    try:
        content = unpacker.decompress(path.read_bytes(), _LARGEST)
    except OSError as error:
        raise ValueError(f"{where} cannot be read: {what_it_says(error)}") from error
    if not unpacker.eof:
        raise ValueError(f"{where} is damaged: it is cut off, or has more than {_LARGEST >> 20} MB when it is unpacked")
    return read_dict(content, where, "record of NATS-Bench")
