"""Reading weights from files, safely."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

SAFETENSORS = ".safetensors"


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
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ValueError(f"weights={str(path)!r} is not a file of weights that can be read safely: {first}") from None
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
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ValueError(f"ckpt_path={str(path)!r} is damaged, or no checkpoint of a training: {first}") from None
    if not isinstance(content, dict) or "state_dict" not in content or "loops" not in content:
        raise ValueError(f"ckpt_path={str(path)!r} is no checkpoint of a training; model.weights takes bare weights")
    there = content.get("hyper_parameters", {})
    for name in ("arch", "space", "network", "num_classes", "input_size", "student_size"):
        if name in there and there[name] != hparams.get(name):
            raise ValueError(
                f"ckpt_path={str(path)!r} is of another network: {name} is {there[name]!r} there, {hparams.get(name)!r} here"
            )
