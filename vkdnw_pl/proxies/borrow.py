"""Borrowing a network: proxies work on one private, initialised copy and share its forward passes."""

from __future__ import annotations

import copy
import re
import zlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from vkdnw_pl.data.batches import Batch, Batches
from vkdnw_pl.networks.features import Taps, feature_taps, own_taps
from vkdnw_pl.networks.init import Init, initialise
from vkdnw_pl.networks.private_copy import private_copy
from vkdnw_pl.networks.streams import kept_streams
from vkdnw_pl.proxies.functional import UndefinedScore
from vkdnw_pl.proxies.functional.batchnorm import BatchNorm
from vkdnw_pl.proxies.functional.calls import is_finite
from vkdnw_pl.proxies.functional.fisher import feature_entropy
from vkdnw_pl.proxies.functional.passes import unchanged
from vkdnw_pl.proxies.functional.trace import Trace, trace
from vkdnw_pl.proxies.graph import Graph, cross_entropy, forward_graph, loss_gradients

T = TypeVar("T")


class Borrowed:
    """A private copy of a network, initialised and in evaluation mode, with a batch of inputs.

    Attributes:
        network: the copy; no parameter requires gradients, no module works in place, dropout is off.
        inputs: (B, ...) on the copy's device and, where they are no whole numbers, in its dtype.
        seed: of the initialisation and of the proxies' random draws.
        damage: what has entries that are not finite, a parameter or the images, in words; None where all are.
    """

    def __init__(
        self,
        network: nn.Module,
        images: Tensor | Batch | Batches,
        seed: int,
        init: Init,
        samples: int | None = None,
        fresh: bool = False,
        own: bool = False,
    ) -> None:
        self.seed = seed
        self._init, self._fresh = init, fresh
        copied = private_copy(network, own=own)
        self.network = initialise(copied, init, _stream(seed, "weights"), fresh).eval()
        for each in self.network.parameters():
            each.requires_grad_(False)
        self._weight_damage = _damage(self.network) if init == "keep" else None
        if self._dtype in (torch.float16, torch.bfloat16):
            self.network.float()
        for module in self.network.modules():
            if getattr(module, "inplace", False) is True:
                module.inplace = False  # type: ignore[assignment]
            # The caller's hooks on backward passes are not for these; torch.func does not work with them either.
            module._backward_hooks.clear()
            module._backward_pre_hooks.clear()
        self._channels_last = False
        taps = own_taps(self.network)
        self._tapped: dict[Taps, tuple[str, ...]] = {} if taps is None else {"own": taps}
        self._take(images, samples)

    def _take(self, images: Tensor | Batch | Batches, samples: int | None) -> None:
        self._images, self._samples = images, samples
        first = self.batch(0)
        self.damage = self._weight_damage
        if self.damage is None and not is_finite(first.images):
            self.damage = _NOT_FINITE
        if first.images.dim() == 4 and first.images.device.type == "cpu" and not self._channels_last:
            # Several times faster on CPU: convolutions, pooling and normalisation then never reorder their input.
            self._order_weights(torch.channels_last)
            self._channels_last = True
        self.inputs = self._arranged(first.images)
        self._labels = first.labels
        self._graph: tuple[BatchNorm, Graph] | None = None
        self._traces: dict[str, Trace] = {}
        self._derived: dict[str, Any] = {}

    def with_images(self, images: Tensor | Batch | Batches, samples: int | None = None) -> Borrowed:
        """The same copy with other images; this one is not to be used any more."""
        other = copy.copy(self)
        other._take(images, samples)
        return other

    def redrawn(self, draw: int) -> Borrowed:
        """The same images and a copy of the network with another draw of its initialisation.

        Itself for draw 0, and where the weights are kept.
        """
        if draw == 0 or self._init == "keep":
            return self
        other = copy.copy(self)
        network = private_copy(self.network)
        other.network = initialise(network, self._init, _stream(self.seed, f"weights {draw}"), self._fresh).eval()
        other._graph, other._traces, other._derived = None, {}, {}
        return other

    def _order_weights(self, order: torch.memory_format) -> None:
        """Arrange the weights of convolutions; what else has four dimensions has a meaning of its own."""
        for module in self.network.modules():
            if isinstance(module, nn.modules.conv._ConvNd):
                for parameter in module.parameters():
                    if parameter.dim() == 4:
                        parameter.data = parameter.data.to(memory_format=order)

    @property
    def _dtype(self) -> torch.dtype:
        """That of the images: of the first parameter of real numbers."""
        return next((p.dtype for p in self.network.parameters() if p.is_floating_point()), torch.float32)

    @property
    def labels(self) -> Tensor:
        """Class numbers (B,) of the images; ValueError where they are not known."""
        return _known_labels(self._labels)

    def batch(self, index: int) -> Batch:
        """Batch ``index`` of the images (0 is ``inputs``) in the network's dtype and on its device."""
        if isinstance(self._images, Tensor | Batch):
            if index > 0:
                raise ValueError("one batch of images was given; this proxy needs a second one")
            batch = self._images if isinstance(self._images, Batch) else Batch(self._images)
        else:
            batch = self._numbered(self._images, index)
        images, labels = batch.images.detach(), batch.labels
        if self._samples is not None:
            if self._samples > len(images):
                raise ValueError(f"samples={self._samples} is more than the {len(images)} images of the batch")
            images, labels = images[: self._samples], None if labels is None else labels[: self._samples]
        if (parameter := next(self.network.parameters(), None)) is not None:
            images = images.to(parameter.device, self._dtype if images.is_floating_point() else images.dtype)
        if index > 0 and not is_finite(images):
            raise FloatingPointError(_NOT_FINITE)
        if labels is not None:
            labels = _usable(labels).to(images.device)
        return Batch(self._arranged(_usable(images)), labels)

    def _numbered(self, numbered: Batches, index: int) -> Batch:
        """Batch ``index`` of numbered ones; of several together where one has not as many images as are wanted."""
        if self._samples is None:
            return numbered(index)
        count = -(-self._samples // len(numbered(0).images))
        parts = [numbered(index * count + i) for i in range(count)]
        labels = [part.labels for part in parts if part.labels is not None]
        return Batch(torch.cat([part.images for part in parts]), torch.cat(labels) if labels else None)

    def _arranged(self, images: Tensor) -> Tensor:
        return images.contiguous(memory_format=torch.channels_last) if self._channels_last else images

    def generator(self, purpose: str) -> torch.Generator:
        """A CPU random stream of its own for ``purpose``, a pure function of the seed."""
        return torch.Generator().manual_seed(_stream(self.seed, purpose))

    def run(self, work: Callable[[Borrowed], T]) -> T:
        """``work(self)``; once more in the usual memory order where a ``view`` in the network needs that."""
        try:
            return work(self)
        except RuntimeError as error:
            if not self._channels_last or not re.search("view size is not compatible|stride", str(error)):
                raise
        self._order_weights(torch.contiguous_format)
        self._channels_last = False
        self.inputs = self.inputs.contiguous()
        return work(self)

    def own_streams(self, purpose: str) -> AbstractContextManager[None]:
        """The global random streams begin anew for ``purpose``, a pure function of the seed, and come back."""
        return kept_streams(_stream(self.seed, purpose), self.inputs.device)

    def trace(self, batchnorm: BatchNorm) -> Trace:
        """What a forward pass does; made once per behaviour of batch norm."""
        if batchnorm not in self._traces:
            with self.own_streams("forward"):
                self._traces[batchnorm] = trace(self.network, self.inputs, batchnorm)
        return self._traces[batchnorm]

    def graph(self, batchnorm: BatchNorm) -> Graph:
        """The forward pass that several proxies share; only the last asked-for behaviour stays in memory.

        Backward passes must retain it.
        """
        if self._graph is None or self._graph[0] != batchnorm:
            self._graph = None
            self._derived.clear()
            taps = [name for names in self._tapped.values() for name in names]
            with self.own_streams("forward"):
                self._graph = batchnorm, forward_graph(self.network, self.inputs, batchnorm, taps=taps)
        return self._graph[1]

    def taps(self, batchnorm: BatchNorm, which: Taps = "own") -> tuple[Tensor, ...]:
        """Feature maps of the shared forward pass, see `networks.features.feature_taps`; at least one.

        They are (B, C, H, W), or tokens (B, N, d) where the network's own attribute ``feature_taps`` names such modules.
        """
        names = self._tap_names(which)
        if not set(names) <= set(self.graph(batchnorm).taps):
            self._graph = None
        taps = tuple(tap for name, tap in self.graph(batchnorm).taps.items() if name in names)
        first = taps[0].dim() if taps and isinstance(taps[0], Tensor) else 4
        dim = 3 if first == 3 and hasattr(self.network, "feature_taps") else 4
        for tap in taps:
            if not isinstance(tap, Tensor) or tap.dim() != dim:
                got = tuple(tap.shape) if isinstance(tap, Tensor) else type(tap).__name__
                raise ValueError(f"feature maps must be (batch, channels, height, width); the network has one of {got}")
        if not taps:
            raise ValueError(
                "no module of the network returns a feature map (batch, channels, height, width); give it an attribute "
                "feature_taps with the names of modules that do"
            )
        return taps

    def _tap_names(self, which: Taps) -> tuple[str, ...]:
        if which not in self._tapped:
            with self.own_streams("forward"), unchanged(self.network):
                self._tapped[which] = feature_taps(self.network, self.inputs[:2].clone(), which)
        return self._tapped[which]

    def derived(self, batchnorm: BatchNorm, name: str, make: Callable[[Graph], T]) -> T:
        """``make(graph)``, computed once per shared forward pass and kept under ``name``."""
        graph = self.graph(batchnorm)
        if name not in self._derived:
            self._derived[name] = make(graph)
        return self._derived[name]

    def feature_entropies(self, batchnorm: BatchNorm, which: Taps = "own") -> list[float]:
        """Entropies of the feature maps, shallow to deep."""
        taps = self.taps(batchnorm, which)
        return self.derived(batchnorm, f"entropies {which}", lambda _: [feature_entropy(tap) for tap in taps])

    def input_gradient(self, batchnorm: BatchNorm) -> Tensor:
        """∂(Σ logits)/∂x, (B, C, H, W); UndefinedScore where the logits do not depend on the input."""

        def gradient(graph: Graph) -> Tensor:
            grad = None
            if not graph.inputs.requires_grad:
                raise UndefinedScore("there is no derivative by inputs that are whole numbers")
            if graph.logits.requires_grad:
                (grad,) = torch.autograd.grad(graph.logits.sum(), graph.inputs, retain_graph=True, allow_unused=True)
            if grad is None:
                raise UndefinedScore("the logits do not depend on the input")
            return grad

        return self.derived(batchnorm, "input gradient", gradient)

    def loss(self, batchnorm: BatchNorm) -> Tensor:
        """Mean cross-entropy of the shared forward pass against the labels."""
        return self.derived(batchnorm, "loss", lambda graph: cross_entropy(graph.logits, self.labels))

    def loss_gradients(self, batchnorm: BatchNorm, index: int = 0) -> dict[str, Tensor]:
        """Gradients of the mean cross-entropy by parameter name, without those that it does not depend on."""
        if index == 0:
            return self.derived(
                batchnorm, "loss gradients", lambda graph: loss_gradients(graph, self.loss(batchnorm), True)
            )
        batch = self.batch(index)
        with self.own_streams(f"forward {index}"):
            graph = forward_graph(self.network, batch.images, batchnorm)
        return loss_gradients(graph, cross_entropy(graph.logits, _known_labels(batch.labels)), False)

    def fresh_graph(self, batchnorm: BatchNorm, composite: bool = False) -> Graph:
        """A forward pass of the inputs that is not shared; with ``composite``, ``sample`` norm has all derivatives."""
        with self.own_streams("forward"):
            return forward_graph(self.network, self.inputs, batchnorm, composite)


_NOT_FINITE = "the images have values that are not finite"


def _damage(network: nn.Module) -> str | None:
    for name, parameter in network.named_parameters():
        if not is_finite(parameter):
            return f"the weights are kept, and {name} has entries that are not finite"
    return None


def _known_labels(labels: Tensor | None) -> Tensor:
    if labels is None:
        raise ValueError("the labels of the images are not known; choose a source of images that has some")
    return labels


def _usable(tensor: Tensor) -> Tensor:
    """The tensor, or a copy of one that was made in inference mode and so cannot take part in a graph."""
    return tensor.clone() if tensor.is_inference() else tensor


@contextmanager
def borrow(
    network: nn.Module,
    images: Tensor | Batch | Batches,
    seed: int = 1,
    init: Init = "kaiming_normal",
    samples: int | None = None,
    fresh: bool = False,
    own: bool = False,
) -> Iterator[Borrowed]:
    """Lend ``network`` to proxies: they get a copy, and nothing of the caller's changes, the random state included.

    Args:
        network: any torch module that returns logits.
        images: (B, ...) one batch, with or without labels, or numbered batches, anywhere and of any dtype.
        seed: of the initialisation and of the proxies' random draws.
        init: see ``networks.init.initialise``.
        samples: use only so many of a batch's first images.
        fresh: the network comes from its constructor, see ``networks.init.initialise``.
        own: nobody else has the network: it is lent itself.
    """
    for name, module in network.named_modules():
        if re.match(r"torch\.(ao\.)?nn\.(intrinsic\.)?quantized", type(module).__module__):
            raise ValueError(
                f"{name or 'the network'} ({type(module).__name__}) is quantised: its packed weights can neither be counted "
                "nor initialised; give the network as it was before"
            )
    batch = images.images if isinstance(images, Batch) else images
    images_device = batch.device if isinstance(batch, Tensor) else torch.device("cpu")
    device = next((p.device for p in network.parameters()), images_device)
    with (
        kept_streams(device=device),
        torch.inference_mode(False),
        torch.autocast(device.type, enabled=False),
        _exact_on_cuda() if device.type == "cuda" else nullcontext(),
    ):
        yield Borrowed(network, images, seed, init, samples, fresh, own)


@contextmanager
def _exact_on_cuda() -> Iterator[None]:
    """No reduced-precision matrix units, which put three digits into a Jacobian; no benchmarking: runs would differ."""
    precision = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        with torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False):
            yield
    finally:
        torch.set_float32_matmul_precision(precision)


def _stream(seed: int, purpose: str) -> int:
    """A seed for one purpose, of 32 bits because the CPU generator ignores all higher ones.

    No two seeds give a purpose the same stream, and no two purposes of a seed share one.
    """
    if not 0 <= seed < 2**32:
        raise ValueError(f"seed={seed!r} is not allowed: give a whole number from 0 to 2**32 - 1")
    return zlib.crc32(int(seed).to_bytes(4, "little"), zlib.crc32(purpose.encode()))
