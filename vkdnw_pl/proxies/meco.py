"""MeCo: how far from linearly dependent the channels of feature maps are."""

from __future__ import annotations

import math
from typing import Any, Literal

import torch
from torch import Tensor, nn

from vkdnw_pl.errors import check_choice, check_whole
from vkdnw_pl.proxies.base import Proxy, ProxyInfo, UndefinedScore
from vkdnw_pl.proxies.borrow import Borrowed
from vkdnw_pl.proxies.functional.batchnorm import BatchNorm, check_batch_norm
from vkdnw_pl.proxies.graph import visit_outputs


class MeCo(Proxy):
    """Sum over feature maps of the smallest eigenvalue of the correlation matrix of their channels. Higher is better.

    A map (C, H, W) of one image is C rows of H·W observations; λ is the smallest eigenvalue of their matrix of Pearson's
    correlations (C, C). A constant channel makes λ = 0, and so do fewer positions than channels and one: such maps say
    nothing (the official code adds rounding of ±1e-7), as the third stage of NAS-Bench-201 at 32 pixels. No score where
    this is so of every map, and for networks with tokens or linear layers on maps, whose channels are not known.

    Args:
        modules: ``leaves``, the output of every module without parts, or ``all``, as in the official code, where a map
            counts again for every container whose last part made it.
        channels: draw so many channels of each map, whose λ counts C / channels times (MeCo_opt has 8); None for all.
        noise: in the place of the image, one of noise N(0, 1) with sides of so many pixels (64 in one version of the
            official code); None for the image.
        batchnorm: ``sample``, which is ``batch`` for the one image of the definition, or ``batch`` or ``running``. Of a
            batch of several the first image's maps count.
    """

    info = ProxyInfo(
        name="meco",
        title="MeCo",
        input="data",
        batchnorm="sample",
        samples=1,
        needs_images=True,
        source="Jiang et al., NeurIPS 2023; github.com/HamsterMimi/MeCo, correlation/NAS_Bench_201.py",
        init="pytorch",
    )

    def __init__(
        self,
        modules: Literal["leaves", "all"] = "leaves",
        channels: int | None = None,
        noise: int | None = None,
        batchnorm: BatchNorm = "sample",
    ) -> None:
        check_choice("meco.modules", modules, ("leaves", "all"))
        if channels is not None:
            check_whole("meco.channels", channels, 2)
        if noise is not None:
            check_whole("meco.noise", noise, 1)
        self.modules = modules
        self.channels = channels
        self.noise = noise
        self.batchnorm = check_batch_norm(batchnorm)

    def compute(self, borrowed: Borrowed) -> dict[str, float]:
        generator = borrowed.generator("meco")
        images = borrowed.inputs if self.batchnorm == "batch" else borrowed.inputs[:1]
        if self.noise is not None:
            shape = (1, images.shape[1], self.noise, self.noise)
            images = torch.randn(shape, generator=generator).to(images)
        values: list[float] = []
        last: tuple[Tensor, float | None] | None = None

        def visit(module: nn.Module, _given: Any, out: Tensor) -> None:
            nonlocal last
            if out.dim() < 3:
                return
            if isinstance(module, nn.Linear):
                raise UndefinedScore(
                    "MeCo is defined for maps (channels, height, width); a linear layer works on others"
                )
            is_leaf = next(module.children(), None) is None
            if out.dim() != 4 or not (is_leaf or self.modules == "all"):
                return
            if last is None or last[0] is not out or self.channels is not None:
                last = out, smallest_eigenvalue(out[0], self.channels, generator)
            if last[1] is not None:
                values.append(last[1])

        with borrowed.own_streams("forward"):
            visit_outputs(borrowed.network, images, self.batchnorm, visit)
        if not values:
            raise UndefinedScore("no feature map has more positions than channels")
        return {"meco": math.fsum(values)}


def smallest_eigenvalue(
    map_CHW: Tensor, channels: int | None = None, generator: torch.Generator | None = None
) -> float | None:
    """Smallest eigenvalue of the correlations of the channels, or of ``channels`` drawn ones times C over their number.

    In float64. None where there are no more positions than channels, so that it is 0 for every network.
    """
    rows = map_CHW.flatten(1)
    count = len(rows)
    if channels is not None and channels < count:
        rows = rows[torch.randperm(count, generator=generator)[:channels].to(rows.device)]
    if rows.shape[1] <= len(rows):
        return None
    if not torch.isfinite(rows).all():
        raise FloatingPointError("a feature map has values that are not finite")
    if bool((rows.amax(1) == rows.amin(1)).any()):
        return 0.0
    rows = rows.double()
    rows = rows - rows.mean(1, keepdim=True)
    rows = rows / rows.norm(dim=1, keepdim=True)
    return float(torch.linalg.eigvalsh(rows @ rows.T)[0]) * count / len(rows)
