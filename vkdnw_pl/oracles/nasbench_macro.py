"""Accuracies of the space ``nasbench_macro``: the public table of NAS-Bench-Macro (github.com/xiusu/NAS-Bench-Macro).

``{architecture string: {"test_acc": three runs, "mean_acc", "std", "params", "flops"}}``, accuracies in percent, of networks
trained on CIFAR-10 for 50 epochs. A run's accuracy is the best test accuracy of its epochs. All 6,561 strings have an
entry; those of the same network have the same.
"""

from __future__ import annotations

import json
from pathlib import Path

from vkdnw_pl.oracles.base import Oracle, TableFile, num_archs, public_files
from vkdnw_pl.spaces import NASBenchMacro

SPACE = NASBenchMacro.name
BASE_URL = "https://raw.githubusercontent.com/xiusu/NAS-Bench-Macro/61a2bfc2ca0dce04d0997e6cf498047c27d6acf2/data/"
"""Public address of the file, at a fixed commit."""

FILES: dict[str, TableFile] = {
    "cifar10": TableFile(
        "nas-bench-macro_cifar10.json", "686dee8363cc21cca8c1f321ad5749454f2d9b9ca5972682e137e539bc522297"
    ),
}
"""Data set -> its file."""

CONTENTS = "test accuracies of all 6,561 NAS-Bench-Macro architectures on CIFAR-10 (one JSON file, 1.2 MB)"
"""What there is to download, for the user."""


def load_nasbench_macro(folder: Path | None) -> Oracle:
    """Load the mean test accuracies of three runs: data set ``cifar10``; of ``folder`` see `public_files`."""
    path = public_files("nasbench_macro", FILES, folder)["cifar10"]
    entries = json.loads(path.read_text(encoding="utf-8"))
    tables = {"cifar10": {arch: float(entry["mean_acc"]) for arch, entry in sorted(entries.items())}}
    description = (
        f"public NAS-Bench-Macro table in {path.parent} ({num_archs(tables):,} strings of 3,969 different networks, mean "
        "over three runs of the test accuracy of the run's best epoch): cifar10"
    )
    return Oracle(
        "nasbench_macro", description, {"cifar10": "test"}, tables, SPACE, networks={dataset: {} for dataset in tables}
    )
