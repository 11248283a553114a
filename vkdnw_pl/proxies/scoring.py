"""Scores one network with several proxies."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from vkdnw_pl.networks.init import Init
from vkdnw_pl.proxies.base import Proxy
from vkdnw_pl.proxies.borrow import borrow
from vkdnw_pl.proxies.memory import release_freed_memory
from vkdnw_pl.proxies.registry import make_proxies
from vkdnw_pl.proxies.undefined import UndefinedScore


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


def score_network(
    network: nn.Module, inputs: Tensor, proxies: Sequence[Proxy], seed: int = 1, init: Init = "kaiming_normal"
) -> Scores:
    """Compute ``proxies`` on a private initialised copy of ``network``; nothing of the caller's is changed.

    Args:
        network: returns logits (B, C).
        inputs: (B, ...) batch on the network's device.
        proxies: see ``make_proxies``.
        seed: of the initialisation and of the proxies' random draws.
        init: see ``networks.init.initialise``.

    A proxy that fails leaves None and its reason; the others go on.
    """
    scores = Scores()
    release_freed_memory()
    with borrow(network, inputs, seed, init) as borrowed:
        # Proxies that use one shared forward pass stand together, so that only one is in memory.
        graph: str | None = None
        for proxy in sorted(proxies, key=lambda p: p.graph or ""):
            if proxy.graph != graph:
                release_freed_memory()
                graph = proxy.graph
            started_at = time.perf_counter()
            try:
                _record(scores, proxy, borrowed.run(proxy.compute))
            except UndefinedScore as reason:
                _missing(scores, proxy.columns, str(reason))
            except Exception as error:
                _missing(scores, proxy.columns, _describe(error))
                scores.failed = True
            scores.seconds[proxy.name] = time.perf_counter() - started_at
    scores.values = {column: scores.values[column] for proxy in proxies for column in proxy.columns}
    return scores


def score(
    network: nn.Module,
    input_size: Sequence[int] = (3, 224, 224),
    num_classes: int | None = None,
    proxies: Sequence[str | Mapping[str, Any]] = ("vkdnw", "aleph", "macs", "params"),
    batch_size: int = 16,
    seed: int = 1,
    init: Init = "kaiming_normal",
) -> dict[str, float | None]:
    """Zero-cost scores of any torch module that maps images to logits.

    Args:
        network: the module; its weights, buffers, mode, hooks and the random state are as before afterwards.
        input_size: (channels, height, width) of one image.
        num_classes: expected number of logits; checked where given.
        proxies: names or ``{"name": ..., parameter: value}``; see ``vkdnw_pl.proxies.PROXIES``.
        batch_size: number of random images.
        seed: of the images, of the initialisation and of the proxies' random draws.
        init: ``kaiming_normal`` scores a freshly initialised copy, ``keep`` the weights as they are.

    Returns:
        Column → value, None where a score is undefined for this network. Higher is better for every proxy whose
        record does not say otherwise.

    Raises:
        ValueError: for unknown proxies or parameters, or where the number of logits is not ``num_classes``.
        RuntimeError: where a proxy fails, with its reason.
    """
    from vkdnw_pl.data.batches import input_batch

    made = make_proxies(proxies)
    channels, height, width = input_size
    inputs = input_batch("random", batch_size, (channels, height, width), seed)
    parameter = next(network.parameters(), None)
    if parameter is not None:
        inputs = inputs.to(parameter.device)
    if num_classes is not None:
        with borrow(network, inputs, seed, init) as borrowed:
            found = borrowed.run(lambda lent: lent.trace("running").num_logits)
        if found != num_classes:
            raise ValueError(f"num_classes={num_classes} was given, but the network returns {found} logits")
    scores = score_network(network, inputs, made, seed, init)
    if scores.failed:
        raise RuntimeError("; ".join(f"{column}: {reason}" for column, reason in scores.reasons.items()))
    return scores.values


def _record(scores: Scores, proxy: Proxy, values: dict[str, float]) -> None:
    for column in proxy.columns:
        value = values[column]
        if math.isfinite(value):
            scores.values[column] = value
        else:
            _missing(scores, [column], f"the value is {value}")
            scores.failed = True


def _missing(scores: Scores, columns: Sequence[str], reason: str) -> None:
    for column in columns:
        scores.values[column] = None
        scores.reasons[column] = reason


def _describe(error: Exception) -> str:
    text = " ".join(str(error).split())
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return f"out of memory: {text}"
    return f"{type(error).__name__}: {text}"
