"""What is counted without a gradient: parameters, multiply-adds, layers with weights and their widths."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from vkdnw_pl.networks.cost import flop_counter_macs
from vkdnw_pl.proxies.base import Proxy, ProxyInfo
from vkdnw_pl.proxies.borrow import Borrowed
from vkdnw_pl.proxies.functional.batchnorm import BatchNormMode
from vkdnw_pl.proxies.functional.passes import unchanged
from vkdnw_pl.proxies.functional.scalars import layer_weights


class Params(Proxy):
    """Number of learnable scalars; a shared tensor counts once. Higher is better."""

    info = ProxyInfo(
        name="params", title="#params", source="Dong & Yang, ICLR 2020 (NAS-Bench-201)", reads="architecture"
    )

    def compute(self, borrowed: Borrowed) -> dict[str, float]:
        return {"params": float(sum(p.numel() for p in borrowed.network.parameters()))}

    def closed_form(self, space: Any, arch: str, network: Mapping[str, Any]) -> dict[str, float] | None:
        if space.aleph(arch, **network) is None:
            return None
        return {"params": float(space.cost(arch, **network).num_params)}


class Macs(Proxy):
    """Multiply-adds of convolutions and linear layers for one image, a bias counting one per output element.

    Equal to the numbers of NAS-Bench-201. Networks with further matrix products (attention, recurrent layers), and
    scripted ones, are counted by torch's flop counter, which leaves biases out. Higher is better.
    """

    info = ProxyInfo(
        name="macs",
        title="MACs",
        source="Dong & Yang, ICLR 2020 (NAS-Bench-201); there and in the paper's Table 1 called FLOPs",
        reads="architecture",
    )

    def compute(self, borrowed: Borrowed) -> dict[str, float]:
        trace = borrowed.trace("running")
        if trace.other_matmuls:
            # Under a mode, attention modules do not take their fused path, which the counter does not see into.
            with unchanged(borrowed.network), BatchNormMode("running"):
                return {"macs": float(flop_counter_macs(borrowed.network, borrowed.inputs[:1].clone()))}
        return {"macs": float(trace.macs)}

    def closed_form(self, space: Any, arch: str, network: Mapping[str, Any]) -> dict[str, float] | None:
        if space.aleph(arch, **network) is None:
            return None
        return {"macs": float(space.cost(arch, **network).macs)}


class Layers(Proxy):
    """Number of layers as the network's search space counts them, which ``max_layers`` bounds; of other networks, ℵ.

    In ``nb201`` the convolutions of the cell, in ``mbv2`` the sub-layers of all blocks; of a space of one's own
    `Space.layers`. Higher is better.
    """

    info = ProxyInfo(name="layers", title="Layers", source="the search spaces (`Space.layers`)", reads="architecture")

    def compute(self, borrowed: Borrowed) -> dict[str, float]:
        layers = getattr(borrowed.network, "space_layers", None)
        return {"layers": float(len(layer_weights(borrowed.network)) if layers is None else layers)}

    def closed_form(self, space: Any, arch: str, network: Mapping[str, Any]) -> dict[str, float] | None:
        layers = space.layers(arch)
        return None if layers is None else {"layers": float(layers)}


class Aleph(Proxy):
    """ℵ, the number of layers with weights (convolutions, linear and recurrent ones, no normalisation). Higher is better.

    The official code counts parameter tensors instead (``vkdnw_official_dim``); on NAS-Bench-201 both order alike.
    """

    info = ProxyInfo(
        name="aleph", title="ℵ", source="Tybl & Neumann, CVPR 2025, section 2.3 and eq. 12", reads="architecture"
    )

    def compute(self, borrowed: Borrowed) -> dict[str, float]:
        return {"aleph": float(len(layer_weights(borrowed.network)))}

    def closed_form(self, space: Any, arch: str, network: Mapping[str, Any]) -> dict[str, float] | None:
        aleph = space.aleph(arch, **network)
        return None if aleph is None else {"aleph": float(aleph)}


class LogWidth(Proxy):
    """Sum over the layers with weights, as ℵ counts them, of the natural logarithm of their number of outputs.

    That is ln of the product of all widths, and ℵ times ln w where all layers have the width w. Networks with the same
    widths in any order have the same value to the last bit. Outputs are channels of convolutions and features of linear
    layers; of a fused projection (attention, gates of recurrent layers) those of all its parts. Higher is better.
    """

    info = ProxyInfo(
        name="log_width",
        title="Σ ln width",
        source="this project: ℵ (Tybl & Neumann, CVPR 2025, eq. 12), which does not see widths, with them",
        reads="architecture",
    )

    def compute(self, borrowed: Borrowed) -> dict[str, float]:
        network = borrowed.network
        widths = (_outputs(network, name, weight) for name, weight in layer_weights(network).items())
        return {"log_width": math.fsum(map(math.log, widths))}


def _outputs(network: nn.Module, name: str, weight: Tensor) -> int:
    """How many outputs the layer has whose weight is called so; the first dimension of transposed ones is the inputs."""
    parametrised, dot, _ = name.rpartition(".parametrizations.")
    channels = getattr(network.get_submodule(parametrised if dot else name.rpartition(".")[0]), "out_channels", None)
    return channels if isinstance(channels, int) else len(weight)
