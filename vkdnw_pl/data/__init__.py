"""Images: data sets and input batches.

The data modules can be had from here by their names; they are imported when first asked for, since that takes seconds.
"""

import difflib
from importlib import import_module
from typing import Any

DATA_MODULES = {
    "CIFAR10": "cifar",
    "CIFAR100": "cifar",
    "ImageNet16": "imagenet16",
    "ImageNet": "imagenet",
    "Digits": "digit_images",
    "Synthetic": "synthetic",
}
"""Data modules, and the modules of this package that have them."""


def __getattr__(name: str) -> Any:
    if name in DATA_MODULES:
        return getattr(import_module(f"{__name__}.{DATA_MODULES[name]}"), name)
    near = difflib.get_close_matches(name, DATA_MODULES, 1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}{hint}")
