"""The vision transformer of AutoFormer's search space as ViT-Bench-101 trained it."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from vkdnw_pl.networks.vit_blocks import LN_EPS, TransformerLayer, TruncatedNormalLinear, draw_tokens, sub_blocks

PATCH = 16


class AutoFormerNetwork(nn.Module):
    """Images (B, in_channels, image_size, image_size) to logits (B, num_classes).

    Patches of 16 pixels and a class token with an absolute position, layers, layer norm, mean over the patches, linear
    head. Unlike Microsoft's network it has no relative position, and heads of ``dim / heads`` dimensions, so that their
    number changes no weight (github.com/lilujunai/Auto-Prox-AAAI24, pycls/models/auto/autoformer_subnet.py, 90ed458).

    Args:
        dim: width d of all tokens.
        ratios: hidden width of the MLP of each layer over d.
        heads: heads of each layer; each divides d.
        image_size: a multiple of 16.
        drop_path: rate of stochastic depth of the last layer, in training; from 0 it grows linearly.
    """

    def __init__(
        self,
        dim: int,
        ratios: Sequence[float],
        heads: Sequence[int],
        num_classes: int = 1000,
        image_size: int = 224,
        in_channels: int = 3,
        drop_path: float = 0.1,
    ) -> None:
        super().__init__()
        self.pos_embed = nn.Parameter(torch.empty(1, (image_size // PATCH) ** 2 + 1, dim))
        self.cls_token = nn.Parameter(torch.empty(1, 1, dim))
        self.patch_embed = nn.Conv2d(in_channels, dim, PATCH, PATCH)
        last = max(len(ratios) - 1, 1)
        self.blocks = nn.Sequential(
            *(
                TransformerLayer(dim, number, int(dim * ratio), drop_path * i / last, TruncatedNormalLinear)
                for i, (ratio, number) in enumerate(zip(ratios, heads, strict=True))
            )
        )
        self.norm = nn.LayerNorm(dim, eps=LN_EPS)
        self.head = TruncatedNormalLinear(dim, num_classes)
        self.num_classes = num_classes
        self.feature_taps = sub_blocks(self)  # where AZ-NAS reads tokens
        self.space_layers = len(ratios)  # as the space counts them
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw position embedding and class token anew."""
        draw_tokens(self.pos_embed, self.cls_token)

    def forward(self, x: Tensor) -> Tensor:
        patches = self.patch_embed(x).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.cls_token.expand(len(x), -1, -1), patches], 1) + self.pos_embed
        return self.head(self.norm(self.blocks(tokens))[:, 1:].mean(1))
