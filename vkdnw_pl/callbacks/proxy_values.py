"""Proxies of a network in the middle of its training, which does not notice."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from typing import Any, Literal

import torch
import torch.nn.functional as F
from pytorch_lightning.utilities.seed import isolate_rng
from torch import nn

from vkdnw_pl.data.batches import Batch, Batches, Source, batches
from vkdnw_pl.networks.init import Init
from vkdnw_pl.proxies.base import Proxy
from vkdnw_pl.proxies.scoring import Images, release_freed_memory, score_network

MODULE = "module"
"""As a source of images: the data module of the training."""

ProxyValues = dict[str, Any]
"""``values`` (column -> value or None), ``reasons`` (column -> text), ``failed``, ``seconds``, as plain as a checkpoint
that ``weights_only`` reads must be."""


def measure(
    network: nn.Module,
    images: Callable[[], Images],
    proxies: Sequence[Proxy],
    seed: int,
    init: Init | Literal["auto"],
) -> ProxyValues:
    """Scores as the command ``score`` computes them; see ``proxies.scoring.score_network``.

    The network and every random stream are as before afterwards. Whatever goes wrong, its reason is returned.
    """
    started_at = time.perf_counter()
    network = getattr(network, "_orig_mod", network)  # what torch.compile wraps
    columns = [column for proxy in proxies for column in proxy.table_columns]
    device = next((p.device for p in network.parameters()), torch.device("cpu"))
    try:
        with isolate_rng(include_cuda=device.type == "cuda"), torch.enable_grad(), _as_in_score(device):
            # As the space builds it, whatever the trainer's precision and memory order: the bits depend on both.
            lent = copy.deepcopy(network).to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
            if init != "keep":
                lent.float()
            scores = score_network(lent, images(), proxies, seed, init)
            del lent
    except Exception as error:
        values = no_values(columns, f"{type(error).__name__}: {error}")
    else:
        values = {"values": dict(scores.values), "reasons": dict(scores.reasons), "failed": scores.failed}
    release_freed_memory()
    if device.type == "cuda":
        torch.cuda.empty_cache()
    return {**values, "seconds": time.perf_counter() - started_at}


def no_values(columns: Sequence[str], reason: str) -> ProxyValues:
    """No value at all, for one reason."""
    return {"values": dict.fromkeys(columns), "reasons": dict.fromkeys(columns, reason), "failed": True, "seconds": 0.0}


def training_batches(
    source: Source, batch_size: int, input_size: Sequence[int], seed: int, num_classes: int, datamodule: Any
) -> Batches:
    """Numbered batches of a source that may be ``module``: then ``datamodule.proxy_batch``, resized where need be.

    Raises:
        ValueError: if the data module has no such method; when called, if the images have another number of channels,
            and as ``data.batches.image_batch`` does.
    """
    channels, height, width = (int(size) for size in input_size)
    if source != MODULE:
        return batches(source, batch_size, (channels, height, width), seed, num_classes)
    make = getattr(datamodule, "proxy_batch", None)
    if make is None:
        raise ValueError("the training has no data module with a method proxy_batch; choose another source of images")

    @lru_cache(maxsize=2)
    def numbered(index: int) -> Batch:
        batch = make(batch_size, seed, index)
        if batch.images.shape[1] != channels:
            raise ValueError(
                f"the data module's images have {batch.images.shape[1]} channels, the network takes {channels}"
            )
        if tuple(batch.images.shape[2:]) == (height, width):
            return batch
        return Batch(F.interpolate(batch.images, (height, width), mode="bilinear", align_corners=False), batch.labels)

    return numbered


@contextmanager
def _as_in_score(device: torch.device) -> Iterator[None]:
    """One thread on CPU, full precision on CUDA: the bits of a score depend on both."""
    threads, precision = torch.get_num_threads(), torch.get_float32_matmul_precision()
    try:
        if device.type == "cpu":
            torch.set_num_threads(1)
        else:
            torch.set_float32_matmul_precision("highest")
        yield
    finally:
        if device.type == "cpu":
            torch.set_num_threads(threads)
        else:
            torch.set_float32_matmul_precision(precision)
