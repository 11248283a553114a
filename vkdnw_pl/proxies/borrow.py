"""Borrowing a network: proxies work on one private, initialised copy and share its forward passes."""

from __future__ import annotations

import copy
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor, nn

from vkdnw_pl.networks.init import Init, initialise
from vkdnw_pl.proxies.functional.batchnorm import BatchNorm, BatchNormMode
from vkdnw_pl.proxies.functional.features import feature_entropy
from vkdnw_pl.proxies.functional.trace import Trace, check_logits, trace

T = TypeVar("T")


@dataclass(frozen=True)
class Graph:
    """A forward pass with its autograd graph."""

    inputs: Tensor
    """The batch, requiring gradients."""
    taps: tuple[Tensor, ...]
    """Feature maps (B, C, H, W), shallow to deep; empty where the network has no known taps."""
    logits: Tensor


class Borrowed:
    """A private copy of a network, initialised and in evaluation mode, with a batch of inputs.

    Attributes:
        network: the copy; no parameter requires gradients, no module works in place, dropout is off.
        inputs: (B, C, H, W) in the copy's dtype and on its device.
    """

    def __init__(self, network: nn.Module, inputs: Tensor, seed: int, init: Init) -> None:
        self.seed = seed
        self.network = initialise(copy.deepcopy(network), init, _stream(seed, "weights")).eval().requires_grad_(False)
        parameter = next(self.network.parameters(), None)
        if parameter is not None:
            if parameter.dtype in (torch.float16, torch.bfloat16):
                self.network.float()
                parameter = next(self.network.parameters())
            inputs = inputs.detach().to(parameter.device, parameter.dtype)
        for module in self.network.modules():
            if getattr(module, "inplace", False) is True:
                module.inplace = False  # type: ignore[assignment]
        if inputs.dim() == 4 and inputs.device.type == "cpu":
            # Several times faster on CPU: convolutions, pooling and normalisation then never reorder their input.
            self.network.to(memory_format=torch.channels_last)
            inputs = inputs.contiguous(memory_format=torch.channels_last)
        self.inputs = inputs.clone() if inputs.is_inference() else inputs
        self._graphs: dict[str, Graph] = {}
        self._traces: dict[str, Trace] = {}
        self._entropies: tuple[Graph, list[float]] | None = None

    def generator(self, purpose: str) -> torch.Generator:
        """A CPU random stream of its own for ``purpose``, a pure function of the seed."""
        return torch.Generator().manual_seed(_stream(self.seed, purpose))

    def run(self, work: Callable[[Borrowed], T]) -> T:
        """``work(self)``; once more in the usual memory order where a ``view`` in the network needs that."""
        try:
            return work(self)
        except RuntimeError as error:
            if "view size is not compatible" not in str(error) or self.inputs.dim() != 4:
                raise
        self.network.to(memory_format=torch.contiguous_format)
        self.inputs = self.inputs.contiguous()
        return work(self)

    def trace(self, batchnorm: BatchNorm) -> Trace:
        """What a forward pass does; made once per behaviour of batch norm."""
        if batchnorm not in self._traces:
            self._traces[batchnorm] = trace(self.network, self.inputs, batchnorm)
        return self._traces[batchnorm]

    def graph(self, batchnorm: BatchNorm) -> Graph:
        """The forward pass that several proxies share; only the last asked-for behaviour stays in memory.

        Backward passes must retain it.
        """
        if batchnorm not in self._graphs:
            self._graphs.clear()
            self._graphs[batchnorm] = self._forward(batchnorm)
        return self._graphs[batchnorm]

    def taps(self, batchnorm: BatchNorm) -> tuple[Tensor, ...]:
        """Feature maps of the shared forward pass, at least two.

        Raises:
            ValueError: where the network has no known feature maps, or one that is not (B, C, H, W).
        """
        taps = self.graph(batchnorm).taps
        for tap in taps:
            if not isinstance(tap, Tensor) or tap.dim() != 4:
                got = tuple(tap.shape) if isinstance(tap, Tensor) else type(tap).__name__
                raise ValueError(f"feature maps must be (batch, channels, height, width); the network has one of {got}")
        if len(taps) < 2:
            raise ValueError(
                "the network has no known feature maps; give it an attribute feature_taps with the names of the "
                "modules whose outputs are its stages"
            )
        return taps

    def feature_entropies(self, batchnorm: BatchNorm) -> list[float]:
        """Entropies of the feature maps, shallow to deep; computed once per shared forward pass."""
        graph = self.graph(batchnorm)
        if self._entropies is None or self._entropies[0] is not graph:
            self._entropies = (graph, [feature_entropy(tap) for tap in self.taps(batchnorm)])
        return self._entropies[1]

    def _forward(self, batchnorm: BatchNorm) -> Graph:
        taps: list[Tensor] = []
        modules = [self.network.get_submodule(name) for name in feature_taps(self.network)]

        def tap(_module: nn.Module, _args: object, out: Tensor) -> None:
            if isinstance(out, Tensor) and out.is_floating_point() and not out.requires_grad:
                out.requires_grad_()  # the next stage has a derivative also where this one is constant
            taps.append(out)

        handles = [module.register_forward_hook(tap) for module in modules]
        try:
            inputs = self.inputs.detach().requires_grad_()
            with torch.enable_grad(), BatchNormMode(batchnorm):
                logits = check_logits(self.network(inputs), len(inputs))
        finally:
            for handle in handles:
                handle.remove()
        return Graph(inputs, tuple(taps), logits)


def feature_taps(network: nn.Module) -> tuple[str, ...]:
    """Names of the modules whose outputs are the network's stages, shallow to deep.

    The network's own attribute ``feature_taps`` or, for timm models, its ``feature_info``; empty where it has neither.
    """
    own = getattr(network, "feature_taps", None)
    if own is not None:
        return tuple(own)
    info = getattr(network, "feature_info", None)
    stages = info if isinstance(info, list) else getattr(info, "info", [])
    return tuple(stage["module"] for stage in stages)


@contextmanager
def borrow(network: nn.Module, inputs: Tensor, seed: int = 1, init: Init = "kaiming_normal") -> Iterator[Borrowed]:
    """Lend ``network`` to proxies: they get a copy, and nothing of the caller's changes, the random state included.

    Args:
        network: any torch module that returns logits.
        inputs: (B, ...) batch; moved to the network's device and dtype.
        seed: of the initialisation and of the proxies' random draws.
        init: see ``networks.init.initialise``.
    """
    device = next((p.device for p in network.parameters()), inputs.device)
    devices = [device] if device.type == "cuda" else []
    with (
        torch.random.fork_rng(devices=devices),
        torch.inference_mode(False),
        torch.autocast(device.type, enabled=False),
        _exact_cudnn(bool(devices)),
    ):
        yield Borrowed(network, inputs, seed, init)


@contextmanager
def _exact_cudnn(on_cuda: bool) -> Iterator[None]:
    if not on_cuda:
        yield
        return
    # Reduced-precision matrix units would put three digits into a Jacobian; benchmarking would make runs differ.
    with torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False):
        yield


def _stream(seed: int, purpose: str) -> int:
    """A seed for one purpose: no two seeds give a purpose the same stream, and no two purposes of a seed share one.

    It has 32 bits because the CPU generator ignores all higher ones.
    """
    if not 0 <= seed < 2**32:
        raise ValueError(f"seed={seed!r} is not allowed: give a whole number from 0 to 2**32 - 1")
    return zlib.crc32(int(seed).to_bytes(4, "little"), zlib.crc32(purpose.encode()))
