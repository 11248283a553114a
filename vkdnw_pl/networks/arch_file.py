"""Files that name an architecture: a search's ``found.json`` and an export's ``model.json``. Torch-free.

``found.json`` stands for the best network of the search, ``found.json#2`` for the second of the best ones.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vkdnw_pl.errors import check_choice, check_number
from vkdnw_pl.runs.documents import read_json

TASK = ("num_classes", "image_size", "in_channels")
"""Options of a space's network that follow from the images that it is made for, not from the architecture."""
INTERPOLATIONS = ("nearest", "bilinear", "bicubic", "box", "hamming", "lanczos")
"""Names of how images are resized that Pillow, torchvision and timm share."""

_RANKED = re.compile(r"(.*\.json)#([^/]*)")


@dataclass(frozen=True)
class ArchFile:
    """What such a file says about the network."""

    path: Path
    arch: str
    """As it is written there; the space has not seen it."""
    space: str | None
    network: Mapping[str, Any] = field(default_factory=dict)
    """Options of the space's network, without `TASK`."""
    task: Mapping[str, int] = field(default_factory=dict)
    """Those of `TASK` that the file knows: what the search scored, or what the exported network was trained for."""
    images: Mapping[str, Any] = field(default_factory=dict)
    """What timm's ``pretrained_cfg`` says of its images, as far as the file knows; see `prepared_images`."""
    top: tuple[str, ...] = ()
    """The best architectures of the search, from the best on."""

    @property
    def archs(self) -> tuple[str, ...]:
        """The architecture and the best ones beside it, each once."""
        return tuple(dict.fromkeys((self.arch, *self.top)))


def is_arch_file(arch: str) -> bool:
    """Whether a text that should name an architecture is the path of such a file."""
    arch = arch.strip()
    return arch.endswith(".json") or _RANKED.fullmatch(arch) is not None


def read_arch_file(path: str | Path) -> ArchFile:
    """Read a file with the key ``arch`` and perhaps ``space``, ``network``, ``num_classes``, ``input_size``, ``top``.

    With ``#`` and a rank behind the path, from 1 on, that network of ``top`` alone.
    """
    path = Path(path).expanduser()
    ranked = _RANKED.fullmatch(str(path))
    file, rank = (path, None) if ranked is None else (Path(ranked[1]), ranked[2])
    try:
        content = read_json(file)
    except ValueError as error:
        raise ValueError(f"arch={str(path)!r}{str(error).removeprefix(str(file))}") from None
    if not isinstance(content.get("arch"), str):
        raise ValueError(f"arch={str(path)!r} is not a found network: it needs the key 'arch' (and 'space')")
    if rank is not None:
        content = _of_rank(content, rank, path)
    space, network, top = content.get("space"), content.get("network") or {}, content.get("top") or []
    if not isinstance(space, str | None) or not isinstance(network, dict) or not isinstance(top, list):
        raise ValueError(f"arch={str(path)!r} is damaged: 'space' must be a text, 'network' options, 'top' a list")
    options = dict(network)
    if "num_classes" in content:
        options["num_classes"] = content["num_classes"]
    images = prepared_images(content, f"arch={str(path)!r}")
    if "input_size" in images:
        options |= {"in_channels": images["input_size"][0], "image_size": images["input_size"][1]}
    elif size := options.get("image_size"):
        images["input_size"] = (options.get("in_channels", 3), size, size)
    for i, network_of_top in enumerate(top):
        _check_has_arch(network_of_top, i, path)
    return ArchFile(
        path,
        content["arch"],
        space,
        {name: value for name, value in options.items() if name not in TASK},
        {name: options[name] for name in TASK if name in options},
        images,
        tuple(network_of_top["arch"] for network_of_top in top),
    )


def prepared_images(content: Mapping[str, Any], where: str) -> dict[str, Any]:
    """What a file says of its images, as timm's ``pretrained_cfg`` has it; ``where`` is how texts call the file.

    Args:
        content: with ``input_size``, ``normalisation``, ``crop_pct``, ``interpolation`` and ``class_names``, as far as
            they are known.
        where: for the error.
    """
    images: dict[str, Any] = {}
    if isinstance(size := content.get("input_size"), list) and len(size) == 3:
        images["input_size"] = tuple(size)
    if (crop_pct := content.get("crop_pct")) is not None:
        check_number(f"{where}, crop_pct", crop_pct, 0, 1, open_low=True)
    if (statistics := content.get("normalisation")) is not None:
        if not isinstance(statistics, dict) or not all(_are_numbers(statistics.get(name)) for name in ("mean", "std")):
            raise ValueError(f"{where} is damaged: 'normalisation' must have the lists of numbers 'mean' and 'std'")
        if min(statistics["std"], default=0) <= 0:
            raise ValueError(f"{where} is damaged: 'std' must be numbers above 0")
        images |= {name: tuple(statistics[name]) for name in ("mean", "std")}
        images["crop_pct"] = 1.0 if crop_pct is None else crop_pct  # known where the normalisation is
    if (interpolation := content.get("interpolation")) is not None:
        check_choice(f"{where}, interpolation", interpolation, INTERPOLATIONS)
        images["interpolation"] = interpolation
    if (names := content.get("class_names")) is not None:
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise ValueError(f"{where} is damaged: 'class_names' must be a list of texts")
        images["label_names"] = tuple(names)
    return images


def _are_numbers(values: Any) -> bool:
    return isinstance(values, list) and all(
        isinstance(one, int | float) and not isinstance(one, bool) and math.isfinite(one) for one in values
    )


def _of_rank(content: dict[str, Any], rank: str, path: Path) -> dict[str, Any]:
    """One network of a file, as if it were the only one."""
    top = content.get("top") or [content]
    if not isinstance(top, list) or not re.fullmatch("[0-9]{1,9}", rank) or not 1 <= int(rank) <= len(top):
        listed = f"it lists {len(top)} network(s)" if isinstance(top, list) else "its 'top' is no list"
        raise ValueError(f"arch={str(path)!r}: # stands before a rank, 1 for the best; {listed}")
    network_of_top = top[int(rank) - 1]
    _check_has_arch(network_of_top, int(rank) - 1, path)
    return {**{name: value for name, value in content.items() if name != "top"}, **network_of_top}


def _check_has_arch(network_of_top: Any, place: int, path: Path) -> None:
    if not isinstance(network_of_top, dict) or not isinstance(network_of_top.get("arch"), str):
        raise ValueError(f"arch={str(path)!r} is damaged: top[{place}] has no 'arch'")
