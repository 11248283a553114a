"""What any data module must say, and data modules of the package ``lightning`` beside those of ``pytorch_lightning``."""

from __future__ import annotations

from abc import ABC
from typing import Any

from pytorch_lightning import LightningDataModule

from vkdnw_pl.errors import is_whole, shown


class OfOtherLightning(ABC):  # noqa: B024  (it is never made)
    """Base of every data module of ``lightning.pytorch``, a package that is not imported for this."""

    @classmethod
    def __subclasshook__(cls, other: type) -> bool:
        return _other_base(other) is not None


def is_data_module(cls: Any) -> bool:
    """Whether a class is a data module, of either package."""
    return isinstance(cls, type) and issubclass(cls, (LightningDataModule, OfOtherLightning))


def as_data_module(data: Any) -> LightningDataModule:
    """The same object, which is a ``LightningDataModule`` of ``pytorch_lightning`` from now on."""
    cls: type = type(data)
    base = _other_base(cls)
    if not isinstance(data, LightningDataModule) and base is not None:
        # What the class has from the other package alone, the Trainer must find as it is in this one.
        same = [name for name in vars(LightningDataModule) | vars(base) if not name.startswith("__")]
        same += [name for name in dir(LightningDataModule) if not name.startswith("_")]
        ours = {
            name: getattr(LightningDataModule, name)
            for name in same
            if hasattr(LightningDataModule, name) and getattr(cls, name, None) is getattr(base, name, None)
        }
        data.__class__ = type(cls.__name__, (cls, LightningDataModule), {**ours, "__module__": cls.__module__})
    return data


def classes_of(data: Any) -> int:
    """``num_classes`` of any data module; a ``ValueError`` names the class where it does not say it."""
    number = _said_by(data, "num_classes")
    if not is_whole(number, 1):
        raise ValueError(f"{_name(data)}.num_classes={shown(number)} is not allowed: give a whole number of at least 1")
    return number


def size_of(data: Any) -> list[int]:
    """``input_size`` of any data module, channels, height and width; a ``ValueError`` names the class."""
    size = _said_by(data, "input_size")
    if not isinstance(size, list | tuple) or len(size) != 3 or not all(is_whole(number, 1) for number in size):
        raise ValueError(f"{_name(data)}.input_size={shown(size)} is not allowed: give (channels, height, width)")
    return list(size)


def _said_by(data: Any, name: str) -> Any:
    value = getattr(data, name, None)
    if value is None:
        raise ValueError(
            f"the data module {_name(data)} has no {name}: as soon as it is made it must say the number of classes "
            "(num_classes) and channels, height and width of its images (input_size); see docs/own_images.md"
        )
    return value


def _name(data: Any) -> str:
    return f"{type(data).__module__}.{type(data).__qualname__}"


def _other_base(cls: type) -> type | None:
    """``lightning.pytorch.LightningDataModule`` among the bases of a class."""
    for base in cls.__mro__:
        if base.__name__ == "LightningDataModule" and base.__module__.startswith("lightning.pytorch."):
            return base
    return None
