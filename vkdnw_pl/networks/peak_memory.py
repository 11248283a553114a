"""Peak memory: the most bytes that a forward pass holds at one time."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from vkdnw_pl.networks.measuring import check_measuring, private_copy, random_input

MB = 1e6
"""Bytes of a megabyte."""


def measure_peak_memory(
    network: nn.Module,
    input_size: Sequence[int],
    batch_size: int = 1,
    device: str | torch.device = "cpu",
    weights: bool = False,
) -> float:
    """Most megabytes (10⁶ bytes) of tensors that a forward pass in evaluation mode, without gradients, holds at a time.

    Counted are the batch of images and everything that is computed from it; training, which keeps activations for the
    backward pass, needs more.

    On CPU the bytes of the tensors that are alive are added up, operation by operation. That is exact, repeatable and
    independent of the machine; a kernel's scratch space and the allocator's rounding are not in it, and attention counts
    with its matrix, which fused kernels never form. The pass is made with shapes alone wherever the network allows that,
    so it takes no memory and no longer for a large batch; networks on the meta device are welcome. On CUDA it is what PyTorch's allocator says, which does contain a kernel's scratch
    space and rounding, after one pass that makes libraries take their lasting workspace. That resets the device's peak
    statistics; nothing else of the caller's is changed, because a private copy is measured.

    Args:
        network: maps images (B, ...) to anything.
        input_size: shape of one image, such as (3, 224, 224).
        batch_size: images of one pass.
        device: ``cpu`` or ``cuda``.
        weights: add parameters and buffers, which are in memory all the time.

    Raises:
        ValueError: if an argument is not allowed, or the device is not there.
    """
    known = check_measuring(input_size, device, batch_size=(batch_size, 1))
    with torch.random.fork_rng([known] if known.type == "cuda" else []):
        measure = _allocated if known.type == "cuda" else _counted
        peak = measure(network, input_size, batch_size, known)
    return (peak + (weight_bytes(network) if weights else 0)) / MB


def weight_bytes(network: nn.Module) -> int:
    """Bytes of parameters and buffers, shared ones counted once."""
    return sum({s._cdata: s.nbytes() for s in _storages(_weights(network))}.values())


def _weights(network: nn.Module) -> Iterable[Tensor]:
    return chain(network.parameters(), network.buffers())


def _storages(tensors: Iterable[Tensor]) -> list[torch.UntypedStorage]:
    return [tensor.untyped_storage() for tensor in tensors]


def _counted(network: nn.Module, input_size: Sequence[int], batch_size: int, device: torch.device) -> int:
    try:
        return _count(network, input_size, batch_size, torch.device("meta"))
    except Exception:
        if any(weight.is_meta for weight in _weights(network)):
            raise
        # Some networks need values: they branch on one, or make a tensor on the CPU. If it is the network that is wrong,
        # this fails as well, and says why.
        return _count(network, input_size, batch_size, device)


def _count(network: nn.Module, input_size: Sequence[int], batch_size: int, device: torch.device) -> int:
    copied = private_copy(network, device)
    # Inference mode would hide the parts of composite operations.
    with torch.no_grad(), _LiveBytes(_storages(_weights(copied))) as live:
        copied(random_input(copied, input_size, batch_size, device))
    return live.peak


def _allocated(network: nn.Module, input_size: Sequence[int], batch_size: int, device: torch.device) -> int:
    copied = private_copy(network, device)
    with torch.inference_mode():
        copied(random_input(copied, input_size, batch_size, device))
        gc.collect()
        torch.cuda.synchronize(device)
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        copied(random_input(copied, input_size, batch_size, device))
        torch.cuda.synchronize(device)
        return torch.cuda.max_memory_allocated(device) - before


class _LiveBytes(TorchDispatchMode):
    """Follows the bytes of all storages that operations give, except the known ones.

    Attributes:
        live: bytes of those that are alive.
        peak: the most that ``live`` has been.
    """

    def __init__(self, known: Sequence[torch.UntypedStorage]) -> None:
        super().__init__()
        self.live = self.peak = 0
        self._known = {storage._cdata for storage in known}
        self._followed: dict[int, weakref.ref[torch.UntypedStorage]] = {}

    def __torch_dispatch__(
        self, func: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        # With known statistics a batch norm saves none; on the meta device it says otherwise.
        alone = func is torch.ops.aten.native_batch_norm.default and not args[5]
        for leaf in tree_leaves(result[0] if alone else result):
            if isinstance(leaf, Tensor):
                self._follow(leaf.untyped_storage())
        return result

    def _follow(self, storage: torch.UntypedStorage) -> None:
        place, size = storage._cdata, storage.nbytes()
        if place in self._known or place in self._followed:
            return  # a view, or an operation in place
        self.live += size
        self.peak = max(self.peak, self.live)

        def freed(_: object) -> None:
            self.live -= size
            del self._followed[place]

        self._followed[place] = weakref.ref(storage, freed)
