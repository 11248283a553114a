"""Cost of a network by running it: multiply-adds of matrix products that are not layer calls."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode


@torch.no_grad()
def flop_counter_macs(network: nn.Module, inputs: Tensor) -> int:
    """Multiply-adds of every convolution and matrix product on the first of ``inputs`` (B, ...), biases not counted.

    From torch's flop counter, attention included.
    """
    with FlopCounterMode(display=False) as counter, torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        network(inputs[:1])
    return counter.get_total_flops() // 2
