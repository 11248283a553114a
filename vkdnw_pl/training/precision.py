"""Mixed precision is not for losses."""

from __future__ import annotations

import torch
from torch import Tensor


def in_full_precision(tensor: Tensor) -> Tensor:
    """In float32 where it is in half precision."""
    return tensor.float() if tensor.dtype in (torch.float16, torch.bfloat16) else tensor
