"""What a network costs, found by running a private copy in evaluation mode: multiply-adds, latency, peak memory."""

from __future__ import annotations

import gc
import time
import warnings
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from itertools import chain
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from vkdnw_pl.errors import check_whole, is_whole
from vkdnw_pl.networks.private_copy import private_copy


@torch.no_grad()
def flop_counter_macs(network: nn.Module, inputs: Tensor) -> int:
    """Multiply-adds of every convolution and matrix product on the first of ``inputs`` (B, ...), biases not counted."""
    # Attention and recurrent layers in one kernel are not seen.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the flags
        with (
            torch.backends.mkldnn.flags(enabled=False),
            torch.backends.cudnn.flags(enabled=False),
            torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH),
            FlopCounterMode(display=False) as counter,
        ):
            network(inputs[:1])
    return counter.get_total_flops() // 2


def measure_latency(
    network: nn.Module,
    input_size: Sequence[int],
    batch_size: int = 1,
    device: str | torch.device = "cpu",
    warmup: int = 3,
    repeats: int = 10,
    threads: int | None = None,
) -> float:
    """Median time in milliseconds of one forward pass of a batch in inference mode, in the network's own precision.

    Each pass is timed until the device is done, so on CUDA with the launch of the kernels, but without copying images
    to the device. The clock sees whatever else the machine does. ``input_size`` is the shape of one image, ``device``
    is ``cpu`` or ``cuda``, ``warmup`` passes come before the ``repeats`` that are timed; ``threads=None`` keeps
    PyTorch's number of CPU threads. What is not allowed, or not there, is a ``ValueError``.
    """
    target = _checked_device(input_size, batch_size, device)
    check_whole("warmup", warmup, 0)
    check_whole("repeats", repeats, 1)
    if threads is not None:
        check_whole("threads", threads, 1)
    with _random_state(target), _steady(threads):
        copied = _private_copy(network, target)
        images = _random_input(copied, input_size, batch_size, target)
        times_ms = []
        with torch.inference_mode():
            for _ in range(warmup):
                copied(images)
            for _ in range(repeats):
                _wait_for(target)
                started_at = time.perf_counter()
                copied(images)
                _wait_for(target)
                times_ms.append(1000 * (time.perf_counter() - started_at))
    return float(np.median(times_ms))


def measure_peak_memory(
    network: nn.Module, input_size: Sequence[int], batch_size: int = 1, device: str | torch.device = "cpu"
) -> float:
    """Most megabytes (10⁶ bytes) of tensors that a forward pass in evaluation mode, without gradients, holds at a time.

    Counted are the images and everything that is computed from them, not parameters and buffers;
    training needs more. On CPU the bytes of the tensors that are alive are added up: exact, repeatable and independent
    of the machine, without kernels' scratch space; attention counts with its matrix, which fused kernels never form.
    The pass is made with shapes alone (meta device) wherever the network allows that. On CUDA it is what PyTorch's
    allocator says after one pass that makes libraries take their lasting workspace; this resets the device's peak
    statistics.

    For arguments and errors see `measure_latency`.
    """
    target = _checked_device(input_size, batch_size, device)
    with _random_state(target):
        measure = _allocated_on_cuda if target.type == "cuda" else _counted_on_cpu
        return measure(network, input_size, batch_size, target) / 1e6


def _counted_on_cpu(network: nn.Module, input_size: Sequence[int], batch_size: int, device: torch.device) -> int:
    try:
        return _count(network, input_size, batch_size, torch.device("meta"))
    except Exception:
        if any(weight.is_meta for weight in _weights(network)):
            raise
        # Some networks need values: they branch on one, or make a tensor on the CPU. A wrong network fails again.
        return _count(network, input_size, batch_size, device)


def _count(network: nn.Module, input_size: Sequence[int], batch_size: int, device: torch.device) -> int:
    copied = _private_copy(network, device)
    # Inference mode would hide the parts of composite operations.
    with torch.no_grad(), _LiveBytes(copied) as live:
        copied(_random_input(copied, input_size, batch_size, device))
    return live.peak


def _allocated_on_cuda(network: nn.Module, input_size: Sequence[int], batch_size: int, device: torch.device) -> int:
    copied = _private_copy(network, device)
    with torch.inference_mode():
        copied(_random_input(copied, input_size, batch_size, device))
        gc.collect()
        torch.cuda.synchronize(device)
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        copied(_random_input(copied, input_size, batch_size, device))
        torch.cuda.synchronize(device)
        return torch.cuda.max_memory_allocated(device) - before


class _LiveBytes(TorchDispatchMode):
    """Follows the bytes of all storages that operations give, except those of the weights."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.live = self.peak = 0
        self._weights = {weight.untyped_storage()._cdata for weight in _weights(network)}
        self._followed: dict[int, weakref.ref[torch.UntypedStorage]] = {}

    def __torch_dispatch__(
        self, func: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        # With running statistics a batch norm saves none; on the meta device it says otherwise.
        only_output = func is torch.ops.aten.native_batch_norm.default and not args[5]
        for leaf in tree_leaves(result[0] if only_output else result):
            if isinstance(leaf, Tensor):
                self._follow(leaf.untyped_storage())
        return result

    def _follow(self, storage: torch.UntypedStorage) -> None:
        address, size = storage._cdata, storage.nbytes()
        if address in self._weights or address in self._followed:
            return  # a view, or an operation in place
        self.live += size
        self.peak = max(self.peak, self.live)

        def freed(_: object) -> None:
            self.live -= size
            del self._followed[address]

        self._followed[address] = weakref.ref(storage, freed)


def _weights(network: nn.Module) -> Iterable[Tensor]:
    return chain(network.parameters(), network.buffers())


def _checked_device(input_size: Sequence[int], batch_size: int, name: str | torch.device) -> torch.device:
    if not input_size or not all(is_whole(size, 1) for size in input_size):
        raise ValueError(f"input_size={input_size!r} is not allowed: give whole numbers such as (3, 224, 224)")
    check_whole("batch_size", batch_size, 1)
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ValueError(f"device={name!r} is not known: {str(error).splitlines()[0]}") from None
    if device.type not in ("cpu", "cuda"):
        raise ValueError(f"device={str(name)!r} is not allowed: give cpu, cuda or cuda:<number>")
    if device.type == "cuda" and (device.index or 0) >= (count := torch.cuda.device_count()):
        raise ValueError(f"device={str(name)!r} is not there: this machine has {count} CUDA devices")
    return device


def _private_copy(network: nn.Module, device: torch.device) -> nn.Module:
    """A copy on ``device``, in evaluation mode; on the meta device without copying any weight."""
    memo: dict[int, Tensor] = {}
    if device.type == "meta":
        for weight in network.parameters():
            memo[id(weight)] = nn.Parameter(torch.empty_like(weight, device=device), weight.requires_grad)
        for buffer in network.buffers():
            memo[id(buffer)] = torch.empty_like(buffer, device=device)
    return private_copy(network, memo).to(device).eval()


def _random_input(network: nn.Module, input_size: Sequence[int], batch_size: int, device: torch.device) -> Tensor:
    weight = next((p for p in network.parameters() if p.is_floating_point()), None)
    dtype = torch.float32 if weight is None else weight.dtype
    if device.type == "meta":
        return torch.empty(batch_size, *input_size, dtype=dtype, device=device)
    generator = torch.Generator().manual_seed(0)
    return torch.randn(batch_size, *input_size, generator=generator).to(device, dtype)


def _random_state(device: torch.device) -> AbstractContextManager[None]:
    return torch.random.fork_rng([device] if device.type == "cuda" else [])


def _wait_for(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


@contextmanager
def _steady(threads: int | None) -> Iterator[None]:
    """A number of CPU threads, and no garbage collection."""
    threads_before, collected_before = torch.get_num_threads(), gc.isenabled()
    torch.set_num_threads(threads or threads_before)
    gc.disable()
    try:
        yield
    finally:
        torch.set_num_threads(threads_before)
        if collected_before:
            gc.enable()
