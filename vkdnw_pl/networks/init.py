"""Initialisation of networks, in one place so that a comparison of proxies never mixes initialisations."""

from __future__ import annotations

import math
from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch.nn.utils import parametrize

from vkdnw_pl.errors import check_choice

Init = Literal["kaiming_normal", "gaussian", "zennas", "pytorch", "keep"]
INITS: tuple[str, ...] = get_args(Init)

_ZENNAS_GAIN = 3.26033
WEIGHTED = (nn.modules.conv._ConvNd, nn.Linear)
ATTENTION_WEIGHTS = ("in_proj_weight", "q_proj_weight", "k_proj_weight", "v_proj_weight")
_NORMS = (nn.modules.batchnorm._NormBase, nn.LayerNorm, nn.GroupNorm)


@torch.no_grad()
def initialise(network: nn.Module, init: Init = "kaiming_normal", seed: int = 0) -> nn.Module:
    """Initialise ``network`` in place from a private random stream and return it.

    * ``kaiming_normal``: every convolution and linear weight is N(0, 2 / fan_in), their biases are 0, normalisation
      layers get weight 1, bias 0 and fresh running statistics (as in the VKDNW and AZ-NAS experiments). Attention
      projections are linear weights too; parametrised weights (weight norm) are set through their parametrisation.
      Other parameters (class tokens, position embeddings, ...) stay as the constructor made them.
    * ``gaussian``: the same with N(0, 1) (the Zen proxy).
    * ``zennas``: the same with Xavier's normal of gain 3.26033, N(0, gain² · 2 / (fan_in + fan_out)), with which ZenNAS
      and ZiCo train (``custom`` in github.com/cvlab-yonsei/AZ-NAS, ImageNet_MBV2/Masternet.py, 5e6683a).
    * ``pytorch``: every module draws anew as its constructor did (``reset_parameters``).
    * ``keep``: the weights stay as they are.

    The draws come from a CPU generator seeded with ``seed`` in module order, whatever the device, and the global
    random state is not touched.
    """
    check_choice("init", init, INITS)
    if init == "keep":
        return network
    if init == "pytorch":
        return _construct_anew(network, seed)
    generator = torch.Generator().manual_seed(seed)
    for module in network.modules():
        if isinstance(module, WEIGHTED):
            weight = _draw(module.weight, generator, init)
            if parametrize.is_parametrized(module, "weight"):
                module.weight = weight  # type: ignore[assignment]  # through the parametrisation's right inverse
            else:
                module.weight.copy_(weight)
            if module.bias is not None:
                module.bias.zero_()
        elif isinstance(module, nn.MultiheadAttention):  # its output projection is a linear layer of its own
            for name in ATTENTION_WEIGHTS:
                if (projection := getattr(module, name)) is not None:
                    projection.copy_(_draw(projection, generator, init))
            if module.in_proj_bias is not None:
                module.in_proj_bias.zero_()
        elif isinstance(module, _NORMS):
            if getattr(module, "weight", None) is not None:
                module.weight.fill_(1.0)
            if getattr(module, "bias", None) is not None:
                module.bias.zero_()
            if isinstance(module, nn.modules.batchnorm._NormBase):
                module.reset_running_stats()
    return network


def _construct_anew(network: nn.Module, seed: int) -> nn.Module:
    for module in network.modules():
        reset = getattr(module, "reset_parameters", None)
        parameters = list(module.parameters(recurse=False))
        for parameter in parameters:
            _refuse_lazy(parameter)
        if reset is None or not parameters:
            continue
        # Drawn on the CPU in float32, so that one seed means one network on any device.
        device, dtype = parameters[0].device, parameters[0].dtype
        module.to("cpu", torch.float32)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            reset()
            seed = int(torch.randint(2**31, ()))
        module.to(device, dtype)
    return network


def _draw(weight: Tensor, generator: torch.Generator, init: Init) -> Tensor:
    """A normal draw of the weight's shape; fan_in is the size of ``weight[0]``, fan_out that of ``weight[:, 0]``."""
    _refuse_lazy(weight)
    # In float32 on the CPU whatever the network's dtype and device: one seed means one network.
    draw = torch.randn(weight.shape, generator=generator, dtype=torch.float32, device="cpu")
    if init == "gaussian":
        std = 1.0
    elif init == "zennas":
        std = _ZENNAS_GAIN * math.sqrt(2.0 / (weight[0].numel() + weight[:, 0].numel()))
    else:
        std = math.sqrt(2.0 / weight[0].numel())
    return draw.mul_(std).to(weight)


def _refuse_lazy(parameter: Tensor) -> None:
    if is_lazy(parameter):
        raise ValueError("the network has an uninitialized parameter (a lazy module): run the network once before")


@torch.no_grad()
def zero_residual_gammas(network: nn.Module) -> int:
    """Set the last batch norm's weight of residual branches to 0 by timm's ``zero_init_last()``; count them."""
    blocks = [module for module in network.modules() if callable(getattr(module, "zero_init_last", None))]
    if not blocks:
        raise ValueError(f"zero_gamma has no meaning for {type(network).__name__}: no module has zero_init_last()")
    for block in blocks:
        block.zero_init_last()  # type: ignore[operator]
    return len(blocks)
