"""Accuracies of the space ``nb201``: the public tables, a small embedded one, and NATS-Bench.

The public files are those of the GENIUS repository (github.com/mingkai-zheng/GENIUS, folder ``benchmark``):
``{architecture string: {"val_acc_200", "test_acc_200", "rank"}}``, accuracies in percent, mean over training seeds.
``test_acc_200`` is what the correlations of the VKDNW paper are computed with; ``val_acc_200`` is `load_nb201_val`'s. The embedded table has cells that this
project trained on scikit-learn's handwritten digits.

NATS-Bench's folder ``NATS-tss-v1_0-3ffb9-simple`` is the user's own download (github.com/D-X-Y/NATS-Bench says from
where) and is read through the ``nats_bench`` package, which unpickles it: use only a folder whose origin you trust.
Unpickling all 15,625 files takes minutes, so what is needed of them is kept as a small CSV file in the cache folder.
"""

from __future__ import annotations

import csv
import io
import json
import pickle
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

from vkdnw_pl.errors import program
from vkdnw_pl.oracles.base import Oracle, TableFile, num_archs, public_files
from vkdnw_pl.oracles.csv_file import embedded_accuracies
from vkdnw_pl.oracles.nats_folder import META, file_name, find_folder, kept_accuracies
from vkdnw_pl.spaces import NB201

SPACE = NB201.name
BASE_URL = "https://raw.githubusercontent.com/mingkai-zheng/GENIUS/97361d30b2da337edd0c8e1ed71b7c88b4a85d38/benchmark/"
"""Public address of the three files, at a fixed commit."""

FILES: dict[str, TableFile] = {
    "cifar10": TableFile(
        "nasbench201_cifar10.json", "7c5d7d890a285deb41556f95e904fab854f8fcfd65da7eb39410fdedd87215ec"
    ),
    "cifar100": TableFile(
        "nasbench201_cifar100.json", "6b21a0e98864e0aff288fc54bb5105907441bfd63bb063ad3d279edcbf926da5"
    ),
    "ImageNet16-120": TableFile(
        "nasbench201_imagenet.json", "a29f63ca37b72cfa9a8e4ce6bad5d678c6039c9929c8060b7d32187f537d560f"
    ),
}
"""Data set -> its file."""

CONTENTS = (
    "test and validation accuracies of all 15,625 NAS-Bench-201 architectures on CIFAR-10, CIFAR-100 and ImageNet16-120 (three JSON files, "
    "8 MB)"
)
"""What there is to download, for the user."""

NETWORKS: dict[str, dict[str, int]] = {
    "cifar10": {},
    "cifar100": {"num_classes": 100},
    "ImageNet16-120": {"image_size": 16, "num_classes": 120},
}
"""Data set -> its networks, as far as they are not as by default (16 channels, 5 cells, 32 pixels, 10 classes)."""
DIGITS_NETWORK = {"channels": 8, "cells": 1, "image_size": 16, "in_channels": 1}
"""The networks that the embedded table's accuracies are of; see benchmarks/nb201_digits."""

NATS_FOLDER = "NATS-tss-v1_0-3ffb9-simple"
_HP = "200"
# What unpickling and reading of a damaged or foreign file raises.
_DAMAGE = (
    *(OSError, EOFError, pickle.UnpicklingError, LookupError, ValueError, TypeError, AttributeError, ImportError),
    AssertionError,
)

DIGITS = files("vkdnw_pl.oracles").joinpath("tables", "nb201_digits.csv")


def load_nb201(folder: Path | None) -> Oracle:
    """Load the public tables: test accuracies on ``cifar10``, ``cifar100`` and ``ImageNet16-120``; of ``folder`` see
    `public_files`."""
    description = "test accuracy after 200 epochs"
    return _load_public(folder, "nb201", "test", "test_acc_200", description, {})


def load_nb201_val(folder: Path | None) -> Oracle:
    """Load the validation accuracies of the same files: ``cifar10-valid``, ``cifar100`` and ``ImageNet16-120``.

    Those of ``cifar10-valid`` (NATS-Bench's name) are of other networks than the test accuracies on ``cifar10``: of such
    that were trained on half of the training images, measured on the other half. The other two are of the same networks,
    measured on the half of the test images that the test accuracies leave out.
    """
    description = (
        "validation accuracy after 200 epochs, cifar10-valid of networks trained on half of the training images"
    )
    return _load_public(folder, "nb201_val", "val", "val_acc_200", description, {"cifar10": "cifar10-valid"})


def _load_public(
    folder: Path | None, oracle: str, split: str, key: str, description: str, renamed: Mapping[str, str]
) -> Oracle:
    paths = public_files("nb201", FILES, folder, oracle)
    tables = {}
    for dataset, path in paths.items():
        entries = json.loads(path.read_text(encoding="utf-8"))
        tables[renamed.get(dataset, dataset)] = {arch: float(entry[key]) for arch, entry in entries.items()}
    description = (
        f"public NAS-Bench-201 tables in {paths['cifar10'].parent} ({num_archs(tables):,} architectures, {description}): "
        f"{', '.join(tables)}; for the embedded table: oracle=digits"
    )
    networks = {renamed.get(dataset, dataset): network for dataset, network in NETWORKS.items()}
    return Oracle(oracle, description, dict.fromkeys(tables, split), tables, networks=networks)


def load_digits() -> Oracle:
    """Load the table that comes with the package: data set ``digits``, mean test accuracy over training seeds."""
    tables = embedded_accuracies("digits", DIGITS, NB201())
    description = (
        f"embedded table nb201_digits ({num_archs(tables):,} NAS-Bench-201 cells trained by this project on handwritten "
        f"digits, test accuracy); for CIFAR-10, CIFAR-100 and ImageNet16-120: {program()} download nb201, "
        "then oracle=nb201"
    )
    networks = dict.fromkeys(tables, DIGITS_NETWORK)
    return Oracle("digits", description, dict.fromkeys(tables, "test"), tables, networks=networks)


def load_nats(folder: Path | None) -> Oracle:
    """Load test accuracies after 200 epochs, averaged over the training seeds that there are.

    CIFAR-10 is the benchmark's ``ori-test`` of networks trained on all training images, the other two are ``x-test``.
    ``folder`` is the benchmark's or the one that contains it; None for the cache folder.
    """
    folder = find_folder(folder, NATS_FOLDER, "nats")
    tables = kept_accuracies(folder, "tss", NB201(), _read_benchmark)
    description = (
        f"NATS-Bench in {folder} ({num_archs(tables):,} architectures, test accuracy after {_HP} epochs): "
        f"{', '.join(tables)}; for the embedded table: oracle=digits"
    )
    return Oracle("nats", description, dict.fromkeys(tables, "test"), tables, networks=NETWORKS)


def _read_benchmark(folder: Path) -> str:
    """Return the benchmark as CSV text."""
    try:
        from nats_bench import create
        from tqdm import tqdm
    except ModuleNotFoundError as error:
        raise ValueError(
            "oracle='nats' needs the package nats_bench: pip install nats_bench (or pip install -e '.[nats]')"
        ) from error

    try:
        api = create(str(folder), "tss", fast_mode=True, verbose=False)
    except _DAMAGE as error:
        raise ValueError(f"oracle='nats': {folder / META} is damaged: {error!r}") from error
    missing = [name for name in map(file_name, range(len(api))) if not (folder / name).is_file()]
    if missing:
        raise ValueError(
            f"oracle='nats': {folder} is incomplete: {len(missing):,} of {len(api):,} files are missing, the first is "
            f"{missing[0]}; unpack the benchmark again"
        )
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["arch", *FILES])
    for index in tqdm(range(len(api)), "reading NATS-Bench"):
        try:
            writer.writerow([api.arch(index), *(_accuracy(api, index, dataset) for dataset in FILES)])
        except _DAMAGE as error:
            raise ValueError(f"oracle='nats': {folder / file_name(index)} is damaged: {error!r}") from error
        api.arch2infos_dict.pop(index)  # the package would hold on to gigabytes
    return out.getvalue()


def _accuracy(api: Any, index: int, dataset: str) -> float:
    info = api.get_more_info(index, dataset, hp=_HP, is_random=False)
    arch = api.arch2infos_dict[index][_HP].arch_str
    if arch != api.arch(index):
        raise ValueError(f"it holds the architecture {arch!r} instead of {api.arch(index)!r}")
    return float(info["test-accuracy"])
