"""Tables of the space ``nb201``: the public one of all 15,625 architectures, and a small one that is embedded.

The public files are those of the GENIUS repository (github.com/mingkai-zheng/GENIUS, folder ``benchmark``):
``{architecture string: {"val_acc_200", "test_acc_200", "rank"}}``, accuracies in percent, mean over training seeds.
``test_acc_200`` is what the correlations of the VKDNW paper are computed with. The embedded table has cells that this
project trained on scikit-learn's handwritten digits.
"""

from __future__ import annotations

import dataclasses
import json
from importlib.resources import files
from pathlib import Path

from vkdnw_pl.oracles.base import Oracle, TableFile, cache_dir, download_command, num_archs
from vkdnw_pl.oracles.csv_file import parse_table
from vkdnw_pl.oracles.fetch import sha256_of
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


DIGITS = files("vkdnw_pl.oracles").joinpath("tables", "nb201_digits.csv")


def missing_files(folder: Path) -> list[str]:
    """Return the names of the public files that ``folder`` lacks."""
    return [file.name for file in FILES.values() if not (folder / file.name).is_file()]


def load_nb201(folder: Path | None) -> Oracle:
    """Load the public tables: data sets ``cifar10``, ``cifar100`` and ``ImageNet16-120``.

    ``folder`` has the three files, or a subfolder ``nb201`` of them; None for the cache folder. ValueError if a file is
    missing or is not, byte for byte, the published one.
    """
    folder = _public_folder(folder)
    if missing := missing_files(folder):
        raise ValueError(
            f"oracle='nb201' needs {', '.join(file.name for file in FILES.values())} in the folder {folder}; missing: "
            f"{', '.join(missing)}; get them with: {download_command('nb201', folder)}"
        )
    tables = {}
    for dataset, file in FILES.items():
        path = folder / file.name
        # The hash covers everything that could be checked: number, spelling and order of the keys, and every value.
        sha256 = sha256_of(path)
        if sha256 != file.sha256:
            raise ValueError(
                f"oracle='nb201': {path} is damaged or another file: its SHA-256 is {sha256}, that of the published "
                f"file {file.sha256}; get it with: {download_command('nb201', folder)} (a table of your own can be given "
                "as oracle=FILE.csv)"
            )
        entries = json.loads(path.read_text(encoding="utf-8"))
        tables[dataset] = {arch: float(entry["test_acc_200"]) for arch, entry in entries.items()}
    description = (
        f"public NAS-Bench-201 tables in {folder} ({num_archs(tables):,} architectures, test accuracy after 200 epochs): "
        f"{', '.join(tables)}; for the embedded table: oracle=digits"
    )
    return Oracle("nb201", description, dict.fromkeys(tables, "test"), tables)


def load_digits() -> Oracle:
    """Load the table that comes with the package: data set ``digits``, mean test accuracy over training seeds."""
    if not DIGITS.is_file():
        raise ValueError(f"oracle='digits': the installation is incomplete, {DIGITS} is missing; install it again")
    tables = parse_table(DIGITS.read_text(encoding="utf-8"), str(DIGITS), NB201())
    description = (
        f"embedded table nb201_digits ({num_archs(tables):,} NAS-Bench-201 cells trained by this project on handwritten "
        "digits, test accuracy); for CIFAR-10, CIFAR-100 and ImageNet16-120: python -m vkdnw_pl download nb201, "
        "then oracle=nb201"
    )
    return Oracle("digits", description, dict.fromkeys(tables, "test"), tables)


def load_auto(folder: Path | None) -> Oracle:
    """Load the public tables where they are, else, without a folder, the embedded one."""
    public = _public_folder(folder)
    missing = missing_files(public)
    if not missing:
        return load_nb201(public)
    if folder is not None:
        raise ValueError(
            f"oracle_path={str(folder)!r} does not hold the public NAS-Bench-201 tables that oracle='auto' looks for "
            f"there (missing: {', '.join(missing)}); get them with: {download_command('nb201', folder)}, "
            "leave oracle_path out for the embedded table, or choose oracle=nats for a NATS-Bench folder"
        )
    oracle = load_digits()
    if public.is_dir() and any(public.iterdir()):
        incomplete = f"those in {public} are incomplete, missing: {', '.join(missing)}"
        return dataclasses.replace(oracle, description=f"{oracle.description} ({incomplete})")
    return oracle


def _public_folder(folder: Path | None) -> Path:
    """Return where the public tables are, or would be: the folder itself or its subfolder ``nb201``."""
    if folder is None:
        return cache_dir() / "nb201"
    inside = folder / "nb201"
    return inside if missing_files(folder) and not missing_files(inside) else folder
