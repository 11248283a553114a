"""Scores one network with several proxies."""

from __future__ import annotations

import ctypes
import math
import mmap
import re
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Literal, TypeVar, cast

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from vkdnw_pl.data.batches import Batch, Batches
from vkdnw_pl.errors import what_it_says, why
from vkdnw_pl.networks.init import Init, Uninitialised
from vkdnw_pl.networks.private_copy import Uncopied, is_scripted
from vkdnw_pl.proxies.base import Proxy
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


def num_logits(network: nn.Module, batch: Batch, seed: int) -> int | None:
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
