"""A network as a file of its own: weights together with all that is needed to build it again."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from vkdnw_pl.spaces import SPACES
from vkdnw_pl.training.weights import SAFETENSORS, put_weights, read_checkpoint, read_weights

WEIGHTS = ("model.pt", "model.safetensors")
"""Files of weights in an export's folder, in the order in which they are looked for."""


@dataclass(frozen=True, kw_only=True)
class NetworkRecord:
    """What a network is, apart from its weights. Plain values only."""

    space: str
    arch: str
    """Canonical string."""
    num_classes: int
    input_size: list[int]
    """Channels, height, width of the images."""
    network: dict[str, Any] = field(default_factory=dict)
    """Further options of the space's network."""
    format: int = 1

    @property
    def options(self) -> dict[str, Any]:
        """Keyword arguments of the space's ``build`` and ``cost``."""
        channels, size, _ = self.input_size
        return {**self.network, "num_classes": self.num_classes, "image_size": size, "in_channels": channels}

    def build(self) -> nn.Module:
        """The network with PyTorch's default initialisation."""
        return SPACES[self.space].build(self.arch, **self.options)


def read_record(content: Mapping[str, Any], path: Path) -> NetworkRecord:
    """The record in the content of an exported file.

    Raises:
        ValueError: if it has none, or the space does not know the architecture.
    """
    names = NetworkRecord.__dataclass_fields__
    try:
        record = NetworkRecord(**{name: content[name] for name in names if name in content})
    except TypeError:
        missing = [name for name in ("space", "arch", "num_classes", "input_size") if name not in content]
        raise ValueError(f"{path} is no exported network: {', '.join(missing)} missing") from None
    if record.format != 1:
        raise ValueError(f"{path} has format {record.format!r}, which this version cannot read")
    try:
        space = SPACES[record.space]
    except ValueError as error:
        raise ValueError(f"{path} cannot be read: {error}") from None
    space.validate(record.arch)
    return record


def save_exported(path: Path, record: NetworkRecord, state: Mapping[str, Tensor]) -> None:
    """Write ``model.pt`` (torch.save of the record's fields and ``state_dict``), or a ``.safetensors`` file.

    Both are replaced in one step. A safetensors file has the record as JSON in its metadata.
    """
    own = {name: value.detach().cpu().contiguous().clone() for name, value in state.items()}
    draft = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        if path.suffix == SAFETENSORS:
            from safetensors.torch import save_file

            save_file(own, draft, {"format": "pt", "arch": record.arch, "vkdnw_pl": json.dumps(asdict(record))})
        else:
            torch.save({**asdict(record), "state_dict": own}, draft)
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


def weights_digest(state: Mapping[str, Tensor]) -> str:
    """SHA-256 of a state dict: names, types, shapes and bytes, in whatever file they are."""
    digest = hashlib.sha256()
    for name, value in sorted(state.items()):
        value = value.detach().cpu().contiguous()
        digest.update(f"{name} {value.dtype} {list(value.shape)}\n".encode())
        digest.update(value.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def read_exported(path: str | Path) -> tuple[NetworkRecord, dict[str, Tensor]]:
    """Record and state dict of an exported file, or of a folder with one.

    Raises:
        ValueError: if it cannot be read safely, or is no exported network.
    """
    file = exported_file(path)
    content = read_checkpoint(file)
    return read_record(_fields(content, file), file), read_weights(content, file)


def is_exported(content: Mapping[str, Any], path: Path) -> bool:
    """Whether what `read_checkpoint` read from ``path`` says what network it is."""
    return "arch" in _fields(content, path)


def _fields(content: Mapping[str, Any], path: Path) -> Mapping[str, Any]:
    if path.suffix != SAFETENSORS:
        return content
    from safetensors import safe_open

    with safe_open(path, "pt") as opened:
        return json.loads((opened.metadata() or {}).get("vkdnw_pl", "{}"))


def exported_file(path: str | Path) -> Path:
    """The file of weights that is meant by a path: the file itself, or that of an export's folder."""
    path = Path(path).expanduser()
    if not path.is_dir():
        return path
    for name in WEIGHTS:
        if (path / name).is_file():
            return path / name
    raise ValueError(f"{path} holds no exported network ({' or '.join(WEIGHTS)})")


def load_exported(path: str | Path) -> nn.Module:
    """The network of an exported file or folder, with its weights, in evaluation mode.

    Args:
        path: ``model.pt``, ``model.safetensors``, or the folder that ``export`` wrote.

    Raises:
        ValueError: if it cannot be read safely, or is no exported network.
    """
    record, state = read_exported(path)
    network = record.build()
    put_weights(network, state, exported_file(path))
    return network.eval()
