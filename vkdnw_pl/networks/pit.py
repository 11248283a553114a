"""The pooling-based vision transformer (PiT; Heo et al., ICCV 2021) as ViT-Bench-101 trained it."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from vkdnw_pl.networks.vit_blocks import LN_EPS, TransformerLayer, draw_tokens, sub_blocks

PATCH, STRIDE = 16, 8


class TokenPooling(nn.Module):
    """Halves the map of a class token and h·w patches, (B, 1 + h·w, d) to (B, 1 + ⌈h/2⌉·⌈w/2⌉, new d)."""

    def __init__(self, dim: int, new_dim: int, side: int) -> None:
        super().__init__()
        self.side = side
        self.conv = nn.Conv2d(dim, new_dim, 3, 2, 1, groups=dim)
        self.fc = nn.Linear(dim, new_dim)

    def forward(self, x: Tensor) -> Tensor:
        patches = x[:, 1:].transpose(1, 2).unflatten(2, (self.side, self.side))
        return torch.cat([self.fc(x[:, :1]), self.conv(patches).flatten(2).transpose(1, 2)], 1)


class PiTNetwork(nn.Module):
    """Images (B, in_channels, image_size, image_size) to logits (B, num_classes).

    Overlapping patches of 16 pixels at a stride of 8 with a position each, a class token without one, three stages of
    layers with a pooling between them, layer norm of the class token, linear head
    (github.com/lilujunai/Auto-Prox-AAAI24, pycls/models/auto/pit_subnet.py, 90ed458).

    Args:
        base_dim: dimensions of a head; a stage with h heads has tokens of ``base_dim * h``.
        ratio: hidden width of the MLPs over that of the tokens.
        depths: layers of each stage.
        heads: heads of each stage; each divides the next.
        image_size: a multiple of 8, at least 16.
        drop_path: rate of stochastic depth behind the last layer, in training; from 0 it grows linearly.
    """

    def __init__(
        self,
        base_dim: int,
        ratio: float,
        depths: Sequence[int],
        heads: Sequence[int],
        num_classes: int = 1000,
        image_size: int = 224,
        in_channels: int = 3,
        drop_path: float = 0.1,
    ) -> None:
        super().__init__()
        dims = [base_dim * number for number in heads]
        side = (image_size - PATCH) // STRIDE + 1
        self.pos_embed = nn.Parameter(torch.empty(1, dims[0], side, side))
        self.cls_token = nn.Parameter(torch.empty(1, 1, dims[0]))
        self.patch_embed = nn.Conv2d(in_channels, dims[0], PATCH, STRIDE)
        rates = iter([drop_path * i / sum(depths) for i in range(sum(depths))])
        self.stages, self.pools = nn.ModuleList(), nn.ModuleList()
        for stage, (dim, depth, number) in enumerate(zip(dims, depths, heads, strict=True)):
            layers = [TransformerLayer(dim, number, int(dim * ratio), next(rates)) for _ in range(depth)]
            self.stages.append(nn.Sequential(*layers))
            if stage + 1 < len(dims):
                self.pools.append(TokenPooling(dim, dims[stage + 1], side))
                side = (side + 1) // 2
        self.norm = nn.LayerNorm(dims[-1], eps=LN_EPS)
        self.head = nn.Linear(dims[-1], num_classes)
        self.num_classes = num_classes
        self.feature_taps = sub_blocks(self)  # where AZ-NAS reads tokens
        self.space_layers = sum(depths)  # as the space counts them
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw position embedding and class token anew."""
        draw_tokens(self.pos_embed, self.cls_token)

    def forward(self, x: Tensor) -> Tensor:
        patches = (self.patch_embed(x) + self.pos_embed).flatten(2).transpose(1, 2)
        x = torch.cat([self.cls_token.expand(len(x), -1, -1), patches], 1)
        for i, stage in enumerate(self.stages):
            x = stage(x)
            if i < len(self.pools):
                x = self.pools[i](x)
        return self.head(self.norm(x[:, 0]))
