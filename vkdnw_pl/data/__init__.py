"""Images: data sets and input batches. The data modules are imported when first asked for, since that takes seconds."""

from importlib import import_module
from typing import Any

from vkdnw_pl.errors import nearest

DATA_MODULES = {
    "ImageFolder": "image_folder",
    "CIFAR10": "small_images",
    "CIFAR100": "small_images",
    "ImageNet16": "small_images",
    "ImageNet": "imagenet",
    "Digits": "digits",
    "NumberedDigits": "numbered_digits",
    "Synthetic": "synthetic",
}
"""Data modules, and the modules of this package that have them."""


def __getattr__(name: str) -> Any:
    if name in DATA_MODULES:
        return getattr(import_module(f"{__name__}.{DATA_MODULES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}{nearest(name, DATA_MODULES)}")
