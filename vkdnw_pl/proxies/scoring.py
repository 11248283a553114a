"""Scores one network with several proxies."""

from __future__ import annotations

import ctypes
import math
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor, nn

from vkdnw_pl.data.batches import Batch, Batches, Source, batches
from vkdnw_pl.errors import what_it_says, why
from vkdnw_pl.networks.init import Init
from vkdnw_pl.proxies.base import Proxy, ProxySpec, make_proxies
from vkdnw_pl.proxies.borrow import Borrowed, borrow
from vkdnw_pl.proxies.functional import UndefinedScore


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

    def leave_out(self, columns: Sequence[str], reason: str) -> None:
        """Note why these have no value."""
        self.values |= dict.fromkeys(columns)
        self.reasons |= dict.fromkeys(columns, reason)


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
) -> Scores:
    """Compute ``proxies`` on private initialised copies of ``network``; nothing of the caller's is changed.

    Proxies of the same initialisation and images share one copy and its forward passes. A proxy that fails leaves None
    and its reason; the others go on.

    Args:
        network: returns logits (B, C).
        images: (B, ...) one batch for all proxies, with or without labels, or the sources of numbered batches.
        proxies: see ``make_proxies``.
        seed: of the initialisation and of the proxies' random draws.
        init: see ``networks.init.initialise``; ``auto`` is each proxy's own.
    """
    scores = Scores()
    groups: dict[tuple[Init, str, int], list[Proxy]] = {}
    first = next((p.input for p in proxies if p.input != "none"), "images")
    for proxy in proxies:
        proxy_init = proxy.protocol.init or (proxy.info.init if init == "auto" else init)
        source = first if proxy.input == "none" else proxy.input
        # One given batch is all there is; only numbered ones can be as many images as a definition has.
        samples = proxy.protocol.samples or (proxy.info.samples if isinstance(images, Images) else None)
        groups.setdefault((proxy_init, source, samples or 0), []).append(proxy)
    for (group_init, source, samples), group in groups.items():
        release_freed_memory()
        group_images = getattr(images, source) if isinstance(images, Images) else images
        with borrow(network, group_images, seed, group_init, samples or None) as borrowed:
            # Proxies that use one shared forward pass stand together, so that only one is in memory.
            graph: str | None = None
            for proxy in sorted(group, key=lambda p: p.graph or ""):
                if proxy.graph != graph:
                    release_freed_memory()
                    graph = proxy.graph
                _run(scores, proxy, borrowed)
    scores.values = {column: scores.values[column] for proxy in proxies for column in proxy.table_columns}
    return scores


def release_freed_memory() -> None:
    """Give freed memory back to the system, where the C library can.

    Networks and engines have tensors of different sizes, so what one leaves in the heap hardly serves the next: scoring
    random NAS-Bench-201 networks with batch 64, two workers grew to 2.1 GiB without this.
    """
    with suppress(OSError, AttributeError, TypeError):  # glibc alone has it
        ctypes.CDLL(None).malloc_trim(0)


def _run(scores: Scores, proxy: Proxy, borrowed: Borrowed) -> None:
    started_at = time.perf_counter()
    try:
        if borrowed.damage is not None and proxy.info.batchnorm != "none":
            raise FloatingPointError(borrowed.damage)  # NaN compares like a number, so it could look like a score
        values = borrowed.run(proxy.compute)
        for name, column in zip(proxy.columns, proxy.table_columns, strict=True):
            if math.isfinite(values[name]):
                scores.values[column] = values[name]
            else:
                scores.leave_out([column], borrowed.damage or f"the value is {values[name]}")
                scores.failed = True
    except UndefinedScore as reason:
        scores.leave_out(proxy.table_columns, borrowed.damage or what_it_says(reason))
        scores.failed = scores.failed or borrowed.damage is not None
    except Exception as error:
        scores.leave_out(proxy.table_columns, _describe(error))
        scores.failed = True
    scores.seconds[proxy.label or proxy.name] = time.perf_counter() - started_at


def score(
    network: nn.Module,
    input_size: Sequence[int] = (3, 224, 224),
    num_classes: int | None = None,
    proxies: Sequence[ProxySpec] = ("vkdnw", "aleph", "macs", "params"),
    batch_size: int = 16,
    seed: int = 1,
    init: Init | Literal["auto"] = "auto",
    data: Source = "digits",
) -> dict[str, float | None]:
    """Zero-cost scores of any torch module that maps images to logits.

    Args:
        network: the module; its weights, buffers, mode, hooks and the random state are as before afterwards.
        input_size: (channels, height, width) of one image.
        num_classes: expected number of logits; checked where given, else found out where a proxy needs labels.
        proxies: names, ``{"name": ..., parameter: value}``, classes or made proxies; see ``vkdnw_pl.proxies.PROXIES``.
        batch_size: number of random images.
        seed: of the images, of the initialisation and of the proxies' random draws.
        init: ``auto`` scores copies that are initialised as each proxy is defined, ``kaiming_normal``, ``gaussian``,
            ``zennas`` and ``pytorch`` all proxies on such a copy, ``keep`` on the weights as they are.
        data: images for the proxies that are defined on real ones: see ``data.batches.image_batch``. Digits have 10
            classes, so that proxies with labels need a network with as many.

    Returns:
        Column → value, None where a score is undefined for this network. Higher is better unless the proxy's record
        says otherwise.

    Raises:
        ValueError: for unknown proxies, parameters or images, or where the number of logits is not ``num_classes``.
        RuntimeError: where a proxy fails, with its reason.
    """
    made_proxies = make_proxies(proxies)
    channels, height, width = input_size
    size = channels, height, width
    if num_classes is not None or any(proxy.info.needs_labels for proxy in made_proxies):
        with borrow(network, batches("random", min(batch_size, 2), size, seed), seed, "keep") as borrowed:
            num_logits = borrowed.run(lambda lent: lent.trace("running").num_logits)
        if num_classes is not None and num_logits != num_classes:
            raise ValueError(f"num_classes={num_classes} was given, but the network returns {num_logits} logits")
        num_classes = num_logits
    images = Images(
        batches("random", batch_size, size, seed, num_classes), batches(data, batch_size, size, seed, num_classes)
    )
    # A wrong batch size or source is the caller's mistake, not a failed proxy.
    if any(proxy.input != "none" for proxy in made_proxies):
        images.images(0)
    if any(proxy.input == "data" for proxy in made_proxies):
        images.data(0)
    scores = score_network(network, images, made_proxies, seed, init)
    if scores.failed:
        raise RuntimeError("; ".join(f"{column}: {reason}" for column, reason in scores.reasons.items()))
    return scores.values


def _describe(error: Exception) -> str:
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return f"out of memory: {what_it_says(error)}"
    return why(error)
