"""Accuracies of the space ``autoformer``: 200 networks of ViT-Bench-101 (Wei et al., AAAI 2024, Auto-Prox).

The files are ``{architecture and accuracies}`` of two samples of 100. A data set is ``<images>_<training>``: ``base`` is
trained alone, ``kd`` with distillation from the features of a ResNet-56, ``imagenet_super`` inherits the weights of a
trained supernet. Each network was trained once. The second sample has no ``base``; its ``imagenet_super`` is a data set
of its own, because it cannot be trusted.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from vkdnw_pl.oracles.base import Oracle, TableFile, num_archs, public_files
from vkdnw_pl.spaces import AutoFormer

SPACE = AutoFormer.name
BASE_URL = (
    "https://raw.githubusercontent.com/lilujunai/Auto-Prox-AAAI24/90ed458eff6948a6f0d23e440a8d21bbec50d091/gt_results/"
)
"""Public address of the files, at a fixed commit."""

FILES: dict[str, TableFile] = {
    "1": TableFile("gt_autoformer.pth", "712ad277546d9f7f565ce07885be7e0b98dcd8d0724fdd1120f595b517436eca"),
    "2": TableFile("gt_autoformer_2.pth", "05f5df6a41f338fb5f47eafebfc8758c75e451606856b278ccda1c60b26e7bca"),
}
"""Sample -> its file."""

CONTENTS = (
    "two tables of ViT-Bench-101, 51 kB, with accuracies of 200 AutoFormer networks on three data sets and ImageNet"
)

CLASSES = {"c100": 100, "flower": 102, "chaoyang": 4, "imagenet": 1000}
"""Begin of a data set's name -> its classes: CIFAR-100, Oxford Flowers, Chaoyang, ImageNet; all at 224 pixels."""

SINGLE = "each network was trained once, so that no ceiling of agreement is known"
_CLOSE = f"the networks lie within 2 to 4 points of each other; {SINGLE}"
_SUPER = "weights inherited from a supernet; all 38 networks of width 240 have 70.8 to 71.8, all others at least 74.5"
CAUTIONS = {
    **dict.fromkeys(("c100_base", "c100_kd", "flower_base", "chaoyang_base", "chaoyang_kd"), _CLOSE),
    "flower_kd": f"{_CLOSE}; one network is an outlier at 48.56",
    "imagenet_super": _SUPER,
    "imagenet_super_2": "the values look unrelated to the architectures, as if rows were shifted: do not rank by them",
}


def load_autoformer(folder: Path | None) -> Oracle:
    """Load test accuracies of both samples; of ``folder`` see `public_files`."""
    space = AutoFormer()
    paths = public_files("autoformer", FILES, folder)
    tables: dict[str, dict[str, float]] = {}
    for sample, path in paths.items():
        for dataset, accuracies in read_records(path, lambda a: space.format(_genotype(a))).items():
            suffix = "_2" if (dataset, sample) == ("imagenet_super", "2") else ""
            tables.setdefault(f"{dataset}{suffix}", {}).update(accuracies)
    return vit_oracle("autoformer", SPACE, tables, CAUTIONS, paths["1"].parent)


def _genotype(arch: Mapping[str, Any]) -> tuple[int, list[float], list[int]]:
    return arch["hidden_dim"], arch["mlp_ratio"], arch["num_heads"]


def read_records(path: Path, string_of: Callable[[Mapping[str, Any]], str]) -> dict[str, dict[str, float]]:
    """Data set -> architecture -> accuracy in percent of a file of ViT-Bench-101, without the missing ones."""
    import torch  # here, because every command imports the oracles

    tables: dict[str, dict[str, float]] = {}
    for record in torch.load(path, weights_only=True):
        arch = string_of(record.pop("arch"))
        for key, accuracy in record.items():
            if accuracy is not None:
                tables.setdefault(key.removesuffix("_acc"), {})[arch] = float(accuracy)
    return tables


def vit_oracle(
    name: str, space: str, tables: Mapping[str, Mapping[str, float]], cautions: Mapping[str, str], folder: Path
) -> Oracle:
    """The oracle of tables of ViT-Bench-101, with the networks that they are of."""
    classes = {dataset: CLASSES[dataset.partition("_")[0]] for dataset in tables}
    description = (
        f"tables of ViT-Bench-101 in {folder} ({num_archs(tables):,} architectures, test accuracy of one training at 224 "
        f"pixels): {', '.join(tables)}"
    )
    return Oracle(
        name,
        description,
        {dataset: "val" if dataset.startswith("imagenet") else "test" for dataset in tables},
        tables,
        space,
        networks={dataset: {"num_classes": number} for dataset, number in classes.items()},
        cautions=cautions,
    )
