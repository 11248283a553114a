"""What the measurements of a network's run share: a private copy, its input, and their checks."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from torch import Tensor, nn


def check_measuring(input_size: Sequence[int], device: str | torch.device, **numbers: tuple[int, int]) -> torch.device:
    """Check what the measurements take, and return the device.

    Args:
        input_size: shape of one input.
        device: CPU or CUDA.
        numbers: by name, a value and the least that is allowed.

    Raises:
        ValueError: naming the first argument that is not allowed.
    """
    if not input_size or any(_not_whole(size, 1) for size in input_size):
        raise ValueError(
            f"input_size={input_size!r} is not allowed: give whole numbers of at least 1, such as (3, 224, 224)"
        )
    for name, (value, least) in numbers.items():
        if _not_whole(value, least):
            raise ValueError(f"{name}={value!r} is not allowed: give a whole number of at least {least}")
    try:
        known = torch.device(device)
    except RuntimeError as error:
        raise ValueError(f"device={device!r} is not known: {str(error).splitlines()[0]}") from None
    if known.type not in ("cpu", "cuda"):
        raise ValueError(f"device={str(device)!r} is not allowed: give cpu, cuda or cuda:<number>")
    if known.type == "cuda" and (known.index or 0) >= torch.cuda.device_count():
        raise ValueError(
            f"device={str(device)!r} is not there: this machine has {torch.cuda.device_count()} CUDA devices"
        )
    return known


def private_copy(network: nn.Module, device: torch.device) -> nn.Module:
    """A copy on ``device``, in evaluation mode; on the meta device without copying any weight."""
    memo: dict[int, Tensor] = {}
    if device.type == "meta":
        for weight in network.parameters():
            memo[id(weight)] = nn.Parameter(torch.empty_like(weight, device=device), weight.requires_grad)
        for buffer in network.buffers():
            memo[id(buffer)] = torch.empty_like(buffer, device=device)
    return copy.deepcopy(network, memo).to(device).eval()


def random_input(network: nn.Module, input_size: Sequence[int], batch_size: int, device: torch.device) -> Tensor:
    """Standard normal input (batch_size, *input_size) in the network's precision; global random state is not used."""
    weight = next((p for p in network.parameters() if p.is_floating_point()), None)
    dtype = torch.float32 if weight is None else weight.dtype
    if device.type == "meta":
        return torch.empty(batch_size, *input_size, dtype=dtype, device=device)
    generator = torch.Generator().manual_seed(0)
    return torch.randn(batch_size, *input_size, generator=generator).to(device, dtype)


def _not_whole(value: object, least: int) -> bool:
    return isinstance(value, bool) or not isinstance(value, int) or value < least
