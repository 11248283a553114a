"""The one place where networks are initialised, so that a comparison of proxies never mixes initialisations."""

from __future__ import annotations

import math
from typing import Literal, get_args

import torch
from torch import nn

Init = Literal["kaiming_normal", "keep"]
INITS: tuple[str, ...] = get_args(Init)

_WEIGHTED = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear)
_NORMS = (nn.modules.batchnorm._NormBase, nn.LayerNorm, nn.GroupNorm)


@torch.no_grad()
def initialise(network: nn.Module, init: Init = "kaiming_normal", seed: int = 0) -> nn.Module:
    """Initialise ``network`` in place from a private random stream and return it.

    ``kaiming_normal``: every convolution and linear weight is N(0, 2 / fan_in), their biases are 0, normalisation
    layers get weight 1, bias 0 and fresh running statistics (the protocol of the VKDNW and AZ-NAS experiments).
    Other parameters (class tokens, position embeddings, ...) stay as the constructor made them.
    ``keep``: the weights stay as they are.

    The draws come from a CPU generator seeded with ``seed`` in module order, whatever the device, and the global
    random state is not touched.

    Raises:
        ValueError: if ``init`` is not one of ``kaiming_normal`` and ``keep``.
    """
    if init not in INITS:
        raise ValueError(f"init={init!r} is not known; allowed: {', '.join(INITS)}")
    if init == "keep":
        return network
    generator = torch.Generator().manual_seed(seed)
    for module in network.modules():
        if isinstance(module, _WEIGHTED):
            weight = module.weight
            fan_in = weight[0].numel()
            # Drawn in float32 on the CPU whatever the network's dtype and device: one seed means one network.
            draw = torch.randn(weight.shape, generator=generator).mul_(math.sqrt(2.0 / fan_in))
            weight.copy_(draw)
            if module.bias is not None:
                module.bias.zero_()
        elif isinstance(module, _NORMS):
            if getattr(module, "weight", None) is not None:
                module.weight.fill_(1.0)
            if getattr(module, "bias", None) is not None:
                module.bias.zero_()
            if isinstance(module, nn.modules.batchnorm._NormBase):
                module.reset_running_stats()
    return network
