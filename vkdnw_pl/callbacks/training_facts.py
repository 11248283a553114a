"""What a callback asks of any training: the network, the images that it is trained on, their size and classes."""

from __future__ import annotations

import sys
from typing import Any

from torch import nn

from vkdnw_pl.callbacks.lightning_private import training_loader
from vkdnw_pl.data.batches import Batches, batches
from vkdnw_pl.data.given_images import given_images
from vkdnw_pl.proxies.scoring import num_logits

_LIGHTNING = ("pytorch_lightning.", "lightning.pytorch.")


def serve_other_lightning(cls: type) -> None:
    """Make a callback's class one of ``lightning.pytorch`` too, where that package, whose Trainer asks for it, is imported."""
    other = sys.modules.get("lightning.pytorch")
    if other is not None and not issubclass(cls, other.Callback):
        cls.__bases__ = (*cls.__bases__, other.Callback)


def network_of(pl_module: Any) -> nn.Module:
    """``pl_module.network`` where it has one, else the module itself, whose forward maps one tensor to logits."""
    network = getattr(pl_module, "network", None)
    if isinstance(network, nn.Module):
        return network
    for base in type(pl_module).__mro__:
        if base.__module__.startswith(_LIGHTNING):
            break
        if "forward" in vars(base):
            return pl_module
    raise ValueError(
        f"ProxyCallback needs a module that maps one tensor to logits: {type(pl_module).__name__} has neither network "
        "nor a forward of its own"
    )


def images_of(trainer: Any, batch_size: int, seed: int) -> tuple[Batches, tuple[int, ...]]:
    """Numbered batches of the training's images, and the shape of one; see `given_images`."""
    loader = training_loader(trainer)
    if loader is None:
        raise ValueError("the training has no images yet; choose another source, or give the module an input_size")
    its = given_images(loader, batch_size, seed)
    return its.batches, its.input_size


def size_of(trainer: Any, pl_module: Any, seed: int) -> tuple[int, ...]:
    """Shape of one input: ``input_size`` of the module or of the data module, else that of the first training image."""
    for owner in (pl_module, getattr(trainer, "datamodule", None)):
        if (size := getattr(owner, "input_size", None)) is not None:
            return tuple(int(length) for length in size)
    return images_of(trainer, 1, seed)[1]


def classes_of(trainer: Any, pl_module: Any, size: tuple[int, ...], seed: int) -> int | None:
    """``num_classes`` of the module or of the data module, else the number of logits; None where it cannot be run."""
    for owner in (pl_module, getattr(trainer, "datamodule", None)):
        if (number := getattr(owner, "num_classes", None)) is not None:
            return int(number)
    return num_logits(network_of(pl_module), batches("random", 2, size, seed)(0), seed)
