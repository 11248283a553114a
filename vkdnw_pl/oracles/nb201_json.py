"""The public NAS-Bench-201 tables: test accuracies of all 15,625 architectures on three data sets.

The files are those of the GENIUS repository (github.com/mingkai-zheng/GENIUS, folder ``benchmark``):
``{architecture string: {"val_acc_200", "test_acc_200", "rank"}}``, accuracies in percent, mean over training seeds.
``test_acc_200`` is what the correlations of the VKDNW paper are computed with.
"""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import NamedTuple

from vkdnw_pl.oracles.base import Oracle
from vkdnw_pl.oracles.cache import cache_dir
from vkdnw_pl.oracles.fetch import sha256_of

BASE_URL = "https://raw.githubusercontent.com/mingkai-zheng/GENIUS/97361d30b2da337edd0c8e1ed71b7c88b4a85d38/benchmark/"
"""Public address of the three files, at a fixed commit."""


class TableFile(NamedTuple):
    """One of the public files."""

    name: str
    sha256: str


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


def how_to_get(folder: Path) -> str:
    """Return the command that brings the files to ``folder``."""
    out = "" if folder == cache_dir() / "nb201" else f" --out {shlex.quote(str(folder))}"
    return f"python -m vkdnw_pl download nb201{out}"


def missing_files(folder: Path) -> list[str]:
    """Return the names of the files that ``folder`` lacks."""
    return [file.name for file in FILES.values() if not (folder / file.name).is_file()]


def load_nb201(folder: Path) -> Oracle:
    """Load the three files.

    Raises:
        ValueError: if a file is missing or is not, byte for byte, the published one.
    """
    missing = missing_files(folder)
    if missing:
        raise ValueError(
            f"oracle='nb201' needs {', '.join(file.name for file in FILES.values())} in the folder {folder}; missing: "
            f"{', '.join(missing)}; get them with: {how_to_get(folder)}"
        )
    tables = {}
    for dataset, file in FILES.items():
        path = folder / file.name
        # The hash covers everything that could be checked: number, spelling and order of the keys, and every value.
        found = sha256_of(path)
        if found != file.sha256:
            raise ValueError(
                f"oracle='nb201': {path} is damaged or another file: its SHA-256 is {found}, that of the published "
                f"file {file.sha256}; get it with: {how_to_get(folder)} (a table of your own can be given as "
                "oracle=FILE.csv)"
            )
        entries = json.loads(path.read_text(encoding="utf-8"))
        tables[dataset] = {arch: float(entry["test_acc_200"]) for arch, entry in entries.items()}
    num_archs = len(next(iter(tables.values())))
    return Oracle(
        name="nb201",
        description=(
            f"public NAS-Bench-201 tables in {folder} ({num_archs:,} architectures, test accuracy after 200 epochs): "
            f"{', '.join(tables)}; for the embedded table: oracle=digits"
        ),
        split=dict.fromkeys(tables, "test"),
        tables=tables,
    )
