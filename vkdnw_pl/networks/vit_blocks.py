"""Parts of vision transformers: the two residual sub-blocks of a layer, and tokens that are drawn anew."""

from __future__ import annotations

from collections import OrderedDict

import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import StochasticDepth

LN_EPS = 1e-6
_STD = 0.02


class TruncatedNormalLinear(nn.Linear):
    """A linear layer whose own initialisation is the truncated normal of 0.02 with bias 0, as of DeiT and AutoFormer."""

    def reset_parameters(self) -> None:
        draw_tokens(self.weight)
        if self.bias is not None:
            nn.init.zeros_(self.bias)


def draw_tokens(*parameters: Tensor) -> None:
    """Draw class tokens, position embeddings or weights anew, from the truncated normal of 0.02."""
    for parameter in parameters:
        nn.init.trunc_normal_(parameter, std=_STD)


class AttentionBlock(nn.Module):
    """Tokens (B, N, d) plus the attention of their layer norm, heads of d / ``heads`` dimensions; the output is the sum."""

    def __init__(self, dim: int, heads: int, drop_path: float, linear: type[nn.Linear]) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.LayerNorm(dim, eps=LN_EPS)
        self.qkv = linear(dim, 3 * dim)
        self.proj = linear(dim, dim)
        self.drop_path = StochasticDepth(drop_path, "row")

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = self.qkv(self.norm(x)).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        attended = F.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2)
        return x + self.drop_path(self.proj(attended))


class MLPBlock(nn.Module):
    """Tokens (B, N, d) plus two linear layers with GELU between them of their layer norm; the output is the sum."""

    def __init__(self, dim: int, hidden: int, drop_path: float, linear: type[nn.Linear]) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim, eps=LN_EPS)
        self.fc1 = linear(dim, hidden)
        self.act = nn.GELU()
        self.fc2 = linear(hidden, dim)
        self.drop_path = StochasticDepth(drop_path, "row")

    def forward(self, x: Tensor) -> Tensor:
        return x + self.drop_path(self.fc2(self.act(self.fc1(self.norm(x)))))


class TransformerLayer(nn.Sequential):
    """``attn`` and ``mlp``, the two residual sub-blocks; ``drop_path`` is the rate of stochastic depth in training."""

    def __init__(
        self, dim: int, heads: int, hidden: int, drop_path: float, linear: type[nn.Linear] = nn.Linear
    ) -> None:
        attn = AttentionBlock(dim, heads, drop_path, linear)
        super().__init__(OrderedDict(attn=attn, mlp=MLPBlock(dim, hidden, drop_path, linear)))


def sub_blocks(network: nn.Module) -> tuple[str, ...]:
    """Names of the residual sub-blocks, two for each layer, in order: where AZ-NAS reads the tokens of a transformer."""
    return tuple(name for name, module in network.named_modules() if isinstance(module, AttentionBlock | MLPBlock))
