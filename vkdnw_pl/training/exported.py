"""Files of weights, read safely; and a network as a file of its own, with all that is needed to build it again."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from vkdnw_pl.runs.files import replaced
from vkdnw_pl.spaces import SPACES

SAFETENSORS = ".safetensors"
WEIGHTS = ("model.pt", "model.safetensors")
"""Files of weights in an export's folder, in the order in which they are looked for."""


def load_weights(network: nn.Module, path: Path) -> None:
    """Load a state dict into ``network``, all of it.

    Args:
        network: takes the weights.
        path: see `read_weights`.

    Raises:
        ValueError: if the file cannot be read without running code from it, or holds weights of another network.
    """
    put_weights(network, read_weights(read_checkpoint(path), path), path)


def put_weights(network: nn.Module, state: Mapping[str, Tensor], path: Path) -> None:
    """Load a state dict that was read from ``path``.

    Raises:
        ValueError: if it is another network's.
    """
    try:
        network.load_state_dict(state)
    except RuntimeError as error:
        raise ValueError(f"weights={str(path)!r} are those of another network: {error}") from None


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Content of a file that torch.save or safetensors wrote.

    Raises:
        ValueError: if it cannot be read without running code from it.
    """
    if not path.is_file():
        raise ValueError(f"weights={str(path)!r}: there is no such file")
    try:
        if path.suffix == SAFETENSORS:
            from safetensors.torch import load_file

            return load_file(path)
        content: Any = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise ValueError(
            f"weights={str(path)!r} is not a file of weights that can be read safely: {_first_line(error)}"
        ) from None
    if not isinstance(content, dict):
        raise ValueError(f"weights={str(path)!r} holds no state dict")
    return content


def read_weights(content: Mapping[str, Any], path: Path) -> dict[str, Tensor]:
    """The network's state dict of what `read_checkpoint` read from ``path``.

    Args:
        content: a state dict, ``{"state_dict": ...}`` as ``export`` writes it, or a checkpoint of ``fit`` (whose names
            begin with ``network.``; with EMA these are the averaged weights; a teacher's parts are left out).
        path: for the error.

    Raises:
        ValueError: if there is none.
    """
    state = content.get("state_dict", content)
    if not isinstance(state, dict) or not state or not all(isinstance(value, Tensor) for value in state.values()):
        raise ValueError(f"weights={str(path)!r} holds no state dict")
    prefix = "network."
    if any(name.startswith(prefix) for name in state):
        return {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}
    return state


def check_checkpoint(path: Path, hparams: Mapping[str, Any]) -> None:
    """Make sure that ``path`` is a whole checkpoint of the network that the hyper-parameters say.

    Raises:
        ValueError: naming the file, and what differs.
    """
    try:
        content: Any = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except Exception as error:
        raise ValueError(
            f"ckpt_path={str(path)!r} is damaged, or no checkpoint of a training: {_first_line(error)}"
        ) from None
    if not isinstance(content, dict) or "state_dict" not in content or "loops" not in content:
        raise ValueError(f"ckpt_path={str(path)!r} is no checkpoint of a training; model.weights takes bare weights")
    saved = content.get("hyper_parameters", {})
    for name in ("arch", "space", "network", "num_classes", "input_size", "student_size"):
        if name in saved and saved[name] != hparams.get(name):
            raise ValueError(
                f"ckpt_path={str(path)!r} is of another network: {name} is {saved[name]!r} there, {hparams.get(name)!r} here"
            )


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
    copies = {name: value.detach().cpu().contiguous().clone() for name, value in state.items()}
    with replaced(path) as draft:
        if path.suffix == SAFETENSORS:
            from safetensors.torch import save_file

            save_file(copies, draft, {"format": "pt", "arch": record.arch, "vkdnw_pl": json.dumps(asdict(record))})
        else:
            torch.save({**asdict(record), "state_dict": copies}, draft)


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


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
