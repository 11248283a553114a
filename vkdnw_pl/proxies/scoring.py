"""Scores one network with several proxies."""

from __future__ import annotations

import ctypes
import math
import mmap
import re
import time
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Literal, TypeVar, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from vkdnw_pl.data.batches import Batch, Batches, Source, batches, image_batch
from vkdnw_pl.errors import check_bool, check_choice, check_whole, what_it_says, why
from vkdnw_pl.networks.init import INITS, Init, Uninitialised
from vkdnw_pl.networks.private_copy import Uncopied, is_scripted
from vkdnw_pl.proxies.base import Proxy, ProxySpec, make_proxies, sample_notes
from vkdnw_pl.proxies.borrow import Borrowed, borrow
from vkdnw_pl.proxies.functional import UndefinedScore

T = TypeVar("T")


@dataclass
class Scores:
    """Values of one network."""

    values: dict[str, float | None] = field(default_factory=dict)
    """Column → finite value, or None with a text in ``reasons``."""
    reasons: dict[str, str] = field(default_factory=dict)
    failed: bool = False
    """A proxy raised, ran out of memory or gave NaN; a score that is undefined by definition is no failure."""
    seconds: dict[str, float] = field(default_factory=dict)
    """Proxy → wall time; a forward pass that proxies share counts for the first."""

    def take(self, proxy: Proxy, values: Mapping[str, float], damage: str | None = None) -> None:
        """Note a proxy's values; one that is not finite fails, because of ``damage`` where there is some."""
        for name, column in zip(proxy.columns, proxy.table_columns, strict=True):
            if math.isfinite(values[name]):
                self.values[column] = values[name]
            else:
                self.fail([column], damage or f"the value is {values[name]}")

    def leave_out(self, columns: Sequence[str], reason: str) -> None:
        """Note why these have no value."""
        self.values |= dict.fromkeys(columns)
        self.reasons |= dict.fromkeys(columns, reason)

    def fail(self, columns: Sequence[str], reason: str) -> None:
        """Note what went wrong with these."""
        self.leave_out(columns, reason)
        self.failed = True


class NetworkScores(dict[str, float | None]):
    """Column → value, None where the network has no such score; ``reasons`` says why."""

    def __init__(self, values: Mapping[str, float | None], reasons: Mapping[str, str] | None = None) -> None:
        super().__init__(values)
        self.reasons = dict(reasons or {})
        """Column → text."""


@dataclass(frozen=True)
class Images:
    """Where proxies get their images."""

    images: Batches
    """For proxies that take any images."""
    data: Batches
    """For proxies that are defined on images of a data set."""


def score_network(
    network: nn.Module,
    images: Tensor | Batch | Images,
    proxies: Sequence[Proxy],
    seed: int = 1,
    init: Init | Literal["auto"] = "auto",
    fresh: bool = False,
) -> Scores:
    """Compute ``proxies`` on private initialised copies of ``network``; nothing of the caller's is changed.

    Proxies of the same initialisation share one copy, and those of the same images its forward passes. A proxy that
    fails leaves None and its reason; the others go on.

    Args:
        network: returns logits (B, C).
        images: (B, ...) one batch for all proxies, with or without labels, or the sources of numbered batches.
        proxies: see ``make_proxies``.
        seed: of the initialisation and of the proxies' random draws.
        init: see ``networks.init.initialise``; ``auto`` is each proxy's own.
        fresh: the network comes from its constructor: what no initialisation draws stays as it is. And nobody else has
            it: the last initialisation is done in the network itself, which saves a copy.
    """
    scores = Scores()
    by_init: dict[Init, dict[tuple[str, int], list[Proxy]]] = {}
    first = next((p.input for p in proxies if p.input != "none"), "images")
    for proxy in proxies:
        proxy_init = proxy.protocol.init or (proxy.info.init if init == "auto" else init)
        source = first if proxy.input == "none" else proxy.input
        # One given batch is all there is; only numbered ones can be as many images as a definition has.
        samples = proxy.protocol.samples or (proxy.info.samples if isinstance(images, Images) else None)
        by_init.setdefault(proxy_init, {}).setdefault((source, samples or 0), []).append(proxy)
    for name, module in network.named_modules():
        if module._backward_hooks or module._backward_pre_hooks:
            named = f"{name or 'the network'} ({type(module).__name__})"
            warnings.warn(f"{named} has hooks on backward passes, which have no effect on scores", stacklevel=2)
            break
    for number, (group_init, sources) in enumerate(by_init.items(), 1):
        groups = [
            _Group(getattr(images, source) if isinstance(images, Images) else images, samples or None, members)
            for (source, samples), members in sources.items()
        ]
        members = [proxy for group in groups for proxy in group.proxies]
        lend = partial(borrow, network, groups[0].images, seed, samples=groups[0].samples, fresh=fresh)
        try:
            _run_groups(scores, groups, lend(init=group_init, own=fresh and number == len(by_init)))
        except Uninitialised as error:
            for proxy in members:
                if proxy.info.reads != "architecture":
                    scores.fail(proxy.table_columns, str(error))
            # What does not look at the weights has a value all the same.
            counted = [proxy for proxy in members if proxy.info.reads == "architecture"]
            _run_groups(scores, [replace(groups[0], proxies=counted)], lend(init="keep"))
        except Uncopied as error:
            is_counted = any(proxy.info.reads == "architecture" for proxy in proxies)
            if not is_counted or any(map(is_lazy, network.parameters())):
                raise
            for proxy in members:
                if proxy.info.reads == "architecture":
                    _run(scores, proxy, cast(Borrowed, _NoCopy(network, error)))
                else:
                    scores.fail(proxy.table_columns, str(error))
    scores.values = {column: scores.values[column] for proxy in proxies for column in proxy.table_columns}
    return scores


@dataclass(frozen=True)
class _Group:
    """Proxies that see the same images."""

    images: Any
    samples: int | None
    proxies: Sequence[Proxy]


class _NoCopy:
    """A network that cannot be copied, in the place of a borrowed one: its shapes can be seen, and nothing be run."""

    damage = None

    def __init__(self, network: nn.Module, error: Uncopied) -> None:
        self.network, self._error = network, error

    def __getattr__(self, name: str) -> Any:
        raise self._error

    def run(self, work: Callable[[Any], T]) -> T:
        return work(self)

    def own_streams(self, purpose: str) -> AbstractContextManager[None]:
        return nullcontext()


def _run_groups(scores: Scores, groups: Sequence[_Group], lent: AbstractContextManager[Borrowed]) -> None:
    """Run the groups of one initialisation; ``lent`` has the images of the first.

    Proxies that use one shared forward pass stand together, so that only one is in memory.
    """
    release_freed_memory(_KEPT_BYTES)
    with lent as borrowed:
        for number, group in enumerate(groups):
            if number > 0:
                borrowed = borrowed.with_images(group.images, group.samples)
            graph: str | None = None
            for proxy in sorted(group.proxies, key=lambda p: p.graph or ""):
                if proxy.graph != graph:
                    release_freed_memory(_KEPT_BYTES)
                    graph = proxy.graph
                _run(scores, proxy, borrowed)


_KEPT_BYTES = 512 * 2**20
"""What freed memory may grow to: it took a seventh of the time of a row to get it back from the system, page by page."""
_least_resident = math.inf


def release_freed_memory(kept_bytes: int = 0) -> None:
    """Give freed memory back to the system, where the C library can, once the process has grown by ``kept_bytes``.

    Networks and engines have tensors of different sizes, so what one leaves in the heap hardly serves the next: scoring
    random NAS-Bench-201 networks with batch 64, two workers grew to 2.1 GiB without this.
    """
    global _least_resident
    with suppress(OSError, AttributeError, TypeError):  # glibc alone has it
        _least_resident = min(_least_resident, _resident_bytes())
        if _resident_bytes() >= _least_resident + kept_bytes:
            ctypes.CDLL(None).malloc_trim(0)
            _least_resident = _resident_bytes()


def _resident_bytes() -> int:
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * mmap.PAGESIZE


def _run(scores: Scores, proxy: Proxy, borrowed: Borrowed) -> None:
    started_at = time.perf_counter()
    columns = proxy.table_columns
    try:
        if proxy.info.needs_images and borrowed.inputs.dim() != 4:
            shape = tuple(borrowed.inputs.shape[1:])
            raise UndefinedScore(f"needs images (channels, height, width); an input of this network is {shape}")
        if proxy.info.reads == "passes" and is_scripted(borrowed.network):
            raise ValueError("what happens in a scripted network cannot be seen: give it as it was before torch.jit")
        if borrowed.damage is not None and proxy.info.batchnorm != "none":
            raise FloatingPointError(borrowed.damage)  # NaN compares like a number, so it could look like a score
        with borrowed.own_streams("proxy"):
            values = borrowed.run(proxy.compute)
        scores.take(proxy, values, borrowed.damage)
    except UndefinedScore as reason:
        scores.leave_out(columns, borrowed.damage or what_it_says(reason))
        scores.failed = scores.failed or borrowed.damage is not None
    except Exception as error:
        scores.fail(columns, _describe(error))
    scores.seconds[proxy.label or proxy.name] = time.perf_counter() - started_at


def score(
    network: nn.Module,
    input_size: Sequence[int] | None = None,
    num_classes: int | None = None,
    proxies: Sequence[ProxySpec] = ("vkdnw", "aleph", "macs", "params"),
    batch_size: int | None = None,
    seed: int = 1,
    init: Init | Literal["auto"] = "auto",
    data: Source | None = None,
    inputs: Tensor | Batch | None = None,
    details: bool = False,
    strict: bool = False,
) -> NetworkScores:
    """Zero-cost scores of any torch module that maps one tensor to logits (batch, classes).

    Args:
        network: the module; its weights, buffers, mode, hooks and the random state are as before afterwards.
        input_size: shape of one input, (3, 224, 224) by default: (channels, height, width) of an image, or any other
            that the network takes, such as (20, 8) or (12,).
        num_classes: expected number of logits; checked where given, else found out where a proxy needs labels.
        proxies: names, ``{"name": ..., parameter: value}``, classes or made proxies; see ``vkdnw_pl.proxies.PROXIES``.
        batch_size: number of random inputs, 16 by default.
        seed: of the inputs, of the initialisation and of the proxies' random draws.
        init: ``auto`` scores copies that are initialised as each proxy is defined, ``kaiming_normal``, ``gaussian``,
            ``zennas`` and ``pytorch`` all proxies on such a copy, ``keep`` on the weights as they are.
        data: images for the proxies that are defined on real ones: see ``data.batches.image_batch``. Digits by default,
            random values where the inputs are no images. Digits have 10 classes, so that proxies with labels need a
            network with as many.
        inputs: a batch (B, ...) of your own for all proxies, such as token numbers, instead of ``input_size``,
            ``batch_size`` and ``data``; a ``Batch`` has labels too, which are drawn at random for a tensor.
        details: also the further columns of a proxy, such as ``vkdnw_decile_1``.
        strict: raise where a proxy fails; a score that is undefined for the network is no failure.

    Returns:
        Column → value, or None with a text in ``reasons``. Higher is better unless the proxy's record says otherwise.

    Raises:
        ValueError: for unknown proxies, parameters or images, or where the number of logits is not ``num_classes``.
        RuntimeError: with ``strict``, where a proxy fails, with its reason.
    """
    if not isinstance(network, nn.Module):
        raise ValueError(f"network={network!r} is not allowed: give a torch.nn.Module")
    if any(parameter.is_meta for parameter in network.parameters()):
        raise ValueError("the network is on the meta device, where weights have no values: make it on another device")
    made_proxies = make_proxies(proxies)
    check_choice("init", init, ("auto", *INITS))
    check_whole("seed", seed := _plain(seed), 0, most=2**32 - 1)
    check_bool("details", details)
    check_bool("strict", strict)
    if num_classes is not None:
        check_whole("num_classes", num_classes := _plain(num_classes), 1)
    images: Images | Batch
    if inputs is None:
        if isinstance(input_size, str) or not (input_size is None or isinstance(input_size, Iterable)):
            raise ValueError(f"input_size={input_size!r} is not allowed: give a shape such as (3, 224, 224)")
        size = (3, 224, 224) if input_size is None else tuple(map(_plain, input_size))
        for length in size or (None,):
            check_whole(f"input_size={input_size!r}: length", length, 1)
        check_whole("batch_size", batch_size := 16 if batch_size is None else _plain(batch_size), 1)
        if not (data is None or isinstance(data, str | Mapping)):
            raise ValueError(f"data={data!r} is not allowed: give a name, the path of a file or a data module")
        if data is not None and not any(proxy.input == "data" for proxy in made_proxies):
            warnings.warn(f"data={data!r} has no effect: no proxy among these sees images of a data set", stacklevel=2)
        few = batches("random", min(batch_size, 2), size, seed)(0)
    else:
        for option, value in {"input_size": input_size, "batch_size": batch_size, "data": data}.items():
            if value is not None:
                raise ValueError(f"{option}={value!r} has no meaning beside inputs, which are a whole batch")
        few = inputs if isinstance(inputs, Batch) else Batch(inputs)
        if not isinstance(few.images, Tensor) or few.images.dim() == 0 or not len(few.images):
            raise ValueError(f"inputs={inputs!r} is not allowed: give a tensor (B, ...) with at least one input")
        if few.images.is_meta or few.images.layout != torch.strided:
            raise ValueError("inputs is a tensor without values, or a sparse one: give a dense tensor (B, ...)")
        batch_size = len(few.images)
    if num_classes is not None or any(proxy.info.needs_labels for proxy in made_proxies):
        num_logits = _num_logits(network, few, seed)
        if num_classes is not None and num_logits not in (None, num_classes):
            raise ValueError(f"num_classes={num_classes} was given, but the network returns {num_logits} logits")
        num_classes = num_logits
    if inputs is None:
        data = data or ("digits" if len(size) == 3 else "random")
        images = Images(*(batches(source, batch_size, size, seed, num_classes) for source in ("random", data)))
        # A wrong batch size or source is the caller's mistake, not a failed proxy.
        for kind in {proxy.input for proxy in made_proxies} - {"none"}:
            getattr(images, kind)(0)
    elif few.labels is None and num_classes is not None:
        images = replace(few, labels=image_batch("random", batch_size, (1,), seed, num_classes).labels)
    else:
        images = few
    for note in sample_notes(made_proxies, batch_size, only=inputs is not None):
        warnings.warn(note, stacklevel=2)
    scores = score_network(network, images, made_proxies, seed, init)
    if scores.failed and strict:
        raise RuntimeError("; ".join(f"{column}: {reason}" for column, reason in scores.reasons.items()))
    columns = [column for proxy in made_proxies for column in proxy.table_columns[: None if details else 1]]
    reasons = {column: scores.reasons[column] for column in columns if column in scores.reasons}
    return NetworkScores({column: scores.values[column] for column in columns}, reasons)


def _plain(value: Any) -> Any:
    """A number of NumPy as Python's."""
    return value.item() if isinstance(value, np.generic) else value


def _num_logits(network: nn.Module, batch: Batch, seed: int) -> int | None:
    """How many logits the network returns; None where it cannot be run, of which every proxy will tell."""
    try:
        with borrow(network, batch, seed, "keep") as borrowed:
            return borrowed.run(lambda lent: lent.trace("running").num_logits)
    except Exception:
        return None


def _describe(error: Exception) -> str:
    if isinstance(error, Uncopied):
        return str(error)
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return f"out of memory: {what_it_says(error)}"
    if re.search(r"forward\(\).*missing", text := why(error)):
        text = f"{text}; wrap the network in a module whose forward takes one tensor and adds what else is needed"
    return text
