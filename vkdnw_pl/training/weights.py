"""Reading weights from files, safely."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn


def load_weights(network: nn.Module, path: Path) -> None:
    """Load a state dict into ``network``, all of it.

    Args:
        network: takes the weights.
        path: a file that torch.save wrote: a state dict, ``{"state_dict": ...}``, or a checkpoint of ``fit`` (whose
            names begin with ``network.``; with EMA these are the averaged weights).

    Raises:
        ValueError: if the file cannot be read without running code from it, or holds weights of another network.
    """
    try:
        content: Any = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise ValueError(f"weights={str(path)!r}: there is no such file") from None
    except Exception as error:
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ValueError(f"weights={str(path)!r} is not a file of weights that can be read safely: {first}") from None
    state = content.get("state_dict", content) if isinstance(content, dict) else None
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise ValueError(f"weights={str(path)!r} holds no state dict")
    prefix = "network."
    if any(name.startswith(prefix) for name in state):
        state = {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}
    try:
        network.load_state_dict(state)
    except RuntimeError as error:
        raise ValueError(f"weights={str(path)!r} are those of another network: {error}") from None
