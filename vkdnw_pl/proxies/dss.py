"""DSS of TF-TAS (Zhou et al., CVPR 2022)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from vkdnw_pl.networks.init import ATTENTION_WEIGHTS
from vkdnw_pl.proxies.base import Proxy, ProxyInfo, UndefinedScore
from vkdnw_pl.proxies.borrow import Borrowed
from vkdnw_pl.proxies.functional.batchnorm import BatchNormMode
from vkdnw_pl.proxies.functional.scalars import total
from vkdnw_pl.proxies.zero_cost_nas import absolute_flow

_PROJECTIONS = ("qkv", "q", "k", "v", "proj")


class Dss(Proxy):
    """``Σ_attention ‖∂L/∂W‖_* ‖W‖_* + Σ_other Σ |W ∂L/∂W|`` with nuclear norms. Higher is better.

    L is the sum of the logits for one image of ones, with all weights and buffers replaced by their absolute values, in
    evaluation mode and float64. The first sum (synaptic diversity) is over the weight matrices of attention: the linear
    layers ``qkv`` (or ``q``, ``k``, ``v``) and ``proj`` of modules that have them, as in timm, and those of
    ``torch.nn.MultiheadAttention``; one matrix where q, k and v are one. The second (synaptic saliency) is over all other
    linear layers, the classifier too; convolutions, normalisation, tokens and position embeddings do not enter. Both
    grow with the size of the network, so compare with the number of parameters.

    No score without attention, where saliency alone would be left.

    The published codes return other numbers. TF-TAS': its query, key and value weights contribute 0 (their slices of the
    supernet are joined without gradients), and so does the classifier, and absolute values are taken of parameters that
    the pass does not use, so that the signs stay. Auto-Prox': the same formula as here in training mode, where dropped
    paths make it random, in float32; and every square linear layer counts as attention, which PiT's class-token layers
    are where two stages are of one width.
    """

    info = ProxyInfo(
        name="dss",
        title="DSS",
        source="Zhou et al., CVPR 2022 (TF-TAS); github.com/lilujunai/Auto-Prox-AAAI24, dss.py",
        init="pytorch",
    )

    def compute(self, borrowed: Borrowed) -> dict[str, float]:
        attention = attention_weights(borrowed.network)
        if not attention:
            raise UndefinedScore(
                "the network has no attention: no module with linear layers qkv (or q, k, v) and proj, and no "
                "torch.nn.MultiheadAttention"
            )
        if not borrowed.inputs.is_floating_point():
            raise UndefinedScore("there is no input of ones where inputs are whole numbers")
        ones = torch.ones_like(borrowed.inputs[:1], dtype=torch.float64)
        values, gradients = absolute_flow(borrowed.network, ones, BatchNormMode("running"))
        parts = [nuclear_norm(gradients[name]) * nuclear_norm(values[name]) for name in attention if name in gradients]
        for name, module in borrowed.network.named_modules():
            weight = f"{name}.weight" if name else "weight"
            if isinstance(module, nn.Linear) and weight not in attention and weight in gradients:
                parts.append((gradients[weight] * values[weight]).abs().sum())
        if not parts:
            raise UndefinedScore("the logits depend on no linear layer")
        return {"dss": total(parts)}


def attention_weights(network: nn.Module) -> list[str]:
    """Names of the weight matrices of attention."""
    names = []
    for name, module in network.named_modules():
        prefix = f"{name}." if name else ""
        if isinstance(module, nn.MultiheadAttention):
            names += [prefix + own for own in ATTENTION_WEIGHTS if getattr(module, own) is not None]
            names.append(f"{prefix}out_proj.weight")
            continue
        linear = [child for child in _PROJECTIONS if isinstance(getattr(module, child, None), nn.Linear)]
        if "proj" in linear and ("qkv" in linear or {"q", "k", "v"} <= set(linear)):
            names += [f"{prefix}{child}.weight" for child in linear]
    return names


def nuclear_norm(matrix: Tensor) -> Tensor:
    """Sum of the singular values."""
    return torch.linalg.svdvals(matrix).sum()
